import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.calib import kernels, make_observer
from fewbit.calib.histogram import BINS, HALF, EntropyObserver, GridHistogram, PlacedHistogram, coarsened, exponent
from fewbit.core.spec import QuantSpec
from fewbit.core.threshold import _divergence, entropy_threshold


def observed(name, x, spec=None, **options):
    observer = make_observer(name, spec or QuantSpec(), **options)
    observer.update(x.astype(np.float32))
    return observer.result()


@given(st.floats(0, width=32, allow_nan=False, allow_infinity=False))
def test_exponent_is_the_smallest_that_fits(absmax):
    e = exponent(absmax)
    assert absmax < HALF * 2.0**e
    assert e == -126 or absmax >= HALF * 2.0 ** (e - 1)


@given(st.integers(0, 20), st.lists(st.integers(-HALF, HALF - 1), max_size=20))
def test_coarser_grids_nest(shift, bins):
    counts = np.bincount(np.array(bins, int) + HALF, minlength=2 * HALF)
    wanted = np.bincount((np.array(bins, int) >> shift) + HALF, minlength=2 * HALF)
    np.testing.assert_array_equal(coarsened(counts, shift), wanted)


@pytest.mark.parametrize("scale", [1.0, 1.3, 1.99, 1e-30, 1e30])
def test_centred_histogram_is_that_of_the_raw_data(scale, rng):
    x = (rng.standard_normal(100_000) * scale).astype(np.float32)
    seen = GridHistogram()
    seen.update(x)
    hist, edges = seen.centred()
    raw, raw_edges = np.histogram(x.astype(np.float64), BINS, (-seen.absmax, seen.absmax))
    np.testing.assert_allclose(edges, raw_edges, rtol=1e-6, atol=1e-9 * scale)
    assert hist.sum() == x.size
    assert np.abs(np.cumsum(hist) - np.cumsum(raw)).max() <= np.diff(np.r_[0, raw]).max()


def test_zeros_stay_in_the_middle_bin():
    seen = GridHistogram()
    seen.update(np.array([0.0] * 1000 + [1.9999], np.float32))
    hist, _ = seen.centred()
    assert hist.size == BINS and hist[BINS // 2] == 1000 and hist[-1] == 1


def test_tiny_values_get_fewer_bins():
    seen = GridHistogram()
    seen.update(np.array([2.0**-120, -(2.0**-121)], np.float32))
    hist, edges = seen.centred()
    assert hist.size == 127 and hist.sum() == 2 and edges[-1] == 2.0**-120


def test_growing_keeps_what_was_counted(rng):
    x = np.geomspace(1e-30, 1e30, 30_000).astype(np.float32) * rng.choice([-1, 1], 30_000)
    seen = GridHistogram()
    seen.update(x)
    w = 2.0**seen.exponent
    bins = (np.trunc(x / w) - (x < 0)).astype(int)
    np.testing.assert_array_equal(seen.counts, np.bincount(bins + HALF, minlength=2 * HALF))


def shapes():
    rng = np.random.default_rng(1)
    return {
        "normal": rng.standard_normal(200_000),
        "laplace and an outlier": np.append(rng.laplace(size=200_000), 40.0),
        "relu": np.maximum(rng.standard_normal(200_000), 0),
        "shifted": rng.standard_normal(200_000) + 0.5,
    }


@pytest.mark.parametrize("name", shapes())
def test_entropy_threshold_is_that_of_mxnets_own_histogram(name):
    """Or one as good, to 1 % of the divergence, where minima tie."""
    x = shapes()[name].astype(np.float32)
    top = np.abs(x).max()
    levels = 511 if x.min() >= 0 else 255
    raw, edges = np.histogram(x, BINS, (-top, top))
    wanted, least = entropy_threshold(raw, edges, levels)
    lo, hi = observed("entropy", x)
    if hi != pytest.approx(min(wanted, x.max()), rel=0.01):
        i = round((hi / top * BINS - 1) / 2)
        assert _divergence(raw, i, levels) <= 1.01 * least
        assert name in ("laplace and an outlier", "relu")
    assert lo == (0 if x.min() >= 0 else max(-hi, x.min()))


def test_entropy_of_one_sided_data_forced_to_signed_takes_the_signed_levels():
    x = shapes()["relu"].astype(np.float32)
    top = np.abs(x).max()
    wanted, _ = entropy_threshold(*np.histogram(x, BINS, (-top, top)), 255)
    assert observed("entropy", x, QuantSpec(signed=True)) == (0, pytest.approx(wanted, rel=0.01))


def test_entropy_clips_more_with_fewer_bits(rng):
    x = rng.laplace(size=200_000)
    tops = [observed("entropy", x, QuantSpec(bits=bits))[1] for bits in (1, 2, 4, 8, 16)]
    assert tops == sorted(tops)
    assert tops[0] < 0.5 * tops[3] and tops[4] == np.float32(x.max())


def test_percentile_option():
    x = np.linspace(-1, 1, 100_001)
    lo, hi = observed("percentile", x, percentile=90.0)
    assert lo == pytest.approx(-0.9, abs=1e-3) and hi == pytest.approx(0.9, abs=1e-3)
    lo, hi = observed("percentile", np.abs(x), percentile=90.0)
    assert lo == 0 and hi == pytest.approx(0.9, abs=1e-3)


def test_percentile_of_ten_values_keeps_them_all():
    assert observed("percentile", np.arange(10.0)) == (0, 9)


def test_mse_clips_an_outlier(rng):
    x = np.append(rng.standard_normal(1_000_000), 30.0)
    lo, hi = observed("mse", x, QuantSpec(bits=4, signed=True, symmetric=True))
    assert -5 < lo < -2 and 2 < hi < 5


@pytest.mark.parametrize("name", ["entropy", "percentile", "mse"])
def test_negative_data(name, rng):
    x = -np.abs(rng.standard_normal(50_000)) - 1
    lo, hi = observed(name, x)
    assert np.float32(x.min()) <= lo < 0.6 * x.min() and hi <= 0


def test_an_interrupt_leaves_no_counts_behind_for_the_next_value(monkeypatch, rng):
    x = rng.standard_normal(1000).astype(np.float32)
    seen = GridHistogram()
    seen.update(x)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(kernels, "flush", interrupted)
        with pytest.raises(KeyboardInterrupt):
            seen.update(x)
    other = GridHistogram()
    other.update(x)
    assert other.counts.sum() == 1000


@given(st.lists(st.floats(0.1, 3.9), min_size=1, max_size=4), st.integers(0, 3))
def test_a_placed_histogram_is_mxnets(scales, order):
    rng = np.random.default_rng(order)
    batches = [rng.standard_normal(500).astype(np.float32) * np.float32(s) for s in (1.0, *scales)]
    first = float(np.abs(batches[0]).max())
    parts = [PlacedHistogram(first) for _ in range(2)]
    for i, x in enumerate(batches):
        parts[(i + order) % 2].update(x)
    parts[0].merge(parts[1])
    counts, edges = parts[0].centred()
    values, step, th = np.concatenate(batches), 2 * first / 8001, first
    if np.abs(values).max() > first:
        th += (int((np.abs(values).max() - first) // step) + 1) * step
    if th > 4 * first:
        assert counts.sum() == values.size and edges[-1] >= np.abs(values).max()
        return
    theirs, _ = np.histogram(values, bins=round(2 * th / step), range=(-th, th))
    assert counts.size == theirs.size and edges[-1] == pytest.approx(th, rel=1e-9)
    assert np.abs(np.cumsum(counts) - np.cumsum(theirs)).max() <= 2  # values within rounding of an edge


@pytest.mark.parametrize("far", [5.0, 30.0, 1e6])
def test_values_far_beyond_the_first_batch_coarsen_the_bins(far, rng):
    seen = PlacedHistogram(1.0)
    x = rng.uniform(-1, 1, 1000).astype(np.float32)
    seen.update(x)
    seen.update(np.array([far, 0], np.float32))
    counts, edges = seen.centred()
    assert counts.sum() == 1002 and counts[-1] == 1 and counts.size % 2 == 1 and counts.size < 2**16
    assert edges[-1] >= far and edges[counts.size // 2] < 0 < edges[counts.size // 2 + 1]


def test_a_placed_observer_survives_a_checkpoint(rng):
    one, two = EntropyObserver(QuantSpec(8)), EntropyObserver(QuantSpec(8))
    one.place(2.0)
    one.update(rng.standard_normal(1000).astype(np.float32))
    two.restore(one.state())
    assert two.first == 2.0 and two.result() == one.result()
