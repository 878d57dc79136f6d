"""Two values, or a value and a number, against MXNet's own answers (tests/golden/mxnet/make/ops_arithmetic.py)."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.errors import ModelFormatError
from tests.frontends.mxnet.cases import cases, check_free, one_layer, run


@pytest.mark.parametrize("free", [0, 1, 9], ids=["known", "free_batch", "free"])
@pytest.mark.parametrize("name", cases("arithmetic"))
def test_two_values_and_numbers(name: str, free: int) -> None:
    check_free(cases("arithmetic")[name], free)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_floor_division_of_mxnet_2(kind: type) -> None:
    a, b = np.array([[7, -7, 6]], kind), np.array([[2, 2, -4]], kind)
    for operator, attrs, wanted in (
        ("_npi_floor_divide", {}, a // b),
        ("_npi_floor_divide_scalar", {"scalar": "3.0"}, a // 3),
        ("_npi_rfloor_divide_scalar", {"scalar": "-15.0"}, -15 // a),
    ):
        model = one_layer(operator, *[(None, 3)] * (1 if attrs else 2), whole=kind is np.int32, **attrs)
        for reference in (True, False):
            (got,) = run(model, {"in0": a, "in1": b}, reference=reference)
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype == kind


@pytest.mark.parametrize(("name", "wanted"), [("and", [0, 0, 1]), ("or", [1, 0, 1]), ("xor", [1, 0, 0])])
def test_logic_of_mxnet_2_gives_truth_values(name: str, wanted: list[int]) -> None:
    feeds = {"in0": np.array([[1.5, 0, -2]], np.float32), "in1": np.array([[0, 0, 3]], np.float32)}
    (got,) = run(one_layer(f"_npi_logical_{name}", (1, 3), (1, 3)), feeds)
    assert got.dtype == np.bool_ and got.tolist() == [[bool(w) for w in wanted]]
    (got,) = run(one_layer(f"_npi_logical_{name}_scalar", (1, 3), scalar="1.0"), feeds)
    assert got.dtype == np.bool_ and got.shape == (1, 3)


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(ModelFormatError, match=r"layer 'l' \(_plus_scalar\): scalar is 'two'; it must be a number"):
        one_layer("_plus_scalar", (2, 3), scalar="two")


def test_shapes_that_cannot_be_broadcast_are_refused() -> None:
    with pytest.raises(ModelFormatError, match=r"'l': Add cannot take inputs of shapes \(2, 3\), \(2, 4\)"):
        one_layer("broadcast_add", (2, 3), (2, 4))
