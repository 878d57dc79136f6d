"""How fast networks are, against each other: interleaved rounds, medians, ratios.

    round 1   A A A │ B B B        slices of some runs each, one after the other
    round 2   B B B │ A A A        order turned around, so that a drift of the machine hits both alike
    …
    time      median over rounds of slice ÷ runs
    ratio     median over rounds of B's time ÷ A's time in the same round (`core.timing.ratio`): what a slow
              phase of the machine does to both cancels out

`low` and `high` are quartiles over the rounds. A slice takes `SLICE` seconds or one run, whichever is longer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewbit.core.blocks import Aside, Block, Shown, Table, one_line, ratio_bars, to_text
from fewbit.core.runner import Feeds, Runner
from fewbit.core.tables import Name, number, plain, short, times
from fewbit.core.timing import SLICE, Clock, ratio
from fewbit.errors import ConfigError, UsageError, one_of

LEAST_ROUNDS = 7


@dataclass(frozen=True, repr=False)
class Timing:
    """One network at one batch size.

    Args:
        name: of the network. batch: samples in a run.
        ms: median milliseconds of a run; ms_low, ms_high: its quartiles.
        throughput: samples a second.
        ratio: median of this time ÷ that of the network measured against; ratio_low, ratio_high: its quartiles.
        rounds: slices measured. runs: in one slice.
    """

    name: str
    batch: int
    ms: float
    ms_low: float
    ms_high: float
    throughput: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int
    runs: int

    def __repr__(self) -> str:
        told = (
            f"{number(self.ms, 3)} ms, ratio {number(self.ratio)} ({number(self.ratio_low)}–{number(self.ratio_high)})"
        )
        return one_line(
            f"<Timing {short(self.name)}, batch {self.batch}: {told}, {number(self.throughput, 1)} samples/s>"
        )


@dataclass(frozen=True, repr=False)
class Benchmark(Shown):
    """All timings, by batch size, in the order of the networks.

    Args:
        against: the network that ratios refer to. about: how it was measured, for people ("1 thread, …").
    """

    timings: tuple[Timing, ...]
    against: str
    about: str = ""

    def timing(self, name: str, batch: int | None = None) -> Timing:
        """Of one network, at the given or the first batch size."""
        one_of("network", name, dict.fromkeys(t.name for t in self.timings))
        found = {t.batch: t for t in self.timings if t.name == name}
        if batch is not None and batch not in found:
            raise ConfigError(f"batch size {batch} was not measured; there are {', '.join(map(str, found))}")
        return found[batch] if batch is not None else next(iter(found.values()))

    def ratio(self, name: str, batch: int | None = None) -> float:
        """Latency of one network ÷ that of `against`: below 1 is faster."""
        return self.timing(name, batch).ratio

    def text(self) -> str:
        """A table, one line for each network and batch size."""
        return to_text(self._blocks())

    def _blocks(self) -> list[Block]:
        ratio = "ratio" if self.against == "against" else f"against {self.against}"
        head = ("<network", ">batch", ">ms", "?>quartiles", ">samples/s", f">{ratio}", "?>quartiles")
        rows = [
            (Name(t.name), str(t.batch), number(t.ms, 3), f"{number(t.ms_low, 3)}–{number(t.ms_high, 3)}",
             number(t.throughput, 1), times(t.ratio), f"{number(t.ratio_low)}–{number(t.ratio_high)}")
            for t in self.timings
        ]  # fmt: skip
        about = f"{self.about}; " if self.about else ""
        bars = {head.index(f">{ratio}"): ratio_bars([t.ratio for t in self.timings])}
        told = f"{about}interleaved, medians; {ratio.split()[0]}: latency ratio, below 1 is faster"
        return [told, Table(head, rows, bars), Aside("bars: latency ratio; the line is 1, equally fast")]

    def _brief(self) -> str:
        others = [t for t in self.timings if t.name != self.against]
        base = "the other" if self.against == "against" else short(self.against)
        found = [f"{short(t.name)} {times(t.ratio)} {base}, batch {t.batch}" for t in others[:3]]
        found += [f"{len(others) - 3} more"] if len(others) > 3 else []
        return "; ".join(found or [f"{short(t.name)} {number(t.ms, 3)} ms, batch {t.batch}" for t in self.timings[:3]])

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        found: dict[str, Any] = plain(self)
        return found


def benchmark(
    runners: Mapping[str, Runner],
    feeds_by_batch: Mapping[int, Feeds],
    *,
    against: str | None = None,
    warmup: int = 5,
    min_time: float = 1.0,
    rounds: int | None = None,
    num_inference_batches: int | None = None,
    about: str = "",
    clock: Clock = time.perf_counter,
    progress: Callable[[int, int], None] | None = None,
) -> Benchmark:
    """Time networks against each other.

    Args:
        runners: name → network, loaded.
        feeds_by_batch: batch size → what a run is fed with; all networks take the same.
        against: name of the network that ratios refer to; default: the first.
        warmup: runs of each network, at each batch size, that do not count.
        min_time: seconds to measure each network for, at each batch size, in at least `LEAST_ROUNDS` rounds.
        rounds: measure exactly this many rounds instead.
        num_inference_batches: measure exactly this many runs of each network instead, in rounds of as many each.
        about: a word on the circumstances, for the report.
        clock: gives seconds.
        progress: called between rounds, with the percentage done and 100.

    Raises:
        UnknownName: `against` is no network. ConfigError: a number out of range. EngineError: a run failed.
    """
    if not runners or not feeds_by_batch:
        raise UsageError("benchmark needs at least one network and one batch size; hand both")
    base = one_of("network", against, runners) if against is not None else next(iter(runners))
    check_numbers(warmup, min_time, num_inference_batches)
    if rounds is not None and rounds < 1:
        raise ConfigError(f"rounds is {rounds}; it must be 1 or more")
    found = []
    for nth, (batch, feeds) in enumerate(feeds_by_batch.items()):

        def done(share: float, nth: int = nth) -> None:
            if progress is not None:
                progress(int(100 * (nth + min(share, 1.0)) / len(feeds_by_batch)), 100)

        done(0)
        runs = {name: _runs_in_a_slice(r, feeds, warmup, clock) for name, r in runners.items()}
        if num_inference_batches is None:
            seconds = _rounds(runners, feeds, runs, min_time, rounds, clock, done)
        else:
            counts = shares(num_inference_batches, max(LEAST_ROUNDS, num_inference_batches // max(runs.values())))
            seconds = {name: [] for name in runners}
            for i, count in enumerate(counts):
                _round(runners, feeds, dict.fromkeys(runners, count), i, seconds, clock)
                done((i + 1) / len(counts))
            runs = dict.fromkeys(runners, counts[0])
        for name in runners:
            found.append(_timing(name, batch, seconds[name], seconds[base], runs[name]))
    return Benchmark(tuple(found), base, about)


def check_numbers(warmup: int, min_time: float, num_inference_batches: int | None) -> None:
    """Raise ConfigError if one of them is out of range."""
    if warmup < 0:
        raise ConfigError(f"warmup is {warmup}; it must be 0 or more")
    if not (min_time > 0 and math.isfinite(min_time)):
        raise ConfigError(f"min_time is {min_time}; it must be a number of seconds over 0")
    if num_inference_batches is not None and num_inference_batches < 1:
        raise ConfigError(f"num_inference_batches is {num_inference_batches}; it must be 1 or more")


def shares(runs: int, rounds: int) -> list[int]:
    """So many runs in at most so many rounds, as evenly as can be, larger ones first: 10 in 4 → 3, 3, 2, 2."""
    parts = min(runs, rounds)
    return [runs // parts + (i < runs % parts) for i in range(parts)]


def _runs_in_a_slice(runner: Runner, feeds: Feeds, warmup: int, clock: Clock) -> int:
    """Warm up, then see how many runs a slice takes. One extra run, since a first run may allocate."""
    for _ in range(warmup):
        runner.run(feeds)
    took = _slice(runner, feeds, 1, clock)
    return max(1, math.ceil(SLICE / took)) if took > 0 else 1


def _slice(runner: Runner, feeds: Feeds, runs: int, clock: Clock) -> float:
    start = clock()
    for _ in range(runs):
        runner.run(feeds)
    return (clock() - start) / runs


def _rounds(
    runners: Mapping[str, Runner],
    feeds: Feeds,
    runs: Mapping[str, int],
    min_time: float,
    rounds: int | None,
    clock: Clock,
    tell: Callable[[float], None],
) -> dict[str, list[float]]:
    """Seconds of a run, for each network and round."""
    found: dict[str, list[float]] = {name: [] for name in runners}
    spent = dict.fromkeys(runners, 0.0)
    done = 0
    while done < rounds if rounds is not None else done < LEAST_ROUNDS or min(spent.values()) < min_time:
        _round(runners, feeds, runs, done, found, clock)
        for name in runners:
            spent[name] += found[name][-1] * runs[name]
        done += 1
        tell(done / rounds if rounds is not None else min(done / LEAST_ROUNDS, min(spent.values()) / min_time))
    return found


def _round(
    runners: Mapping[str, Runner],
    feeds: Feeds,
    runs: Mapping[str, int],
    turn: int,
    found: Mapping[str, list[float]],
    clock: Clock,
) -> None:
    """One slice of each network, added to what was found; the order turns around from round to round."""
    for name in list(runners)[:: -1 if turn % 2 else 1]:
        found[name].append(_slice(runners[name], feeds, runs[name], clock))


def _timing(name: str, batch: int, seconds: list[float], base: list[float], runs: int) -> Timing:
    low, mid, high = (float(v) for v in np.quantile(seconds, (0.25, 0.5, 0.75)))
    against = ratio(seconds, base)
    return Timing(
        name=name,
        batch=batch,
        ms=mid * 1e3,
        ms_low=low * 1e3,
        ms_high=high * 1e3,
        throughput=batch / mid if mid else math.nan,
        ratio=against.mid,
        ratio_low=against.low,
        ratio_high=against.high,
        rounds=len(seconds),
        runs=runs,
    )
