"""Layers of MXNet 2, layouts that MXNet 1.9.1 runs on GPUs only, and the nodes that layers become."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.frontends.mxnet.convert import convert
from fewbit.frontends.mxnet.layer import OPS
from fewbit.frontends.mxnet.ops import layers as _filled  # noqa: F401
from fewbit.frontends.mxnet.symbol import parse_symbol
from fewbit.graph.model import Model
from tests.frontends.mxnet.cases import cases, run
from tests.frontends.mxnet.one import Given, one, ones, symbol

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 4, 5, 6)).astype(np.float32)


def answer(op: str, attrs: dict, x: NDArray, **inputs: NDArray) -> NDArray:
    given: Given = {"x": x.shape, **inputs}
    return run(one(op, attrs, given), {"x": x}, reference=False)[0]


def ops(model: Model) -> list[str]:
    return [n.op_type for n in model.nodes]


def _normal(x: NDArray) -> NDArray:
    return np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)


FUNCTIONS = [
    ("Activation", "log_sigmoid", lambda x: -np.log1p(np.exp(-x))),
    ("Activation", "mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    ("LeakyReLU", "gelu_erf", lambda x: x * _normal(x)),
    ("LeakyReLU", "gelu_tanh", lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
]


@pytest.mark.parametrize(("op", "kind", "function"), FUNCTIONS, ids=[f[1] for f in FUNCTIONS])
def test_activations_of_mxnet_2(op: str, kind: str, function) -> None:
    np.testing.assert_allclose(answer(op, {"act_type": kind}, X), function(X), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("log", [False, True])
def test_a_mask_says_what_counts(log: bool) -> None:
    mask = RNG.random(X.shape) > 0.4
    mask[..., 0] = True
    with np.errstate(divide="ignore"):
        powers = np.where(mask, np.exp(X / 2), 0)
        wanted = powers / powers.sum(1, keepdims=True)
        wanted = np.log(wanted) if log else wanted
    name = "_npx_masked_log_softmax" if log else "_npx_masked_softmax"
    seen = mask.any(1, keepdims=True) & np.ones(X.shape, bool)
    got = answer(name, {"axis": 1, "temperature": 2}, X, mask=mask)
    np.testing.assert_allclose(got[seen], wanted[seen], rtol=1e-4, atol=1e-6)


LAST = [
    ("Convolution", {"kernel": (3, 2), "stride": (2, 1), "num_filter": 6, "num_group": 2}, (6, 2, 3, 2), 6),
    ("Deconvolution", {"kernel": (3, 2), "stride": (2, 1), "num_filter": 6, "no_bias": False}, (4, 6, 3, 2), 6),
]


@pytest.mark.parametrize(("op", "attrs", "shape", "filters"), LAST, ids=[c[0] for c in LAST])
def test_channels_may_be_last(op: str, attrs: dict, shape: tuple[int, ...], filters: int) -> None:
    weight = RNG.standard_normal(shape).astype(np.float32)
    bias = RNG.standard_normal(filters).astype(np.float32)
    wanted = answer(op, attrs, X, w=weight, b=bias)
    turned = np.moveaxis(weight, 1, -1).copy()
    got = answer(op, {**attrs, "layout": "NHWC"}, np.moveaxis(X, 1, -1).copy(), w=turned, b=bias)
    np.testing.assert_allclose(np.moveaxis(got, -1, 1), wanted, rtol=1e-4, atol=1e-5)


def test_the_layer_has_its_name_and_the_last_node_its_value() -> None:
    model = one("FullyConnected", {"num_hidden": 3, "flatten": False}, {"x": (2, 3, 4), "w": ones(3, 4), "b": ones(3)})
    assert [(n.name, n.op_type, n.outputs[0].name) for n in model.nodes] == [
        ("layer0", "MatMul", "layer0_inner"),
        ("layer0/Add", "Add", "layer0_output"),
    ]


def test_a_layer_without_work_leaves_no_node_but_an_alias() -> None:
    model = cases("activations")["dropout_inside"].convert()
    assert [(n.name, n.op_type) for n in model.nodes] == [("relu0", "Relu"), ("act", "Tanh")]
    assert model.aliases["drop"] == "relu0"


def test_pooling_that_rounds_up_pads_by_what_the_last_window_needs() -> None:
    attrs = {"kernel": (3, 3), "stride": (2, 2), "pooling_convention": "full"}
    exact = one("Pooling", attrs, {"x": (1, 1, 7, 8)})
    assert exact.nodes[0].attributes["pads"].as_ints() == (0, 0, 0, 1)
    free = one("Pooling", attrs, {"x": None})
    assert free.nodes[0].attributes["pads"].as_ints() == (0, 0, 1, 1)
    padded = one("Pooling", {**attrs, "pool_type": "avg", "pad": (1, 1)}, {"x": None})
    assert ops(padded) == ["Pad", "AveragePool"]


def test_a_network_with_channels_last_keeps_one_transpose_at_each_end() -> None:
    pool = {"kernel": (2, 2), "layout": "NHWC"}
    rows = [("Pooling", "pool0", pool), ("Pooling", "pool1", pool), ("Pooling", "pool2", pool)]
    model = convert(parse_symbol(symbol(rows, ["x"]), "nhwc"), {})
    assert ops(model) == ["Transpose", "MaxPool", "MaxPool", "MaxPool", "Transpose"]


def test_levels_of_a_recurrent_layer_are_nodes_and_the_last_has_the_name() -> None:
    model = cases("rnn")["lstm_3_both"].convert()
    found = [(n.name, n.op_type) for n in model.nodes if n.op_type == "LSTM"]
    assert found == [("rnn0/LSTM", "LSTM"), ("rnn0/LSTM_2", "LSTM"), ("rnn0", "LSTM")]


def test_a_sequence_ends_where_its_length_says() -> None:
    """MXNet 1.9.1 looks at lengths on GPUs only."""
    size, attrs = (
        2 * (4 * 2 * (3 + 2) + 2 * 4 * 2),
        {"mode": "lstm", "state_size": 2, "num_layers": 1, "bidirectional": True},
    )
    weights, x = RNG.standard_normal(size).astype(np.float32), RNG.standard_normal((5, 2, 3)).astype(np.float32)
    fixed = {"w": weights, "h": np.zeros((2, 2, 2), np.float32), "c": np.zeros((2, 2, 2), np.float32)}
    got = answer("RNN", {**attrs, "use_sequence_length": True}, x, **fixed, n=np.asarray([5, 3], np.int32))
    np.testing.assert_allclose(got[:3, 1], answer("RNN", attrs, x[:3], **fixed)[:, 1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[:, 0], answer("RNN", attrs, x, **fixed)[:, 0], rtol=1e-5, atol=1e-6)
    assert not got[3:, 1].any()


RENAMED = """convolution deconvolution fully_connected batch_norm layer_norm pooling activation leaky_relu softmax
log_softmax dropout rnn""".split()


@pytest.mark.parametrize("old", RENAMED)
def test_names_of_mxnet_2_mean_the_same(old: str) -> None:
    assert f"_npx_{old}" in OPS
