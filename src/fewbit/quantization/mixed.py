"""Mixed bit: one step a weight, as fine as a relative error asks for; a coder then gives each integer its bits.

    q = floor(w / step + ½)        ŵ = (q · step) · g + m        error = mean over channels of ‖w − ŵ‖ / ‖w‖
    g = std(w) / std(q · step)     m = mean(w) − g · mean(q · step)

The step is found by bisection, so that the error is the wished one; weights cost about 0.255 − log2(error) bits each
if they are normal. There is no width to choose: what a file takes is the entropy of the integers. The same rules as
MindSpore Lite's `bit_num=0`, auto_tune too, which looks for the coarsest steps that the network's output bears:

    step = (e + 0.01 · √(24 / n)) · ‖w‖        1/e from 1 to 30000, in stages of a finer and finer grid
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fewbit.config import QuantConfig
from fewbit.core.fse import entropy
from fewbit.core.nudge import pack_nudges
from fewbit.core.params import QuantParams
from fewbit.core.plan import Plan, ValuePlan
from fewbit.core.spec import QuantSpec
from fewbit.graph.model import Model
from fewbit.quantization.packed import channels, explained, weights_of, width

Array = NDArray[Any]
Progress = Callable[[int, int], None]

CLOSE, TURNS = 0.01, 100
"""Bisection ends when the error is this near to the wish, relatively; or after so many turns."""

EMPTY = 1e-10
"""Channels with less than this Σ w² have no relative error; where all have less, less than this part of the most."""

COSINE, FINEST, STAGES, MOST, FINER = 0.995, 30000.0, 4, 173, 20
"""Of auto_tune: what the output must keep; the largest 1/e; stages, and points of the first and of the others."""


@dataclass(frozen=True)
class Step:
    """How one weight is rounded.

    Args:
        scale: the step. gain, offset: g and m. error: what that does to the weight. entropy_bits: bits a weight.
        lo, hi: smallest and largest integer.
    """

    scale: float
    gain: float
    offset: float
    error: float
    entropy_bits: float
    lo: int
    hi: int

    @property
    def bits(self) -> int:
        """Smallest width that holds the integers."""
        return width(self.lo, self.hi)


class _Sums:
    """What the error is made of: sums over each channel of a weight, and of its integers at some step."""

    def __init__(self, w: Array, axis: int) -> None:
        rows = np.moveaxis(np.asarray(w, np.float32), axis, 0) if w.ndim else np.asarray(w, np.float32).reshape(1)
        self.w = np.ascontiguousarray(rows).reshape(rows.shape[0], -1)
        wide = self.w.astype(np.float64)
        self.one, self.two, self.n = wide.sum(1), np.square(wide).sum(1), wide.size
        most = float(self.two.max())
        self.live = (self.two >= (EMPTY if most >= EMPTY else EMPTY * most)) & (self.two > 0)
        self.mean, self.std = float(wide.mean()), float(wide.std())

    def correction(self, scale: float, sums: Array) -> tuple[float, float]:
        """Gain and offset of the whole weight at a step."""
        q, qq = float(sums[0].sum()) / self.n, float(sums[1].sum()) / self.n
        std = math.sqrt(max(qq - q * q, 0.0)) * scale
        gain = self.std / std if std > 0 else 1.0
        gain = float(np.float32(gain)) if 0 < gain < 10 else 1.0
        return gain, float(np.float32(self.mean - q * scale * gain))

    def error(self, scale: float) -> float:
        """Mean relative error over the channels."""
        sums = _sums(self.w, np.float32(scale))
        gain, offset = self.correction(scale, sums)
        q, qq, wq = sums
        s, live = gain * scale, self.live
        apart = self.two - 2 * (s * wq + offset * self.one) + s * s * qq + 2 * s * offset * q
        apart += offset * offset * self.w.shape[1]
        return float(np.sqrt(np.maximum(apart[live], 0) / self.two[live]).mean()) if live.any() else 0.0


@numba.njit(nogil=True, cache=True)
def _sums(w: Array, scale: np.float32) -> Array:
    """Σ q, Σ q², Σ w·q of each row."""
    found = np.zeros((3, w.shape[0]))
    for i in range(w.shape[0]):
        a = b = c = 0.0
        for x in w[i]:
            q = np.floor(np.float64(x / scale) + 0.5)
            a += q
            b += q * q
            c += q * x
        found[0, i], found[1, i], found[2, i] = a, b, c
    return found


def rounded(w: Array, scale: float) -> NDArray[np.int64]:
    """Integers of a weight at a step, halves upwards."""
    x = np.asarray(w, np.float32) / np.float32(scale)
    return np.floor(x.astype(np.float64) + 0.5).astype(np.int64)


def step_at(w: Array, scale: float, axis: int = 0) -> Step:
    """All about a weight that is rounded at a given step."""
    sums = _Sums(w, axis)
    scale = float(np.float32(scale))
    gain, offset = sums.correction(scale, _sums(sums.w, np.float32(scale)))
    q = rounded(w, scale)
    return Step(scale, gain, offset, sums.error(scale), entropy(q), int(q.min()), int(q.max()))


def step_for(w: Array, error: float, axis: int = 0) -> Step | None:
    """The step whose error is the wished one.

    Args:
        w: weight, finite, not empty. error: relative, over 0. axis: of its output channels.

    Returns:
        None if no step was found in `TURNS` turns.
    """
    lo, hi = float(w.min()), float(w.max())
    if lo == hi:
        return step_at(w, abs(hi) + 1e-5, axis)
    found, top = _Sums(w, axis), max(-lo, hi)
    left = right = float(np.float32((hi - lo) * error))
    if not left > 0:
        return None
    while found.error(right) < error and right < 4 * top:  # from there on, all integers are 0
        right *= 2
    for _ in range(TURNS):
        if found.error(left) <= error:
            break
        left /= 2
    for _ in range(TURNS):
        scale = float(np.float32((left + right) / 2))
        here = found.error(scale)
        if abs(here - error) < CLOSE * error or right - left <= 1e-6 * right:
            break
        left, right = (left, scale) if here > error else (scale, right)
    if abs(here - error) >= CLOSE * error:  # the error jumps over the wish: the side below it
        scale, here = left, found.error(left)
    return step_at(w, scale, axis) if here < error * (1 + CLOSE) else None


# -- plans -----------------------------------------------------------------------------------------------------------


def mixed_plan(model: Model, plan: Plan, config: QuantConfig) -> Plan:
    """Give every weight of a weight-only plan the step of `config.init_scale`.

    Args:
        model: the float network. plan: as `make_weight_plan` makes it.
    """
    return _with_steps(model, plan, lambda w, axis: step_for(w, config.init_scale, axis))


def _with_steps(model: Model, plan: Plan, choose: Callable[[Array, int], Step | None]) -> Plan:
    weights = weights_of(model, plan)
    keys, axes = list(weights), channels(model, plan)
    with ThreadPoolExecutor(cpu_count() or 1) as threads:
        steps = threads.map(lambda k: choose(weights[k], axes[k]), keys)
        made = {k: (step, _entry(plan.values[k], weights[k], step)) for k, step in zip(keys, steps, strict=True)}
    floats, values, told = {}, dict(plan.values), {}
    for key, (step, value) in made.items():
        if step is None or value is None:
            wide = "no step was found for" if step is None else f"integers of {step.bits} bits, over 16, for"
            floats[key] = f"mixed bit: {wide} {key!r}"
        else:
            values[key] = value
            told[key] = f"error {step.error:.4f}, {step.entropy_bits:.2f} bits a weight"
    return explained(model, replace(plan, values=values), told, floats)


def _entry(value: ValuePlan, w: Array, step: Step | None) -> ValuePlan | None:
    """The plan's entry for a weight; None if the weight has to stay float."""
    if step is None or step.bits > 16:
        return None
    spec = QuantSpec(step.bits, signed=True, symmetric=True)
    near = QuantParams(spec, np.float32(step.scale), np.int32(0)).quantize(w)  # type: ignore[arg-type]
    ties = (rounded(w, step.scale) - near).astype(np.int8)  # halves go upwards here, to even integers there
    return replace(value, spec=spec, scale=(step.scale,), nudge=pack_nudges(ties), gain=(step.gain,),
                   offset=(step.offset,))  # fmt: skip


# -- auto_tune -------------------------------------------------------------------------------------------------------


def step_of_norm(w: Array, e: float) -> float:
    """Step of auto_tune: in units of the weight's norm, and never finer than a part of its root mean square."""
    norm = float(np.linalg.norm(np.asarray(w, np.float64).reshape(-1)))
    return (e + 0.01 * math.sqrt(24 / w.size)) * norm


def auto_tuned(
    model: Model, plan: Plan, config: QuantConfig, judge: Callable[[Plan], float], progress: Progress | None = None
) -> Plan:
    """The smallest network of a grid over e whose output keeps a cosine of 0.995.

    Stage by stage 1/e rises from coarse to fine until a network is good enough; the next stage looks at four intervals
    of the grid around that. Larger 1/e are then not tried: they can only be larger networks.

    Args:
        model: the float network. plan: as `make_weight_plan` makes it.
        config: `max_iterations`, a quarter of which each stage may try.
        judge: plan → cosine of the worst output to that of the float network, see `packed.with_weights`.
        progress: called with (networks tried, most of all).

    Returns:
        the finest network of the grid if none is good enough.
    """
    low, high, tried, made = 1.0, FINEST, 0, plan
    best: tuple[float, Plan] | None = None
    share = config.max_iterations // STAGES
    for stage in range(STAGES):
        steps = min(share, FINER if stage else MOST)
        width = (high - low) / max(steps - 1, 1)
        for inverse in np.linspace(low, high, steps):
            if best is not None and inverse >= best[0]:
                break
            made, tried = _tuned(model, plan, float(inverse)), tried + 1
            if progress:
                progress(tried, share * STAGES)
            if judge(made) >= COSINE:
                best = float(inverse), made
                break
        if best is None:
            return made  # the finest one
        low, high = max(1.0, best[0] - 2 * width), min(FINEST, best[0] + 2 * width)
    return best[1] if best is not None else made


def _tuned(model: Model, plan: Plan, inverse: float) -> Plan:
    return _with_steps(model, plan, lambda w, axis: step_at(w, step_of_norm(w, 1 / inverse) or 1e-5, axis))
