import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewbit.core.metrics import (
    ErrorSums,
    agreement,
    clip_share,
    cosine,
    max_abs_error,
    paired_flips,
    sqnr_db,
    top_k_hits,
    wilson_interval,
)
from fewbit.errors import DataError

vectors = arrays(np.float32, 40, elements=st.floats(-1000, 1000, width=32))


def test_by_hand():
    assert cosine([3, 4], [4, 3]) == pytest.approx(24 / 25)
    assert sqnr_db([3, 4], [3, 4.5]) == pytest.approx(20)
    assert max_abs_error([[1, 2], [3, 4]], [[1, 2.5], [2, 4]]) == 1
    assert clip_share([-2, -1, 0, 1, 2], -1, 1) == 0.4


@pytest.mark.parametrize(
    "ref, x, wanted_cosine, wanted_sqnr",
    [
        ([1, 2], [1, 2], 1, math.inf),
        ([0, 0], [0, 0], 1, math.inf),
        ([], [], 1, math.inf),
        ([0, 0], [1, 2], 0, -math.inf),
        ([1, 2], [0, 0], 0, 0),
        ([1, 2], [-1, -2], -1, -20 * math.log10(2)),
    ],
)
def test_special_cases(ref, x, wanted_cosine, wanted_sqnr):
    assert cosine(ref, x) == pytest.approx(wanted_cosine)
    assert sqnr_db(ref, x) == pytest.approx(wanted_sqnr)


@given(vectors, vectors)
def test_batches_add_up(ref, x):
    whole, parts, other = ErrorSums(), ErrorSums(), ErrorSums()
    whole.update(ref, x)
    parts.update(ref[:7], x[:7])
    other.update(ref[7:], x[7:])
    parts.merge(other)
    assert parts.cosine == pytest.approx(whole.cosine, abs=1e-9)
    assert parts.sqnr_db == pytest.approx(whole.sqnr_db)
    assert -1 <= whole.cosine <= 1


def test_sums_are_exact_enough_for_many_float32_values():
    x = np.full(3_000_000, 1.1, np.float32)
    assert sqnr_db(x, x + np.float32(0.11)) == pytest.approx(20, abs=1e-5)
    assert cosine(x, x * 3) == pytest.approx(1, abs=1e-12)


def test_extreme_magnitudes():
    assert cosine([1e-30, 0], [1e-30, 1e-30]) == pytest.approx(math.sqrt(0.5))
    assert sqnr_db([3e38], [2.97e38]) == pytest.approx(40)


@pytest.mark.parametrize("measure", [cosine, sqnr_db, max_abs_error, agreement])
def test_shapes_must_agree(measure):
    with pytest.raises(DataError, match=r"shape \(2,\) and \(3,\) cannot be compared"):
        measure(np.zeros(2), np.zeros(3))


def test_empty_arrays():
    assert max_abs_error([], []) == 0
    assert clip_share([], 0, 1) == 0
    with pytest.raises(DataError, match="no samples"):
        agreement(np.zeros((0, 10)), np.zeros((0, 10)))


LOGITS = np.array([[1, 5, 3], [9, 5, 3], [0, 1, 2], [4, 4, 4]])


def test_agreement():
    assert agreement(LOGITS, LOGITS * 2) == 1
    assert agreement(LOGITS, LOGITS[:, ::-1]) == 0.5


@pytest.mark.parametrize("k, hits", [(1, 2), (2, 3), (3, 4), (5, 4)])
def test_top_k_hits(k, hits):
    assert top_k_hits(LOGITS, [2, 0, 2, 2], k) == hits


def test_equal_logits_cannot_hit_more_than_k_times():
    for k in (1, 2, 3):
        assert sum(top_k_hits([[4, 4, 4]], [label], k) for label in range(3)) == k


def test_nan_logits_are_no_hit():
    assert top_k_hits([[np.nan, np.nan]], [0], 1) == 0


@pytest.mark.parametrize(
    "labels, message",
    [([0, 1], r"labels \(2,\)"), ([0, 0, 0, 3], "labels run from 0 to 3; there are 3 classes"), ([-1, 0, 0, 0], "-1")],
)
def test_labels_must_fit(labels, message):
    with pytest.raises(DataError, match=message):
        top_k_hits(LOGITS, labels)


def test_paired_flips():
    assert paired_flips([0, 1, 2, 0, 1], [1, 1, 0, 0, 2], [1, 1, 2, 0, 0]) == (1, 1)
    assert paired_flips([0, 0], [1, 1], [1, 1]) == (2, 0)


@pytest.mark.parametrize(
    "k, n, lo, hi", [(50, 100, 0.4038, 0.5962), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1), (1, 20, 0.0089, 0.2361)]
)
def test_wilson_interval_of_the_textbook(k, n, lo, hi):
    assert wilson_interval(k, n) == pytest.approx((lo, hi), abs=1e-4)


def test_wilson_interval_without_samples_and_with_wrong_ones():
    assert wilson_interval(0, 0) == (0, 1)
    for k, n, confidence in ((3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)):
        with pytest.raises(DataError, match=f"no interval for {k} of {n}"):
            wilson_interval(k, n, confidence)


@given(st.integers(1, 1000), st.data())
def test_wilson_interval_holds_the_share_and_widens_with_confidence(n, data):
    k = data.draw(st.integers(0, n))
    lo, hi = wilson_interval(k, n, 0.9)
    wide = wilson_interval(k, n, 0.99)
    assert 0 <= wide[0] <= lo <= k / n <= hi <= wide[1] <= 1
