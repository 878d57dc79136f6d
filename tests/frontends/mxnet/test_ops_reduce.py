"""Sums, extremes and sorting against MXNet's own answers (tests/golden/mxnet/make/ops_reduce.py)."""

from __future__ import annotations

import pytest

from fewbit.errors import ModelFormatError, UnknownName, UnsupportedModel
from tests.frontends.mxnet.cases import cases, check_free, one_layer


@pytest.mark.parametrize("free", [0, 1, 9], ids=["known", "free_batch", "free"])
@pytest.mark.parametrize("name", cases("reduce"))
def test_sums_extremes_and_orders(name: str, free: int) -> None:
    check_free(cases("reduce")[name], free)


@pytest.mark.parametrize(
    ("operator", "attrs", "message"),
    [
        ("sum", {"axis": "(1, 3)"}, r"axis is 3; its input has 3 axes"),
        ("norm", {"ord": "3"}, r"ord is 3; fewbit knows 1 and 2"),
        ("_np_sum", {"initial": "1.0"}, r"it starts from a given number \(initial\), which ONNX cannot say"),
        ("_npi_var", {"ddof": "1"}, r"ddof is not 0, which ONNX cannot say"),
        ("moments", {}, r"moments over all axes need keepdims; fewbit knows them over some axes otherwise"),
        ("topk", {"k": "5"}, r"k is 5; the axis has 4"),
        ("argmax", {"axis": "-4"}, r"axis is -4; its input has 3 axes"),
    ],
)
def test_what_does_not_fit_is_refused(operator: str, attrs: dict[str, str], message: str) -> None:
    with pytest.raises((ModelFormatError, UnsupportedModel), match=r"layer 'l' \(\w+\): " + message):
        one_layer(operator, (2, 3, 4), **attrs)


def test_an_unknown_kind_of_answer_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"unknown ret_typ of layer 'l' \(topk\) 'values'; did you mean 'value'"):
        one_layer("topk", (2, 3), ret_typ="values")
