"""Spread and mean of rounded weights, against the formula worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewbit.config import QuantConfig
from fewbit.core.params import QuantParams, weight_params
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.graph.emit import stored_weight
from fewbit.graph.model import Model, const
from fewbit.quantization.weight_moments import gain_and_offset, spread_and_mean
from fewbit.quantization.weight_only import make_weight_plan
from tests.graph.nets import net
from tests.models import TARGET


def conv() -> Model:
    return net(
        "(float[N,8,6,6] x) => (float[N,M,4,4] y) { h = Conv<pads=[1,1,1,1]>(x, w) y = Conv(h, v) }",
        w=(16, 8, 3, 3),
        v=(16, 16, 3, 3),
    )


def planned(model: Model, **words: Any) -> Plan:
    return make_weight_plan(model, QuantConfig(quant_type="weight", **words), TARGET)


def weight(model: Model, name: str) -> Any:
    found = const(model.value(name))
    assert found is not None
    return found


@pytest.mark.parametrize("grain", ["tensor-wise", "channel-wise"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_spread_and_mean_are_those_of_the_float_weights(grain: str, bits: int) -> None:
    model = conv()
    plan = planned(model, bit_num=bits, quantize_granularity=grain)
    fixed = spread_and_mean(plan, model)
    for key in plan.values:
        w = weight(model, key).astype(np.float64)
        before, after = (stored_weight(p, key, weight(model, key)).real().astype(np.float64) for p in (plan, fixed))
        axes = None if grain == "tensor-wise" else (1, 2, 3)
        np.testing.assert_allclose(after.mean(axes), w.mean(axes), atol=1e-4)
        np.testing.assert_allclose(after.std(axes), w.std(axes), rtol=4e-3)  # steps are rounded to half precision
        assert (before != after).any()
        gain = w.std(axes) / before.std(axes)
        np.testing.assert_allclose(fixed.values[key].gain, np.ravel(gain), rtol=4e-3)
        offset = w.mean(axes) - before.mean(axes) * np.reshape(fixed.values[key].gain, np.shape(gain))
        np.testing.assert_allclose(fixed.values[key].offset, np.ravel(offset), atol=1e-4)
        if grain == "channel-wise":
            found = stored_weight(fixed, key, weight(model, key))
            assert found.offset is not None
            for numbers in (found.step, found.offset):
                np.testing.assert_array_equal(np.float16(numbers), numbers)
    assert spread_and_mean(fixed, model) == fixed
    assert Plan.from_json(fixed.to_json()) == fixed


def test_channels_that_are_all_alike_or_far_off_keep_their_spread() -> None:
    spec = QuantSpec(2, signed=True, symmetric=True, narrow=True, granularity="channel", axis=0)
    params = QuantParams(spec, np.ones(3, np.float32), np.zeros(3, np.int32))
    w = np.array([[0.3, 0.4], [0.0, 20.0], [1.0, -1.0]], np.float32)
    rounded = np.array([[0, 0], [0, 1], [1, -1]], np.float32)
    gain, offset = gain_and_offset(w, rounded, params)
    np.testing.assert_array_equal(gain, [1, 1, 1])  # no spread; 20 times; right already
    np.testing.assert_allclose(offset, [0.35, 9.5, 0], atol=1e-3)


def test_groups_and_tables_are_left_alone() -> None:
    model = net("(int64[N] i) => (float[N,8] y) { e = Gather(t, i) y = MatMul(e, w) }", t=(64, 128), w=(128, 8))
    plan = planned(model, bit_num=4, group_size=32)
    assert {v.spec.granularity for v in plan.values.values()} == {"group"}
    assert spread_and_mean(plan, model) == plan
    fixed = spread_and_mean(planned(model, bit_num=4), model)
    assert {k for k, v in fixed.values.items() if v.gain} == {"w"}
    assert len(fixed.values["w"].offset) == 8


def test_what_was_there_before_is_replaced() -> None:
    model = conv()
    plan = planned(model, bit_num=4)
    odd = replace(plan, values={k: replace(v, gain=(3.0,) * 16, offset=(1.0,) * 16) for k, v in plan.values.items()})
    assert spread_and_mean(odd, model) == spread_and_mean(plan, model)


@pytest.mark.parametrize("size", [1e5, 1e7, 1e20, 1e30])
@pytest.mark.parametrize("bits", [4, 8])
def test_steps_that_float16_does_not_reach_stay_as_good(bits: int, size: float) -> None:
    w = np.random.default_rng(0).standard_normal((8, 64))
    lost = []
    for factor in (1.0, size):
        model = net("(float[N,8] x) => (float[N,64] y) { y = MatMul(x, w) }", w=(w * factor).astype(np.float32))
        plan = spread_and_mean(planned(model, bit_num=bits, min_quant_weight_size=1), model)
        (key,) = plan.values
        real = stored_weight(plan, key, weight(model, key)).real().astype(np.float64) / factor
        lost.append(np.linalg.norm(real - w))
        assert all(0.8 < g < 1.2 for g in plan.values[key].gain)
    assert lost[1] < 1.1 * lost[0]


def test_large_and_small_channels_in_one_weight() -> None:
    w = (np.random.default_rng(0).standard_normal((64, 16)) * np.geomspace(1e-3, 1e9, 16)).astype(np.float32)
    params = weight_params(QuantSpec(8, signed=True, symmetric=True, granularity="channel", axis=1), w)
    gain, _ = gain_and_offset(w, params.fake(w), params)
    np.testing.assert_allclose(gain, 1, atol=5e-3)
    step = params.scale * gain
    small = (step < 65000) & (step > 1e-4)  # below, float16 is coarse
    assert small.any() and not small.all()
    np.testing.assert_array_equal(np.float16(step[small]), step[small])


@pytest.mark.parametrize("bits", [9, 12, 15])
def test_wide_formats_lose_nothing_by_short_steps(bits: int) -> None:
    model = conv()
    plan = planned(model, bit_num=bits)
    fixed = spread_and_mean(plan, model)
    for key in plan.values:
        w = weight(model, key).astype(np.float64)
        before, after = (np.linalg.norm(stored_weight(p, key, weight(model, key)).real() - w) for p in (plan, fixed))
        assert after < 1.02 * before
