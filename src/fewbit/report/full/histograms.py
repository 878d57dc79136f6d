"""Where the values of each layer lie, in float and as the quantized network has them, on the same bins.

    float       ▂▅█▇▅▃▂▁▁ ▁        counts of each side over [low, low + BINS·step]; what lies outside, which only
    quantized   ▂ █ ▇ ▅ ▃ █        strays do, is told as a number
                     limit ┘

Values are counted as they come, on fine grids that grow with them (`calib.histogram.GridHistogram`), so that no batch
decides the bins; these are laid at the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.calib.histogram import GridHistogram
from fewbit.errors import BadSample

BINS = 96
SAMPLES = 32
"""Samples that are counted: a histogram of more looks the same."""

STRAYS = 1e-4
"""Share of the values on each side that bins need not reach: an outlier must not make a single bar of all others."""

ROOM = 0.04
"""Of the width, left free on each side."""

Span = tuple[float, float]


@dataclass(frozen=True)
class Histogram:
    """Values of one layer.

    Args:
        low, step: lower edge of the first bin, and width of each. original, quantized: counts of both sides.
        below, above: counts outside of the bins, float and quantized.
    """

    low: float
    step: float
    original: tuple[int, ...]
    quantized: tuple[int, ...]
    below: tuple[int, int]
    above: tuple[int, int]


class Distributions:
    """Histograms of all layers, learned while networks are compared; hand `update` to `compare` as `look`."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self.samples = samples
        self._seen: dict[str, int] = {}
        self._sides: dict[str, tuple[GridHistogram, GridHistogram]] = {}
        self._zeros: dict[str, tuple[int, int]] = {}
        self._broken: set[str] = set()

    def update(self, name: str, original: NDArray[Any], quantized: NDArray[Any]) -> None:
        """Count the values of one batch; a layer that holds NaN or inf has no histogram."""
        seen = self._seen.get(name, 0)
        if seen >= self.samples or name in self._broken or not original.size:
            return
        self._seen[name] = seen + (original.shape[0] if original.ndim else 1)
        sides = self._sides.setdefault(name, (GridHistogram(), GridHistogram()))
        try:
            for side, x in zip(sides, (original, quantized), strict=True):
                side.update(np.ascontiguousarray(x, np.float32))
        except BadSample:
            self._broken.add(name)
            del self._sides[name]
            return
        zeros, count = self._zeros.get(name, (0, 0))
        self._zeros[name] = zeros + int(np.count_nonzero(original == 0)), count + original.size

    def sparsity(self, name: str) -> float | None:
        """Share of the float values that are exactly 0; None if nothing was counted."""
        zeros, count = self._zeros.get(name, (0, 0))
        return zeros / count if count else None

    def result(self, name: str, limits: Span | None = None, scale: float | None = None) -> Histogram | None:
        """The histogram of a layer; None if there is none.

        Args:
            limits: what the integers can hold; the bins reach them, unless most of the bins were empty then.
            scale: real value of one integer; every bin holds as many integers as the others then.
        """
        sides = self._sides.get(name)
        if sides is None:
            return None
        low, step, bins = _bins(_span(sides, limits), scale)
        edges = low + step * np.arange(bins + 1)
        (ours, under, over), (theirs, their_under, their_over) = (_counts(side, edges) for side in sides)
        return Histogram(low, step, ours, theirs, (under, their_under), (over, their_over))


def _span(sides: tuple[GridHistogram, GridHistogram], limits: Span | None) -> Span:
    """Where bins begin and end: around both sides but for strays, and the limits if they are near."""
    ours, theirs = (_quantiles(side) for side in sides)
    low, high = min(ours[0], theirs[0]), max(ours[1], theirs[1])
    width = high - low
    if limits is not None:
        low, high = min(low, max(limits[0], low - width)), max(high, min(limits[1], high + width))
    if low == high:
        low, high = low - (abs(low) or 1.0), high + (abs(high) or 1.0)
    room = ROOM * (high - low)
    return low - room, high + room


def _bins(span: Span, scale: float | None) -> tuple[float, float, int]:
    """Lower edge, width and number of the bins: a whole number of integers in each, or a whole number of bins to one.

    Integers lie in the middle of theirs, for which there must be an odd number.
    """
    low, width = span[0], span[1] - span[0]
    if not scale or width < scale:
        return low, width / BINS, BINS
    levels = width / scale
    if levels > BINS:
        step = scale * math.ceil(levels / BINS)
    else:
        parts = max(1, int(BINS / levels))
        step = scale / (parts - 1 + parts % 2)
    low = (math.floor(low / scale) - 0.5) * scale
    return low, step, math.ceil((span[1] - low) / step)


def _quantiles(side: GridHistogram) -> Span:
    """Ends of a side without its strays."""
    assert side.counts is not None
    whole = np.cumsum(side.counts)
    spare = STRAYS * whole[-1]
    width, half = 2.0**side.exponent, side.half
    first, last = int(np.searchsorted(whole, spare, "right")), int(np.searchsorted(whole, whole[-1] - spare, "left"))
    return max(side.lo, (first - half) * width), min(side.hi, (last + 1 - half) * width)


def _counts(side: GridHistogram, edges: NDArray[Any]) -> tuple[tuple[int, ...], int, int]:
    """Counts between the edges, below and above them; a bin of the grid counts where its middle lies."""
    assert side.counts is not None
    middles = (np.arange(side.counts.size) - side.half + 0.5) * 2.0**side.exponent
    used = np.flatnonzero(side.counts)
    at = np.searchsorted(edges, np.clip(middles[used], side.lo, side.hi), "right")
    found = np.bincount(at, side.counts[used], edges.size + 1).astype(np.int64)
    return tuple(found[1:-1].tolist()), int(found[0]), int(found[-1])
