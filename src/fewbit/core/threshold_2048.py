"""Which part of a value's range to keep: the KL search of MindSpore Lite, over 2,048 bins of |x|.

    P_i = bins 0 … i-1, the mass beyond added to bin i-1       Q_i = the same bins without it, averaged over 128 groups
    i = 128 … 2047, the least KL(P_i ‖ Q_i) wins               T = (i + ½) · absmax / 2048

Groups are i/128 bins wide, so that bins are split between neighbours. Every bin begins at 1e-7 and none is empty: a
group is averaged over all of its width, and no q is 0 where p is not (which would cost 1). So with C, the cumulative
histogram with straight lines between the edges of bins, group j has the mean (C((j+1)·i/128) - C(j·i/128)) · 128/i, and
all candidates are computed at once: bins within a group by its mean, the few at its ends one by one.
MindSpore adds up in float32, here it is float64; where the divergence is flat the two may differ.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 2048
GROUPS = 128
EMPTY = 1e-7
"""What a bin holds before any value came."""


def threshold_bins(hist: NDArray[Any], groups: int = GROUPS) -> float:
    """Find the threshold, in bins.

    Args:
        hist: counts of |x|, shape `(2048,)`, values of 0 left out.
        groups: levels on one side of 0; 128 for 8 bits.

    Returns:
        i + ½. Where no candidate holds a value – all magnitudes are the same – or there are as many levels as bins,
        everything is kept: 2048.
    """
    bins = hist.size
    if groups >= bins or not hist[:-1].any():
        return float(bins)
    return groups + int(np.argmin(divergences(hist, groups))) + 0.5


def divergences(hist: NDArray[Any], groups: int = GROUPS) -> Floats:
    """KL(P_i ‖ Q_i) for i = groups … bins - 1."""
    h = hist + EMPTY
    i = np.arange(groups, h.size)
    count = np.concatenate(([0], np.cumsum(hist)))  # whole numbers: differences are exact, and 1e-7 is not lost in them
    total = count[-1] + EMPTY * h.size

    width = i[:, None] / groups
    ends = np.arange(groups + 1) * i[:, None] / groups  # of groups, in bins; exact in float64
    low = np.floor(ends).astype(np.int64)
    part = ends - low
    mean = np.diff(count[low] + part * np.append(hist, 0)[low]) / width + EMPTY

    # Σ p·ln q: bins that lie within one group, then those cut by an end, then the mass beyond
    first, last = np.ceil(ends[:, :-1]).astype(np.int64), low[:, 1:]
    log = np.log(mean)
    plogq = ((count[last] - count[first] + EMPTY * (last - first)) * log).sum(1)
    cut, inner = part[:, 1:-1], low[:, 1:-1]
    q = mean[:, :-1] * cut + mean[:, 1:] * (1 - cut)
    plogq += np.where(cut > 0, h[inner] * np.log(q), 0).sum(1)
    beyond = count[-1] - count[i] + EMPTY * (h.size - i)
    plogq += beyond * log[:, -1]

    logs = np.concatenate(([0.0], np.cumsum(h * np.log(h))))
    end = h[i - 1] + beyond
    plogp = logs[i - 1] + end * np.log(end)
    kept: Floats = count[i] + EMPTY * i
    return np.asarray((plogp - plogq) / total + np.log(kept / total))
