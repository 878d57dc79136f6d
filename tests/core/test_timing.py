"""Timing in turns, on a clock that the runs move."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from fewbit.core.timing import Ratio, clock_for, in_turns, ratio, runs_in_a_slice


class Clock:
    """Seconds that pass only when something runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def run(self, name: str, *seconds: float) -> Callable[[], None]:
        """Takes these seconds in turn, the last of them from then on."""
        left = list(seconds)

        def go() -> None:
            self.order.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return go


def test_turns_change_their_order() -> None:
    clock = Clock()
    found = in_turns([clock.run("a", 1.0), clock.run("b", 2.0)], 2, 3, clock)
    assert "".join(clock.order) == "aabb" + "bbaa" + "aabb"
    assert found == [[1.0] * 3, [2.0] * 3]


def test_a_run_that_was_broken_into_does_not_count() -> None:
    clock = Clock()
    assert in_turns([clock.run("a", 1.0, 50.0, 1.0)], 3, 1, clock) == [[1.0]]


def test_no_round_is_begun_when_it_is_late() -> None:
    clock = Clock()
    found = in_turns([clock.run("a", 1.0)], 1, 100, clock, lambda: clock.now >= 3)
    assert len(found[0]) == 3


@pytest.mark.parametrize(("seconds", "count", "calls"), [(0.001, 20, 4), (0.006, 4, 4), (0.5, 1, 1)])
def test_runs_in_a_slice(seconds: float, count: int, calls: int) -> None:
    """Slow runs are not repeated to warm up."""
    clock = Clock()
    assert runs_in_a_slice([clock.run("a", seconds), clock.run("b", 2.0)], clock) == count
    assert clock.order.count("a") == calls


def test_runs_that_take_no_time() -> None:
    clock = Clock()
    assert runs_in_a_slice([clock.run("a", 0.0)], clock) == 1


def test_ratio_is_of_the_same_rounds() -> None:
    """A phase in which all is ten times slower cancels out."""
    assert ratio([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == Ratio(0.5, 0.5, 0.5, 3)


@pytest.mark.parametrize(
    ("high", "rounds", "faster"), [(0.9, 7, True), (1.0, 7, False), (1.0, 50, True), (1.1, 50, False), (1.1, 300, True)]
)
def test_more_rounds_make_surer(high: float, rounds: int, faster: bool) -> None:
    assert Ratio(0.8, 0.85, high, rounds).faster is faster


def test_equal_is_not_faster() -> None:
    assert not Ratio(1.0, 1.0, 1.0, 1000).faster


def test_ratios_read_well() -> None:
    assert str(Ratio(0.401, 0.5, 0.599, 9)) == "0.50 (0.40–0.60)"


def test_one_thread_is_timed_by_what_it_computes() -> None:
    assert clock_for(2) is time.perf_counter
    assert clock_for(1) in (time.process_time, time.perf_counter)
