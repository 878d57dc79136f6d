"""Operators that rearrange against MXNet's own answers (tests/golden/mxnet/make/ops_shape.py)."""

from __future__ import annotations

import pytest

from fewbit.errors import ModelFormatError, UnsupportedModel
from tests.frontends.mxnet.cases import cases, check_free, one_layer

SQUEEZED = ("squeeze", "squeeze all", "_np_squeeze", "_np_squeeze all")
"""Without axes: a free batch stays, but in MXNet's answers it is one and dropped."""


@pytest.mark.parametrize("free", [0, 1, 9], ids=["known", "free_batch", "free"])
@pytest.mark.parametrize("name", [n for n in cases("shape") if n not in SQUEEZED])
def test_other_shapes(name: str, free: int) -> None:
    check_free(cases("shape")[name], free)


@pytest.mark.parametrize("free", [0, 1, 9], ids=["known", "free_batch", "free"])
@pytest.mark.parametrize("name", cases("slicing"))
def test_parts_and_constants(name: str, free: int) -> None:
    check_free(cases("slicing")[name], free)


@pytest.mark.parametrize("name", SQUEEZED)
def test_squeezed_axes_must_be_known_but_for_the_batch(name: str) -> None:
    case = cases("shape")[name]
    check_free(case, 0)
    (out,) = case.convert(1).outputs
    assert (out.shape is not None and out.shape[0] is None) or name.endswith("all")
    with pytest.raises(UnsupportedModel, match=r"squeeze\) needs an input of fixed shape, and has \(None, None"):
        case.convert(9)


def test_a_free_batch_stays_and_the_rest_is_told() -> None:
    assert one_layer("Reshape", (None, 3, None, None), shape="(0, 3, -1)").outputs[0].shape == (None, 3, None)
    assert one_layer("Reshape", (None, 3, 4, 5), shape="(-1, 20)").outputs[0].shape == (None, 20)
    assert one_layer("Reshape", (None, 4, 5), shape="(0, -1)").outputs[0].shape == (None, 20)
    assert one_layer("Reshape", (None, 4, 5), shape="(-3, 0)").outputs[0].shape == (None, 5)


@pytest.mark.parametrize(
    ("operator", "attrs", "message"),
    [
        ("Reshape", {"shape": "(5, 5)"}, r"\(2, 3, 4\) cannot be reshaped to \(5, 5\)"),
        ("Reshape", {"shape": "(-1, -1)"}, r"only one axis of its shape can be -1"),
        ("Reshape", {"shape": "(-4, -1, -1)"}, r"only one of the two parts of an axis can be -1"),
        ("Reshape", {"shape": "(7, -1)"}, r"its shape does not fit an input of \(2, 3, 4\)"),
        ("Reshape", {"shape": "(0, 0, 0, 0)"}, r"its shape does not fit an input of \(2, 3, 4\)"),
        ("Reshape", {"shape": "(-7, 2)"}, r"its shape has -7; fewbit knows positive sizes and the codes of Reshape"),
        ("_npx_reshape", {"newshape": "(-3, -1)"}, r"-3 drops an axis of size one; its input has \(2, 3, 4\)"),
        ("SliceChannel", {"num_outputs": "2"}, r"3 cannot be split into 2 equal parts"),
        ("SliceChannel", {"num_outputs": "999999"}, r"it has 999999 outputs; allowed are 1 to 10000"),
        ("slice", {"begin": "(0,)", "end": "(1, 2)"}, r"begin, end and step must be of one length, up to 3 axes"),
        ("slice_axis", {"axis": "3", "begin": "0", "end": "None"}, r"axis is 3; its input has 3 axes"),
        ("SwapAxis", {"dim1": "x"}, r"dim1 is 'x'; it must be a whole number"),
    ],
)
def test_what_does_not_fit_is_refused(operator: str, attrs: dict[str, str], message: str) -> None:
    with pytest.raises((ModelFormatError, UnsupportedModel), match=r"layer 'l' \(\w+\): " + message):
        one_layer(operator, (2, 3, 4), **attrs)


def test_constants_of_absurd_size_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match="it makes 1000000000000 numbers; allowed are 16777216"):
        one_layer("_zeros", shape="(1000000, 1000000)")
    with pytest.raises(UnsupportedModel, match="by 1e-12, 1 times; allowed are"):
        one_layer("_arange", start="0", stop="1", step="1e-12")
    with pytest.raises(UnsupportedModel, match=r"told by what reads it \(infer_range\)"):
        one_layer("_arange", start="0", infer_range="True")


def test_sizes_that_the_file_leaves_open_are_broadcast() -> None:
    assert one_layer("_zeros", shape="(0, 7)").outputs[0].shape == (1, 7)
