"""Which part of a value's range to keep: the KL search of ncnn's tool, over 2,048 bins of |x|.

    P = bins 0 … t-1, the mass beyond added to bin t-1      Q = the same bins without it, averaged over 128 groups
    t = 128 … 2047, the least Σ P·ln(P / Q) wins            T = (t + ½) · absmax / 2048

Counts are shares of all values, and 1e-4 is added to each bin of P and Q, which are not made to sum up to 1 again.
Groups are t/128 bins wide, so that bins are split between neighbours: with C, the cumulative histogram with straight
lines between the edges of bins, Q is what C becomes if only its points at the ends of groups are kept.
ncnn adds up in float32, here it is float64; where the divergence is flat the two may differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GROUPS = 128
ADDED = 1e-4


def threshold_bins(hist: NDArray[Any], groups: int = GROUPS) -> float:
    """Find the threshold, in bins.

    Args:
        hist: counts of |x|, values of 0 left out. groups: levels on one side of 0; 128 for 8 bits.

    Returns:
        t + ½; the number of bins, if all magnitudes are the same (ncnn takes 128½) or there are as many levels as bins.
    """
    if groups >= hist.size or not hist[:-1].any():
        return float(hist.size)
    return groups + int(np.argmin(divergences(hist, groups))) + 0.5


def divergences(hist: NDArray[Any], groups: int = GROUPS) -> Floats:
    """Σ P·ln(P / Q) for t = groups … number of bins - 1."""
    h = hist / hist.sum()
    cum, bins = np.concatenate(([0.0], np.cumsum(h))), np.arange(h.size + 1.0)
    found = np.empty(h.size - groups)
    for t in range(groups, h.size):
        ends = np.arange(groups + 1) * (t / groups)
        q = np.diff(np.interp(bins[: t + 1], ends, np.interp(ends, bins, cum))) + ADDED
        p = h[:t] + ADDED
        p[-1] += h[t:].sum()
        found[t - groups] = np.sum(p * np.log(p / q))
    return found
