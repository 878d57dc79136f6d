"""Layer-wise corrections: weight scales, rounding and bias of each layer, fitted to data that streams through.

    isolated     x = the float input, rounded as the plan says    each layer by itself; one pass over the float network
                 (weight-only plans: as it is)
    sequential   x = the input in the integer network so far      layer after layer, each repairing what was lost
                                                                  before it (asymmetric reconstruction)

In both, y is the sum in the float network. What is fitted is chosen by `Fitting`: the scales by `weight_range.py`, the
integers by `rounding.py` or first by `gptq.py`, the bias by the means: b += mean(y) − mean(Q·x) (empirical bias
correction, Nagel et al., "Data-Free Quantization", 2019, which for isolated layers is NNCF's fast bias correction).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from os import cpu_count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.half import half_up
from fewbit.core.nudge import pack_nudges, unpack_nudges
from fewbit.core.params import QuantParams, bias_scale_guard
from fewbit.core.plan import Plan, ValuePlan
from fewbit.core.runner import Runner
from fewbit.graph.emit import stored_weight, weight_params_of
from fewbit.graph.model import Model
from fewbit.quantization.gptq import gptq
from fewbit.quantization.linear import Linear, choose, linear_layers, patches, size_of, sums
from fewbit.quantization.moments import Fit, Moments
from fewbit.quantization.ranges import rounding_error
from fewbit.quantization.rounding import DAMPING, adaptive_round
from fewbit.quantization.static import part_for
from fewbit.quantization.steps import Steps, steps_of
from fewbit.quantization.weight_range import refit_steps, search_steps

Array = NDArray[Any]
Open = Callable[[Model], Runner]
Batches = Sequence[Any]
Progress = Callable[[int, int], None]

MIB = 2**20
FEW_BITS = 6
"""Up to this width scales and integers are fitted in turns."""

TURNS = 3


@dataclass(frozen=True)
class Fitting:
    """What is fitted, and how much is spent on it.

    Args:
        scales, rounding, bias: the three corrections.
        feedback: integers by `gptq.py` first; `rounding.py` goes on from there where there are turns.
        places: rows of a layer that are taken of each sample.
        damping: see `adaptive_round`; more where there are fewer rows than inputs.
        largest: K above which inputs count as independent, and integers stay the nearest.
        memory: MiB for moments and rows; what needs more is done in several passes.
    """

    scales: bool = True
    rounding: bool = True
    bias: bool = True
    feedback: bool = False
    places: int = 32
    largest: int = 1600
    damping: float = DAMPING
    memory: int = 256

    def full(self, layer: Linear) -> bool:
        """Whether a layer gets all its moments."""
        return layer.weight.shape[-1] <= self.largest and (self.scales or self.rounding)


def fit_isolated(
    model: Model, plan: Plan, batches: Batches, open: Open, fitting: Fitting, deadline: float | None = None
) -> Plan:
    """Fit every layer by itself.

    Args:
        model: the float network of the plan, rescaled. plan: calibrated.
        batches: to fit on. open: loads a model; its outputs need not outlive the next run.
        deadline: of time.monotonic(); what is not fitted by then stays as it is.
    """
    for group in _by_memory(linear_layers(model, plan), fitting):
        if late(deadline):
            break
        plan = _corrected(plan, _moments(model, plan, group, batches, open, fitting), fitting)
    return plan


def _moments(
    model: Model, plan: Plan, layers: Sequence[Linear], batches: Batches, open: Open, fitting: Fitting
) -> list[Moments]:
    found = [Moments(layer, fitting.full(layer)) for layer in layers]
    fed = {i.name for i in model.inputs}
    runner = open(part_for(model, list(dict.fromkeys(n for x in layers for n in (x.x, x.y) if n not in fed))))
    params = {layer.x: plan.params(layer.x) for layer in layers if layer.rounded}

    def learn(moments: Moments, seen: Mapping[str, Array], most: int, seed: int) -> None:
        layer = moments.layer
        y = seen[layer.y]
        places = choose(layer, y.shape, most, seed)
        moments.update(_rounded(layer, seen[layer.x], y.shape, places, params.get(layer.x)), sums(layer, y, places))

    with ThreadPoolExecutor(cpu_count() or 1) as threads:
        for i, batch in enumerate(batches):
            seen = {**batch.feeds, **runner.run(batch.feeds)}
            most = fitting.places * size_of(batch)
            for job in [threads.submit(learn, moments, seen, most, i) for moments in found]:
                job.result()
    return found


def _rounded(layer: Linear, x: Array, shape: tuple[int, ...], places: Array, params: QuantParams | None) -> Array:
    """Rows of a rounded input; rounded before they are gathered if that is less work, which changes nothing.

    Except in 1 bit, where the zeros of padding are no numbers to round, and where rows are multiples of the input.
    Without `params` the input stays as it is.
    """
    if params is None:
        return patches(layer, x, shape, places)
    if params.spec.bits == 1 or layer.factor != 1 or x.size < layer.groups * layer.weight.shape[-1] * places.size:
        x = np.asarray(x, np.float32)
        return patches(layer, x + rounding_error(params, x), shape, places)
    found = patches(layer, x, shape, places)
    found += rounding_error(params, found)
    return found


def fit_sequential(
    model: Model,
    plan: Plan,
    batches: Batches,
    open: Open,
    emit: Callable[[Plan], Model],
    fitting: Fitting,
    deadline: float | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Fit layer after layer, each on what the integer network up to it answers; arguments as for `fit_isolated`.

    Args:
        emit: plan → integer network. progress: called with (layers done, layers).
    """
    layers = linear_layers(model, plan)
    done = 0
    for part in _by_memory(layers, fitting, rows=sum(map(size_of, batches)) * fitting.places):
        kept = _rows(model, part, batches, open, fitting)
        for level in _levels(model, part):
            if late(deadline):
                return plan
            found = [Moments(layer, fitting.full(layer)) for layer in level]
            integer = emit(plan)
            inputs = {x.name: str(integer.node(x.name).inputs[0].name) for x in level}  # type: ignore[union-attr]
            runner = open(part_for(integer, list(dict.fromkeys(inputs.values()))))
            for i, batch in enumerate(batches):
                seen = {**batch.feeds, **runner.run(batch.feeds)}
                for layer, moments in zip(level, found, strict=True):
                    shape, places, y = kept[layer.name][i]
                    x = patches(layer, seen[inputs[layer.name]], shape, places)
                    moments.update(x, y)
            plan = _corrected(plan, found, fitting)
            done += len(level)
            if progress:
                progress(done, len(layers))
    return plan


def _rows(
    model: Model, layers: Sequence[Linear], batches: Batches, open: Open, fitting: Fitting
) -> dict[str, list[tuple[tuple[int, ...], Array, Array]]]:
    """Rows of the sums in the float network: for each layer and batch (shape, places, rows)."""
    runner = open(part_for(model, list(dict.fromkeys(layer.y for layer in layers))))
    kept: dict[str, list[tuple[tuple[int, ...], Array, Array]]] = {layer.name: [] for layer in layers}
    for i, batch in enumerate(batches):
        seen = runner.run(batch.feeds)
        for layer in layers:
            y = seen[layer.y]
            places = choose(layer, y.shape, fitting.places * size_of(batch), i)
            kept[layer.name].append((y.shape, places, np.array(sums(layer, y, places))))
    return kept


def _levels(model: Model, layers: Sequence[Linear]) -> Iterator[list[Linear]]:
    """Layers that do not wait for each other, in order: by the number of layers on the longest way to them."""
    named = {layer.name for layer in layers}
    depth: dict[Any, int] = {}
    levels: dict[int, list[Linear]] = {}
    by_name = {layer.name: layer for layer in layers}
    for node in model.nodes:
        before = max((depth.get(v, 0) for v in node.inputs if v is not None), default=0)
        if node.name in named:
            levels.setdefault(before, []).append(by_name[str(node.name)])
        for v in node.outputs:
            depth[v] = before + int(node.name in named)
    for _, level in sorted(levels.items()):
        yield level


def _by_memory(layers: Sequence[Linear], fitting: Fitting, rows: int = 0) -> Iterator[list[Linear]]:
    """Layers in order, as many at once as their moments, or the rows kept of them, have room for."""
    group: list[Linear] = []
    used = 0
    for layer in layers:
        g, o, k = layer.weight.shape
        need = 4 * g * o * rows if rows else 4 * g * k * ((k + o) if fitting.full(layer) else 1)
        if group and used + need > fitting.memory * MIB:
            yield group
            group, used = [], 0
        group.append(layer)
        used += need
    if group:
        yield group


def late(deadline: float | None) -> bool:
    """Whether a deadline of time.monotonic() has passed."""
    return deadline is not None and time.monotonic() > deadline


# -- one layer -----------------------------------------------------------------------------------------------------


def _corrected(plan: Plan, found: Sequence[Moments], fitting: Fitting) -> Plan:
    """The plan with what the moments of some layers say."""
    values, nodes = dict(plan.values), dict(plan.nodes)
    learned = [m for m in found if m.n or m.waiting]
    with ThreadPoolExecutor(cpu_count() or 1) as threads:
        for moments, done in zip(learned, threads.map(partial(_fitted, plan, fitting), learned), strict=True):
            layer, (value, bias) = moments.layer, done
            values[layer.key] = value
            if bias:
                nodes[layer.name] = replace(nodes[layer.name], bias=bias)
    return replace(plan, values=values, nodes=nodes)


def _fitted(plan: Plan, fitting: Fitting, moments: Moments) -> tuple[ValuePlan, tuple[float, ...]]:
    """The weight's entry of the plan, and what is added to the bias; empty = nothing new."""
    layer, fit = moments.layer, moments.fit()
    value = plan.values[layer.key]
    steps, start, p = _integers(layer, plan, fit, fitting, max(1, moments.n))
    if fitting.scales or fitting.rounding:
        nudge = pack_nudges(layer.stored((p - start).astype(np.int8)))
        value = replace(value, scale=steps.flat(), nudge=nudge, gain=(), offset=())
    if not (fitting.bias and layer.has_bias):
        return value, ()
    real = steps.real(p)
    if value.gain or value.offset:
        real = layer.matrix(stored_weight(plan, layer.key, layer.stored(layer.weight)).real())
    shift = fit.bias(real) - layer.bias
    return value, tuple(float(np.float32(s)) for s in shift)


def _integers(
    layer: Linear, plan: Plan, fit: Fit, fitting: Fitting, rows: int
) -> tuple[Steps, NDArray[np.int32], NDArray[np.int32]]:
    """The steps, the nearest integers for them, and the chosen integers, both less their zero point."""
    params = weight_params_of(plan, layer.key, layer.stored(layer.weight))
    steps, least = _least(layer, plan, steps_of(layer, params))
    movable = not (steps.tied and layer.rounded)
    if fitting.scales and movable:
        steps = _settled(plan.values[layer.key], search_steps(layer.weight, steps, fit, least))
    start = p = steps.nearest(layer.weight)
    if not (fitting.scales or fitting.rounding):  # only the bias is fitted, to the integers that were chosen before
        nudge = unpack_nudges(plan.values[layer.key].nudge, layer.shape, f"weight {layer.key!r}")
        return steps, start, np.clip(start + layer.matrix(nudge), *steps.limits)
    if fitting.rounding and fit.full:
        damping = fitting.damping * max(1.0, layer.weight.shape[-1] / rows)
        for turn in range(TURNS if params.spec.bits <= FEW_BITS else 1):
            if turn and movable and not steps.tied and fitting.scales:
                steps = _settled(plan.values[layer.key], refit_steps(p, steps, fit, least))
                start = steps.nearest(layer.weight)
            if fitting.feedback and not turn:
                p = gptq(layer.weight, steps, fit, damping)
            else:
                p = adaptive_round(layer.weight, p, steps.wide(steps.scale), fit, steps.limits, damping)
    return steps, start, p


def _least(layer: Linear, plan: Plan, steps: Steps) -> tuple[Steps, Array]:
    """Steps, and the smallest that a scale may be, (group, out): an int32 bias needs some, see `bias_scale_guard`."""
    least = np.zeros(layer.weight.shape[:2], np.float32)
    if plan.nodes[layer.name].roles[0] != "act":
        return steps, least
    s_in = float(plan.params(layer.x).scale)
    least = bias_scale_guard(layer.bias, s_in, least.reshape(-1)).reshape(least.shape)
    return (steps if steps.tied else steps.rescaled(np.maximum(steps.scale, least[..., None]))), least


def _settled(value: ValuePlan, steps: Steps) -> Steps:
    """Steps as they are stored: packed, scales are in half precision; that of a whole tensor is not worth it."""
    packed = value.storage == "packed" and value.spec.granularity != "tensor"
    return steps.rescaled(half_up(steps.scale)) if packed else steps
