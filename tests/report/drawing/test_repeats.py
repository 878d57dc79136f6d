"""Repeated blocks, by what they do."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.report.drawing.repeats import Item, blocks, units


def items(*ops: str) -> list[Item]:
    """Layers in a row: `Conv Conv`; `Add-3` also reads the third one in front of it."""
    found = []
    for i, text in enumerate(ops):
        op, _, back = text.partition("-")
        reads = ((i - 1,) if i else ()) + ((i - int(back),) if back else ())
        found.append(Item(str(i), op, None, reads))
    return found


BLOCK = ("Conv", "Relu", "Conv", "Add-4", "Relu")


def test_cuts_are_where_a_single_value_goes_on() -> None:
    assert units(items("Conv", "Relu", *BLOCK, "Pool")) == [[0, 1], [2, 3, 4, 5, 6], [7]]


def test_a_residual_network() -> None:
    found = blocks(items("Conv", "Relu", *BLOCK * 3, "Pool", "Gemm"))
    assert [b.items for b in found] == [tuple(range(2 + 5 * i, 7 + 5 * i)) for i in range(3)]
    assert {b.row for b in found} == {0}


def test_a_row_without_branches() -> None:
    found = blocks(items("Gemm", *("Conv", "Relu", "DepthwiseConv", "Relu") * 4, "Pool"))
    assert [len(b.items) for b in found] == [4] * 4 and found[0].items == (1, 2, 3, 4)


def test_blocks_that_differ_are_no_row() -> None:
    wide = [
        Item(x.id, x.op, "wide", x.reads) if 7 <= i < 12 else x for i, x in enumerate(items("Conv", "Relu", *BLOCK * 2))
    ]
    found = blocks(wide)
    assert [b.row for b in found] == [-1, -1] and [len(b.items) for b in found] == [5, 5]


def test_a_mask_that_all_layers_read_does_not_hide_the_cuts() -> None:
    plain = items("Mask", "Conv", *BLOCK * 4)
    masked = [Item(x.id, x.op, x.looks, (*x.reads, 0)) if x.op == "Add" else x for x in plain]
    assert len([b for b in blocks(masked) if b.row == 0]) == 4


def test_two_layers_are_no_block() -> None:
    assert blocks(items("Gemm", *("Conv", "Relu") * 5)) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), min_size=1, max_size=30))
@settings(deadline=None, max_examples=60)
def test_blocks_never_overlap_and_follow_one_another(parts: list[tuple[str, int]]) -> None:
    made = [
        Item(str(i), op, None, tuple({max(i - 1, 0), max(i - back, 0)} - {i})) for i, (op, back) in enumerate(parts)
    ]
    flat = [i for b in blocks(made) for i in b.items]
    assert flat == sorted(set(flat))
    assert sorted(i for u in units(made) for i in u) == list(range(len(made)))
