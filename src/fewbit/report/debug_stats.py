"""The numbers that a debug table holds of one tensor: where its values lie, and what quantizing did to them.

quartiles   element ⌊q·n⌋ of the sorted values, exactly
Var         √(Σ (x − mean)² / n), the standard deviation: MindSpore Lite calls it so
sparsity    share of exact zeros
clip        share of original values outside of [min, max] of the dequantized ones
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.metrics import ErrorSums, clip_share
from fewbit.core.params import params_from_range
from fewbit.core.spec import QuantSpec

Array = NDArray[Any]

CHUNK = 1 << 16  # values in float64 at a time


@dataclass(frozen=True)
class Stats:
    """Where the values of a tensor lie; all nan if it has none."""

    min: float
    q1: float
    median: float
    q3: float
    max: float
    mean: float
    var: float
    sparsity: float

    def cells(self) -> list[float]:
        """In the order of the table's columns."""
        return [self.min, self.q1, self.median, self.q3, self.max, self.mean, self.var, self.sparsity]


def stats(x: Array) -> Stats:
    """Measure a tensor; beside it there is one copy of it in memory."""
    flat, n = np.asarray(x).ravel(), int(np.size(x))
    if not n:
        return Stats(*[math.nan] * 8)
    places = [n // 4, n // 2, 3 * n // 4]
    ordered = np.partition(flat, places)
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and inf are a result here, and shown
        mean = sum(float(flat[i : i + CHUNK].sum(dtype=np.float64)) for i in range(0, n, CHUNK)) / n
        squares = (np.square(flat[i : i + CHUNK].astype(np.float64) - mean).sum() for i in range(0, n, CHUNK))
        spread = math.sqrt(float(sum(squares)) / n)
        lowest, highest = float(flat.min()), float(flat.max())
    q1, median, q3 = (float(ordered[i]) for i in places)
    return Stats(lowest, q1, median, q3, highest, mean, spread, np.count_nonzero(flat == 0) / n)


def change(original: Array, dequantized: Array) -> tuple[float, float]:
    """Clip and cosine of a tensor and its dequantized form; cosine is nan where a side is not finite."""
    clip = clip_share(original, float(dequantized.min()), float(dequantized.max())) if dequantized.size else 0.0
    return clip, cosine(original, dequantized)


def cosine(a: Array, b: Array) -> float:
    """Cosine of the angle between two arrays; nan where a side is not finite."""
    sums = ErrorSums()
    with np.errstate(invalid="ignore", over="ignore"):
        sums.update(a, b)
    finite = all(math.isfinite(v) for v in (sums.rr, sums.xx, sums.rx, sums.ee))
    return sums.cosine if finite else math.nan


def at_run_time(spec: QuantSpec, x: Array) -> Array:
    """What a layer sees of an activation whose range is measured in each run.

    A value that is not finite has no range; it is passed on as it is.

    Args:
        spec: per tensor one range for all of x; per channel along the last axis but one a range a row, along the last
            one a range a column.
    """
    if not x.size or not np.isfinite(x).all():
        return x
    fixed = replace(spec, dynamic=False, granularity="tensor", axis=None)
    axes = None if spec.granularity == "tensor" else -1 if spec.axis == -2 else -2
    lo, hi = x.min(axes, keepdims=axes is not None), x.max(axes, keepdims=axes is not None)
    params = params_from_range(fixed, lo, hi)  # scales of shape (…, rows, 1) spread by themselves
    return params.fake(x)
