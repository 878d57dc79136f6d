"""Steps by relative error: bisection, the correction, what of it reaches the plan, and auto_tune's grid."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.config import QuantConfig
from fewbit.core.fse import entropy
from fewbit.core.plan import Plan
from fewbit.core.target import Target
from fewbit.graph.emit import stored_weight
from fewbit.graph.model import Model, const
from fewbit.quantization.mixed import Step, _entry, auto_tuned, mixed_plan, rounded, step_at, step_for, step_of_norm
from fewbit.quantization.packed import channels, coded_bits, weights_of, width, with_weights
from fewbit.quantization.weight_only import make_weight_plan
from tests.models import feeds_for, run
from tests.quantization.nets import TOY, net


def mixed(**words: Any) -> QuantConfig:
    return QuantConfig(quant_type="weight", bit_num=0, **words)


def network() -> Model:
    """conv – relu – conv, then a sum over places and a matrix product."""
    return net(
        """
        a = Conv <pads = [1, 1, 1, 1]> (x, w1)
        r = Relu (a)
        c = Conv <pads = [1, 1, 1, 1]> (r, w2, b2)
        g = GlobalAveragePool (c)
        f = Flatten (g)
        y = MatMul (f, w3)
        """,
        "float[N, 40] y",
        w1=(32, 4, 3, 3),
        w2=(48, 32, 3, 3),
        b2=(48,),
        w3=(48, 40),
    )


def start(model: Model, target: Target = TOY, **words: Any) -> Plan:
    return make_weight_plan(model, mixed(**words), target)


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def by_definition(w: Any, scale: float, axis: int) -> tuple[float, float, float]:
    """Error, gain and offset, as the rules read."""
    w64, s = w.astype(np.float64), float(np.float32(scale))
    near = np.floor(np.float64(w / np.float32(scale)) + 0.5) * s
    gain = w64.std() / near.std() if near.std() > 0 else 1.0
    gain = np.float64(np.float32(gain)) if 0 < gain < 10 else 1.0
    offset = np.float64(np.float32(w64.mean() - near.mean() * gain))
    each = []
    for a, b in zip(np.moveaxis(w64, axis, 0), np.moveaxis(near * gain + offset, axis, 0), strict=True):
        if np.square(a).sum() >= 1e-10:
            each.append(np.sqrt(np.square(a - b).sum() / np.square(a).sum()))
    return (float(np.mean(each)) if each else 0.0), float(gain), float(offset)


# -- one weight ------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0.005, 0.4), st.integers(0, 2))
def test_error_and_correction_are_those_of_the_rules(seed: int, scale: float, axis: int) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal((5, 4, 7)) * np.exp(rng.standard_normal((5, 1, 1))) + 0.1).astype(np.float32)
    w[1] = 0  # a channel without a relative error
    step = step_at(w, scale, axis)
    error, gain, offset = by_definition(w, scale, axis)
    assert step.error == pytest.approx(error, rel=1e-6)
    assert step.gain == pytest.approx(gain, rel=1e-6)
    assert step.offset == pytest.approx(offset, abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.003, 0.5))
def test_the_error_is_the_wished_one(seed: int, error: float) -> None:
    w = normal(16, 8, 3, 3, seed=seed) * np.float32(0.05)
    step = step_for(w, error)
    assert step is not None
    assert step.error == pytest.approx(error, rel=0.0101)


def test_more_error_takes_larger_steps_and_fewer_bits() -> None:
    w = normal(32, 200)
    steps = [step_for(w, e) for e in (0.005, 0.02, 0.05, 0.1, 0.3)]
    assert all(steps)
    found: list[Step] = [s for s in steps if s]
    assert sorted(s.scale for s in found) == [s.scale for s in found]
    assert sorted((s.entropy_bits for s in found), reverse=True) == [s.entropy_bits for s in found]


def test_bits_of_normal_weights_follow_the_error() -> None:
    for error in (0.02, 0.05, 0.1):
        step = step_for(normal(64, 900), error)
        assert step is not None and step.entropy_bits == pytest.approx(0.255 - np.log2(error), abs=0.03)


@pytest.mark.parametrize("size", [1e-6, 1e-8, 1e-20, 1e-30])
def test_tiny_weights_are_rounded_as_finely_as_others(size: float) -> None:
    w = normal(16, 40)
    w[3] = 0
    large, tiny = step_for(w, 0.02), step_for(w * np.float32(size), 0.02)
    assert large is not None and tiny is not None
    assert tiny.error == pytest.approx(0.02, rel=0.0101)
    assert tiny.scale == pytest.approx(large.scale * size, rel=0.02)
    assert tiny.entropy_bits == pytest.approx(large.entropy_bits, abs=0.05)


def test_channels_that_are_tiny_beside_others_do_not_count() -> None:
    w = normal(16, 40)
    w[3] *= np.float32(1e-7)
    without, found = step_for(np.delete(w, 3, 0), 0.02), step_for(w, 0.02)
    assert without is not None and found is not None
    assert found.scale == pytest.approx(without.scale, rel=0.05)


@pytest.mark.parametrize("number", [0.0, 2.5, -3.0])
def test_a_constant_weight_is_one_integer(number: float) -> None:
    w = np.full((4, 5), number, np.float32)
    step = step_for(w, 0.02)
    assert step is not None and step.scale == pytest.approx(abs(number) + 1e-5)
    assert step.lo == step.hi == np.sign(number) and step.entropy_bits == 0
    assert step.error < 1e-5


def test_where_the_error_jumps_over_the_wish_the_side_below_it_is_taken() -> None:
    w = normal(20, 9)
    w[0] = 2e-5  # hardly anything, but relative to it an offset is much
    w[0, 0] = -2e-5
    step = step_for(w, 0.02)
    assert step is not None and step.error < 0.0202


def test_a_range_that_float32_cannot_split_has_no_step() -> None:
    w = np.zeros((2, 2), np.float32)
    w[0, 0] = np.float32(1e-45)
    assert step_for(w, 0.02) is None


def test_halves_go_upwards() -> None:
    w = np.array([-1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    np.testing.assert_array_equal(rounded(w, 1.0), [-1, 0, 1, 2, 3])


def test_entropy_and_width() -> None:
    assert entropy(np.array([1, 1, 2, 2, 3, 3, 4, 4])) == 2.0
    assert entropy(np.array([0, 0, 0, 1], np.int8)) == pytest.approx(0.811278, abs=1e-6)
    assert entropy(np.array([-128, 127], np.int8)) == entropy(np.array([-(1 << 40), 1 << 40])) == 1.0
    assert entropy(np.zeros(0, np.int8)) == entropy(np.full(9, 7)) == 0.0
    assert [width(0, 0), width(-2, 1), width(-3, 1), width(-8, 7), width(-8, 8), width(-40000, 0)] == [
        2,
        2,
        3,
        4,
        5,
        17,
    ]


# -- plans -----------------------------------------------------------------------------------------------------------


def test_the_plan_holds_what_was_found() -> None:
    model = network()
    plan = mixed_plan(model, start(model), mixed())
    w = weights_of(model, plan)
    assert list(w) == ["w1", "w2", "w3"] and channels(model, plan) == {"w1": 0, "w2": 0, "w3": 1}
    for key, axis in channels(model, plan).items():
        step, stored = step_for(w[key], 0.02, axis), stored_weight(plan, key, w[key])
        assert step is not None
        np.testing.assert_array_equal(stored.q, rounded(w[key], step.scale))
        assert stored.bits == step.bits and not stored.params.zero_point.any()
        real = stored.q * np.float64(step.scale) * step.gain + step.offset
        np.testing.assert_allclose(stored.real(), real, rtol=1e-5, atol=1e-7)
        assert by_definition(w[key], step.scale, axis)[0] == pytest.approx(0.02, rel=0.01)
    told = step_for(w["w2"], 0.02)
    assert told is not None
    assert plan.nodes["Conv:c"].reason.endswith(f"; error {told.error:.4f}, {told.entropy_bits:.2f} bits a weight")


def test_exact_halves_come_back_from_the_plan() -> None:
    model = net("y = MatMul (x, w)", "float[N, 64] y", inputs="float[N, 64] x", w=(64, 64))
    w = (np.arange(64 * 64).reshape(64, 64) % 41 - 20).astype(np.float32) / 2
    model.set_weight("w", w)
    plan = start(model)
    made = mixed_plan(model, plan, mixed())
    value = made.values["w"]
    forced = replace(value, scale=(1.0,), nudge="")
    assert (stored_weight(replace(made, values={"w": forced}), "w", w).q != rounded(w, 1.0)).any()  # halves to even
    again = _entry(plan.values["w"], w, step_at(w, 1.0, 1))
    assert again is not None
    np.testing.assert_array_equal(stored_weight(replace(made, values={"w": again}), "w", w).q, rounded(w, 1.0))


def test_a_plan_read_back_gives_the_same_integers() -> None:
    model = network()
    plan = mixed_plan(model, start(model), mixed(init_scale=0.1))
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    for key, w in weights_of(model, plan).items():
        np.testing.assert_array_equal(stored_weight(plan, key, w).q, stored_weight(again, key, w).q)
        np.testing.assert_array_equal(stored_weight(plan, key, w).real(), stored_weight(again, key, w).real())


def test_weights_whose_integers_are_too_long_stay_float() -> None:
    model = network()
    w = np.array(const(model.value("w3")))
    w[0, 0] = 1e6  # against which all others are nothing: the others' error asks for steps far below
    model.set_weight("w3", w)
    plan = mixed_plan(model, start(model), mixed())
    verdict = plan.nodes["MatMul:y"]
    assert not verdict.quantized and verdict.reason == "mixed bit: integers of 27 bits, over 16, for 'w3'"
    assert "w3" not in plan.values and plan.nodes["Conv:c"].quantized


def test_the_network_with_its_weights_replaced() -> None:
    model = network()
    plan = mixed_plan(model, start(model), mixed(init_scale=0.05))
    changed, feeds = with_weights(model, plan), feeds_for(model)
    for key, w in weights_of(model, plan).items():
        np.testing.assert_array_equal(const(changed.value(key)), stored_weight(plan, key, w).real())
        np.testing.assert_array_equal(const(model.value(key)), w)  # the old one is as it was
    before, after = run(model, feeds)["y"], run(changed, feeds)["y"]
    assert 0.001 < np.linalg.norm(before - after) / np.linalg.norm(before) < 0.2


def test_size_is_entropy_tables_and_scales() -> None:
    model = network()
    plan = mixed_plan(model, start(model), mixed())
    stored = [stored_weight(plan, k, w).q for k, w in weights_of(model, plan).items()]
    want = sum(q.size * entropy(q) + 64 * len(np.unique(q)) + 3 * 32 for q in stored)
    assert coded_bits(model, plan) == pytest.approx(want)


# -- auto_tune -------------------------------------------------------------------------------------------------------


def test_the_step_in_units_of_the_norm() -> None:
    w = normal(24, 100)
    assert step_of_norm(w, 0.001) == pytest.approx((0.001 + 0.01 * np.sqrt(24 / 2400)) * np.linalg.norm(w), rel=1e-6)


def inverse_of(model: Model, plan: Plan) -> float:
    w = weights_of(model, plan)["w2"]
    return 1 / (plan.values["w2"].scale[0] / float(np.linalg.norm(w)) - 0.01 * np.sqrt(24 / w.size))


def test_auto_tune_finds_the_coarsest_that_is_good_enough() -> None:
    model, seen = network(), []

    def judge(plan: Plan) -> float:
        seen.append(inverse_of(model, plan))
        return 0.9951 if seen[-1] > 1234 else 0.99

    plan = auto_tuned(model, start(model), mixed(auto_tune=True, max_iterations=80), judge)
    found = inverse_of(model, plan)
    assert 1234 < found < 1234 * 1.05
    assert len(seen) <= 80
    np.testing.assert_allclose(seen[:2], [1, 1 + 29999 / 19], rtol=1e-2)


def test_auto_tune_ends_with_the_finest_if_nothing_is_good_enough() -> None:
    model, counts = network(), []
    config = mixed(auto_tune=True)
    plan = auto_tuned(model, start(model), config, lambda p: 0.5, lambda done, most: counts.append((done, most)))
    assert inverse_of(model, plan) == pytest.approx(30000, rel=0.02)
    assert counts == [(i, 40) for i in range(1, 11)]  # one stage; a finer grid around nothing has no sense
