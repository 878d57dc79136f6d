"""Rounding for a coder: integers by the error of the layer's output and by the bits that they take.

    min over integers q of  δᵀ·H·δ + μ · Σ length(q)        δ = s·q − w,  H = mean x·xᵀ of the layer's inputs
    length(q) = −log2 of how often q occurs in the layer

Coordinate descent as in `rounding.py`, with the price of bits added: where the error is as good as equal, the integer
with the shorter code wins. What is rare becomes rarer, so lengths are taken anew in between.
What a bit is worth follows from E ~ s² and bits ~ −log2 s for each of n weights: −dE/dbits = 2·ln 2 · E / n. Half of it
is taken for μ, since it matters at few bits only: at 2.7 bits, half wins 0.5 dB on the samples that were fitted to and
all of it 0.7; at 6 bits nothing is won, and all of it loses 0.2 dB on other samples (EfficientNet-Lite0).
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from fewbit.quantization.rounding import DAMPING

Array = NDArray[Any]

TURNS, SWEEPS = 2, 2
"""Times that lengths are taken, and sweeps over the weights with each."""

REACH = 16
"""Integers that a weight may move."""

BLOCK = 16
"""Outputs that are rounded together, so that a row of H is read once for all of them."""

WORTH = math.log(2)
"""μ · n / E."""


def lengths(q: Array, lo: int, hi: int) -> NDArray[np.float32]:
    """Bits of each integer from lo to hi, as often as it occurs in q; one that does not counts half."""
    counts = np.bincount(q.reshape(-1).astype(np.int64) - lo, minlength=hi - lo + 1)
    return np.asarray(-np.log2(np.maximum(counts, 0.5) / q.size), np.float32)


def damped(h: Array, rows: int, damping: float = DAMPING) -> Array:
    """H with a share of its mean diagonal added, more where there were fewer rows than inputs; a diagonal as it is."""
    k = h.shape[-1]
    if h.ndim == 2:
        return np.asarray(h + 1e-3 * h.mean(-1, keepdims=True))
    share = damping * max(1.0, k / max(rows, 1))
    pull = share * np.trace(h, axis1=1, axis2=2) / k
    found: Array = h + pull[:, None, None].astype(np.float32) * np.eye(k, dtype=np.float32)
    return found


def error_of(delta: Array, h: Array) -> float:
    """Σ over outputs of δᵀ·H·δ; δ: (group, out, K), h: (group, K, K) or its diagonal."""
    hd = np.matmul(delta, h) if h.ndim == 3 else delta * h[:, None, :]
    return float(np.einsum("gok,gok->", hd, delta, dtype=np.float64))


def coded_round(weight: Array, scale: Array, h: Array, worth: float, turns: int = TURNS) -> NDArray[np.int32]:
    """Integers of a weight.

    Args:
        weight: float, (group, out, K). scale: steps, (group, out). h: damped moments, (group, K, K) or a diagonal.
        worth: μ, the error that a bit is worth. turns: see TURNS.
    """
    start = np.rint(weight / scale[..., None]).astype(np.int32)
    q, s = start.copy(), np.ascontiguousarray(scale, np.float32)
    lo, hi = int(start.min()) - 1, int(start.max()) + 1
    full = h.ndim == 3
    moments = np.ascontiguousarray(h if full else h[:, :, None], np.float32)
    delta = (q * s[..., None] - weight).astype(np.float32)
    gradient = np.matmul(delta, moments) if full else delta * h[:, None, :].astype(np.float32)
    diagonal = np.diagonal(moments, axis1=1, axis2=2) if full else moments[..., 0]
    order = np.argsort(-diagonal, axis=1, kind="stable")
    with ThreadPoolExecutor(cpu_count() or 1) as threads:
        for _ in range(turns):
            price = (worth * lengths(q, lo, hi)).astype(np.float32)
            jobs = [
                threads.submit(_descend, moments[g], gradient[g, a : a + BLOCK], s[g, a : a + BLOCK],
                               q[g, a : a + BLOCK], start[g, a : a + BLOCK], order[g], price, lo, full)
                for g in range(q.shape[0])
                for a in range(0, q.shape[1], BLOCK)
            ]  # fmt: skip
            for job in jobs:
                job.result()
    return q


@numba.njit(nogil=True, cache=True, fastmath=True)
def _descend(
    h: Array, gradients: Array, scale: Array, q: Array, start: Array, order: Array, price: Array, lo: int, full: bool
) -> None:
    """Coordinate descent, in place; `gradients`: Hδ."""
    rows, k = q.shape
    for _ in range(SWEEPS):
        for i in order:
            row_h = h[i]
            curve = row_h[i] if full else row_h[0]
            for row in range(rows):
                s = scale[row]
                now = q[row, i]
                wish = np.float32(now)
                if curve * s > 0:
                    wish -= gradients[row, i] / (curve * s)
                base = int(np.floor(min(max(wish, np.float32(lo)), np.float32(lo + price.size - 1))))
                inner = base - 1 if base > 0 else base + 2
                best, least = now, curve * (s * (now - wish)) ** 2 + price[now - lo]
                for c in (base, base + 1, inner):
                    if c < lo or c >= lo + price.size or abs(c - start[row, i]) > REACH:
                        continue
                    cost = curve * (s * (c - wish)) ** 2 + price[c - lo]
                    if cost < least:
                        best, least = c, cost
                if best != now:
                    q[row, i] = best
                    delta = np.float32(best - now) * s
                    if full:
                        for j in range(k):
                            gradients[row, j] += delta * row_h[j]
                    else:
                        gradients[row, i] += delta * curve
