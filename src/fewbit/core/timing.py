"""Time things in turns, so that a drift of the machine hits all alike.

round 1   A A A │ B B B        slices of some runs each, one after the other
round 2   B B B │ A A A        order turned around
…
time      median over the runs of a slice
ratio     quartiles over rounds of B's time ÷ A's time in the same round
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

SLICE = 0.02
"""Seconds that a slice takes at least."""

WARM_UP = 3

Clock = Callable[[], float]
Run = Callable[[], object]


@dataclass(frozen=True)
class Ratio:
    """Time ÷ time of something else: median, and quartiles over the rounds."""

    low: float
    mid: float
    high: float
    rounds: int

    def __str__(self) -> str:
        return f"{self.mid:.2f} ({self.low:.2f}–{self.high:.2f})"

    @property
    def faster(self) -> bool:
        """Whether it is below 1 for sure: by three standard errors of the median.

        The error follows from the quartile as for normal noise: 1.25 σ ÷ √rounds, and high − mid = 0.67 σ.
        """
        return self.mid + (self.high - self.mid) * 3 * 1.25 / 0.67 / math.sqrt(self.rounds) < 1


def clock_for(threads: int) -> Clock:
    """The clock to time runs by: with one thread, CPU time, which does not see what else the machine does."""
    fine = time.get_clock_info("process_time").resolution < 1e-6
    return time.process_time if threads == 1 and fine else time.perf_counter


def runs_in_a_slice(runs: Sequence[Run], clock: Clock) -> int:
    """Warm up, then see how many runs the slices take; as many of each, for a first run after another's is slower."""
    took = []
    for run in runs:
        took.append(_slice(run, 1, clock))
        if took[-1] < SLICE:  # a slow one is warm by now
            took[-1] = min(_slice(run, 1, clock) for _ in range(WARM_UP))
    return max(1, math.ceil(SLICE / min(took))) if min(took) > 0 else 1


def in_turns(
    runs: Sequence[Run], count: int, rounds: int, clock: Clock, late: Callable[[], bool] = lambda: False
) -> list[list[float]]:
    """Seconds of a run, for each thing and round.

    Args:
        count: runs in a slice. rounds: at most.
        late: asked before each round; none is begun if it is true.
    """
    found: list[list[float]] = [[] for _ in runs]
    for done in range(rounds):
        if late():
            break
        order = range(len(runs))[:: -1 if done % 2 else 1]
        for i in order:
            found[i].append(_slice(runs[i], count, clock))
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Of two things timed in the same rounds."""
    each = np.asarray(ours, np.float64) / np.maximum(np.asarray(theirs, np.float64), 1e-12)
    low, mid, high = (float(q) for q in np.quantile(each, (0.25, 0.5, 0.75)))
    return Ratio(low, mid, high, len(each))


def _slice(run: Run, count: int, clock: Clock) -> float:
    """Median seconds of a run: one that something else on the machine broke into does not count."""
    found, before = [], clock()
    for _ in range(count):
        run()
        now = clock()
        found.append(now - before)
        before = now
    return median(found)
