"""How the axes of a value lie.

TFLite keeps channels last, ONNX wants them first. A value is written in whatever order its maker gives it, and carries
that order along, so that nobody turns anything until somebody needs it otherwise:

    perm[k] = the axis of the file's tensor that is axis k of the ONNX value

    conv (N, H, W, C)   →   Conv (N, C, H, W) with perm (0, 3, 1, 2)   →   Relu, Add, Concat, …: the same perm
    TRANSPOSE           →   no node: another perm
    RESHAPE, SQUEEZE, EXPAND_DIMS with axes of size 1 alone   →   another perm
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Perm = tuple[int, ...]


def plain(rank: int) -> Perm:
    """The order of the file."""
    return tuple(range(rank))


def first(rank: int) -> Perm:
    """Channels behind the batch."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else plain(rank)


def turning(have: Perm, want: Perm) -> Perm:
    """The `perm` of the Transpose that makes one order of another."""
    return tuple(have.index(a) for a in want)


def turned(perm: Perm, by: Sequence[int]) -> Perm:
    """The order of a value whose tensor is transposed in the file: new axis k is old axis by[k]."""
    return tuple(list(by).index(a) for a in perm)


def without(perm: Perm, axes: Iterable[int]) -> Perm:
    """The order that is left when axes of the file's tensor are gone."""
    gone = set(axes)
    left = sorted(a for a in perm if a not in gone)
    return tuple(left.index(a) for a in perm if a not in gone)


def with_axis(perm: Perm, axis: int) -> tuple[Perm, int]:
    """The order with a new axis of the file's tensor, and where it stands in the value: channels first if it can be."""
    moved = [a + (a >= axis) for a in perm]
    ways = [(*moved[:k], axis, *moved[k:]) for k in range(len(perm) + 1)]
    rank = len(perm) + 1
    wanted = (first(rank), plain(rank)) if rank in (4, 5) else (plain(rank),)
    for want in wanted:
        if want in ways:
            return want, want.index(axis)
    behind = moved.index(axis - 1) + 1 if axis else 0
    return ways[behind], behind


def reordered(perm: Perm, old: Sequence[int | None], new: Sequence[int | None]) -> Perm | None:
    """The order of a value that is reshaped by axes of size 1 alone; None if the numbers would have to move.

    Args:
        old, new: sizes of the file's tensor before and after; those of 1 come and go.
    """
    kept_old = [a for a, d in enumerate(old) if d != 1]
    kept_new = [a for a, d in enumerate(new) if d != 1]
    if [old[a] for a in kept_old] != [new[a] for a in kept_new] or [old[a] for a in kept_old].count(None) > 1:
        return None
    renamed = dict(zip(kept_old, kept_new, strict=True))
    order = [renamed[a] for a in perm if a in renamed]
    rank = len(new)
    for want in (first(rank), plain(rank)) if rank in (4, 5) else (plain(rank),):
        if [a for a in want if a in kept_new] == order:
            return want
    found = list(order)
    for axis in range(rank):
        if axis not in found:
            found.insert(found.index(axis - 1) + 1 if axis else 0, axis)
    return tuple(found)


def in_order(perm: Perm, sizes: Sequence[int | None]) -> bool:
    """Whether the numbers of a value follow each other as the file's do: only axes of size 1 are elsewhere."""
    kept = [a for a in perm if sizes[a] != 1]
    return kept == sorted(kept)
