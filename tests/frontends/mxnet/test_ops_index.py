"""Lookups, sequences and products of matrices against MXNet's own answers (tests/golden/mxnet/make/ops_index.py)."""

from __future__ import annotations

import pytest

from fewbit.errors import ModelFormatError, UnsupportedModel
from tests.frontends.mxnet.cases import cases, check_free, one_layer

UNTOLD = ("gather_nd", "gather_nd #2")
"""How many axes the answer has depends on a size."""

WIDE = [n for n in cases("matmul") if n.endswith("_qk heads=3")]
"""What needs the size of the last axis."""


@pytest.mark.parametrize("free", [0, 1, 9], ids=["known", "free_batch", "free"])
@pytest.mark.parametrize("name", cases("index"))
def test_lookups_and_sequences(name: str, free: int) -> None:
    check_free(cases("index")[name], 0 if name in UNTOLD else free)


@pytest.mark.parametrize("free", [0, 1, 2, 9], ids=["known", "free_batch", "free_time_and_batch", "free"])
@pytest.mark.parametrize("name", cases("matmul"))
def test_products(name: str, free: int) -> None:
    check_free(cases("matmul")[name], 2 if name in WIDE and free == 9 else free)


@pytest.mark.parametrize("name", WIDE)
def test_scores_need_the_width_of_heads(name: str) -> None:
    with pytest.raises(UnsupportedModel, match=r"needs an input of fixed shape, and has \(None, None, None\)"):
        cases("matmul")[name].convert(9)


@pytest.mark.parametrize(
    ("operator", "shapes", "attrs", "message"),
    [
        (
            "pick",
            [(2, 3), (2,)],
            {"axis": "None", "keepdims": "True"},
            r"keepdims without an axis is not known to fewbit",
        ),
        ("SequenceMask", [(2, 3), (3,)], {"use_sequence_length": "1", "axis": "2"}, r"axis is 2; it must be 0 or 1"),
        ("SequenceReverse", [(2, 3)], {"axis": "1"}, r"axis is 1; only 0 is known for this operator"),
        ("linalg_gemm2", [(2, 3, 4), (2, 4, 3)], {"axis": "0"}, r"axis is not -2; swap the axes before and after it"),
        (
            "_contrib_interleaved_matmul_selfatt_qk",
            [(5, 2, 36)],
            {"heads": "5"},
            r"the last axis has 36, which is not 3·5·D",
        ),
        ("_contrib_interleaved_matmul_selfatt_qk", [(5, 2, 36)], {"heads": "0"}, r"heads is 0; it must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(
    operator: str, shapes: list[tuple[int, ...]], attrs: dict[str, str], message: str
) -> None:
    with pytest.raises((ModelFormatError, UnsupportedModel), match=rf"layer 'l' \({operator}\): .*{message}"):
        one_layer(operator, *shapes, **attrs)


def test_a_depth_of_absurd_size_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="it makes 1000000000000 numbers; allowed are 16777216"):
        one_layer("one_hot", (2, 3), depth="1000000000000")


def test_matrices_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelFormatError, match=r"layer 'l': MatMul cannot take inputs of shapes \(2, 3\), \(4, 5\)"):
        one_layer("dot", (2, 3), (4, 5))
