"""The KL search of MindSpore Lite against its steps, written out one by one."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core.threshold_2048 import BINS, EMPTY, divergences, threshold_bins


def stepwise(hist, groups, i):
    """One candidate: merge the first i bins into groups, spread them over the bins that are not empty, compare."""
    h = [n + EMPTY for n in hist]
    reference = h[:i]
    reference[i - 1] += sum(h[i:])
    width = i / groups
    expanded = [0.0] * i
    for j in range(groups):
        start, end = j * width, (j + 1) * width
        overlap = {
            k: min(end, k + 1) - max(start, k)
            for k in range(math.floor(start), min(i, math.ceil(end)))
            if min(end, k + 1) > max(start, k)
        }
        mass = sum(share * h[k] for k, share in overlap.items())
        filled = sum(share for k, share in overlap.items() if h[k] != 0)
        for k, share in overlap.items():
            if filled and h[k] != 0:
                expanded[k] += mass / filled * share
    all_p, all_q, kl = sum(reference), sum(expanded), 0.0
    for p, q in zip(reference, expanded, strict=True):
        if p:
            kl += p / all_p * math.log(p / all_p / (q / all_q)) if q else 1.0
    return kl


def histogram(rng, kind):
    n = 20_000
    values = {
        "normal": rng.standard_normal(n),
        "laplace": rng.laplace(size=n),
        "relu": np.maximum(rng.standard_normal(n), 0),
        "heavy": rng.standard_t(2, n),
        "uniform": rng.uniform(-1, 1, n),
        "outlier": np.append(rng.standard_normal(n), 60.0),
        "far": rng.standard_normal(n) + 9,
    }[kind]
    x = np.abs(values[values != 0])
    return np.bincount(np.minimum((x / x.max() * BINS).astype(int), BINS - 1), minlength=BINS)


KINDS = ("normal", "laplace", "relu", "heavy", "uniform", "outlier", "far")


@pytest.mark.parametrize("kind", KINDS)
def test_each_divergence_is_the_stepwise_one(kind, rng):
    hist = histogram(rng, kind)
    got = divergences(hist)
    assert got.shape == (BINS - 128,)
    for i in (128, 129, 200, 256, 777, 1024, 1500, 2046, 2047):
        assert got[i - 128] == pytest.approx(stepwise(hist.tolist(), 128, i), rel=1e-9, abs=1e-10), i


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 50) | st.just(0), min_size=20, max_size=60), st.integers(1, 16))
def test_small_histograms_with_gaps(hist, groups):
    want = [stepwise(hist, groups, i) for i in range(groups, len(hist))]
    np.testing.assert_allclose(divergences(np.array(hist), groups), want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ("normal", "heavy"))
def test_the_first_of_the_least_wins(kind, rng):
    hist = histogram(rng, kind)[::16].copy()  # 128 bins, 8 groups: quick to try them all
    want = [stepwise(hist.tolist(), 8, i) for i in range(8, hist.size)]
    assert threshold_bins(hist, 8) == 8 + int(np.argmin(want)) + 0.5


def test_an_outlier_is_cut_off_and_a_bounded_range_is_kept(rng):
    assert threshold_bins(histogram(rng, "outlier")) < 0.2 * BINS
    assert threshold_bins(histogram(rng, "uniform")) > 0.9 * BINS


def test_where_nothing_can_be_compared_everything_is_kept():
    one = np.zeros(BINS, int)
    one[-1] = 1000
    assert threshold_bins(one) == BINS
    assert threshold_bins(np.arange(BINS), BINS) == BINS


def test_it_is_quick(rng):
    hist = histogram(rng, "heavy")
    threshold_bins(hist)
    start = time.perf_counter()
    for _ in range(3):
        threshold_bins(hist)
    assert (time.perf_counter() - start) / 3 < 0.5
