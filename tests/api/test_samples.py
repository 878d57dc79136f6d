"""Samples that are kept while data streams by, and the cut into those that are fitted to and those that judge."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.api import samples
from fewbit.api.samples import Remember, slices
from fewbit.data import Batch


class Counted:
    """A source of numbered batches that tells how often it was read."""

    def __init__(self, batches: int, size: int = 2) -> None:
        self.batches, self.size = batches, size
        self.read: list[int] = []

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        for i in range(start, self.batches):
            self.read.append(i)
            n = self.size
            yield Batch({"x": np.full((n, 3), i, np.float32)}, None, i, [f"{i}.{j}" for j in range(n)])

    def digest(self) -> str | None:
        return "d" * 64


def numbers(batches: list[Batch]) -> list[int]:
    return [b.index for b in batches]


def remember(batches: int, wanted: int, size: int = 2, limit: int | None = None) -> Remember:
    return Remember(Counted(batches, size), wanted, limit)  # type: ignore[arg-type]


# -- remembering -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(1, 30), st.integers(1, 4))
def test_what_streams_by_is_the_data_and_enough_of_it_is_kept(many: int, wanted: int, size: int) -> None:
    seen = remember(many, wanted, size)
    assert numbers(list(seen.iterate())) == list(range(many))
    kept = seen.kept()
    assert numbers(kept) == sorted(set(numbers(kept)))
    assert len(kept) == min(many, -(-wanted // size))
    assert all((b.feeds["x"] == b.index).all() for b in kept)


def test_the_same_data_gives_the_same_choice_however_often_it_is_read() -> None:
    once, twice = remember(50, 10), remember(50, 10)
    list(once.iterate())
    list(twice.iterate())
    list(twice.iterate())
    assert numbers(once.kept()) == numbers(twice.kept()) == numbers(remember(50, 10).kept())


def test_every_batch_has_the_same_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, plain = count(), random.Random
    monkeypatch.setattr(random, "Random", lambda seed: plain(next(seeds)))
    chosen = np.zeros(20)
    for _ in range(1000):
        chosen[numbers(remember(20, 10).kept())] += 1
    assert chosen.sum() == 5000 and np.abs(chosen - 250).max() < 5 * np.sqrt(250 * 0.75)


def test_reading_from_the_middle_passes_all_through() -> None:
    seen = remember(20, 6)
    assert numbers(list(seen.iterate(15))) == list(range(15, 20))
    assert numbers(seen.kept()) == numbers(remember(20, 6).kept())


def test_nobody_is_asked_twice() -> None:
    source = Counted(8)
    seen = Remember(source, 100)  # type: ignore[arg-type]
    list(seen.iterate())
    assert numbers(seen.kept()) == numbers(seen.kept()) == source.read == list(range(8))


def test_data_that_nobody_read_is_read_up_to_its_limit() -> None:
    source = Counted(50)
    seen = Remember(source, 100, 5)  # type: ignore[arg-type]
    assert numbers(seen.kept()) == list(range(5)) == source.read


def test_nothing_is_kept_if_nothing_is_wanted() -> None:
    source = Counted(5)
    seen = Remember(source, 0)  # type: ignore[arg-type]
    assert seen.kept() == [] and source.read == []
    assert seen.digest() == "d" * 64


def test_large_batches_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_BYTES", 3 * 24 + 5)
    seen = remember(20, 100)  # 24 bytes each
    assert len(seen.kept()) == 3
    monkeypatch.setattr(samples, "MOST_BYTES", 1)
    assert len(remember(20, 100).kept()) == 1


# -- in two parts ----------------------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.integers(1, 4), st.integers(1, 60), st.booleans())
def test_no_sample_is_in_both_parts_and_none_is_lost(many: int, size: int, held: int, free: bool) -> None:
    whole = list(Counted(many, size).iterate())
    found = slices(whole, held, free)
    assert sorted(numbers(found.fit) + numbers(found.held)) == list(range(many)) and not found.note
    assert numbers(found.fit) == sorted(numbers(found.fit)) and numbers(found.held) == sorted(numbers(found.held))
    assert len(found.held) == max(1, min(-(-held // size), many // 2))
    assert len(found.fit) >= len(found.held)


def test_what_is_held_out_is_spread_over_the_data() -> None:
    found = slices(list(Counted(40, 1).iterate()), 4, True)
    assert numbers(found.held) == [4, 14, 24, 34] or np.abs(np.diff(numbers(found.held)) - 10).max() <= 1


def one(size: int, **feeds: np.ndarray) -> Batch:
    x = np.arange(size * 3, dtype=np.float32).reshape(size, 3)
    return Batch({"x": x, **feeds}, np.arange(size), 0, [str(i) for i in range(size)])


@pytest.mark.parametrize("size", [2, 5, 8])
def test_a_single_batch_is_cut_in_two(size: int) -> None:
    batch = one(size)
    found = slices([batch], 24, True)
    (fit,), (held,) = found.fit, found.held
    assert not found.note and sorted(fit.names + held.names) == sorted(batch.names)
    assert sorted((len(fit.names), len(held.names))) == [size // 2, size - size // 2]
    for part in (fit, held):
        rows = [int(n) for n in part.names]
        np.testing.assert_array_equal(part.feeds["x"], batch.feeds["x"][rows])
        np.testing.assert_array_equal(part.labels, rows)


@pytest.mark.parametrize(
    ("batch", "free"),
    [
        (one(6), False),  # the network takes 6 samples and no other number
        (one(1), True),
        (one(6, scale=np.float32(2)), True),  # an input for all samples together
        (one(6, table=np.zeros((9, 2))), True),
    ],
)
def test_what_cannot_be_cut_is_judged_on_what_was_fitted_to_and_says_so(batch: Batch, free: bool) -> None:
    found = slices([batch], 24, free)
    assert found.fit == found.held == [batch]
    assert found.note == "too few samples to hold any out: corrections are judged on what they were fitted to"


def test_nothing_at_all_is_no_crash() -> None:
    found = slices([], 24, True)
    assert found.fit == found.held == [] and found.note
