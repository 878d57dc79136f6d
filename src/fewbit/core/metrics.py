"""How far two arrays, or two classifiers, are apart.

    cosine    Σ r·x / √(Σ r² · Σ x²)           both all zero: 1; one of them: 0
    SQNR      10·log10(Σ r² / Σ (r - x)²) dB   equal: inf (also both all zero); r all zero, x not: -inf

All sums are in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewbit.errors import DataError

CHUNK = 1 << 13  # values in float64 at a time; longer dot products wake BLAS threads, which fight the engine


@dataclass
class ErrorSums:
    """The four sums that cosine and SQNR need, learned batch by batch; no array is kept."""

    rr: float = 0.0
    xx: float = 0.0
    rx: float = 0.0
    ee: float = 0.0

    def update(self, ref: ArrayLike, x: ArrayLike) -> None:
        """Add a pair of arrays of the same shape."""
        r_all, x_all = _pair(ref, x)
        for at in range(0, r_all.size, CHUNK):
            r, v = r_all[at : at + CHUNK].astype(np.float64), x_all[at : at + CHUNK].astype(np.float64)
            e = r - v
            self.rr += float(r @ r)
            self.xx += float(v @ v)
            self.rx += float(r @ v)
            self.ee += float(e @ e)

    def merge(self, other: ErrorSums) -> None:
        """Add what another one saw."""
        self.rr += other.rr
        self.xx += other.xx
        self.rx += other.rx
        self.ee += other.ee

    @property
    def cosine(self) -> float:
        """Cosine of the angle between reference and result, -1 to 1."""
        if self.ee == 0:
            return 1.0
        if self.rr == 0 or self.xx == 0:
            return 0.0
        found = self.rx / (math.sqrt(self.rr) * math.sqrt(self.xx))
        return math.nan if math.isnan(found) else max(-1.0, min(1.0, found))

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise in dB."""
        if self.ee == 0:
            return math.inf
        return 10 * (math.log10(self.rr) - math.log10(self.ee)) if self.rr else -math.inf


def cosine(a: ArrayLike, b: ArrayLike) -> float:
    """Cosine of the angle between two arrays of the same shape."""
    sums = ErrorSums()
    sums.update(a, b)
    return sums.cosine


def sqnr_db(ref: ArrayLike, x: ArrayLike) -> float:
    """Signal to quantization noise of `x` against `ref`, in dB."""
    sums = ErrorSums()
    sums.update(ref, x)
    return sums.sqnr_db


def max_abs_error(ref: ArrayLike, x: ArrayLike) -> float:
    """Largest |ref - x|; 0 for empty arrays."""
    r, v = _pair(ref, x)
    return float(np.abs(r.astype(np.float64) - v).max(initial=0.0))


def clip_share(x: ArrayLike, lo: float, hi: float) -> float:
    """Share of values outside of [lo, hi]; 0 for an empty array."""
    v = np.asarray(x)
    return float(np.count_nonzero((v < lo) | (v > hi)) / v.size) if v.size else 0.0


def agreement(ref_logits: ArrayLike, logits: ArrayLike) -> float:
    """Share of samples for which both give the same class most.

    Args:
        ref_logits: shape (samples, classes); at least one sample.
        logits: the same shape.
    """
    a, b = np.asarray(ref_logits), np.asarray(logits)
    _same(a, b)
    if not a.size:
        raise DataError("agreement of no samples is not defined")
    return float(np.mean(a.argmax(-1) == b.argmax(-1)))


def class_like(x: NDArray[Any]) -> bool:
    """Whether an output looks like class scores: floating-point, (samples, classes), perhaps with axes of 1 behind."""
    return x.dtype.kind == "f" and x.ndim >= 2 and x.shape[1] >= 2 and all(d == 1 for d in x.shape[2:])


def top_k_hits(logits: ArrayLike, labels: ArrayLike, k: int = 1) -> int:
    """Number of samples whose label is among the k highest logits; among equal logits the lower class wins.

    Args:
        logits: shape (samples, classes).
        labels: shape (samples,), class numbers.
        k: how many guesses count; more than there are classes counts all.
    """
    z, y = np.asarray(logits), np.asarray(labels)
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise DataError(f"logits have shape {z.shape}, labels {y.shape}; they must be (samples, classes), (samples,)")
    if y.size and (y.min() < 0 or y.max() >= z.shape[1]):
        raise DataError(f"labels run from {y.min()} to {y.max()}; there are {z.shape[1]} classes, from 0")
    own = np.take_along_axis(z, y[:, None].astype(np.int64), 1)
    before = (z > own) | ((z == own) & (np.arange(z.shape[1]) < y[:, None]))
    return int(np.count_nonzero((before.sum(1) < k) & ~np.isnan(own[:, 0])))


def paired_flips(a_pred: ArrayLike, b_pred: ArrayLike, labels: ArrayLike) -> tuple[int, int]:
    """How many samples b gets right and a wrong (fixed), and the reverse (broken).

    Args:
        a_pred: class numbers given by a, shape (samples,).
        b_pred: those given by b.
        labels: the right ones.
    """
    a, b, y = np.asarray(a_pred), np.asarray(b_pred), np.asarray(labels)
    _same(a, b)
    _same(a, y)
    a_right, b_right = a == y, b == y
    return int(np.count_nonzero(b_right & ~a_right)), int(np.count_nonzero(a_right & ~b_right))


def wilson_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for a share of which k out of n were seen (Wilson 1927). (0, 1) for n = 0."""
    if not 0 <= k <= n or not 0 < confidence < 1:
        raise DataError(f"no interval for {k} of {n} at confidence {confidence}")
    if n == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = (k + z2 / 2) / (n + z2)
    reach = math.sqrt(z2 * (k * (n - k) / n + z2 / 4)) / (n + z2)
    return (0.0 if k == 0 else middle - reach), (1.0 if k == n else middle + reach)


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = np.asarray(a), np.asarray(b)
    _same(x, y)
    return x.ravel(), y.ravel()


def _same(a: NDArray[Any], b: NDArray[Any]) -> None:
    if a.shape != b.shape:
        raise DataError(f"arrays of shape {a.shape} and {b.shape} cannot be compared; they must have the same shape")
