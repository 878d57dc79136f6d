"""Mixed bit by the output of the network: steps where they cost least, integers by what the layer's output loses.

    noise of a weight at the outputs  ~ step²        its size  ~ −n · log2 step
    least noise for a size:  step² · (noise at step 1) / n  the same for all weights  (equal slopes, "water-filling")

1. The noise of each weight at a trial step is measured by one run of the network (`gains.py`), and how much of it
   rounding by the layer's moments takes away (`coded_rounding.py`) is seen on a few of its outputs.
2. One number, the level, scales all steps. It is found so that the coded size is that of `mixed.py` at init_scale, or
   so that the network keeps a cosine.
3. All weights are rounded at these steps, for the error and for the coder.

Outputs of one layer get steps of their own, by the energy of what each reads and by how strongly the layers behind
read it, where a run of the network shows that this saves more than the scales take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.config import QuantConfig
from fewbit.core.fse import entropy
from fewbit.core.nudge import pack_nudges
from fewbit.core.params import QuantParams
from fewbit.core.plan import Plan, ValuePlan
from fewbit.core.spec import QuantSpec
from fewbit.errors import EmptyData
from fewbit.graph.model import Model
from fewbit.quantization.coded_rounding import WORTH, coded_round, damped, error_of
from fewbit.quantization.gains import Noise, Open, layers_of, moments_of, read_behind
from fewbit.quantization.linear import Linear, size_of
from fewbit.quantization.mixed import COSINE, rounded, step_for
from fewbit.quantization.packed import bits_of, channels, explained, weights_of, width

Array = NDArray[Any]
Progress = Callable[[int, int], None]

TRIAL = 0.07
"""Trial step as a share of the weight's root mean square: about 2 % of error."""

COARSEST, FINEST = 1.0, 1 / 32000
"""Largest step as a share of the root mean square (noise of coarser ones does not add up any more), and smallest as a
share of the largest magnitude, which 16 bits hold."""

FAINT = 1e-2
"""Least that an output counts, as a share of the mean of its layer."""

LOUD, FEW, SEEN = 4, 64, 1 << 17
"""Samples on which noise is measured; outputs of a layer on which the effect of rounding is seen; weights by which its
size is foreseen."""

MOST_SAMPLES = 64
"""Samples that moments are taken of."""

NEAR, TRIES = 0.001, 6
"""A size is met to this share; roundings of the whole network at most."""


@dataclass(frozen=True, eq=False)
class Part:
    """One weight, and what is known of it.

    Args:
        key: entry of the plan. weight: (group, out, K). layer: None for a weight that is no matrix of a layer.
        h: damped moments of the layer's inputs, (group, K, K), or a diagonal (group, K).
        unit: its step at level 1. error: δᵀHδ ÷ step². spread: (group, out), step of each output ÷ that of the weight.
    """

    key: str
    weight: Array
    layer: Linear | None
    h: Array
    unit: float = 0.0
    error: float = 0.0
    spread: Array | None = None

    def step(self, level: float) -> float:
        """The step of the whole weight."""
        rms = math.sqrt(float(np.square(self.weight, dtype=np.float64).mean()))
        if rms == 0:
            return 1.0
        finest = FINEST * float(np.abs(self.weight).max())
        return float(np.float32(max(min(level * self.unit, COARSEST * rms), finest)))

    def scale(self, level: float) -> NDArray[np.float32]:
        """The step of each output."""
        ones = np.ones(self.weight.shape[:2], np.float32)
        return np.asarray(self.step(level) * (ones if self.spread is None else self.spread), np.float32)

    def stored(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """A matrix in the shape of the weight."""
        return self.layer.stored(matrix) if self.layer is not None else matrix.reshape(shape)


def output_plan(
    model: Model,
    plan: Plan,
    config: QuantConfig,
    batches: Sequence[Any],
    open: Open,
    *,
    held: Sequence[Any] = (),
    progress: Progress | None = None,
) -> Plan:
    """Give every weight of a weight-only plan its steps and integers.

    Args:
        model: the float network. plan: as `make_weight_plan` makes it.
        config: `min_cosine`, or 0.995 with `auto_tune`, is what the worst output keeps on a part of the data that
            nothing is fitted to; else the size is that of `mixed_plan` at `init_scale`.
        batches: data to fit to, at least one batch. open: loads a model into an engine.
        held: what the cosine is judged on (default: a fifth of the batches, which are not fitted to then).
        progress: called with (weights done, weights), for the measuring and for each rounding.

    Raises:
        EmptyData: there is no batch. DataError: no output is floating-point and finite.
    """
    if not batches:
        raise EmptyData(
            "mixed_bit_search 'output' measures the network on data, and there is none; hand some, or say 'step'"
        )
    goal = config.min_cosine if config.min_cosine is not None else COSINE if config.auto_tune else None
    fit, judged = (batches, held) if goal is None or held else _split(batches)
    parts = _measured(model, plan, fit, open, progress)
    if not parts:
        return plan
    if goal is None:
        found = _for_size(parts, _twin_bits(model, plan, config), progress)
    else:
        found = _for_cosine(parts, goal, Noise(model, plan, judged, open), progress)
    return _written(model, plan, parts, *found)


def _split(batches: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """What is fitted to, and the last fifth, which is judged on; one batch does for both."""
    count = max(1, len(batches) // 5)
    return (batches[:-count], batches[-count:]) if len(batches) > 1 else (batches, batches)


def _up_to(batches: Sequence[Any], samples: int) -> list[Any]:
    """The first batches, until there are so many samples."""
    found: list[Any] = []
    for batch in batches:
        if found and sum(map(size_of, found)) >= samples:
            break
        found.append(batch)
    return found


# -- measuring -------------------------------------------------------------------------------------------------------


def _measured(model: Model, plan: Plan, batches: Sequence[Any], open: Open, progress: Progress | None) -> list[Part]:
    """All weights with their units."""
    layers = {layer.key: layer for layer in layers_of(model, plan)}
    behind = read_behind(model, list(layers.values()))
    moments = moments_of(model, list(layers.values()), _up_to(batches, MOST_SAMPLES), open)
    weights = weights_of(model, plan)
    noise = Noise(model, plan, _up_to(batches, LOUD), open) if weights else None
    parts = []
    for i, (key, w) in enumerate(weights.items()):
        assert noise is not None
        layer = layers.get(key)
        if layer is None:
            part = Part(key, np.asarray(w, np.float32).reshape(1, 1, -1), None, np.ones((1, w.size), np.float32))
        else:
            part = Part(key, layer.weight, layer, damped(*moments.pop(layer.name)))
        parts.append(_part(part, w, noise, behind.get(layer.name) if layer is not None else None))
        if progress:
            progress(i + 1, len(weights))
    return parts


def _part(part: Part, w: Array, noise: Noise, behind: Array | None) -> Part:
    """A weight with its unit, error and spread, from a run or two at a trial step."""
    step = replace(part, unit=TRIAL * (float(np.sqrt(np.square(w, dtype=np.float64).mean())) or 1.0)).step(1.0)
    trials = [replace(part, unit=step), *_with_spread(part, step, behind)]
    tried = [_trial(trial, w, noise) for trial in trials]
    part, (loud, _) = min(zip(trials, tried, strict=True), key=lambda pair: pair[1][0] * 4 ** pair[1][1])
    nearest, chosen = _rounding_errors(part, step)
    saved = chosen / nearest if nearest > 0 else 1.0
    unit = step * math.sqrt(w.size / max(loud * saved, 1e-30)) if math.isfinite(loud) else 0.0
    return replace(part, unit=unit, error=chosen / step**2)


def _trial(part: Part, w: Array, noise: Noise) -> tuple[float, float]:
    """Noise at the outputs for the nearest integers, and bits a weight."""
    q = np.rint(part.weight / part.scale(1.0)[..., None])
    loud, _ = noise.of({part.key: _real(part, q, 1.0, w.shape)})
    return loud, _bits(part, q) / w.size


def _rounding_errors(part: Part, step: float) -> tuple[float, float]:
    """Error of the nearest integers and of those that are chosen, seen on a few outputs, for all of them."""
    g, o, _ = part.weight.shape
    groups, outs = np.arange(g)[:: -(-g // FEW)], np.arange(o)[:: -(-o * min(g, FEW) // FEW)]
    w, h = part.weight[np.ix_(groups, outs)], part.h[groups]
    if part.layer is None:
        w, h = w[..., :65536], h[..., :65536]
    scale = part.scale(1.0)[np.ix_(groups, outs)]
    share = part.weight.size / max(w.size, 1)
    found = []
    for q in (np.rint(w / scale[..., None]), coded_round(w, scale, h, 0.0)):
        found.append(share * error_of((q * scale[..., None] - w).astype(np.float32), h))
    return found[0], found[1]


def _with_spread(part: Part, step: float, behind: Array | None) -> list[Part]:
    """The same weight with a step for each output that should do the same harm; empty if one step is smaller."""
    g, o, k = part.weight.shape
    if g * o < 2 or part.layer is None:
        return []
    energy = (np.trace(part.h, axis1=1, axis2=2) / k if part.h.ndim == 3 else part.h.mean(-1)).astype(np.float64)
    matters = energy[:, None] * (np.ones((g, o)) if behind is None else behind.reshape(g, o))
    mean = float(matters.mean())
    if not mean > 0:
        return []
    spread = np.sqrt(mean / np.maximum(matters, FAINT * mean)).astype(np.float32)
    one, own = replace(part, unit=step), replace(part, unit=step, spread=spread)
    sizes = [_bits(p, np.rint(p.weight / p.scale(1.0)[..., None])) for p in (one, own)]
    return [own] if sizes[1] < sizes[0] else []


# -- the level -------------------------------------------------------------------------------------------------------

Rounded = list[Array]


def _round_all(parts: Sequence[Part], level: float, progress: Progress | None) -> Rounded:
    found = []
    for i, part in enumerate(parts):
        step = part.step(level)
        worth = WORTH * part.error * step**2 / max(part.weight.size, 1)
        found.append(coded_round(part.weight, part.scale(level), part.h, worth))
        if progress:
            progress(i + 1, len(parts))
    return found


def _bits(part: Part, q: Array) -> float:
    """Coded size of one weight."""
    return bits_of(q, 1 if part.spread is None else part.spread.size)


def _nearest_bits(parts: Sequence[Part], level: float) -> float:
    """Coded size of the nearest integers, seen on some weights."""
    total = 0.0
    for p in parts:
        at = np.arange(0, p.weight.size, -(-p.weight.size // SEEN))
        q = np.rint(p.weight.reshape(-1)[at] / p.scale(level).reshape(-1)[at // p.weight.shape[-1]])
        total += _bits(p, q) + (p.weight.size - q.size) * entropy(q)
    return total


def _twin_bits(model: Model, plan: Plan, config: QuantConfig) -> float:
    """Coded size of the weights with the steps of `mixed_plan`; 32 bits each where it finds none."""
    total, axes = 0.0, channels(model, plan)
    for key, w in weights_of(model, plan).items():
        step = step_for(w, config.init_scale, axes[key])
        total += w.size * 32 if step is None else bits_of(rounded(w, step.scale), 3)
    return total


def _level_for(parts: Sequence[Part], bits: float) -> float:
    """The level at which nearest integers take so many bits."""
    free = [p for p in parts if p.unit > 0]
    logs = [math.log(p.step(math.inf) / p.unit) for p in free]
    middle = math.exp(np.average(logs, weights=[p.weight.size for p in free])) if free else 1.0
    low, high = middle * 2.0**-24, middle * 2.0**8
    for _ in range(24):
        level = math.sqrt(low * high)
        low, high = (level, high) if _nearest_bits(parts, level) > bits else (low, level)
        if high < low * 1.001:
            break
    return high


def _for_size(parts: Sequence[Part], bits: float, progress: Progress | None) -> tuple[float, Rounded]:
    """Level and integers whose coded size is this at most, and near it."""
    asked, best = bits, None
    for _ in range(TRIES):
        level = _level_for(parts, asked)
        found = _round_all(parts, level, progress)
        took = sum(_bits(p, q) for p, q in zip(parts, found, strict=True))
        if took <= bits and (best is None or level < best[0]):
            best = level, found
        if best is not None and took >= bits * (1 - 3 * NEAR):
            break
        asked += bits * (1 - NEAR) - took
    return best if best is not None else (level, found)


def _for_cosine(parts: Sequence[Part], goal: float, held: Noise, progress: Progress | None) -> tuple[float, Rounded]:
    """The coarsest level found whose integers keep a cosine; the finest one tried if none does."""
    count = sum(p.weight.size for p in parts)
    level, best, allowed = math.sqrt(2 * max(1 - goal, 1e-12) / count), None, 1 - goal
    for _ in range(TRIES):
        found = _round_all(parts, level, progress)
        _, cosine = held.of({p.key: _real(p, q, level, held.weights[p.key].shape)
                             for p, q in zip(parts, found, strict=True)})  # fmt: skip
        if cosine >= goal and (best is None or level > best[0]):
            best = level, found
        lost = max(1 - cosine, 1e-12)
        if best is not None and lost > 0.9 * allowed:
            break
        level *= min(max(math.sqrt(0.97 * max(allowed, 1e-12) / lost), 0.25), 4.0)
    return best if best is not None else (level, _round_all(parts, level, progress))


def _real(part: Part, q: Array, level: float, shape: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(part.stored((q * part.scale(level)[..., None]).astype(np.float32), shape))


# -- into the plan ---------------------------------------------------------------------------------------------------


def _written(model: Model, plan: Plan, parts: Sequence[Part], level: float, found: Rounded) -> Plan:
    values, weights, axes = dict(plan.values), weights_of(model, plan), channels(model, plan)
    told, floats = dict[str, str](), dict[str, str]()
    for part, q in zip(parts, found, strict=True):
        w = weights[part.key]
        bits = width(int(q.min()), int(q.max()))
        if bits > 16:
            floats[part.key] = f"mixed bit: integers of {bits} bits, over 16, for {part.key!r}"
            continue
        values[part.key] = _entry(values[part.key], bits, part, q, level, w, axes[part.key])
        apart = float(np.linalg.norm(_real(part, q, level, w.shape) - w)) / (float(np.linalg.norm(w)) or 1.0)
        told[part.key] = f"error {apart:.4f}, {entropy(q):.2f} bits a weight"
    return explained(model, replace(plan, values=values), told, floats)


def _entry(value: ValuePlan, bits: int, part: Part, q: Array, level: float, w: Array, axis: int) -> ValuePlan:
    """The plan's entry for a weight: its steps, and how far the integers lie from the nearest ones."""
    spec = QuantSpec(bits, signed=True, symmetric=True)
    scale = np.asarray(part.step(level), np.float32)
    if part.spread is not None:
        spec, scale = replace(spec, granularity="channel", axis=axis), part.scale(level).reshape(-1)
    near = QuantParams(spec, scale, np.zeros(scale.shape, np.int32)).quantize(w)
    nudge = part.stored(q, w.shape) - near.astype(np.int32)
    return replace(
        value, spec=spec, scale=tuple(float(s) for s in scale.reshape(-1)), nudge=pack_nudges(nudge.astype(np.int8))
    )
