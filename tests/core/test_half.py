"""Scales in half precision: never smaller, hardly larger, the same where float16 ends."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fewbit.core.half import DEAD, GROWTH, half_scales, half_up
from fewbit.core.params import weight_params
from fewbit.core.spec import QuantSpec


@given(st.lists(st.floats(1e-30, 1e30), min_size=1, max_size=20))
def test_the_next_one_that_is_no_smaller(numbers: list[float]) -> None:
    s = np.array(numbers, np.float32)
    found = half_up(s)
    inside = (s >= np.finfo(np.float16).tiny) & (s <= np.finfo(np.float16).max)
    assert found.dtype == np.float32 and (found >= s).all() and (found[inside] <= s[inside] * 1.001).all()
    above = s > np.finfo(np.float16).max
    np.testing.assert_array_equal(found[above], s[above])
    below = ~inside & ~above  # as they are, or hardly larger, or nothing beside the largest
    assert ((found <= GROWTH * s) | (s < DEAD * s.max()))[below].all()
    with np.errstate(over="ignore", under="ignore"):
        half = found.astype(np.float16)
        lower = np.nextafter(half, np.float16(0)).astype(np.float32)
    np.testing.assert_array_equal(half.astype(np.float32)[inside], found[inside])
    assert (lower[inside] < s[inside]).all()
    np.testing.assert_array_equal(half_up(found), found)


def test_channels_that_are_switched_off_do_not_keep_all_others_in_single_precision() -> None:
    s = np.array([0.05, 1e-9, 3e-5], np.float32)
    found = half_up(s)
    np.testing.assert_array_equal(found.astype(np.float16).astype(np.float32), found)
    small = np.array([1e-8, 2e-8], np.float32)  # a weight of small numbers is no dead one
    np.testing.assert_array_equal(half_up(small), small)


def test_the_largest_weights_stay_inside() -> None:
    w = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    for symmetric in (True, False):
        spec = QuantSpec(
            4, signed=True, symmetric=symmetric, narrow=symmetric, granularity="group", axis=0, group_size=16
        )
        whole = weight_params(spec, w)
        half = half_scales(whole)
        assert (half.zero_point == whole.zero_point).all() and half.spec == spec
        assert np.abs(half.fake(w) - w).max() <= 0.505 * half.scale.max() + (0 if symmetric else half.scale.max() / 2)
        assert not np.array_equal(half.scale, whole.scale)
