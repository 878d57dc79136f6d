"""Which part of a value's range to keep, found on its histogram: by information (KL), by error (MSE), by share.

    KL(P ‖ Q)  P = the histogram clipped to ±T, tails added to its end bins
               Q = the same bins without the tails, averaged over `levels` equal groups

The KL search is MXNet's (calibrate.cc). Tried one after the other, its 3,874 candidates touch 16 million bins; here
each costs O(1). The candidate of half-width i has L = 2i + 1 bins in groups of m = L // levels, the last one taking
the rest. A group [a, a + m) of sum S with n non-zero bins contributes S·ln(S/n) to Σ P ln Q, whatever the candidate,
so for each m one table over a and its cumulative sum with stride m serve all of m's candidates. MXNet adds ε to the
zeros of P and Q and takes d = ε·n0/n1 from the rest; expanding to first order in d never gives more than the true
divergence plus d² (convexity), so this bounds each candidate's divergence from below.

MXNet adds up in float32, one number after the other, and where the divergence is flat its rounding decides which
minimum wins: exact sums gave another threshold (more than 1 % off) for 7 of 28 activations of a MobileNet, MXNet's sums
for none. So the candidates near the lowest bound, some tens, are computed in MXNet's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewbit.core.params import params_from_range
from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

EPS = 1e-4
ROUNDING = 1e-11  # of the cumulative sums, in nats
NOTHING = 1e-7  # a divergence below is rounding, and taken for 0, so that the first of many perfect candidates wins
NEAR = 5e-5  # nats above the lowest bound within which candidates are computed at first
MOST = 400  # candidates computed at most; each takes some tenth of a millisecond
FEW_LEVELS = 64  # below, looking each group up is quicker than a table for each m


def entropy_threshold(hist: Ints, edges: NDArray[np.floating], levels: int = 255) -> tuple[float, float]:
    """Find the T whose clipped histogram loses least information when it is cut to `levels` levels.

    Args:
        hist: counts, shape `(N,)`, N odd, symmetric about 0.
        edges: the N + 1 edges.
        levels: quantized levels over [-T, T]; odd. One-sided data in b bits uses half of 2^(b+1) - 1.

    Returns:
        T and the divergence in nats. The first minimum wins. Where nothing can be compared the whole range stays:
        with fewer bins than levels nothing is lost (divergence 0); if all values lie in the lowest bin, MXNet's Q is
        empty for every candidate (divergence inf).
    """
    hist = _checked(hist, edges)
    if levels < 3 or levels % 2 == 0:
        raise ConfigError(f"levels is {levels}; it must be an odd number of 3 or more")
    half = hist.size // 2
    if hist.size < levels:
        return float(edges[-1]), 0.0
    low = _lower_bounds(hist, levels)
    narrowest = levels // 2
    if low.min() == np.inf:
        return float(edges[-1]), np.inf
    low, found = np.maximum(low, 0), dict[int, float]()
    reach = NEAR
    while True:  # what rounding does is seen on the nearest ones; those that it could put first are computed as well
        near = [int(at) for at in np.flatnonzero(low <= low.min() + reach)]
        for at in sorted(near, key=lambda at: float(low[at]))[:MOST]:
            if at not in found:
                found[at] = _divergence(hist, at + narrowest, levels)
        best = min(found.values())
        off = max((abs(d - float(low[at])) for at, d in found.items() if d < np.inf), default=0.0)
        wanted = best + off - float(low.min())
        if wanted <= reach or len(found) >= MOST:
            break
        reach = wanted
    at = min(at for at, d in found.items() if d == best)
    return float(edges[half + at + narrowest + 1]), best


def _checked(hist: Ints, edges: NDArray[np.floating]) -> Ints:
    if hist.ndim != 1 or hist.size % 2 == 0 or len(edges) != hist.size + 1:
        raise ConfigError(
            f"a histogram of shape {hist.shape} with {len(edges)} edges; "
            "it must have an odd number of bins, and one edge more than bins"
        )
    return hist.astype(np.int64, copy=False)


def _divergence(hist: Ints, i: int, levels: int) -> float:
    """The divergence of one candidate, step by step and with the rounding that MXNet has."""
    zero = hist.size // 2
    start, stop = zero - i, zero + i + 1
    p = hist[start:stop].astype(np.float32)
    p[0], p[-1] = _added(hist[: start + 1]), _added(hist[stop - 1 :])
    sliced = hist[start:stop].copy()
    sliced[0] = 0
    m = p.size // levels
    starts = np.arange(levels) * m
    sums = np.add.reduceat(sliced, starts)
    filled = np.add.reduceat((sliced != 0).astype(np.int64), starts)
    full = filled > 0
    mean = np.zeros(levels, np.float32)
    mean[full] = sums[full].astype(np.float32) / filled[full].astype(np.float32)
    q = np.repeat(mean, np.diff(starts, append=p.size))
    q[p == 0] = 0
    if not (_smooth(p) and _smooth(q)):
        return np.inf
    p, q = p / _added(p), q / _added(q)
    divergence = float(_added(p * np.log((p / q).astype(np.float64)).astype(np.float32)))
    return divergence if divergence > NOTHING else 0.0


def _added(x: NDArray[Any]) -> np.float32:
    """The sum in float32, one number after the other."""
    total: np.float32 = np.add.accumulate(x, dtype=np.float32)[-1]
    return total


def _smooth(p: NDArray[np.float32]) -> bool:
    """Give ε to the zeros, taken evenly from the rest; False if the rest cannot pay."""
    zeros = p == 0
    n0 = int(zeros.sum())
    n1 = p.size - n0
    if n1 == 0 or n0 * EPS >= n1:
        return False
    p += np.where(zeros, np.float32(EPS), -np.float32(EPS) * np.float32(n0) / np.float32(n1))
    return True


class _Sums(NamedTuple):
    """Cumulative sums over the bins; the sum over [a, b) is c[b] - c[a]."""

    mass: Floats
    filled: Floats
    plogp: Floats
    logp: Floats


def _cumulated(x: NDArray[Any]) -> Floats:
    out = np.zeros(x.size + 1)
    np.cumsum(x, out=out[1:])
    return out


def _lower_bounds(hist: Ints, levels: int) -> Floats:
    """A lower bound of the divergence for each half-width from levels // 2 to the middle."""
    zero = hist.size // 2
    h = hist.astype(np.float64)
    log = np.log(np.maximum(h, 1))
    c = _Sums(_cumulated(h), _cumulated(h > 0), _cumulated(h * log), _cumulated(log))
    i = np.arange(levels // 2, zero + 1)
    start, stop = zero - i, zero + i + 1
    m = (2 * i + 1) // levels
    total = c.mass[-1]

    # P: the two end bins hold the tails
    p_first, p_last = c.mass[start + 1], total - c.mass[stop - 1]
    n1 = c.filled[stop - 1] - c.filled[start + 1] + (p_first > 0) + (p_last > 0)
    plogp = c.plogp[stop - 1] - c.plogp[start + 1] + _xlogx(p_first) + _xlogx(p_last)
    logp = c.logp[stop - 1] - c.logp[start + 1] + np.log(np.maximum(p_first, 1)) + np.log(np.maximum(p_last, 1))

    # Q: full groups from the tables, then the first group (its first bin counts as 0) and the last
    plogq, logq = _full_groups(c, levels, zero)
    begin = start + (levels - 1) * m
    first = _end_group(c, start + 1, start + m, p_first, p_first > 0)
    end = hist[stop - 1]
    last = _end_group(c, begin, stop, p_last - end, (p_last > 0) & (end == 0))
    full_n = c.filled[begin] - c.filled[start + m]
    sum_q = c.mass[begin] - c.mass[start + m] + first.sum_q + last.sum_q
    n1_q = full_n + first.n + last.n
    ratio = full_n + first.ratio + last.ratio  # Σ P / Q

    n0, n0_q = 2 * i + 1 - n1, 2 * i + 1 - n1_q
    with np.errstate(divide="ignore", invalid="ignore"):
        d, d_q = EPS * n0 / n1, EPS * n0_q / n1_q
        lost = (first.lost + last.lost - d * (n1 - n1_q)) * np.log(EPS)  # P where Q is 0
        value = plogp - d * (logp + n1) - (plogq + first.plogq + last.plogq) + d * (logq + first.logq + last.logq)
        value += d_q * (ratio - d * n1_q) - lost
        value = value / total + np.log(sum_q / total) - ROUNDING
    return np.where((n1_q == 0) | (d_q >= 1), np.inf, value)


def _xlogx(x: Floats) -> Floats:
    return x * np.log(np.maximum(x, 1))


def _full_groups(c: _Sums, levels: int, zero: int) -> tuple[Floats, Floats]:
    """Σ S·ln(S/n) and Σ n·ln(S/n) over each candidate's groups, without its first and last one.

    Both run through the same steps, so they travel as real and imaginary part. For one m the candidates
    k = 0, 1, … start one bin apart, and W[k] = Σ_j T[k + j·m] = W[k - m] + T[k + (groups - 1)·m] - T[k - m].
    """
    groups = levels - 2
    cum = np.full(c.mass.size + 3 * levels, c.mass[-1] + 1j * c.filled[-1])
    cum[: c.mass.size] = c.mass + 1j * c.filled
    if levels < FEW_LEVELS:
        i = np.arange(levels // 2, zero + 1)
        ends = (zero - i)[:, None] + ((2 * i + 1) // levels)[:, None] * np.arange(1, levels)
        each = _weighted(np.diff(cum[ends])).sum(1)
        return each.real, each.imag
    sums = np.empty(zero + 1 - levels // 2, np.complex128)
    for m in range(1, (2 * zero + 1) // levels + 1):
        narrowest = (m * levels) // 2  # the half-widths with this m
        widest = min(((m + 1) * levels) // 2 - 1, zero)
        rows = -(-(widest - narrowest + 1) // m)
        a, size = zero - widest + m, (rows + groups - 1) * m
        t = _weighted(cum[a + m : a + m + size] - cum[a : a + size]).reshape(-1, m)
        w = np.concatenate((t[:groups].sum(0, keepdims=True), t[groups:] - t[: rows - 1])).cumsum(0)
        sums[narrowest - levels // 2 : widest - levels // 2 + 1] = w.ravel()[widest - narrowest :: -1]
    return sums.real, sums.imag


def _weighted(groups: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """S + n·j becomes (S + n·j)·ln(S/n), in place; empty groups stay 0."""
    groups *= np.log(np.maximum(groups.real, 1) / np.maximum(groups.imag, 1))
    return groups


class _EndGroup(NamedTuple):
    """What the first or last group adds; `lost` is the mass of P at bins where Q is 0."""

    n: Floats
    sum_q: Floats
    plogq: Floats
    logq: Floats
    ratio: Floats
    lost: Floats


def _end_group(c: _Sums, a: Ints, b: Ints, tail: Floats, extra: NDArray[np.bool_]) -> _EndGroup:
    """The group over the bins [a, b) whose P also holds `tail`; `extra`: in a bin that is empty in Q's slice."""
    s, n = c.mass[b] - c.mass[a], c.filled[b] - c.filled[a]
    some = n > 0
    q = np.where(some, s / np.maximum(n, 1), 1.0)
    mass, bins, log = np.where(some, s + tail, 0), np.where(some, n + extra, 0), np.log(q)
    return _EndGroup(bins, bins * q * some, mass * log, bins * log, mass / q, np.where(some, 0, tail))


def percentile_range(hist: Ints, edges: NDArray[np.floating], percent: float) -> tuple[float, float]:
    """The range that keeps `percent` of the values, to within one bin.

    Half of the rest is cut at each side, or all of it at the one side that has values. What is cut is a whole
    number of values, rounded down: few values keep their extremes.

    Args:
        hist: counts, as for `entropy_threshold`.
        edges: its edges.
        percent: over 0, at most 100.
    """
    hist = _checked(hist, edges)
    middle = hist.size // 2
    cum = np.cumsum(hist)
    total = int(cum[-1])
    cut = int(total * (100 - percent) / 100 + 1e-6)
    below, above = bool(cum[middle - 1] if middle else 0), bool(total - cum[middle])
    if below and above:
        cut //= 2
    first = np.searchsorted(cum, cut * below, side="right")  # holds the first value that stays
    last = np.searchsorted(cum, total - cut * (above or not below), side="left")
    return float(edges[first]), float(edges[last + 1])


def mse_range(hist: Ints, edges: NDArray[np.floating], spec: QuantSpec) -> tuple[float, float]:
    """The range whose parameters give the smallest mean squared error, rounding and clipping together.

    Every value counts as the centre of its bin; formats finer than the histogram as s²/12. A symmetric or one-sided
    range shrinks as a whole; otherwise the two sides then move in turn.

    Args:
        hist: counts, as for `entropy_threshold`.
        edges: its edges.
        spec: the format; only `bits`, `signed`, `symmetric`, `narrow` matter.
    """
    hist = _checked(hist, edges)
    filled = np.flatnonzero(hist)
    if not filled.size:
        return 0.0, 0.0
    moments = _Moments.of(hist, edges)
    lo, hi = min(moments.centre(filled[0]), 0.0), max(moments.centre(filled[-1]), 0.0)
    spec = spec.resolve(lo)
    if spec.signed and (spec.symmetric or spec.bits == 1):
        lo, hi = -max(-lo, hi), max(-lo, hi)
    together = np.array([lo, hi])
    kept = _best_share(lambda f: moments.error(spec, f * together[0], f * together[1])) * together
    if lo < 0 < hi and not spec.symmetric and spec.bits > 1 and spec.signed is not None:
        for _ in range(2):
            kept[0] = lo * _best_share(lambda f: moments.error(spec, f * lo, 0 * f + kept[1]))
            kept[1] = hi * _best_share(lambda f: moments.error(spec, 0 * f + kept[0], f * hi))
    return float(kept[0]), float(kept[1])


def _best_share(error: Callable[[Floats], Floats], steps: int = 64) -> float:
    """The f in (0, 1] with the smallest error, on a grid and then on a finer one around its best; ties to the wider."""
    grid = np.linspace(1, 0, steps, endpoint=False)
    best = grid[np.argmin(error(grid))]
    grid = best + np.linspace(1, -1, steps // 2 + 1)[:-1] / steps
    grid = np.append(best, grid[(grid > 0) & (grid <= 1)])
    return float(grid[np.argmin(error(grid))])


class _Moments(NamedTuple):
    """Cumulated Σ w·c^k of the bin centres c, k = 0, 1, 2: the error of a level needs only its two ends."""

    first: float
    width: float
    sums: tuple[Floats, Floats, Floats]

    @classmethod
    def of(cls, hist: Ints, edges: NDArray[np.floating]) -> _Moments:
        half, width = hist.size // 2, (float(edges[-1]) - float(edges[0])) / hist.size
        c = (np.arange(hist.size) - half) * width
        return cls(-half * width, width, (_cumulated(hist), _cumulated(hist * c), _cumulated(hist * c * c)))

    def centre(self, at: int) -> float:
        return self.first + at * self.width

    def between(self, ends: Floats) -> list[Floats]:
        """Σ w, Σ w·c, Σ w·c² below, between and above `ends`, shape (C, K) -> (C, K + 1)."""
        size = self.sums[0].size - 1
        at = np.clip(np.ceil((ends - self.first) / self.width), 0, size).astype(np.int64)
        at = np.pad(at, ((0, 0), (1, 1)))
        at[:, -1] = size
        return [np.diff(cum[at], axis=1) for cum in self.sums]

    def error(self, spec: QuantSpec, lo: Floats, hi: Floats) -> Floats:
        """Σ w·(c - fake(c))² for each of the ranges."""
        params = params_from_range(spec, lo, hi)
        s, z = params.scale.astype(np.float64)[:, None], params.zero_point[:, None]
        spec = params.spec
        fine = spec.bits > 10
        q = np.array([spec.qmin, spec.qmax]) if fine or spec.bits == 1 else np.arange(spec.qmin, spec.qmax + 1)
        r = (q - z) * s
        w, wc, wcc = self.between(r if fine else (r[:, 1:] + r[:, :-1]) / 2)
        if fine:
            clipped = wcc[:, ::2] - 2 * r * wc[:, ::2] + r * r * w[:, ::2]
            return np.asarray(clipped.sum(1) + w[:, 1] * s[:, 0] ** 2 / 12)
        return np.asarray((wcc - 2 * r * wc + r * r * w).sum(1))
