"""What several instances of a network get done together, in turns with another network.

    round 1   A A A A │ B B B B        all instances run A, then all of them B
    round 2   B B B B │ A A A A        order turned around, so that a drift of the machine hits both alike
    …
    throughput   runs · batch ÷ seconds, of each instance; their sum
    ratio        median over rounds of A's sum ÷ B's sum: below 1, B gets more done

Latency is the median over the rounds of the median run, its quartiles over the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewbit.core.blocks import Block, Shown, Table, to_text
from fewbit.core.instances import Cores, Stint, Together
from fewbit.core.tables import Name, number, plain, short, times
from fewbit.core.timing import ratio
from fewbit.report.benchmark import LEAST_ROUNDS, check_numbers, shares


@dataclass(frozen=True)
class InstanceTiming:
    """One instance of one network.

    Args:
        cores: it ran on. throughput: samples a second. ms: median milliseconds of a run; ms_low, ms_high: quartiles.
        runs: counted.
    """

    cores: tuple[int, ...]
    throughput: float
    ms: float
    ms_low: float
    ms_high: float
    runs: int


@dataclass(frozen=True)
class NetworkTiming:
    """All instances of one network at one batch size.

    Args:
        name: of the network. batch: samples in a run. throughput: of all instances, samples a second.
        ms: median milliseconds of a run, over all instances; ms_low, ms_high: its quartiles.
        ratio: time that it needs for as much work as the network measured against does in 1; with quartiles.
    """

    name: str
    batch: int
    throughput: float
    ms: float
    ms_low: float
    ms_high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int
    instances: tuple[InstanceTiming, ...]


@dataclass(frozen=True, repr=False)
class InstanceBenchmark(Shown):
    """All timings, by batch size.

    Args:
        against: the network that ratios refer to. about: how it was measured, for people.
    """

    timings: tuple[NetworkTiming, ...]
    against: str
    about: str = ""

    def text(self) -> str:
        """A table: one line for each instance, and one for all of them together."""
        return to_text(self._blocks())

    def _blocks(self) -> list[Block]:
        head = ("<network", ">batch", "<cores", ">samples/s", ">ms", ">quartiles", f">against {self.against}",
                ">quartiles")  # fmt: skip
        rows = []
        for t in self.timings:
            rows += [
                (
                    Name(t.name),
                    str(t.batch),
                    _cores(i.cores),
                    *_figures(i.throughput, i.ms, i.ms_low, i.ms_high),
                    "",
                    "",
                )
                for i in t.instances
            ]
            figures = _figures(t.throughput, t.ms, t.ms_low, t.ms_high)
            against = times(t.ratio), f"{number(t.ratio_low)}–{number(t.ratio_high)}"
            rows.append((Name(t.name), str(t.batch), "all", *figures, *against))
        about = f"{self.about}; " if self.about else ""
        return [f"{about}in turns; against: time for the same work, below 1 is faster", Table(head, rows)]

    def _brief(self) -> str:
        others = [t for t in self.timings if t.name != self.against]
        return "; ".join(f"{short(t.name)} {times(t.ratio)} {short(self.against)}, batch {t.batch}" for t in others[:3])

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        found: dict[str, Any] = plain(self)
        return found


def benchmark_instances(
    together: Together,
    networks: Sequence[str],
    batches: Sequence[int],
    cores: Cores,
    *,
    warmup: int,
    min_time: float,
    num_inference_batches: int | None = None,
    about: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> InstanceBenchmark:
    """Time networks in several instances.

    Args:
        together: runs a network in all instances at once. networks: their names; ratios refer to the first.
        batches: batch sizes. cores: of each instance.
        warmup: runs that do not count. min_time: seconds for each network and size.
        num_inference_batches: time each instance so many runs of each network instead.
        progress: called between batch sizes, with the percentage done and 100.
    """
    check_numbers(warmup, min_time, num_inference_batches)
    found: list[NetworkTiming] = []
    for nth, batch in enumerate(batches):
        if progress is not None:
            progress(100 * nth // len(batches), 100)
        for name in networks if warmup else ():
            together(name, batch, warmup, 0.0)
        stints = _rounds(together, networks, batch, min_time, num_inference_batches)
        base = _sums(stints[networks[0]], batch)
        found += [_timing(name, batch, stints[name], base, cores) for name in networks]
    return InstanceBenchmark(tuple(found), networks[0], about)


def _rounds(
    together: Together, networks: Sequence[str], batch: int, min_time: float, runs: int | None
) -> Mapping[str, list[Sequence[Stint]]]:
    """What the instances of each network did, round by round."""
    counts = shares(runs, LEAST_ROUNDS) if runs is not None else [0] * LEAST_ROUNDS
    found: dict[str, list[Sequence[Stint]]] = {name: [] for name in networks}
    for i, count in enumerate(counts):
        for name in list(networks)[:: -1 if i % 2 else 1]:
            found[name].append(together(name, batch, count, min_time / len(counts)))
    return found


def _sums(rounds: Sequence[Sequence[Stint]], batch: int) -> list[float]:
    """Samples a second of all instances together, round by round."""
    return [sum(s.runs * batch / s.seconds for s in stints) for stints in rounds]


def _timing(
    name: str, batch: int, rounds: Sequence[Sequence[Stint]], base: Sequence[float], cores: Cores
) -> NetworkTiming:
    each = tuple(_instance([stints[i] for stints in rounds], batch, share) for i, share in enumerate(cores))
    low, mid, high = _quartiles([s.ms for stints in rounds for s in stints])
    against = ratio([1 / s for s in _sums(rounds, batch)], [1 / s for s in base])
    return NetworkTiming(
        name=name,
        batch=batch,
        throughput=sum(i.throughput for i in each),
        ms=mid,
        ms_low=low,
        ms_high=high,
        ratio=against.mid,
        ratio_low=against.low,
        ratio_high=against.high,
        rounds=len(rounds),
        instances=each,
    )


def _instance(stints: Sequence[Stint], batch: int, cores: tuple[int, ...]) -> InstanceTiming:
    low, mid, high = _quartiles([s.ms for s in stints])
    runs = sum(s.runs for s in stints)
    return InstanceTiming(cores, runs * batch / sum(s.seconds for s in stints), mid, low, high, runs)


def _quartiles(found: Sequence[float]) -> tuple[float, float, float]:
    low, mid, high = (float(v) for v in np.quantile(found, (0.25, 0.5, 0.75)))
    return low, mid, high


def _cores(cores: Sequence[int]) -> str:
    """`0-3`, `0,4`."""
    whole = list(cores) == list(range(cores[0], cores[-1] + 1))
    return f"{cores[0]}-{cores[-1]}" if whole and len(cores) > 1 else ",".join(map(str, cores))


def _figures(throughput: float, ms: float, low: float, high: float) -> tuple[str, str, str]:
    return number(throughput, 1), number(ms, 3), f"{number(low, 3)}–{number(high, 3)}"
