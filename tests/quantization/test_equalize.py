"""Cross-layer equalization: what it gives weights with one scale, and where it leaves a network alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.errors import NotCalibrated
from fewbit.graph.model import Model
from fewbit.graph.rescale import reach, rescaled, sites
from fewbit.quantization.channels import ChannelRange, channel_maxima, watched
from fewbit.quantization.equalize import equalizable, equalize
from fewbit.quantization.plan import make_plan
from tests.graph.nets import assert_same, f32, feeds, net, run_plain
from tests.models import TARGET
from tests.quantization.test_smooth import calibrated, error, normal, open_runner

IMAGE = (2, 3, 8, 8)
SPREAD = np.exp(np.linspace(-3, 3, 8)).astype(np.float32)


def plan_for(model: Model, **words: Any) -> Plan:
    return make_plan(model, QuantConfig(quantize_mode="full", **words), TARGET)


def weights(*, spread: Any = SPREAD) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    s = np.asarray(spread, np.float32)
    w, d, u = (
        rng.standard_normal(shape).astype(np.float32) * 0.3 for shape in ((8, 3, 1, 1), (8, 1, 3, 3), (4, 8, 1, 1))
    )
    b, c = (rng.standard_normal(8).astype(np.float32) * 0.3 for _ in range(2))
    t = s[::-1]
    return {
        "w": w * s.reshape(-1, 1, 1, 1), "b": b * s,
        "d": d * (t / s).reshape(-1, 1, 1, 1), "c": c * t,
        "u": u / t.reshape(1, -1, 1, 1),
    }  # fmt: skip


def separable(activation: str = "Relu({})", **more: Any) -> Model:
    """Conv – depthwise – Conv whose channels differ by e⁶ in size; a rescale can make them alike."""
    r, k = (activation.format(v) for v in ("v", "t"))
    text = f"v = Conv(x, w, b) r = {r} t = Conv<group=8, pads=[1,1,1,1]>(r, d, c) k = {k} y = Conv(k, u)"
    return net(f"(float[N,3,8,8] x) => (float[N,4,8,8] y) {{ {text} }}", **weights(), **more)


def test_weights_with_one_scale_lose_less() -> None:
    model, data = separable(), normal(IMAGE)
    chosen = equalize(model, plan_for(model))
    assert [r.value for r in chosen] == ["v", "t"] and chosen[0].why == "cross-layer equalization"
    tensor = {"quantize_granularity": "tensor-wise"}
    assert error(model, chosen, data, **tensor) > error(model, (), data, **tensor) + 10
    assert_same(run_plain(model, feeds(model)), run_plain(rescaled(model, chosen), feeds(model)), 1e-5)


def test_both_sides_of_each_site_get_the_same_ranges() -> None:
    model = separable()
    out = rescaled(model, equalize(model, plan_for(model)))
    for site in sites(model):
        made = reach(out.node(site.maker)).max(2).reshape(-1)
        read = reach(out.node(site.reads[0].node)).max(1).reshape(-1)
        np.testing.assert_allclose(made, read, rtol=5e-3)


def test_dead_channels_keep_factor_one() -> None:
    model = separable()
    dead = {k: np.array(v.const_value.numpy()) for k, v in model.graph.initializers.items()}  # type: ignore[union-attr]
    dead["w"][2] = 0
    dead["u"][:, 5] = 0
    model = net(
        "(float[N,3,8,8] x) => (float[N,4,8,8] y) { v = Conv(x, w, b) r = Relu(v) "
        "t = Conv<group=8, pads=[1,1,1,1]>(r, d, c) k = Relu(t) y = Conv(k, u) }",
        **dead,
    )
    first, second = equalize(model, plan_for(model))
    assert first.scale[2] == 1 and second.scale[5] == 1
    assert_same(run_plain(model, feeds(model)), run_plain(rescaled(model, (first, second)), feeds(model)), 1e-5)


def test_equal_ranges_leave_nothing_to_do() -> None:
    model = separable()
    done = rescaled(model, equalize(model, plan_for(model)))
    assert equalize(done, plan_for(done)) == ()


def test_layers_that_stay_float_are_left_alone() -> None:
    model = separable()
    assert [s.value for s in equalizable(model, plan_for(model))] == ["v", "t"]
    plan = plan_for(model, exclude_layers=("y",))
    assert [r.value for r in equalize(model, plan)] == ["v"]
    assert equalize(model, plan_for(model, exclude_layers=("t",))) == ()


def test_a_network_without_a_site_is_left_alone() -> None:
    model = net("(float[N,4] x) => (float[N,2] y) { v = Gemm(x, w) s = Sigmoid(v) y = Gemm(s, u) }", w=(4, 3), u=(3, 2))
    assert equalize(model, plan_for(model)) == ()
    norm = net(
        "(float[N,2,4] x) => (float[N,2,2] y) { v = LayerNormalization(x, g) y = MatMul(v, u) }", g=(4,), u=(4, 2)
    )
    assert equalize(norm, plan_for(norm)) == ()  # γ is no weight that is rounded


# -- clips -----------------------------------------------------------------------------------------------------------


def seen(model: Model) -> dict[str, ChannelRange]:
    return channel_maxima(model, watched(sites(model)), normal(IMAGE), open_runner)


@pytest.mark.parametrize(("hi", "count"), [(1000.0, 2), (1.0, 0)])
def test_clips_go_only_where_they_cut_nothing_off(hi: float, count: int) -> None:
    model = separable("Clip({}, lo, hi)", lo=f32(0), hi=f32(hi))
    plan = plan_for(model)
    assert equalize(model, plan) == ()  # nobody looked
    chosen = equalize(model, plan, seen(model))
    assert [r.unclip for r in chosen] == [("r",), ("k",)][:count]
    data = normal(IMAGE)
    before, after = (open_runner(rescaled(model, r)) for r in ((), chosen))
    for b in data:
        assert_same([before.run(b)["y"]], [after.run(b)["y"]], 1e-5)


# -- high biases -----------------------------------------------------------------------------------------------------


def high(pads: int = 0) -> Model:
    """Channels that never come near 0: half of the integers of the value between are never used."""
    text = f"v = Conv(x, w, b) r = Relu(v) y = Conv<pads=[{pads},{pads},{pads},{pads}]>(r, u)"
    return net(f"(float[N,3,8,8] x) => (float[N,4,P,Q] y) {{ {text} }}",
               w=(8, 3, 1, 1), b=np.linspace(20, 100, 8).astype(np.float32), u=(4, 8, 1, 1))  # fmt: skip


def test_high_biases_are_absorbed() -> None:
    model, data = high(), normal(IMAGE, 8)
    plan, ranges = plan_for(model), seen(model)
    plain, moved = equalize(model, plan), equalize(model, plan, ranges, absorb=True)
    assert not any(r.absorb for r in plain)
    (rescale,) = moved
    np.testing.assert_allclose(np.multiply(rescale.absorb, rescale.scale), ranges["v"].lo)
    assert rescale.why == "cross-layer equalization and high-bias absorption"
    assert error(model, moved, data) > error(model, plain, data) + 6


def test_nothing_is_absorbed_where_zeros_are_set_beside() -> None:
    model = high(pads=1)
    moved = equalize(model, plan_for(model), seen(model), absorb=True)
    assert moved == equalize(model, plan_for(model))


def test_absorbing_needs_ranges() -> None:
    with pytest.raises(NotCalibrated, match="the channels of 'v' were not measured"):
        equalize(high(), plan_for(high()), absorb=True)


def test_a_plan_carries_it() -> None:
    model, data = high(), normal(IMAGE)
    chosen = equalize(model, plan_for(model), seen(model), absorb=True)
    plan = replace(calibrated(rescaled(model, chosen), data), rescales=chosen)
    assert Plan.from_json(plan.to_json()) == plan
    again = rescaled(model, Plan.from_json(plan.to_json()).rescales)
    assert again.digest() == rescaled(model, chosen).digest() == plan.model
