import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewbit.core.params import QuantParams, bias_scale_guard, exact_int32, params_from_range, weight_params
from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError

S8, U8 = QuantSpec(8, True, symmetric=True), QuantSpec(8, False)

formats = st.builds(
    QuantSpec, bits=st.integers(1, 16), signed=st.sampled_from([None, True, False]), symmetric=st.booleans()
)
bound = st.floats(2.0**-10, 1e6, width=32) | st.floats(-1e6, -(2.0**-10), width=32) | st.just(0.0)
bounds = st.tuples(bound, bound).map(sorted)


@given(formats, bounds)
def test_a_range_gives_valid_parameters_that_hold_zero(spec, bound):
    params = params_from_range(spec, *bound)
    assert params.spec.signed is not None
    zero = params.fake(np.zeros(1, np.float32))[0]
    assert zero == 0 or (spec.bits == 1 and params.spec.signed)
    if spec.symmetric:
        assert not params.zero_point.any()


@given(formats, bounds, st.integers(0, 2**32))
def test_values_in_range_are_off_by_half_a_step(spec, bound, seed):
    lo, hi = bound
    assume(spec.bits > 1)
    params = params_from_range(spec, lo, hi)
    x = np.random.default_rng(seed).uniform(lo, hi, 50).astype(np.float32)
    if spec.symmetric and params.spec.signed is False:
        x = np.maximum(x, 0)  # what such a format can hold
    error = np.abs(params.fake(x).astype(np.float64) - x).max()
    rounding = np.abs(bound).max() * 1e-6
    if spec.symmetric:
        assert error <= params.scale * 0.501 + rounding
    else:  # rounding the zero point moves the range by up to half a step
        assert error <= params.scale * 1.001 + rounding


@given(formats, bounds, arrays(np.float32, 20, elements=st.floats(-1e6, 1e6, width=32)))
def test_quantizing_what_is_quantized_changes_nothing(spec, bound, x):
    params = params_from_range(spec, *bound)
    q = params.quantize(x)
    assert q.dtype == params.spec.storage
    assert params.spec.qmin <= q.min() and q.max() <= params.spec.qmax
    np.testing.assert_array_equal(params.quantize(params.dequantize(q)), q)


@pytest.mark.parametrize(
    "spec, lo, hi, scale, zero",
    [
        (S8, -1.27, 0.5, 0.01, 0),
        (U8, 0, 2.55, 0.01, 0),
        (U8, 1, 2.55, 0.01, 0),
        (U8, -2.55, -1, 0.01, 255),
        (U8, -1.28, 1.27, 0.01, 128),
        (QuantSpec(8, True), -1.28, 1.27, 0.01, 0),
        (QuantSpec(8, True), 0, 2.55, 0.01, -128),
        (QuantSpec(8), 0, 2.55, 0.01, 0),
        (QuantSpec(4, True, symmetric=True), -7, 3, 1, 0),
        (QuantSpec(1, True), -3, 2, 3, 0),
        (QuantSpec(1, False), 0, 2, 2, 0),
        (U8, 0, 0, 1, 0),
        (S8, 0, 0, 1, 0),
    ],
)
def test_ranges_by_hand(spec, lo, hi, scale, zero):
    params = params_from_range(spec, lo, hi)
    assert params.scale == pytest.approx(scale) and params.scale.dtype == np.float32
    assert params.zero_point == zero and params.zero_point.dtype == np.int32


def test_rounding_is_half_to_even_and_saturates():
    params = params_from_range(S8, -127, 127)
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 1e9, -1e9], np.float32)
    np.testing.assert_array_equal(params.quantize(x), [0, 2, 2, 0, -2, 127, -128])


def test_one_signed_bit_has_two_levels():
    params = params_from_range(QuantSpec(1, True), -2, 1)
    np.testing.assert_array_equal(params.fake(np.array([-9, -0.1, 0, 0.1], np.float32)), [-2, -2, 2, 2])


@pytest.mark.parametrize("lo, hi", [(0, 1e-44), (-1e-40, 0), (-3e38, 3e38), (0, 5e-324)])
def test_scales_stay_normal_float32(lo, hi):
    for spec in (S8, U8, QuantSpec(16, False)):
        scale = params_from_range(spec, lo, hi).scale
        assert np.finfo(np.float32).tiny <= scale <= np.finfo(np.float32).max


@pytest.mark.parametrize(
    "lo, hi, message", [(0, np.inf, "is not finite"), (np.nan, 1, "is not finite"), (1, 0.5, "is upside down")]
)
def test_wrong_ranges(lo, hi, message):
    with pytest.raises(ConfigError, match=message):
        params_from_range(U8, lo, hi)


@pytest.mark.parametrize(
    "spec, scale, zero, message",
    [
        (QuantSpec(), 1, 0, "whose sign is settled"),
        (U8, [1, 1], [0], r"scale has shape \(2,\), zero_point \(1,\)"),
        (U8, 0, 0, "finite and greater than 0"),
        (U8, np.inf, 0, "finite and greater than 0"),
        (U8, 1, 256, "outside of 0 … 255"),
        (S8, 1, 3, "symmetric format has zero point 0"),
    ],
)
def test_parameters_are_checked(spec, scale, zero, message):
    with pytest.raises(ConfigError, match=message):
        QuantParams(spec, scale, zero)


def test_equality_is_by_value():
    one, two = params_from_range(U8, 0, [1, 2]), params_from_range(U8, 0, [1, 2])
    assert one == two and one != params_from_range(U8, 0, [1, 3]) and one != "params"
    with pytest.raises(TypeError):
        hash(one)


def test_channels(rng):
    w = rng.standard_normal((4, 3, 2)).astype(np.float32)
    for axis in (0, 1, 2, -1):
        spec = QuantSpec(8, True, symmetric=True, granularity="channel", axis=axis)
        params = weight_params(spec, w)
        assert params.scale.shape == (w.shape[axis],)
        fake = params.fake(w)
        for i in range(w.shape[axis]):
            part = w.take(i, axis)
            np.testing.assert_array_equal(fake.take(i, axis), weight_params(S8, part).fake(part))


def test_groups_and_a_short_last_one(rng):
    w = rng.standard_normal((2, 10)).astype(np.float32)
    spec = QuantSpec(4, True, symmetric=True, granularity="group", axis=1, group_size=4)
    params = weight_params(spec, w)
    assert params.scale.shape == (2, 3)
    plain = QuantSpec(4, True, symmetric=True)
    for row in range(2):
        for group, part in enumerate((slice(0, 4), slice(4, 8), slice(8, 10))):
            alone = weight_params(plain, w[row, part])
            assert params.scale[row, group] == alone.scale
            np.testing.assert_array_equal(params.fake(w)[row, part], alone.fake(w[row, part]))


def test_weights_of_a_whole_tensor_and_of_none():
    assert weight_params(S8, np.array([-1, 2.54], np.float32)).scale == pytest.approx(0.02)
    assert weight_params(S8, np.zeros((0, 3), np.float32)).scale == 1


@given(st.floats(1e-9, 1.0), arrays(np.float32, 3, elements=st.floats(-1e6, 1e6, width=32)))
def test_bias_fits_its_int32(s_in, bias):
    limit = 2**31 / 2
    for s_w in (np.float32(1e-9), np.array([1e-9, 1e-4, 1.0], np.float32)):
        scale = bias_scale_guard(bias, s_in, np.asarray(s_w))
        assert (scale >= s_w).all() and scale.dtype == np.float32
        assert (np.abs(bias.astype(np.float64)) / (s_in * scale) <= limit * 1.0001).all()


def test_bias_guard_leaves_good_scales_alone():
    s_w = np.array([0.01, 0.02], np.float32)
    np.testing.assert_array_equal(bias_scale_guard(np.array([1.0, -2.0]), 0.1, s_w), s_w)


@given(arrays(np.float32, 20, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_a_float_is_an_integer_times_a_power_of_two(x):
    q, s = exact_int32(x)
    assert q.dtype == np.int32 and np.abs(q.astype(np.int64)).max() <= 2**24
    assert s.dtype == np.float32 and np.isfinite(s).all() and (s >= np.finfo(np.float32).tiny).all()
    large = np.abs(x) >= 2.0**-102
    np.testing.assert_array_equal((q.astype(np.float32) * s)[large], x[large])
    assert np.abs(q.astype(np.float64) * s - x)[~large].max(initial=0) <= np.finfo(np.float32).tiny / 2
