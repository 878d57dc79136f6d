"""Ranges from a histogram on a power-of-two grid: entropy, percentile and mse.

    |  …  | -2 | -1 | 0 | 1 |  …  |      2·HALF bins of width w = 2^e, e the smallest with absmax < HALF·w
    bin(x) = trunc(x / w) for x ≥ 0, trunc(x / w) - 1 for x < 0

Doubling w puts bins 2j and 2j + 1 together, so grids nest: growing and merging move whole counts, and the counts
depend only on the values, not on how they were split or in which order they came.

Reading maps them onto BINS = 8001 equal bins over [-absmax, absmax], the histogram MXNet searches. Of the bins there
are 2 to 4 to each of those; counts are shared out linearly where one straddles an edge. Whole multiples of w would
avoid that, but the best threshold hangs on where L // levels steps, and so on the number of bins: for the same data
8001 and 8501 differ by up to 10 %, and where the divergence is flat another minimum may win altogether: a threshold of
1.46 instead of 2.23 cost one network 9 dB. So `calibrate` places entropy's bins where MXNet has them, which the largest
magnitude of the first batch decides (`PlacedHistogram`); observers that nobody places do without.

Memory: 256 KiB for a value (512 if placed), and 1 MiB of counting tables for each thread.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fewbit.calib.base import Float32, observer
from fewbit.calib.minmax import Range, flat, not_finite, nothing_seen
from fewbit.core.spec import QuantSpec
from fewbit.core.threshold import entropy_threshold, mse_range, percentile_range

HALF_LOG2 = 14
HALF = 1 << HALF_LOG2
BINS = 8001
LEAST_EXPONENT = -126  # 2^126, the inverse width, is still a finite float32

Ints = NDArray[np.int64]
_thread = threading.local()


def exponent(absmax: float) -> int:
    """The smallest e whose grid of width 2^e holds every |x| ≤ absmax."""
    return max(math.frexp(absmax)[1] - HALF_LOG2, LEAST_EXPONENT) if absmax else LEAST_EXPONENT


def coarsened(counts: Ints, shift: int, factor: int = 2) -> Ints:
    """The same values counted on a grid factor^shift times as wide."""
    half, out = counts.size // 2, np.zeros_like(counts)
    together = min(factor**shift, half)
    starts = np.arange(0, half, together)
    out[half : half + starts.size] = np.add.reduceat(counts[half:], starts)
    out[half - starts.size : half] = np.add.reduceat(counts[:half][::-1], starts)[::-1]
    return out


class GridHistogram:
    """Counts of all values on the smallest power-of-two grid that holds them."""

    half, factor, least = HALF, 2, LEAST_EXPONENT

    def __init__(self) -> None:
        self.counts: Ints | None = None
        self.exponent = self.least
        self.lo = math.inf
        self.hi = -math.inf

    @property
    def absmax(self) -> float:
        """Largest magnitude seen."""
        return max(-self.lo, self.hi)

    def update(self, x: Float32) -> None:
        """Count the values of an array; on `BadSample` nothing is counted."""
        from fewbit.calib import kernels

        v = flat(x)
        tables = _tables(2 * self.half * kernels.LANES)
        try:
            at = 0
            while at < v.size:
                at = self._count(x, v, at, tables)
        except BaseException:  # an interrupt too: the tables serve the next value as well
            tables.fill(0)
            raise

    def _count(self, x: Float32, v: Float32, start: int, tables: NDArray[np.uint32]) -> int:
        """Count up to the first chunk that is off the grid, then make the grid fit all that is left."""
        from fewbit.calib import kernels

        bits, at, lo, hi = v.view(np.int32), start, 0, 0
        if self.counts is not None:
            inverse, bound = self._grid()
            at, lo, hi = kernels.fill(v, bits, start, inverse, bound, tables)
        grown = self.exponent
        if at < v.size:  # look at all that is left before anything is changed
            rest_lo, rest_hi = kernels.key_range(bits[at:])
            if not kernels.all_finite(rest_lo, rest_hi):
                raise not_finite(x)
            grown = self._fitting(max(-kernels.to_float(rest_lo), kernels.to_float(rest_hi)))
        if self.counts is not None and at > start:
            kernels.flush(tables, self.counts)
            self.lo, self.hi = min(self.lo, kernels.to_float(lo)), max(self.hi, kernels.to_float(hi))
        self._grow(grown)
        return int(at)

    def _grid(self) -> tuple[np.float32, np.int32]:
        """1 / width of a bin, and the bits of the first float32 magnitude that is off the grid."""
        return np.float32(2.0**-self.exponent), np.int32((self.exponent + HALF_LOG2 + 127) << 23)

    def _fitting(self, absmax: float) -> int:
        """The exponent of the narrowest grid that holds a magnitude."""
        return exponent(absmax)

    def _grow(self, wanted: int) -> None:
        if self.counts is None:
            self.counts, self.exponent = np.zeros(2 * self.half, np.int64), wanted
        elif wanted > self.exponent:
            self.counts, self.exponent = coarsened(self.counts, wanted - self.exponent, self.factor), wanted

    def merge(self, other: Self) -> None:
        """Add the counts of another histogram, on the wider of the two grids."""
        if other.counts is None:
            return
        self._grow(other.exponent)
        assert self.counts is not None
        self.counts += coarsened(other.counts, self.exponent - other.exponent, self.factor)
        self.lo, self.hi = min(self.lo, other.lo), max(self.hi, other.hi)

    def centred(self, bins: int = BINS) -> tuple[Ints, NDArray[np.float64]]:
        """Counts over [-absmax, absmax] in an odd number of equal bins, the middle one around 0, and their edges.

        There are fewer than `bins` only if the data is so small that the grid is coarser (absmax < 2^-113).
        """
        assert self.counts is not None and self.absmax > 0
        reach = self.absmax * 2.0**-self.exponent  # in bins of the grid
        bins = min(bins, 2 * int(reach) - 1 if reach >= 1 else 1)
        edges = np.arange(-bins, bins + 1, 2) / bins
        at = edges * reach + HALF
        below = at.astype(np.int64)
        cum = np.concatenate(([0], np.cumsum(self.counts)))
        share = cum[below] + (at - below) * np.append(self.counts, 0)[below]
        share[0], share[-1] = 0, cum[-1]
        return np.diff(np.rint(share)).astype(np.int64), edges * self.absmax

    def state(self) -> dict[str, Any]:
        """Everything learned."""
        if self.counts is None:
            return {}
        return {"counts": self.counts.copy(), "exponent": self.exponent, "range": np.array([self.lo, self.hi])}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.counts, self.exponent, self.lo, self.hi = None, self.least, math.inf, -math.inf
        if state:
            self.counts, self.exponent = np.array(state["counts"], np.int64), int(state["exponent"])
            self.lo, self.hi = float(state["range"][0]), float(state["range"][1])


class PlacedHistogram(GridHistogram):
    """Counts on MXNet's bins: 8001 over [-first, first], and as many more of the same width as later values need.

        bins       … | -3h … -h | -h … h | h … 3h | …      h = first / 8001, half a bin; the grid has one bin for each h
        th         first + m·2h, m the smallest with max |x| < th – unless nothing is beyond `first`

    The width follows from the first batch alone, so that counts add up in any order. Beyond 4 times `first` three bins
    become one, again and again, which keeps 0 in the middle of a bin; MXNet would go on adding bins.

    Args:
        first: largest magnitude of the first batch, > 0.
    """

    half, factor, least = 2 * HALF, 3, 0

    def __init__(self, first: float) -> None:
        super().__init__()
        self.first = first

    @property
    def width(self) -> float:
        """Of one bin of the grid, half of one of MXNet's."""
        return self.first / BINS * 3.0**self.exponent

    def _grid(self) -> tuple[np.float32, np.int32]:
        inverse = np.float32(1 / self.width)
        off = np.float32((self.half - 1) / np.float64(inverse))  # one bin is left for rounding
        return inverse, off.view(np.int32)

    def _fitting(self, absmax: float) -> int:
        bins = absmax / (self.first / BINS)
        return max(0, math.ceil(math.log(bins / (self.half - 2), 3))) if bins > self.half - 2 else 0

    def centred(self, bins: int = BINS) -> tuple[Ints, NDArray[np.float64]]:
        """MXNet's histogram: counts, and their edges."""
        assert self.counts is not None
        step, start = 2 * self.width, self.first
        if self.exponent:
            start = (2 * math.ceil(self.first / step / 2) + 1) * step / 2
        more = math.floor((self.absmax - start) / step) + 1 if self.absmax > start else 0
        reach = round(start / step - 0.5) + more  # bins on either side of the middle one
        pairs = self.counts[1:-1].reshape(-1, 2).sum(1)  # grid bins -1 and 0 are the middle one
        middle = pairs.size // 2
        out = pairs[middle - reach : middle + reach + 1].copy()
        out[0] += self.counts[0] + pairs[: middle - reach].sum()  # -th itself, and what rounding put behind it
        out[-1] += self.counts[-1] + pairs[middle + reach + 1 :].sum()
        return out, np.arange(-2 * reach - 1, 2 * reach + 2, 2, dtype=np.float64) * (step / 2)


def _tables(size: int) -> NDArray[np.uint32]:
    """This thread's counting tables; all 0 between calls."""
    if not hasattr(_thread, "tables") or _thread.tables.size < size:
        _thread.tables = np.zeros(size, np.uint32)
    tables: NDArray[np.uint32] = _thread.tables[:size]
    return tables


class _HistogramObserver(ABC):
    """What the three observers share: they differ in how they read the histogram."""

    def __init__(self, spec: QuantSpec) -> None:
        self.spec = spec
        self.histogram = GridHistogram()

    def update(self, x: Float32, batch: int | None = None) -> None:
        """See one batch."""
        self.histogram.update(x)

    def merge(self, other: Self) -> None:
        """Take in what another observer saw."""
        self.histogram.merge(other.histogram)

    def result(self) -> Range:
        """The range to keep, never wider than the values seen."""
        seen = self.histogram
        if seen.counts is None:
            raise nothing_seen()
        if seen.absmax == 0:
            return 0.0, 0.0
        lo, hi = np.clip(self._range(*seen.centred()), seen.lo, seen.hi)
        return float(lo), float(hi)

    @abstractmethod
    def _range(self, hist: Ints, edges: NDArray[np.float64]) -> Range:
        """Read the range to keep off the histogram."""

    def state(self) -> dict[str, Any]:
        """What was learned."""
        return self.histogram.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.histogram.restore(state)


@observer("entropy")
class EntropyObserver(_HistogramObserver):
    """The ±T that loses least information (MXNet's search), cut to the values seen.

    `place` tells the largest magnitude of the first batch before any value comes: bins then lie as MXNet's do.

    Levels: 2^bits - 1 over ±T; 2^(bits + 1) - 1 if no value is negative and the format may be unsigned, half of
    which lie in 0 … T. One bit takes the smallest search there is, 3 levels.
    """

    @property
    def first(self) -> float:
        """Largest magnitude of the first batch; 0 if nobody told."""
        return getattr(self.histogram, "first", 0.0)

    def place(self, first: float) -> None:
        """Use MXNet's bins; with nothing but zeros in the first batch there are none."""
        if first > 0:
            self.histogram = PlacedHistogram(first)

    def state(self) -> dict[str, Any]:
        """What was learned, and where the bins lie."""
        return {**super().state(), "first": self.first} if self.first else super().state()

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.place(float(state.get("first", 0.0)))
        super().restore({k: v for k, v in state.items() if k != "first"})

    def _range(self, hist: Ints, edges: NDArray[np.float64]) -> Range:
        one_sided = self.histogram.lo >= 0 and self.spec.signed is not True
        top, _ = entropy_threshold(hist, edges, max(3, (1 << (self.spec.bits + one_sided)) - 1))
        return (0.0 if one_sided else -top), top


@observer("percentile")
class PercentileObserver(_HistogramObserver):
    """The range that keeps a share of all values: half of the rest is cut at each side that has values.

    Args:
        spec: the wish.
        percentile: the share in percent.
    """

    def __init__(self, spec: QuantSpec, *, percentile: float = 99.99) -> None:
        super().__init__(spec)
        self.percentile = percentile

    def _range(self, hist: Ints, edges: NDArray[np.float64]) -> Range:
        return percentile_range(hist, edges, self.percentile)


@observer("mse")
class MseObserver(_HistogramObserver):
    """The range with the smallest mean squared error of rounding and clipping."""

    def _range(self, hist: Ints, edges: NDArray[np.float64]) -> Range:
        return mse_range(hist, edges, self.spec)
