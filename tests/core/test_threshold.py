from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core.params import params_from_range
from fewbit.core.spec import QuantSpec
from fewbit.core.threshold import (
    _divergence,
    _lower_bounds,
    entropy_threshold,
    mse_range,
    percentile_range,
)
from fewbit.errors import ConfigError

ORACLE = Path(__file__).parents[1] / "golden" / "entropy_oracle.npz"  # results of MXNet 1.9.1


def edges_of(size, top=1.0):
    return np.linspace(-top, top, size + 1)


def histogram(x, bins=8001):
    top = np.abs(x).max()
    return np.histogram(x, bins, (-top, top))


@pytest.mark.parametrize("levels", [255, 511])
@pytest.mark.parametrize("case", ["normal", "laplace_outlier", "relu_halfnormal"])
def test_threshold_is_that_of_mxnet(case, levels):
    with np.load(ORACLE) as z:
        top, divergence = entropy_threshold(z[f"{case}_hist"], z[f"{case}_edges"], levels)
        assert top == pytest.approx(z[f"{case}_nq{levels}_threshold"].item(), rel=1e-6)
        assert divergence == pytest.approx(z[f"{case}_nq{levels}_divergence"].item(), rel=1e-4)


def plain(hist, edges, levels):
    """Every candidate, in order."""
    half = hist.size // 2
    found = [_divergence(hist, i, levels) for i in range(levels // 2, half + 1)]
    if not found:
        return edges[-1], 0.0
    i = int(np.argmin(found))
    return (edges[half + levels // 2 + i + 1] if found[i] < np.inf else edges[-1]), found[i]


@st.composite
def histograms(draw):
    """Dense, sparse, spiky, one-sided and nearly empty ones."""
    size = 2 * draw(st.integers(0, 200)) + 1
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    top = draw(st.sampled_from([1, 2, 30, 10_000, 2**40]))
    hist = rng.integers(0, top, size, endpoint=True)
    hist[rng.random(size) < draw(st.sampled_from([0.0, 0.3, 0.9, 0.99, 1.0]))] = 0
    if draw(st.booleans()):
        hist[: size // 2] = 0
    if draw(st.booleans()):
        hist[draw(st.integers(0, size - 1))] += top * 10
    return hist


@settings(max_examples=150, deadline=None)
@given(histograms(), st.sampled_from([3, 5, 7, 15, 31, 127]))
def test_fast_search_equals_the_plain_one(hist, levels):
    edges = edges_of(hist.size)
    top, divergence = entropy_threshold(hist, edges, levels)
    plain_top, plain_divergence = plain(hist, edges, levels)
    assert divergence == plain_divergence
    assert top == plain_top


@settings(max_examples=60, deadline=None)
@given(histograms(), st.sampled_from([3, 7, 15, 31]))
def test_bounds_lie_below_the_divergence_and_close(hist, levels):
    if hist.size < levels:
        return
    low = _lower_bounds(hist, levels)
    exact = np.array([_divergence(hist, i, levels) for i in range(levels // 2, hist.size // 2 + 1)])
    assert (low <= exact + 1e-4).all()  # sums in float32 are off by that
    assert (np.isinf(low) == np.isinf(exact)).all()
    if np.count_nonzero(hist) > hist.size / 2:
        near = np.isfinite(exact)
        np.testing.assert_allclose(low[near], exact[near], atol=1e-4)


def test_divergence_by_hand():
    """Nine bins, 3 levels, i = 2: P = [3, 3, 5, 1, 9], slice [0, 3, 5, 1, 2], groups of 1, 1 and 3 bins."""
    hist = np.array([0, 1, 2, 3, 5, 1, 2, 3, 4])
    p, q = np.array([3, 3, 5, 1, 9.0]), np.array([1e-4, 3, 8 / 3, 8 / 3, 8 / 3])
    q[1:] -= 1e-4 / 4
    p, q = p / p.sum(), q / q.sum()
    assert _divergence(hist, 2, 3) == pytest.approx(np.sum(p * np.log(p / q)), rel=1e-6)


def test_all_zero_histogram_keeps_the_whole_range():
    assert entropy_threshold(np.zeros(8001, np.int64), edges_of(8001, 2.0)) == (2.0, np.inf)


@pytest.mark.parametrize("at", [0, 1, 3999, 4000, 4001, 7999, 8000])
def test_single_bin_is_not_clipped_when_it_can_be_compared(at):
    hist = np.zeros(8001, np.int64)
    hist[at] = 1000
    top, divergence = entropy_threshold(hist, edges_of(8001))
    if at == 0:
        assert (top, divergence) == (1.0, np.inf)
    else:
        assert divergence == plain(hist, edges_of(8001), 255)[1] < np.inf
        assert top >= abs(at - 4000) / 4001


def test_fewer_bins_than_levels_lose_nothing():
    assert entropy_threshold(np.ones(201, np.int64), edges_of(201), 255) == (1.0, 0.0)


def test_sparse_histogram_of_few_values_is_quick_and_exact():
    rng = np.random.default_rng(0)
    hist, edges = histogram(rng.standard_normal(100))
    top, divergence = entropy_threshold(hist, edges)
    assert (top, divergence) == plain(hist, edges, 255)


@pytest.mark.parametrize("levels", [1, 2, 254])
def test_levels_must_be_odd(levels):
    with pytest.raises(ConfigError, match=f"levels is {levels}; it must be an odd number of 3 or more"):
        entropy_threshold(np.ones(9, np.int64), edges_of(9), levels)


@pytest.mark.parametrize("search", [entropy_threshold, lambda h, e: percentile_range(h, e, 99)])
def test_histogram_must_have_a_middle_bin(search):
    with pytest.raises(ConfigError, match=r"shape \(8,\) with 9 edges; it must have an odd number of bins"):
        search(np.ones(8, np.int64), edges_of(8))
    with pytest.raises(ConfigError, match="one edge more than bins"):
        search(np.ones(9, np.int64), edges_of(8))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.sampled_from([60.0, 90.0, 99.0, 99.9, 99.99, 100.0]), st.integers(0, 2**32))
def test_percentile_is_within_one_bin(n, percent, seed):
    x = np.sort(np.random.default_rng(seed).standard_normal(n))
    hist, edges = histogram(x)
    lo, hi = percentile_range(hist, edges, percent)
    cut = int(n * (100 - percent) / 100 + 1e-6)
    if x[0] < edges[4000] and x[-1] > edges[4001]:
        cut //= 2
        below = above = cut
    else:
        below, above = (cut, 0) if x[0] < edges[4000] else (0, cut)
    width = edges[1] - edges[0]
    assert lo <= x[below] + 1e-12 <= lo + width + 2e-12
    assert hi - width - 2e-12 <= x[n - 1 - above] <= hi + 1e-12


def test_percentile_cuts_one_sided_data_on_that_side_only():
    x = np.linspace(0, 1, 10_001)
    hist, edges = histogram(x)
    lo, hi = percentile_range(hist, edges, 99)
    assert lo <= 0 and hi == pytest.approx(0.99, abs=3e-4)
    lo, hi = percentile_range(hist[::-1], edges, 99)
    assert hi >= 0 and lo == pytest.approx(-0.99, abs=3e-4)


def test_percentile_of_few_values_keeps_their_extremes():
    hist, edges = histogram(np.arange(10.0) - 3)
    lo, hi = percentile_range(hist, edges, 99.99)
    assert lo <= -3 and hi >= 6


def error_of(x, spec, lo, hi):
    return np.mean((params_from_range(spec, lo, hi).fake(x).astype(np.float64) - x) ** 2)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8, 12, 16])
@pytest.mark.parametrize("signed, symmetric", [(True, True), (True, False), (None, False), (False, False)])
@pytest.mark.parametrize("shape", ["normal", "relu", "skewed"])
def test_mse_range_is_as_good_as_a_search_on_the_data(bits, signed, symmetric, shape):
    rng = np.random.default_rng(3)
    x = {
        "normal": rng.standard_normal(20_000),
        "relu": np.maximum(rng.standard_normal(20_000), 0),
        "skewed": rng.gamma(2.0, 1.0, 20_000) - 0.5,
    }[shape].astype(np.float32)
    spec = QuantSpec(bits=bits, signed=signed, symmetric=symmetric)
    hist, edges = histogram(x)
    lo, hi = mse_range(hist, edges, spec)
    assert lo <= 0 <= hi
    got = error_of(x, spec, lo, hi)
    full = error_of(x, spec, min(x.min(), 0), max(x.max(), 0))
    step = edges[1] - edges[0]
    assert got <= full + step**2
    shrunk = min(error_of(x, spec, min(f * x.min(), 0), f * x.max()) for f in np.linspace(0.05, 1, 60))
    assert got <= 1.03 * shrunk + step**2


def test_mse_range_clips_an_outlier_and_keeps_the_whole_range_where_bits_abound():
    rng = np.random.default_rng(0)
    x = np.append(rng.standard_normal(1_000_000), 30.0)
    hist, edges = histogram(x)
    lo, hi = mse_range(hist, edges, QuantSpec(bits=4, signed=True, symmetric=True))
    assert lo == -hi and 2 < hi < 5
    lo, hi = mse_range(hist, edges, QuantSpec(bits=16, signed=True, symmetric=True))
    assert hi == pytest.approx(30, rel=0.01)


def test_mse_range_of_one_bit():
    """The best two levels ±s of a normal distribution are the mean magnitude, √(2/π)."""
    x = np.random.default_rng(0).standard_normal(200_000)
    lo, hi = mse_range(*histogram(x), QuantSpec(bits=1, signed=True))
    assert lo == -hi and hi == pytest.approx(np.sqrt(2 / np.pi), rel=0.02)


def test_mse_range_of_nothing():
    assert mse_range(np.zeros(9, np.int64), edges_of(9), QuantSpec()) == (0.0, 0.0)
