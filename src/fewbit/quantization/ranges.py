"""Activation-range search: for each value the share of its range that makes the error of its readers least.

    range r·(lo, hi), r in a grid from 1 down;   error = Σ over readers  var( W·(x̂_r − x) ) / mean( (W·x)² )

A reader that is a matrix product counts by its output (a part of it), any other by the value itself. The variance,
since the bias takes the mean. What it finds is a range a little inside of the extremes, where the layers behind do not
care for these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.params import QuantParams, params_from_range
from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.graph.model import Model
from fewbit.quantization.linear import Linear, choose, linear_layers, patches, size_of
from fewbit.quantization.static import part_for
from fewbit.quantization.trial import Score

Array = NDArray[Any]
Open = Callable[[Model], Runner]

SHARES = (1.0, 0.9, 0.8, 0.7, 0.58, 0.46)
PLACES = 16
OUTPUTS = 64
ENTRIES = 2048
"""Values looked at in one sample where no reader is a matrix product."""


def search_ranges(model: Model, plan: Plan, batches: Sequence[Any], open: Open) -> Plan:
    """A plan with the best range of each activation.

    Args:
        model: the float network of the plan, rescaled. plan: calibrated. batches: to measure on.
        open: loads a model; its outputs need not outlive the next run.
    """
    found = _errors(model, plan, batches, open, SHARES)
    return plan.with_ranges({g: _range(plan, g, SHARES[int(e.argmin())]) for g, e in found.items()})


def worst_ranges(model: Model, plan: Plan, batches: Sequence[Any], open: Open) -> list[str]:
    """Groups of values, those first whose rounding costs their readers most; arguments as for `search_ranges`."""
    found = _errors(model, plan, batches, open, (1.0,))
    return sorted(found, key=lambda g: -float(found[g][0]))


def _errors(model: Model, plan: Plan, batches: Sequence[Any], open: Open, shares: Sequence[float]) -> dict[str, Array]:
    """Error of every share of every group's range; groups without a signal are left out."""
    computed, fed = _computed(model), {i.name for i in model.inputs}
    groups: dict[str, list[str]] = {}
    for name, v in plan.values.items():
        if v.role == "act" and v.calibrated and not v.spec.dynamic and name in computed:
            groups.setdefault(v.group, []).append(name)
    readers: dict[str, list[Linear]] = {}
    for layer in linear_layers(model, plan):
        if layer.groups == 1 and layer.rounded:
            readers.setdefault(layer.x, []).append(layer)
    meters = {g: _Meter([_candidate(plan, g, r) for r in shares]) for g in groups}
    wanted = {n for names in groups.values() for n in names} | {x.y for found in readers.values() for x in found}
    runner = open(part_for(model, sorted(wanted - fed)))
    for i, batch in enumerate(batches):
        seen = {**batch.feeds, **runner.run(batch.feeds)}
        for group, meter in meters.items():
            for name in groups[group]:
                for layer in readers.get(name, ()):
                    meter.reader(layer, seen[name], seen[layer.y].shape, i, size_of(batch))
                if name not in readers:
                    meter.value(name, seen[name], i, size_of(batch))
    with ThreadPoolExecutor(cpu_count() or 1) as threads:
        errors = list(threads.map(_Meter.errors, meters.values()))
    return {g: e for g, e in zip(meters, errors, strict=True) if e.any()}


def _computed(model: Model) -> set[str]:
    return {name for name, v in model.values().items() if v.const_value is None}


def _range(plan: Plan, group: str, share: float) -> tuple[float, float]:
    v = plan.values[group]
    assert v.lo is not None and v.hi is not None
    return v.lo * share, v.hi * share


def _candidate(plan: Plan, group: str, share: float) -> QuantParams:
    return params_from_range(plan.values[group].spec, *_range(plan, group, share))


class _Meter:
    """What the readers of one group of values see, and the error of each candidate range for it.

    Args:
        candidates: parameters that are tried.
    """

    def __init__(self, candidates: list[QuantParams]) -> None:
        self.candidates = candidates
        self.rows: dict[str, list[Array]] = {}
        self.layers: dict[str, Linear | None] = {}

    def reader(self, layer: Linear, x: Array, shape: tuple[int, ...], seed: int, samples: int) -> None:
        """Take in what a matrix product reads."""
        self._take(layer.name, layer, patches(layer, x, shape, choose(layer, shape, PLACES * samples, seed)))

    def value(self, name: str, x: Array, seed: int, samples: int) -> None:
        """Take in what anything else reads."""
        flat = np.asarray(x, np.float32).reshape(-1)
        if flat.size > ENTRIES * samples:
            flat = flat[np.random.default_rng(seed).integers(0, flat.size, ENTRIES * samples)]
        self._take(name, None, flat[None, None])

    def _take(self, name: str, layer: Linear | None, rows: Array) -> None:
        self.layers[name] = layer
        self.rows.setdefault(name, []).append(np.asarray(rows, np.float32))

    def errors(self) -> Array:
        """One number a candidate; infinite if there is no signal."""
        total = np.zeros(len(self.candidates))
        for name, layer in self.layers.items():
            x = np.concatenate(self.rows[name], -1)
            w = (
                np.ones((1, 1, 1), np.float32)
                if layer is None
                else layer.weight[:, :: -(-layer.weight.shape[1] // OUTPUTS)]
            )
            signal = float(np.square(w @ x, dtype=np.float64).mean())
            if signal > 0:
                total += [float((w @ rounding_error(p, x)).var(-1).mean()) / signal for p in self.candidates]
        return total


def rounding_error(params: QuantParams, x: Array) -> Array:
    """What rounding adds to x."""
    if params.spec.bits == 1:  # ±s has no 0 to round to
        return params.fake(x) - x
    s, z = np.float32(params.scale), np.float32(params.zero_point)
    q = np.rint(x / s)
    np.clip(q, params.spec.qmin - z, params.spec.qmax - z, out=q)
    q *= s
    q -= x
    return q


def refine(plan: Plan, judge: Callable[[Plan], Score], groups: Sequence[str], late: Callable[[], bool]) -> Plan:
    """Try narrower and wider ranges of some values, the whole network deciding.

    Args:
        judge: a plan → its score, on samples that will not judge the result. groups: most suspect first.
        late: whether time is up.
    """
    best = judge(plan)
    for group in groups:
        for share in (0.85, 1.18):
            if late():
                return plan
            tried = plan.with_ranges({group: _range(plan, group, share)})
            score = judge(tried)
            if score.beats(best):
                plan, best = tried, score
                break
    return plan
