import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core.threshold_simulator import BINS, CUT, Counts, divergences, least_kept, levels_of, threshold_bins
from fewbit.errors import BadSample


def literal(hist, levels):
    """The search as it is told, one candidate and one bin after the other."""
    found = []
    for i in range(levels, hist.size):
        p = hist[:i].astype(np.float64)
        p[i - 1] += hist[i:].sum()
        groups = [0.0] * levels
        for k in range(i):
            groups[k * levels // i] += hist[k]
        q = np.zeros(i)
        for k in range(i):
            low, rest = k * levels // i, k * levels % i / i
            up = min(low + (rest > 0), levels - 1)
            q[k] = (groups[low] + (groups[up] - groups[low]) * rest) * (p[k] != 0)
        p, total = p / p.sum(), max(q.sum(), 1e-7)
        found.append(sum(a * np.log(a * total / max(b, 1e-7)) for a, b in zip(p, q, strict=True) if a))
    return np.array(found)


@given(st.integers(0, 2**32), st.integers(3, 90), st.integers(2, 20), st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_as_the_literal_search(seed, bins, levels, sparse):
    rng = np.random.default_rng(seed)
    hist = rng.integers(1, 50, bins) * (rng.random(bins) >= sparse)
    hist[rng.integers(bins)] += 1
    levels = min(levels, bins - 1)
    ours, theirs = divergences(hist, levels), literal(hist, levels)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    best, first = threshold_bins(hist, levels), max(levels, least_kept(hist))
    assert first <= int(best) <= bins
    assert best == bins if first == bins else theirs[int(best) - levels] <= theirs[first - levels :].min() + 1e-9


@pytest.mark.parametrize("bits, signed, levels", [(8, True, 128), (8, False, 256), (1, True, 1), (4, False, 16)])
def test_levels_are_those_on_one_side_of_zero(bits, signed, levels):
    assert levels_of(bits, signed) == levels


def test_an_outlier_is_cut_off_and_a_flat_range_is_kept():
    rng = np.random.default_rng(0)
    x = np.abs(rng.normal(size=100_000))
    x[0] = 40
    counts = Counts(40.0)
    counts.update(x)
    assert 2 < counts.threshold(4, False) < 20
    flat = Counts(1.0)
    flat.update(rng.uniform(-1, 1, 100_000))
    assert flat.threshold(8, True) > 0.95


def test_fewer_bits_keep_less():
    x = np.random.default_rng(1).laplace(size=200_000)
    counts = Counts(float(np.abs(x).max()))
    counts.update(x)
    assert counts.threshold(2, True) < counts.threshold(4, True) < counts.threshold(8, True) < counts.top


def spiked(at, share, rng):
    """What a layer reads of images with one background: one value again and again, the rest spread out above it."""
    x = np.abs(rng.normal(size=100_000))
    x[: int(share * x.size)] = at
    return x


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6])
def test_a_value_that_comes_again_and_again_is_no_threshold(bits):
    rng = np.random.default_rng(3)
    levels = levels_of(bits, False)
    x = spiked(5.0 * (levels + 2.5) / BINS, 0.6, rng)
    x[-1] = 5
    counts = Counts(5.0)
    counts.update(x)
    alone = levels + int(np.argmin(divergences(counts.hist, levels)))
    top = counts.threshold(bits, False)
    assert (x > top).mean() <= CUT
    assert (x > 5 * (alone + 1) / BINS).mean() > 0.3  # the spike is in the last bin, or next to it


def test_without_spikes_the_search_keeps_enough_by_itself():
    rng = np.random.default_rng(4)
    for x in (rng.normal(size=50_000), rng.laplace(size=50_000), rng.standard_t(3, size=50_000)):
        counts = Counts(float(np.abs(x).max()))
        counts.update(x)
        found = divergences(counts.hist, 16)
        assert counts.threshold(4, False) == (16 + int(np.argmin(found)) + 0.5) * counts.top / BINS


@pytest.mark.parametrize("share, kept", [(0.05, BINS), (0.005, 1)])
def test_values_at_the_very_top_are_kept_if_they_are_many(share, kept):
    hist = np.zeros(BINS, np.int64)
    hist[0], hist[-1] = round(100_000 * (1 - share)), round(100_000 * share)
    assert least_kept(hist) == kept
    assert (threshold_bins(hist, 16) == BINS) == (kept == BINS)


def test_zeros_are_not_counted_and_what_is_beyond_falls_into_the_last_bin():
    counts = Counts(2.0)
    counts.update(np.array([0.0, 0.0, -1.0, 2.0, 5.0], np.float32))
    assert counts.hist.sum() == 3
    assert counts.hist[-1] == 2
    assert counts.hist[BINS // 2 - 1] == 1  # the bins reach a little further than 2


def test_nothing_but_zeros_has_no_range():
    counts = Counts(0.0)
    counts.update(np.zeros(5, np.float32))
    assert counts.threshold(8, True) == 0


def test_as_many_levels_as_bins_or_a_single_one_keep_everything():
    counts = Counts(3.0)
    counts.update(np.linspace(0.1, 3, 50))
    assert counts.threshold(16, False) == counts.top == 3
    assert counts.threshold(1, True) == counts.top  # one level: every candidate would be perfect


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_without_a_bin_are_refused(bad):
    with pytest.raises(BadSample, match="NaN or infinite"):
        Counts(1.0).update(np.array([0.5, bad]))
    with pytest.raises(BadSample, match="belongs to no bin"):
        Counts(bad)


def test_a_search_takes_a_fraction_of_a_second():
    hist = np.random.default_rng(2).integers(1, 1000, BINS)
    threshold_bins(hist, 128)
    took = []
    for _ in range(3):
        start = time.perf_counter()
        threshold_bins(hist, 128)
        took.append(time.perf_counter() - start)
    assert min(took) < 1  # 0.1 s on an idle machine
