"""What every registered observer must do; a new one is tested by being registered."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.calib import OBSERVERS, make_observer
from fewbit.core.spec import QuantSpec
from fewbit.errors import BadSample, NotCalibrated, UnknownName

SPEC = QuantSpec()
ALL = sorted(OBSERVERS)
SYMMETRIC = {"kl", "ncnn-kl", "eq", "aciq"}  # if any value is negative


def test_the_words_of_calib_mode_are_registered():
    assert ALL == ["aciq", "ema", "entropy", "eq", "kl", "mse", "naive", "ncnn-kl", "percentile", "quantile"]


def test_unknown_calib_mode_offers_the_nearest():
    with pytest.raises(UnknownName, match="unknown calib_mode 'entropi'; did you mean 'entropy'"):
        make_observer("entropi", SPEC)


@pytest.mark.parametrize("name", ALL)
def test_foreign_options_are_refused(name):
    assert "colour" not in inspect.signature(OBSERVERS[name]).parameters
    with pytest.raises(TypeError):
        make_observer(name, SPEC, colour=1.0)


@pytest.mark.parametrize("name", ALL)
def test_nothing_seen(name):
    observer = make_observer(name, SPEC)
    observer.merge(make_observer(name, SPEC))
    observer.update(np.zeros((0, 3), np.float32))
    with pytest.raises(NotCalibrated, match="no value was seen"):
        observer.result()


@pytest.mark.parametrize("name", ALL)
def test_zeros_alone(name):
    observer = make_observer(name, SPEC)
    observer.update(np.zeros((2, 3), np.float32))
    assert observer.result() == (0, 0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("value", [1.0, -3.5, 1e-45, -1e-38, 3.4e38, -3.4e38])
def test_one_value(name, value):
    observer = make_observer(name, SPEC)
    x = np.full(5, value, np.float32)
    observer.update(x)
    lo, hi = observer.result()
    ends = (-abs(x[0]), abs(x[0])) if name in SYMMETRIC and x[0] < 0 else (x[0], x[0])
    assert min(lo, hi, 0) == min(*ends, 0) and max(lo, hi, 0) == max(*ends, 0)


@pytest.mark.parametrize("name", ALL)
def test_range_is_ordered_and_within_the_data(name, rng):
    for shift in (-9.0, -1.0, 0.0, 1.0, 9.0):
        observer = make_observer(name, SPEC)
        x = (rng.standard_normal(5000) + shift).astype(np.float32)
        observer.update(x)
        lo, hi = observer.result()
        least, most = x.min(), x.max()
        if name in SYMMETRIC and least < 0:
            least, most = -np.abs(x).max(), np.abs(x).max()
        assert lo <= hi and min(lo, 0) >= min(least, 0) and max(hi, 0) <= max(most, 0)
        assert max(-lo, hi) > 0.4 * np.abs(x).max()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("good_first", [False, True])
def test_what_is_not_finite_is_refused_and_leaves_no_trace(name, good_first):
    observer = make_observer(name, SPEC)
    good = np.linspace(-1, 3, 20_000, dtype=np.float32).reshape(2, 10_000)
    if good_first:
        observer.update(good, 0)
    bad = good * 100
    bad[1, 7], bad[1, 8], bad[1, 9000] = np.nan, -np.inf, np.nan
    before = observer.state()
    with pytest.raises(
        BadSample, match=r"2 NaN and 1 infinite values among 20000 .* the first is nan at index \(1, 7\)"
    ):
        observer.update(bad, 1)
    assert_same(observer.state(), before)
    observer.update(good, 1)
    fresh = make_observer(name, SPEC)
    for number in [0, 1] if good_first else [1]:
        fresh.update(good, number)
    assert_same(observer.state(), fresh.state())


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("name", ALL)
def test_state_survives_a_file(name, rng):
    one = make_observer(name, SPEC)
    for number in range(3):
        one.update(rng.standard_normal(1000).astype(np.float32), number)
    file = BytesIO()
    np.savez(file, **one.state())
    file.seek(0)
    two = make_observer(name, SPEC)
    with np.load(file) as z:
        two.restore(dict(z))
    assert two.result() == one.result()
    x = 5 * rng.standard_normal(1000).astype(np.float32)
    one.update(x)
    two.update(x)
    assert_same(one.state(), two.state())
    empty = make_observer(name, SPEC)
    one.restore(empty.state())
    with pytest.raises(NotCalibrated):
        one.result()


@pytest.mark.parametrize("name", ALL)
def test_state_does_not_grow_with_the_number_of_values(name, rng):
    def size(values):
        observer = make_observer(name, SPEC)
        observer.update(rng.standard_normal(values).astype(np.float32), 0)
        return sum(np.asarray(v).nbytes for v in observer.state().values())

    assert size(100) == size(100_000) <= 300_000


@pytest.mark.parametrize("name", ALL)
def test_any_layout_and_type(name, rng):
    x = rng.standard_normal((6, 7, 8)).astype(np.float32)
    results = []
    for view in (x, x.transpose(2, 0, 1), x.astype(np.float64), np.repeat(x, 2, 1)[:, ::2]):
        observer = make_observer(name, SPEC)
        observer.update(view, 0)
        results.append(observer.result())
    assert len(set(results)) == 1


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=25)
@given(st.data())
def test_order_of_batches_and_workers_do_not_matter(name, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scales = data.draw(
        st.lists(st.sampled_from([0.0, 1e-42, 1e-30, 1e-3, 1.0, 1.5, 2.0, 1e20]), min_size=1, max_size=6)
    )
    batches = [(rng.standard_normal(200) * s).astype(np.float32) for s in scales]
    one = make_observer(name, SPEC)
    for number, batch in enumerate(batches):
        one.update(batch, number)
    workers = [make_observer(name, SPEC) for _ in range(3)]
    for number in data.draw(st.permutations(range(len(batches)))):
        workers[data.draw(st.integers(0, 2))].update(batches[number], number)
    total, *rest = data.draw(st.permutations(workers))
    for other in rest:
        total.merge(other)
    assert_same(one.state(), total.state())
    assert one.result() == total.result()


@pytest.mark.parametrize("name", sorted(set(ALL) - {"ema", "quantile"}))
@settings(max_examples=25)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 5000), max_size=6), st.sampled_from([1.0, 1e-38, 1e30]))
def test_split_into_batches_does_not_matter(name, seed, cuts, scale):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(5000) * rng.choice([1e-6, 1, 40], 5000) * scale).astype(np.float32)
    whole, parts = make_observer(name, SPEC), make_observer(name, SPEC)
    whole.update(x)
    for part in np.split(rng.permutation(x), sorted(cuts)):
        parts.update(part)
    assert_same(whole.state(), parts.state())


@pytest.mark.parametrize("name", ["naive", "entropy"])
def test_threads_have_their_own_tables(name, rng):
    batches = [rng.standard_normal(50_000).astype(np.float32) for _ in range(8)]
    observers = [make_observer(name, SPEC) for _ in batches]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda o, x: o.update(x), observers, batches))
    for other in observers[1:]:
        observers[0].merge(other)
    alone = make_observer(name, SPEC)
    alone.update(np.concatenate(batches))
    assert_same(alone.state(), observers[0].state())
