"""Which part of a value's range to keep: the KL search of the simulator Quantization.MXNet, over 2,048 bins of |x|.

    P_i = bins 0 … i-1, the mass beyond added to bin i-1
    Q_i = the same bins without it, averaged over `levels` groups (bin k in group ⌊k·levels/i⌋), expanded to i bins by
          straight lines between the groups: bin k at k·(levels - 1)/(i - 1); 0 where P_i is, elsewhere at least 1e-7
    i = levels … 2048, the least KL(P_i ‖ Q_i) wins            T = (i + ½) · top / 2048

Zeros are not counted. `top` is the largest |x| of the first batch + 1e-5; what exceeds it later is counted in the last
bin. levels = 2^b unsigned, 2^(b-1) signed: those on one side of 0. Without the least of 1e-7 a single outlier would
make every candidate but the last one infinitely bad, and nothing would be cut off.

With S = Σ P and C = Σ Q, KL = (Σ P·ln P - Σ P·ln Q) / S - ln S + ln C. The first sum comes from cumulative ones, the
second needs only bins that are not empty; a block of candidates is computed at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import BadSample

Floats = NDArray[np.float64]

BINS = 2048
MARGIN = 1e-5
"""What the range is wider than the largest magnitude of the first batch."""
LEAST = 1e-7
"""What Q holds at least where P is not 0."""
BLOCK = 48
"""Candidates that are computed at once: their tables stay in the cache."""


class Counts:
    """How often magnitudes came, in bins that the first batch fixed.

    Args:
        largest: the largest |x| of the first batch.

    Raises:
        BadSample: it is NaN or infinite.
    """

    def __init__(self, largest: float) -> None:
        _check_finite(largest)
        self.top = float(largest) + MARGIN
        self.hist = np.zeros(BINS, np.int64)

    def update(self, x: NDArray[Any]) -> None:
        """Count values of any shape.

        Raises:
            BadSample: one is NaN or infinite.
        """
        size = np.abs(x[x != 0], dtype=np.float64)
        _check_finite(float(size.max(initial=0.0)))
        at = np.minimum(size * (BINS / self.top), BINS - 1).astype(np.int64)
        self.hist += np.bincount(at, minlength=BINS)

    def threshold(self, bits: int, signed: bool) -> float:
        """T; 0 if nothing but zeros came."""
        return threshold_bins(self.hist, levels_of(bits, signed)) * self.top / BINS if self.hist.any() else 0.0


def _check_finite(largest: float) -> None:
    if not np.isfinite(largest):
        raise BadSample("a value is NaN or infinite, and belongs to no bin; look at the data and at the network")


def levels_of(bits: int, signed: bool) -> int:
    """Levels on one side of 0."""
    return 1 << (bits - signed)


def threshold_bins(hist: NDArray[Any], levels: int) -> float:
    """Find the threshold, in bins.

    Args:
        hist: counts of |x|, zeros left out; at least one is over 0.
        levels: groups of bins, 1 or more.

    Returns:
        i + ½. With as many levels as bins nothing is lost, with one level there is nothing to compare; then everything
        is kept: the number of bins.
    """
    if levels >= hist.size or levels < 2:
        return float(hist.size)
    return levels + int(np.argmin(divergences(hist, levels))) + 0.5


def divergences(hist: NDArray[Any], levels: int) -> Floats:
    """KL(P_i ‖ Q_i) for i = levels … number of bins."""
    h = hist.astype(np.float64)
    below = np.concatenate(([0.0], np.cumsum(h)))
    logs = np.concatenate(([0.0], np.cumsum(h * np.log(np.maximum(h, 1)))))
    filled = np.flatnonzero(h)
    i = np.arange(levels, h.size + 1)
    blocks = [i[a : a + BLOCK] for a in range(0, i.size, BLOCK)]
    sums = (_against(h, below, filled, block, levels) for block in blocks)
    plogq, total_q = (np.concatenate(x) for x in zip(*sums, strict=True))
    total = below[-1]
    last = h[i - 1] + total - below[i]
    plogp = logs[i - 1] + last * np.log(np.maximum(last, 1))
    found: Floats = (plogp - plogq) / total - np.log(total) + np.log(total_q)
    return found


def _against(h: Floats, below: Floats, filled: NDArray[Any], i: NDArray[Any], levels: int) -> tuple[Floats, Floats]:
    """Σ P·ln Q and Σ Q of some candidates."""
    ends = -(-np.arange(levels + 1) * i[:, None] // levels)  # group j holds the bins from ends[j] to ends[j + 1] - 1
    mean = np.diff(below[ends]) / np.diff(ends)
    bins = filled[: np.searchsorted(filled, i[-1])]
    inside = bins < i[:, None]
    at = bins * ((levels - 1) / np.maximum(i - 1, 1))[:, None]
    low = np.minimum(at.astype(np.int64), max(levels - 2, 0))
    row = np.arange(i.size)[:, None]
    left = mean[row, low]
    q = np.maximum(left + (at - low) * (mean[row, np.minimum(low + 1, levels - 1)] - left), LEAST)
    q[~inside] = 1
    plogq = np.log(q) @ h[bins]
    q[~inside] = 0
    tail, end = below[-1] - below[i], np.maximum(mean[:, -1], LEAST)  # bin i-1 lies on the last group
    alone = (tail > 0) & (h[i - 1] == 0)  # and may be in P by the tail only
    return plogq + tail * np.log(end), q.sum(1) + end * alone
