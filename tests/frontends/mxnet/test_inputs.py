"""Shapes of inputs, as the layers that read them tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.convert import convert
from fewbit.frontends.mxnet.symbol import parse_symbol
from fewbit.graph.model import Model
from tests.frontends.mxnet.one import one, ones, symbol

CONV = ("Convolution", "conv0", {"kernel": (3, 3), "num_filter": 2, "no_bias": True})
RELU = ("Activation", "relu0", {"act_type": "relu"})


def row(*layers: tuple[str, str, dict[str, Any]]) -> Model:
    return convert(parse_symbol(symbol(layers, ["x"]), "row"), {})


def shape(model: Model, name: str = "x") -> tuple[Any, ...]:
    return next(i.shape for i in model.inputs if i.name == name)


CASES: list[tuple[str, dict, tuple, tuple]] = [
    ("Convolution", {"kernel": (3, 3), "num_filter": 2}, (2, 5, 3, 3), (None, 5, None, None)),
    ("Convolution", {"kernel": (3, 3), "num_filter": 2, "num_group": 2}, (2, 5, 3, 3), (None, 10, None, None)),
    ("Convolution", {"kernel": (3,), "num_filter": 2}, (2, 5, 3), (None, 5, None)),
    ("Convolution", {"kernel": (3, 3), "num_filter": 2, "layout": "NHWC"}, (2, 3, 3, 5), (None, None, None, 5)),
    ("Deconvolution", {"kernel": (3, 3), "num_filter": 2}, (5, 2, 3, 3), (None, 5, None, None)),
    ("FullyConnected", {"num_hidden": 2}, (2, 7), (None, 7)),
]


@pytest.mark.parametrize(("op", "attrs", "weight", "wanted"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_weights_tell_the_channels(op: str, attrs: dict, weight: tuple[int, ...], wanted: tuple) -> None:
    assert shape(one(op, {**attrs, "no_bias": True}, {"x": None, "w": ones(*weight)})) == wanted


def test_a_kernel_tells_how_many_axes_there_are() -> None:
    assert shape(row(("Pooling", "pool0", {"kernel": (2, 2)}))) == (None,) * 4
    assert shape(row(RELU, ("Pooling", "pool0", {"kernel": (2,)}))) == (None,) * 3


def test_axes_that_are_named_tell_how_many_there_are() -> None:
    assert shape(row(("transpose", "t0", {"axes": (0, 2, 1)}))) == (None,) * 3
    assert shape(row(("Pad", "p0", {"mode": "edge", "pad_width": (0, 0, 0, 0, 1, 1, 1, 1)}))) == (None,) * 4


def test_axes_of_an_empty_list_tell_nothing() -> None:
    turned = ("transpose", "t0", {"axes": "()"})
    with pytest.raises(ModelFormatError, match="shape of input 'x' cannot be told"):
        row(turned)
    assert shape(row(turned, ("Pooling", "pool0", {"kernel": (2, 2)}))) == (None,) * 4


def test_an_input_that_is_taken_as_flat_is_noted() -> None:
    attrs = {"num_hidden": 2, "no_bias": True}
    model = one("FullyConnected", attrs, {"x": None, "w": ones(2, 12)})
    assert shape(model) == (None, 12)
    (note,) = model.notes
    assert "input 'x' is taken as (None, 12), flat" in note and "input_shapes={'x': (None, 3, 32, 32)}" in note
    assert "--input-shapes x:0,3,32,32" in note
    image = one("FullyConnected", attrs, {"x": (None, 3, 2, 2), "w": ones(2, 12)})
    assert shape(image) == (None, 3, 2, 2) and not image.notes
    kernel = {"kernel": (3, 3), "num_filter": 2, "no_bias": True}
    assert not one("Convolution", kernel, {"x": None, "w": ones(2, 5, 3, 3)}).notes


def test_what_is_turned_tells_only_how_many_axes_there_are() -> None:
    text = symbol([("transpose", "t0", {"axes": (0, 3, 1, 2)}), CONV], ["x"], conv0="w")
    assert shape(convert(parse_symbol(text, "turned"), {"w": ones(2, 5, 3, 3)})) == (None,) * 4


def test_layers_that_keep_the_channels_are_looked_through() -> None:
    text = symbol([RELU, ("Pooling", "pool0", {"kernel": (2, 2)}), CONV], ["x"], conv0="w")
    assert shape(convert(parse_symbol(text, "through"), {"w": ones(2, 5, 3, 3)})) == (None, 5, None, None)


def test_first_states_are_as_many_as_there_are_levels_and_directions() -> None:
    attrs = {"mode": "gru", "state_size": 2, "num_layers": 2, "bidirectional": True}
    size = 2 * 3 * 2 * (3 + 2) + 2 * 3 * 2 * (4 + 2) + 2 * 2 * 2 * 3 * 2
    model = one("RNN", attrs, {"x": None, "parameters": ones(size), "h": None})
    assert shape(model) == (None, None, None)
    assert shape(model, "h") == (4, None, 2)


def test_what_is_given_wins_and_zeros_are_free() -> None:
    attrs = {"kernel": (3, 3), "num_filter": 2, "no_bias": True}
    model = one("Convolution", attrs, {"x": (0, 5, 9, 9), "w": ones(2, 5, 3, 3)})
    assert shape(model) == (None, 5, 9, 9)


def test_what_the_variable_says_counts_but_for_the_batch() -> None:
    text = symbol([RELU], ["x"]).replace(
        '"name": "x"', '"name": "x", "attrs": {"__shape__": "(8, 3, 0)", "__dtype__": "2"}'
    )
    model = convert(parse_symbol(text, "noted"), {})
    assert shape(model) == (None, 3, None)
    assert model.inputs[0].dtype == np.float32
