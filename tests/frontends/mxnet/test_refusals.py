"""What layers cannot be: every message names the layer, what is wrong with it and what it should be."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fewbit.errors import FewbitError, ModelFormatError, UnknownName, UnsupportedModel
from fewbit.frontends.mxnet.convert import convert
from fewbit.frontends.mxnet.symbol import parse_symbol
from tests.frontends.mxnet.cases import Case, cases
from tests.frontends.mxnet.one import Given, one, ones, symbol

X = (2, 4, 6, 6)
CONV = {"kernel": (3, 3), "num_filter": 5}
NO_BIAS = {**CONV, "no_bias": True}
W = ones(5, 4, 3, 3)
LSTM = {"mode": "lstm", "state_size": 2, "num_layers": 1}
STATES: Given = {"data": (3, 2, 3), "params": ones(2 * 4 * (3 + 2 + 2)), "h": (1, 2, 2), "c": (1, 2, 2)}
POOL = {"kernel": (2, 2), "stride": (2, 2), "pooling_convention": "full"}

WRONG: list[tuple[str, dict, Given, type[FewbitError], str]] = [
    ("Convolution", NO_BIAS, {"x": X, "w": ones(5, 3, 3, 3)}, ModelFormatError,
     r"layer 'layer0' \(Convolution\): its weight has shape \(5, 3, 3, 3\); \(5, 4, 3, 3\) is needed"),
    ("Convolution", CONV, {"x": X, "w": W, "b": ones(4)}, ModelFormatError,
     r"its bias has shape \(4,\); \(5,\) is needed"),
    ("Convolution", NO_BIAS, {"x": (2, 4, 6), "w": W}, ModelFormatError, r"kernel \(3, 3\) needs an input with 4 axes"),
    ("Convolution", {**NO_BIAS, "layout": "NCW"}, {"x": X, "w": W}, ModelFormatError,
     "layout NCW does not fit .* 4 axes"),
    ("Convolution", {**NO_BIAS, "layout": "CHWN"}, {"x": X, "w": W}, UnknownName, "unknown layout .*'CHWN'.*NHWC"),
    ("Convolution", {**NO_BIAS, "shiny": 1}, {"x": X, "w": W}, UnsupportedModel,
     "has shiny='1', which fewbit does not know"),
    ("Convolution", {**NO_BIAS, "pad": (1, 1, 1)}, {"x": X, "w": W}, ModelFormatError,
     r"pad is .*it must be 2 numbers"),
    ("Convolution", CONV, {"x": X, "w": W}, ModelFormatError, "has 2 inputs, which are too few"),
    ("Convolution", {"num_filter": 5}, {"x": X, "w": W}, ModelFormatError, "kernel is None; it must be given"),
    ("Deconvolution", {**CONV, "target_shape": (9, 9)}, {"x": X, "w": ones(4, 5, 3, 3)}, ModelFormatError,
     r"target_shape \(9, 9\) is larger"),
    ("Deconvolution", {**CONV, "target_shape": (8, 8)}, {"x": None, "w": ones(4, 5, 3, 3)}, UnsupportedModel,
     "needs an input of fixed shape"),
    ("FullyConnected", {"num_hidden": 3, "no_bias": True}, {"x": (2, 4), "w": ones(3, 5)}, ModelFormatError,
     r"its weight has shape \(3, 5\); \(3, 4\) is needed"),
    ("FullyConnected", {"num_hidden": 2, "no_bias": True}, {"x": (2, 4), "w": ones(3, 4)}, ModelFormatError,
     r"its weight has shape \(3, 4\); \(2, 4\) is needed"),
    ("BatchNorm", {}, {"x": X, "g": ones(3), "b": ones(3), "m": ones(3), "v": ones(3)}, ModelFormatError,
     r"its input has 4 channels, 'g' is for \(3,\)"),
    ("BatchNorm", {"axis": 4}, {"x": X, "g": ones(4), "b": ones(4), "m": ones(4), "v": ones(4)}, ModelFormatError,
     "axis is 4; its input has 4 axes"),
    ("GroupNorm", {"num_groups": 3}, {"x": X, "g": ones(3), "b": ones(3)}, ModelFormatError,
     "3 groups do not divide 4 channels"),
    ("GroupNorm", {"num_groups": 2}, {"x": X, "g": ones(3), "b": ones(3)}, ModelFormatError, "2 groups and 3 gammas"),
    ("GroupNorm", {"output_mean_var": True}, {"x": X, "g": ones(1), "b": ones(1)}, UnsupportedModel, "output_mean_var"),
    ("Pooling", {"kernel": (2, 2), "pool_type": "lp", "p_value": 4}, {"x": X}, UnsupportedModel, "p_value is 4"),
    ("Pooling", {"kernel": (2, 2), "pool_type": "mean"}, {"x": X}, UnknownName, "'mean'"),
    ("Pooling", {**POOL, "pad": (1, 1)}, {"x": (1, 1, 5, 5)}, UnsupportedModel, "its last window does lie outside"),
    ("Pooling", {**POOL, "pad": (1, 1)}, {"x": None}, UnsupportedModel, "its last window may lie outside"),
    ("Pooling", {**POOL, "pooling_convention": "same", "pad": (1, 1)}, {"x": X}, UnsupportedModel,
     "MXNet itself refuses"),
    ("Pooling", {"kernel": (2, 2), "pad": (0, 2)}, {"x": X}, UnsupportedModel,
     r"pad \(0, 2\) must be smaller than kernel \(2, 2\): some windows have no data"),
    ("Pooling", {"kernel": (1, 1), "pad": (1, 1), "pool_type": "avg", "count_include_pad": False}, {"x": X},
     UnsupportedModel, r"pad \(1, 1\) must be smaller than kernel \(1, 1\)"),
    ("FullyConnected", {"num_hidden": 2, "no_bias": True}, {"x": (4,), "w": ones(2, 4)}, ModelFormatError,
     r"its weight has shape \(2, 4\); \(2, 1\) is needed"),
    ("softmax", {"temperature": "warm"}, {"x": X}, ModelFormatError, "temperature is 'warm'; it must be a number"),
    ("log_softmax", {"use_length": True}, {"x": X, "n": (2, 4, 6)}, UnsupportedModel, "use_length"),
    ("Dropout", {"mode": "always"}, {"x": X}, UnsupportedModel, "its answer is random"),
    ("Activation", {"act_type": "relux"}, {"x": X}, UnknownName, "did you mean 'relu'"),
    ("LeakyReLU", {"act_type": "pelu"}, {"x": X}, UnknownName, "did you mean .*'prelu'"),
    ("RNN", {**LSTM, "projection_size": 2}, STATES, UnsupportedModel, "projection"),
    ("RNN", {**LSTM, "lstm_state_clip_min": -1, "lstm_state_clip_max": 1}, STATES, UnsupportedModel, "clips its state"),
    ("RNN", {**LSTM, "state_size": 3}, STATES, ModelFormatError,
     r"56 parameters do not fit .*\(3, 2, 3\) and state_size 3"),
    ("RNN", LSTM, {**STATES, "params": (56,)}, UnsupportedModel, "its parameter vector is computed"),
    ("UpSampling", {"scale": 0, "sample_type": "nearest"}, {"x": X}, ModelFormatError, "scale is 0"),
    ("Pad", {"mode": "constant", "pad_width": (0, 0, 1, 1)}, {"x": X}, ModelFormatError,
     "two numbers for each of 4 axes"),
    ("_contrib_AdaptiveAvgPooling2D", {"output_size": (2, 2)}, {"x": None}, UnsupportedModel,
     "an input of fixed shape"),
    ("_contrib_BilinearResize2D", {"height": 0, "width": 3}, {"x": X}, ModelFormatError, r"pictures of size \(0, 3\)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "attrs", "inputs", "error", "says"), WRONG, ids=[f"{w[0]}-{i}" for i, w in enumerate(WRONG)]
)
def test_the_message_says_what_is_wrong(
    op: str, attrs: dict, inputs: Given, error: type[FewbitError], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        one(op, attrs, inputs)
    assert "layer0" in str(caught.value)


def test_all_unknown_operators_are_named_at_once() -> None:
    rows = [("Mystery", "a", {}), ("Activation", "b", {"act_type": "relu"}), ("Riddle", "c", {}), ("Mystery", "d", {})]
    with pytest.raises(UnsupportedModel, match=r"2 MXNet operators .*: Mystery in a, d; Riddle in c"):
        convert(parse_symbol(symbol(rows, ["data"]), "x"), {})


def test_a_parameter_that_is_missing_is_named() -> None:
    with pytest.raises(ModelFormatError, match="the parameters lack w, b; they belong to another network"):
        one("Convolution", CONV, {"x": X, "w": None, "b": None})


def test_an_input_whose_shape_nobody_tells_is_asked_for() -> None:
    with pytest.raises(ModelFormatError, match=r"shape of input 'x' cannot be told.*input_shapes=\{'x'"):
        one("Activation", {"act_type": "relu"}, {"x": None})


def test_a_shape_for_what_is_no_input() -> None:
    with pytest.raises(UnknownName, match="unknown input 'y'"):
        text = symbol([("Activation", "layer0", {"act_type": "relu"})], ["x"])
        convert(parse_symbol(text, "one"), {}, shapes={"x": (1, 2), "y": (3,)})


ODD = ("0", "-1", "99999999999", "None", "()", "(1, 2, 3, 4, 5)", "nan", "1e999")
CHANGED = {
    (node.op, key): (group, name)
    for group in ("layers", "norm", "pool", "activations", "resize", "rnn", "warp")
    for name, case in cases(group).items()
    for node in case.graph.nodes
    for key in node.attrs
    if not key.startswith("__") and node.op != "null"
}
"""Operator and attribute → a case that has it."""


@pytest.mark.parametrize(("op", "key"), CHANGED, ids=["-".join(c) for c in CHANGED])
def test_whatever_an_attribute_says_there_is_a_model_or_our_error(op: str, key: str) -> None:
    group, name = CHANGED[op, key]
    case = cases(group)[name]
    for text in ODD:
        nodes = tuple(replace(n, attrs={**n.attrs, key: text}) if n.op == op else n for n in case.graph.nodes)
        try:
            Case(replace(case.graph, nodes=nodes), case.params, case.feeds).convert()
        except FewbitError as e:
            assert str(e)


FEWER = {node.op: (group, name) for group in ("layers", "norm", "pool", "activations", "resize", "rnn", "warp")
         for name, case in cases(group).items() for node in case.graph.nodes if node.op != "null"}  # fmt: skip


@pytest.mark.parametrize("op", FEWER)
def test_however_many_inputs_there_are_there_is_a_model_or_our_error(op: str) -> None:
    group, name = FEWER[op]
    case = cases(group)[name]
    for count in (0, 1, 2):
        nodes = tuple(replace(n, inputs=n.inputs[:count]) if n.op == op else n for n in case.graph.nodes)
        try:
            Case(replace(case.graph, nodes=nodes), case.params, case.feeds).convert()
        except FewbitError as e:
            assert str(e)
