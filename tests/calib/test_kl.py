"""kl: the bins that MindSpore Lite fills in two passes, from one."""

import numpy as np
import pytest

from fewbit.calib import make_observer
from fewbit.calib.kl import KlObserver
from fewbit.core.spec import QuantSpec
from fewbit.core.threshold_2048 import BINS, threshold_bins

SPEC = QuantSpec()
EPS = np.finfo(np.float64).eps


def two_passes(x):
    """Counts of |x| as the converter makes them: the largest magnitude first, then the bins."""
    size = np.abs(x.astype(np.float64).ravel())
    size = size[size > EPS]
    return np.bincount(np.minimum((size / (size.max() / BINS)).astype(int), BINS - 1), minlength=BINS)


def values(rng, kind):
    return {
        "normal": rng.standard_normal(50_000),
        "relu": np.maximum(rng.standard_normal(50_000), 0),
        "laplace": 7 * rng.laplace(size=50_000),
        "sparse": rng.standard_normal(50_000) * (rng.uniform(size=50_000) < 0.1),
        "negative": -np.abs(rng.standard_normal(50_000)),
    }[kind].astype(np.float32)


@pytest.mark.parametrize("kind", ["normal", "relu", "laplace", "sparse", "negative"])
def test_one_pass_is_near_two(kind, rng):
    x = values(rng, kind)
    seen = make_observer("kl", SPEC)
    for number, part in enumerate(np.split(x, 5)):
        seen.update(part, number)
    assert isinstance(seen, KlObserver)
    want, got = two_passes(x), seen.folded()
    assert got.sum() == want.sum()
    assert np.abs(np.cumsum(got) - np.cumsum(want)).max() <= 1e-3 * want.sum()
    top = threshold_bins(want) / BINS * np.abs(x).max()
    lo, hi = seen.result()
    assert lo == (-hi if x.min() < 0 else 0)
    assert hi == pytest.approx(top, rel=0.02)


@pytest.mark.parametrize("factor", [1.0, 2.0, 2.0**-20])
def test_bins_are_exact_where_the_grids_meet(rng, factor):
    """absmax is a power of two: no bin of the grid straddles an edge."""
    x = np.append(rng.uniform(-1, 1, 20_000), [1.0, -1.0]).astype(np.float32) * np.float32(factor)
    seen = KlObserver(SPEC)
    seen.update(x)
    np.testing.assert_array_equal(seen.folded(), two_passes(x))


def test_zeros_are_left_out(rng):
    x = rng.standard_normal(10_000).astype(np.float32)
    one, two = KlObserver(SPEC), KlObserver(SPEC)
    one.update(x)
    two.update(np.append(x, np.zeros(500_000, np.float32)))
    two.update(np.full(1000, 1e-17, np.float32))
    assert one.result() == two.result()
    assert two.zeros == 501_000


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_what_is_never_negative_has_no_range_below_0_and_the_same_threshold(rng, zero):
    x = np.append(np.abs(rng.standard_normal(10_000)), zero).astype(np.float32)
    one, two = KlObserver(SPEC), KlObserver(SPEC)
    one.update(x)
    two.update(np.where(np.arange(x.size) % 2, x, -x))
    assert one.result()[0] == 0
    assert two.result() == (-one.result()[1], one.result()[1])


def test_one_negative_value_makes_the_range_symmetric_across_workers(rng):
    one, two = KlObserver(SPEC), KlObserver(SPEC)
    one.update(np.abs(rng.standard_normal(1000)).astype(np.float32))
    two.update(np.float32([-0.01]))
    one.merge(two)
    lo, hi = one.result()
    assert lo == -hi < 0


def test_one_magnitude_is_kept():
    seen = KlObserver(SPEC)
    seen.update(np.array([3.0, -3.0, 3.0], np.float32))
    assert seen.result() == (-3, 3)


def test_fewer_bits_cut_more(rng):
    x = rng.standard_normal(20_000).astype(np.float32)
    tops = []
    for bits in (4, 8, 16):
        seen = KlObserver(QuantSpec(bits))
        seen.update(x)
        tops.append(seen.result()[1])
    assert tops[0] < tops[1] <= tops[2] == np.abs(x).max()
