"""Orders of axes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fewbit.frontends.tflite.layout import first, in_order, plain, reordered, turned, turning, with_axis, without

PERMS = st.integers(1, 5).flatmap(lambda n: st.permutations(range(n)).map(tuple))


def laid(x: np.ndarray, perm: tuple[int, ...]) -> np.ndarray:
    """The file's tensor as it lies in this order."""
    return x.transpose(perm)


def numbered(rank: int) -> np.ndarray:
    return np.arange(np.prod(range(2, rank + 2))).reshape(range(2, rank + 2))


@given(PERMS, st.data())
def test_turning_makes_one_order_of_another(have: tuple[int, ...], data: st.DataObject) -> None:
    want = tuple(data.draw(st.permutations(have)))
    x = numbered(len(have))
    assert (laid(x, have).transpose(turning(have, want)) == laid(x, want)).all()


@given(PERMS, st.data())
def test_a_transpose_is_another_order_of_the_same_value(perm: tuple[int, ...], data: st.DataObject) -> None:
    by, x = tuple(data.draw(st.permutations(perm))), numbered(len(perm))
    assert (laid(x, perm) == laid(x.transpose(by), turned(perm, by))).all()


@given(PERMS, st.data())
def test_axes_that_go(perm: tuple[int, ...], data: st.DataObject) -> None:
    axes, x = data.draw(st.sets(st.sampled_from(perm))), numbered(len(perm))
    places = tuple(perm.index(a) for a in axes)
    assert (laid(x, perm).sum(places) == laid(x.sum(tuple(axes)), without(perm, axes))).all()


@given(PERMS, st.data())
def test_an_axis_that_comes(perm: tuple[int, ...], data: st.DataObject) -> None:
    axis, x = data.draw(st.integers(0, len(perm))), numbered(len(perm))
    order, place = with_axis(perm, axis)
    assert (np.expand_dims(laid(x, perm), place) == laid(np.expand_dims(x, axis), order)).all()


@given(PERMS, st.data())
def test_a_reshape_by_ones_moves_nothing(perm: tuple[int, ...], data: st.DataObject) -> None:
    old = data.draw(st.lists(st.sampled_from([1, 2, 3]), min_size=len(perm), max_size=len(perm)))
    new = [d for d in old if d != 1]
    for _ in range(data.draw(st.integers(0, 3))):
        new.insert(data.draw(st.integers(0, len(new))), 1)
    x = np.arange(np.prod(old)).reshape(old)
    order = reordered(perm, old, new)
    assert order is not None
    assert (laid(x, perm).reshape([new[a] for a in order]) == laid(x.reshape(new), order)).all()


def test_a_reshape_that_mixes_is_none() -> None:
    assert reordered((0, 3, 1, 2), (1, 2, 3, 4), (1, 6, 4)) is None
    assert reordered((0, 1), (None, None), (None, 1, None)) is None


def test_channels_go_first_where_they_can() -> None:
    assert first(4) == (0, 3, 1, 2) and first(2) == plain(2)
    assert with_axis((0, 1, 2), 3) == ((0, 3, 1, 2), 1)
    assert reordered((0, 1), (3, 4), (3, 1, 1, 4)) == (0, 3, 1, 2)


def test_order_is_kept_where_ones_move() -> None:
    assert in_order((0, 3, 1, 2), (1, 2, 3, 1)) and not in_order((0, 3, 1, 2), (1, 2, 3, 4))
    assert not in_order((0, 3, 1, 2), (1, None, 3, 4))
