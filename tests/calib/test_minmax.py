import numpy as np
import pytest

from fewbit.calib import make_observer
from fewbit.core.spec import QuantSpec

SPEC = QuantSpec()


def test_naive():
    observer = make_observer("naive", SPEC)
    for x in ([1, 2], [-4, 0], [3]):
        observer.update(np.array(x, np.float32))
    assert observer.result() == (-4, 3)


def test_ema_weighs_the_old_range_with_the_momentum():
    observer = make_observer("ema", SPEC, ema_momentum=0.75)
    for x in ([-1, 4], [-5, 8], [-1, 0]):
        observer.update(np.array(x, np.float32))
    assert observer.result() == (0.75 * -2 + 0.25 * -1, 0.75 * 5 + 0.25 * 0)


def test_ema_replays_batches_by_number_and_joins_parts_of_one():
    observer = make_observer("ema", SPEC, ema_momentum=0.75)
    for number, x in ((2, [-1, 0]), (1, [-5, 1]), (0, [-1, 4]), (1, [0, 8])):
        observer.update(np.array(x, np.float32), number)
    assert observer.result() == (0.75 * -2 + 0.25 * -1, 0.75 * 5 + 0.25 * 0)


def test_quantile_is_the_mean_of_the_batches_quantiles():
    observer = make_observer("quantile", SPEC, percentile=75.0)
    observer.update(np.arange(5, dtype=np.float32), 0)  # 1 … 3
    observer.update(np.arange(5, dtype=np.float32) * 10, 1)  # 10 … 30
    assert observer.result() == (5.5, 16.5)


@pytest.mark.parametrize("size", [1, 7, 100, 9999, 10_000, 10_001, 54_321])
def test_quantiles_are_those_of_the_values_in_order(size, rng):
    """As MindSpore Lite takes them: values number 0.0001·n and 0.9999·n, rounded down, of each batch."""
    batches = [rng.standard_normal(size).astype(np.float32) for _ in range(3)]
    observer = make_observer("quantile", SPEC, percentile=99.99)
    for number, x in enumerate(batches):
        observer.update(x.reshape(1, -1), number)
    low, high = size // 10_000, 9999 * size // 10_000
    ordered = [sorted(x.tolist()) for x in batches]
    want = np.mean([v[low] for v in ordered]), np.mean([v[high] for v in ordered])
    assert observer.result() == pytest.approx(want, rel=1e-12)


def test_quantile_leaves_a_lone_outlier_out(rng):
    observer = make_observer("quantile", SPEC)
    for _ in range(3):
        x = rng.uniform(-1, 1, 100_000).astype(np.float32)
        x[5] = 1000
        observer.update(x)
    lo, hi = observer.result()
    assert lo == pytest.approx(-1, abs=0.01) and hi == pytest.approx(1, abs=0.01)


def test_parts_of_one_batch_are_weighted_by_their_size():
    observer = make_observer("quantile", SPEC, percentile=100.0)
    observer.update(np.array([0, 1], np.float32), 0)
    observer.update(np.array([0, 0, 0, 0, 0, 4], np.float32), 0)
    assert observer.result() == (0, pytest.approx(0.25 * 1 + 0.75 * 4))
