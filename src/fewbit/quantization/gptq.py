"""GPTQ: round the inputs of a layer one after the other, and let those that are left make up for the error.

    H = R·Rᵀ, R upper triangular;   for k in order:   p_k = round(v_k / s_k),   v = w at first
                                                      v_j ← v_j + R_kj / R_jj · (w_k − s_k·p_k)   for j after k

H: the second moments of the layer's inputs, damped by a share of their mean; inputs with most signal come first ("act
order"), and scales are chosen before, so that groups need no order of their own. Sources: Frantar et al., "GPTQ:
Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2022, which has the same numbers from H⁻¹;
Chee et al., "QuIP", 2023, who found that no inverse is needed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fewbit.quantization.moments import Fit
from fewbit.quantization.steps import Steps

Array = NDArray[Any]

FARTHEST = 120
"""Integers that a weight may move from the nearest one; a nudge holds 127, and what follows may add to it."""

TOGETHER = 8
"""Rows that are rounded at once: R is larger than the cache."""

EXACT = 1e-4
"""Share of d below which what the float weights leave of it is rounding noise."""


def gptq(weight: NDArray[np.float32], steps: Steps, fit: Fit, damping: float) -> NDArray[np.int32]:
    """Integers for a layer, less their zero point.

    Args:
        weight: float, (group, out, K). steps: scales and limits. fit: the layer's moments, full.
        damping: added to H's diagonal, a share of its mean; pulls towards the float weights.
    """
    assert fit.full
    g, o, k = weight.shape
    start, (lo, hi) = steps.nearest(weight), steps.limits
    lo, hi = np.maximum(lo, start - FARTHEST).astype(np.int32), np.minimum(hi, start + FARTHEST).astype(np.int32)
    scale, p = steps.wide(steps.scale), start.copy()
    few = o if g > 1 else -(-o // (2 * (cpu_count() or 1)))
    with ThreadPoolExecutor(cpu_count() or 1) as threads:
        for i in range(g):
            pull = damping * float(np.trace(fit.h[i])) / k
            if not pull > 0:  # the input never moves: nothing to learn from
                continue
            order = np.argsort(-np.diagonal(fit.h[i]), kind="stable")
            target, feed = (
                np.ascontiguousarray(_target(weight[i], fit, i, pull)[:, order]),
                _feed(fit.h[i], pull, order),
            )
            jobs = [
                threads.submit(_feed_back, feed, target[a : a + few], target[a : a + few].copy(), scale[i, a : a + few],
                               p[i, a : a + few], lo[i, a : a + few], hi[i, a : a + few], order)
                for a in range(0, o, few)
            ]  # fmt: skip
            for job in jobs:
                job.result()
    return p


def _target(weight: Array, fit: Fit, i: int, pull: float) -> Array:
    """The best real weights, (out, K): the float ones, unless the inputs lack what was lost in front of the layer."""
    h, d = fit.h[i].astype(np.float64), fit.d[i]
    rest = d - weight @ fit.h[i]
    if not np.square(rest).sum() > EXACT**2 * np.square(d).sum():
        return weight
    h[np.diag_indices_from(h)] += pull
    found: Array = (weight + np.linalg.solve(h, rest.T).T).astype(np.float32)
    return found


def _feed(h: Array, pull: float, order: Array) -> NDArray[np.float32]:
    """How much of an input's error each later one takes over: R_kj / R_jj, (K, K), in order."""
    back = h[np.ix_(order[::-1], order[::-1])].astype(np.float64)
    back[np.diag_indices_from(back)] += pull
    r = np.linalg.cholesky(back)[::-1, ::-1]
    return np.ascontiguousarray(r / np.diagonal(r), np.float32)


@numba.njit(nogil=True, cache=True)
def _feed_back(
    feed: Array, target: Array, wish: Array, scale: Array, p: Array, lo: Array, hi: Array, order: Array
) -> None:
    """Round some rows at once, in place; `wish`: the target, to which the errors so far are added."""
    rows, k = target.shape
    for first in range(0, rows, TOGETHER):
        for i in range(k):
            at = order[i]
            for row in range(first, min(first + TOGETHER, rows)):
                v, s = wish[row], scale[row, at]
                q = int(min(max(np.rint(v[i] / s), lo[row, at]), hi[row, at]))
                p[row, at] = q
                rest = target[row, i] - np.float32(q) * s
                for j in range(i + 1, k):
                    v[j] += rest * feed[i, j]
