"""One integer network on several engines: do they answer alike, and where do they begin to part?

    simulation   the network's own arithmetic, node by node as the graph says
    an engine    the same file, as that engine runs it

An engine is wrong if it is further from the float network than the simulation promises, by more than two engines that
round differently can be: twice the noise.

Two engines differ at a value where an integer is another one; they part where the mean square of the difference,
in steps, exceeds 1/12: that is what rounding costs, and one more rounding would explain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.metrics import ErrorSums, class_like
from fewbit.core.runner import Feeds, Runner
from fewbit.data.base import Batch
from fewbit.errors import ConfigError, DataError, EmptyData, EngineError, EngineMissing
from fewbit.graph.model import Model
from fewbit.report.crosscheck_result import AtValue, Crosscheck, Side, Two
from fewbit.report.pairs import split
from fewbit.report.rounded import Rounded, rounded_values

Open = Callable[[Model], Runner]
Array = NDArray[Any]

SIMULATION = "simulation"
FLOAT = "float"
FLOAT_BETWEEN = frozenset({"ncnn"})
"""Engines that keep floats between layers: asked for integers they could not say any."""

ROUNDING = 1 / 12
"""Mean square of what rounding changes, in steps."""

MEMORY = 512
"""MiB for the values of one batch."""


def crosscheck(
    float_model: Model,
    quant_model: Model,
    batches: Iterable[Batch],
    reference: Open,
    simulation: Open,
    engines: Mapping[str, Open],
    *,
    needed: bool = True,
    limit: int | None = None,
    layers: bool = True,
) -> Crosscheck:
    """Run an integer network on several engines.

    Args:
        float_model: what it was made from. batches: visited once for the outputs, and for each group of values.
        reference: opens the float network. simulation: opens a network so that nothing of it is changed.
        engines: name → what opens a network there. One that refuses the network gets a note and takes no part;
            needed: that is an error of the whole.
        limit: stop after this many batches. layers: False compares the outputs only.

    Raises:
        EmptyData: no batch. DataError: the data can be visited once and more than one pass is needed.
        EngineError: the simulation or the float network cannot be run. EngineMissing: an engine is not installed.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit!r}; it must be 1 or more")
    opened, refused = _opened(quant_model, {SIMULATION: simulation, **engines})
    ends = _Ends([o.name for o in quant_model.outputs])
    plain = reference(float_model)
    first: Feeds | None = None
    for batch in islice(batches, limit):
        first = first or batch.feeds
        found = {FLOAT: plain.run(batch.feeds)}
        for name, runner in list(opened.items()):
            try:
                found[name] = runner.run(batch.feeds)
            except EngineError as e:
                if name == SIMULATION:
                    raise
                refused[name] = str(e)
                del opened[name]
        ends.update(found)
    if first is None:
        raise EmptyData("the data holds no batch; there is nothing to compare")
    names = list(opened)
    notes = [f"{n} computes float layers in bfloat16" for n, r in opened.items() if _halved(r)]
    del opened, plain
    meters = dict[tuple[str, str, str], _Steps]()
    seen = rounded_values(quant_model) if layers and len(names) > 1 else []
    if layers and not seen:
        linear = any(n.op_type.startswith("QLinear") for n in quant_model.nodes)
        why = "integers are inside of QLinear operators" if linear else "nothing is rounded with fixed scales"
        notes.append(f"{why}: only the outputs are compared")
    if seen:
        opens = {n: simulation if n == SIMULATION else engines[n] for n in names}
        _layers(quant_model, seen, opens, batches, first, limit, meters, refused)
    sides = tuple(ends.side(n, refused.get(n, "")) for n in (SIMULATION, *engines))
    twos = tuple(_two(a, b, ends, seen, meters) for a, b in combinations(names, 2))
    return Crosscheck(sides, twos, ends.batches, ends.samples, needed, tuple(notes))


def _opened(model: Model, opens: Mapping[str, Open]) -> tuple[dict[str, Runner], dict[str, str]]:
    """Runners by name, and why others refuse."""
    opened, refused = dict[str, Runner](), dict[str, str]()
    for name, open in opens.items():
        try:
            opened[name] = open(model)
        except EngineError as e:
            if name == SIMULATION or isinstance(e, EngineMissing):
                raise
            refused[name] = str(e)
    return opened, refused


def _halved(runner: Runner) -> bool:
    """Whether an engine took it upon itself to compute in bfloat16."""
    return any("bf16" in e.types.split() for e in runner.executed())


@dataclass
class _Steps:
    """Differences of the integers of one value on two engines."""

    count: int = 0
    differ: int = 0
    most: int = 0
    squares: float = 0.0

    def update(self, a: Array, b: Array) -> None:
        if a.shape != b.shape:
            self.count, self.differ, self.squares = self.count + a.size, self.differ + a.size, math.inf
            return
        d = np.abs(a - b)
        self.count += d.size
        self.differ += int(np.count_nonzero(d))
        self.most = max(self.most, int(d.max(initial=0)))
        self.squares += float(np.square(d.astype(np.float64)).sum())

    @property
    def parts(self) -> bool:
        return self.count > 0 and self.squares / self.count > ROUNDING


def _layers(
    model: Model,
    seen: Sequence[Rounded],
    opens: Mapping[str, Open],
    batches: Iterable[Batch],
    first: Feeds,
    limit: int | None,
    meters: dict[tuple[str, str, str], _Steps],
    refused: dict[str, str],
) -> None:
    """Fill the meters, (value, engine, engine) → differences, with as many passes as memory asks for."""
    by_name = {v.name: v for v in seen}
    groups = split([(v.name, v.integers) for v in seen], model, first, (MEMORY << 20) // max(1, len(opens) - 1))
    if isinstance(batches, Iterator):
        raise DataError(
            f"looking into the network needs {len(groups)} more passes over the data, which can be visited only once; "
            "hand a list or a source that can be visited again"
        )
    for group in groups:
        runners, shown = dict[str, Runner](), dict[str, list[tuple[Rounded, str]]]()
        for name, open in opens.items():
            asked = [(by_name[a], a if name in FLOAT_BETWEEN else b) for a, b in group]
            fed = {i.name for i in model.inputs}
            try:
                runners[name] = open(model.with_outputs(v for _, v in asked if v not in fed))
            except EngineError as e:
                refused[name] = f"inner values cannot be seen: {e}"
                continue
            shown[name] = asked
        for batch in islice(batches, limit):
            _measure(runners, shown, batch.feeds, meters)


def _measure(
    runners: Mapping[str, Runner],
    shown: Mapping[str, Sequence[tuple[Rounded, str]]],
    feeds: Feeds,
    meters: dict[tuple[str, str, str], _Steps],
) -> None:
    answers = {n: r.run(feeds) for n, r in runners.items()}
    found = {
        n: {v.name: v.of(np.asarray(feeds[k] if k in feeds else answers[n][k])) for v, k in asked}
        for n, asked in shown.items()
    }
    for a, b in combinations(found, 2):
        for value in found[a]:
            meters.setdefault((value, a, b), _Steps()).update(found[a][value], found[b][value])


@dataclass
class _Ends:
    """Outputs of all sides, two by two."""

    names: Sequence[str]
    sums: dict[tuple[str, str, str], ErrorSums] = field(default_factory=dict)
    same: dict[tuple[str, str], int] = field(default_factory=dict)
    named: int = 0
    batches: int = 0
    samples: int = 0

    def update(self, found: Mapping[str, Mapping[str, Array]]) -> None:
        """Take in what each side answers to one batch."""
        self.batches += 1
        self.samples += max((len(x) for x in found[FLOAT].values() if x.ndim), default=1)
        scores = next((n for n in self.names if class_like(found[FLOAT][n])), None)
        self.named += len(found[FLOAT][scores]) if scores else 0
        for a, b in combinations(found, 2):
            for name in self.names:
                x, y = found[a][name], found[b][name]
                sums = self.sums.setdefault((name, a, b), ErrorSums())
                known = np.isfinite(x) & np.isfinite(y) if x.shape == y.shape else None
                if known is None or not np.array_equal(x[~known], y[~known], equal_nan=x.dtype.kind == "f"):
                    sums.ee = math.inf  # what is infinite or NaN on both sides is the network's own
                    continue
                sums.update(x[known], y[known])
                if name == scores:
                    self.same[a, b] = self.same.get((a, b), 0) + int((x.argmax(1) == y.argmax(1)).sum())

    def of(self, name: str, a: str, b: str) -> float:
        """SQNR of an output in dB; −inf if only one side answers with NaN, or the shapes differ."""
        sums = self.sums.get((name, a, b)) or self.sums[name, b, a]
        return sums.sqnr_db if math.isfinite(sums.ee) else -math.inf

    def sqnr(self, a: str, b: str) -> float:
        """Of the worst output, dB."""
        return min((self.of(n, a, b) for n in self.names), default=math.inf)

    def agreement(self, a: str, b: str) -> float | None:
        """Share of samples with the same class; None without classes."""
        found = self.same.get((a, b), self.same.get((b, a)))
        return found / self.named if found is not None and self.named else None

    def side(self, name: str, note: str) -> Side:
        """One engine beside the simulation and the float network."""
        if not any(name in key[1:] for key in self.sums):
            return Side(name, math.nan, None, math.nan, None, {}, False, note)
        own = (math.inf, 1.0) if name == SIMULATION else (self.sqnr(SIMULATION, name), self.agreement(SIMULATION, name))
        outputs = {n: self.of(n, FLOAT, name) for n in self.names}
        return Side(name, *own, self.sqnr(FLOAT, name), self.agreement(FLOAT, name), outputs, True, note)


def _two(a: str, b: str, ends: _Ends, seen: Sequence[Rounded], meters: Mapping[tuple[str, str, str], _Steps]) -> Two:
    """Two engines side by side."""
    at = [(v, meters[v.name, a, b]) for v in seen if (v.name, a, b) in meters]
    found = tuple(
        AtValue(v.name, v.op, v.node, m.differ / max(1, m.count), m.most, m.squares / max(1, m.count), m.parts)
        for v, m in at
    )
    return Two(a, b, ends.sqnr(a, b), ends.agreement(a, b), found)
