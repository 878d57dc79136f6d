"""Ranges from extremes: of all values, of each batch, or of each batch's inner quantiles.

    naive      lo = min of all                                hi = max of all
    ema        r_0 = range of batch 0,  r_t = (1 - m)·range of batch t + m·r_(t-1)
    quantile   mean over batches of the (100 - percentile) % and percentile % quantiles of a batch: of its n values in
               order, number ⌊(1 - p)·n⌋ and ⌊p·n⌋, counted from 0

ema and quantile depend on what a batch is. They keep a few numbers for each batch under its number and combine them
in that order, so neither the order of arrival nor the number of workers matters.
Sources: ema as in Quantization.MXNet (m weighs the old range); quantile is MindSpore Lite's RemovalOutlier.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from fewbit.calib.base import Float32, observer
from fewbit.core.spec import QuantSpec
from fewbit.errors import BadSample, NotCalibrated

Range = tuple[float, float]


def flat(x: Float32) -> Float32:
    """The values as a contiguous float32 vector, without a copy where possible."""
    return np.ascontiguousarray(x, np.float32).reshape(-1)


def finite_range(x: Float32) -> Range:
    """Smallest and largest value of a non-empty array, read once.

    Raises:
        BadSample: there are NaN or infinite values; says how many and where the first one is.
    """
    from fewbit.calib import kernels

    lo, hi = kernels.key_range(flat(x).view(np.int32))
    if not kernels.all_finite(lo, hi):
        raise not_finite(x)
    return kernels.to_float(lo), kernels.to_float(hi)


def not_finite(x: Float32) -> BadSample:
    """The error for an array with NaN or infinite values."""
    nan, inf = np.isnan(x), np.isinf(x)
    first = tuple(int(i) for i in np.unravel_index(np.argmax(nan | inf), np.shape(x)))
    return BadSample(
        f"{int(nan.sum())} NaN and {int(inf.sum())} infinite values among {np.size(x)} of shape {np.shape(x)}; "
        f"the first is {np.asarray(x)[first]} at index {first}"
    )


def nothing_seen() -> NotCalibrated:
    """The error for a range that is asked for before any value was seen."""
    return NotCalibrated("no value was seen, so there is no range; calibrate on at least one sample")


@observer("naive")
class NaiveObserver:
    """Smallest and largest of all values."""

    def __init__(self, spec: QuantSpec) -> None:
        self.spec = spec
        self._range: Range | None = None

    def update(self, x: Float32, batch: int | None = None) -> None:
        """See one batch."""
        if np.size(x):
            self._add(finite_range(x))

    def _add(self, new: Range) -> None:
        self._range = _union(self._range, new)

    def merge(self, other: Self) -> None:
        """Take in what another observer saw."""
        if other._range is not None:
            self._add(other._range)

    def result(self) -> Range:
        """Smallest and largest value seen."""
        if self._range is None:
            raise nothing_seen()
        return self._range

    def state(self) -> dict[str, Any]:
        """What was learned."""
        return {} if self._range is None else {"range": np.array(self._range)}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self._range = _pair(state["range"]) if state else None


@observer("ema")
class EmaObserver:
    """Exponential moving average of the batches' ranges, in the order of their numbers.

    Args:
        spec: the wish.
        ema_momentum: weight of the old range.
    """

    def __init__(self, spec: QuantSpec, *, ema_momentum: float = 0.9) -> None:
        self.spec = spec
        self.momentum = ema_momentum
        self._batches: dict[int, Range] = {}

    def update(self, x: Float32, batch: int | None = None) -> None:
        """See one batch, or a part of it."""
        number = _number(self._batches, batch)
        if np.size(x):
            self._batches[number] = _union(self._batches.get(number), finite_range(x))

    def merge(self, other: Self) -> None:
        """Take in what another observer saw."""
        for number, new in other._batches.items():
            self._batches[number] = _union(self._batches.get(number), new)

    def result(self) -> Range:
        """The average after the last batch."""
        if not self._batches:
            raise nothing_seen()
        m = self.momentum
        first, *rest = (self._batches[number] for number in sorted(self._batches))
        lo, hi = first
        for new_lo, new_hi in rest:
            lo, hi = (1 - m) * new_lo + m * lo, (1 - m) * new_hi + m * hi
        return lo, hi

    def state(self) -> dict[str, Any]:
        """What was learned."""
        return _save(self._batches, 2)

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self._batches = {number: _pair(row) for number, row in _load(state)}


@observer("quantile")
class QuantileObserver:
    """Quantiles of each batch, averaged over batches.

    A batch that comes in parts (micro-batches, shards) counts as the mean of its parts' quantiles, weighted by their
    size: the quantiles of the whole would need its values.

    Args:
        spec: the wish.
        percentile: the upper quantile in percent; the lower one is 100 - percentile.
    """

    def __init__(self, spec: QuantSpec, *, percentile: float = 99.99) -> None:
        self.spec = spec
        self.percentile = percentile
        self._batches: dict[int, tuple[float, float, int]] = {}  # lo, hi, number of values

    def update(self, x: Float32, batch: int | None = None) -> None:
        """See one batch, or a part of it."""
        number = _number(self._batches, batch)
        if np.size(x):
            finite_range(x)
            v = flat(x)
            low, high = self._places(v.size)
            ordered = np.partition(v, (low, high))
            self._add(number, (float(ordered[low]), float(ordered[high]), v.size))

    def _places(self, n: int) -> tuple[int, int]:
        """Where the quantiles of n values in order stand; what binary fractions lack is made good."""
        share = self.percentile / 100
        return int((1 - share) * n + 1e-6), min(n - 1, int(share * n + 1e-6))

    def _add(self, number: int, new: tuple[float, float, int]) -> None:
        lo, hi, n = self._batches.get(number, (0.0, 0.0, 0))
        share = new[2] / (n + new[2])
        self._batches[number] = (lo + (new[0] - lo) * share, hi + (new[1] - hi) * share, n + new[2])

    def merge(self, other: Self) -> None:
        """Take in what another observer saw."""
        for number, new in other._batches.items():
            self._add(number, new)

    def result(self) -> Range:
        """The mean over batches."""
        if not self._batches:
            raise nothing_seen()
        lo, hi, _ = np.mean([self._batches[number] for number in sorted(self._batches)], axis=0)
        return float(lo), float(hi)

    def state(self) -> dict[str, Any]:
        """What was learned."""
        return _save(self._batches, 3)

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self._batches = {number: (*_pair(row), int(row[2])) for number, row in _load(state)}


def _union(old: Range | None, new: Range) -> Range:
    return new if old is None else (min(old[0], new[0]), max(old[1], new[1]))


def _pair(row: Any) -> Range:
    return float(row[0]), float(row[1])


def _number(batches: dict[int, Any], batch: int | None) -> int:
    return max(batches, default=-1) + 1 if batch is None else int(batch)


def _save(batches: dict[int, Any], width: int) -> dict[str, Any]:
    numbers = sorted(batches)
    values = np.array([batches[number] for number in numbers], np.float64).reshape(-1, width)
    return {"batches": np.array(numbers, np.int64), "values": values}


def _load(state: dict[str, Any]) -> list[tuple[int, Any]]:
    return list(zip(np.asarray(state["batches"]).tolist(), state["values"], strict=True))
