"""Layers fitted one by one: what is learned, of which inputs, in which order, and with how much memory."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewbit.core.nudge import unpack_nudges
from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.graph.emit import emit_qdq, integers, weight_params_of
from fewbit.graph.model import Model, const
from fewbit.quantization.layerwise import Fitting, fit_isolated, fit_sequential
from tests.graph.nets import net
from tests.models import plan_for
from tests.quantization.nets import Batch
from tests.quantization.test_smooth import open_runner

ALL, BIASES = Fitting(places=36), Fitting(scales=False, rounding=False, places=36)  # 36: all there are
W4: dict[str, Any] = {"weight_bit_num": 4}


def chain() -> Model:
    """Conv – Relu – depthwise Conv – Relu, beside it a Conv of its own, then a Conv over both."""
    return net(
        """(float[N,3,6,6] x) => (float[N,4,6,6] y) {
            a = Conv(x, w1, b1) r = Relu(a)
            d = Conv<group=6, pads=[1,1,1,1]>(r, w2) s = Relu(d)
            e = Conv<pads=[1,1,1,1]>(x, w3) c = Concat<axis=1>(s, e) y = Conv(c, w4, b4)
        }""",
        w1=(6, 3, 1, 1), b1=(6,), w2=(6, 1, 3, 3), w3=(2, 3, 3, 3), w4=(4, 8, 1, 1), b4=(4,),
    )  # fmt: skip


def data(count: int = 4, size: int = 4, seed: int = 0) -> list[Batch]:
    rng = np.random.default_rng(seed)
    return [Batch({"x": 1 + rng.standard_normal((size, 3, 6, 6)).astype(np.float32)}, i) for i in range(count)]


def planned(model: Model, batches: list[Batch], **words: Any) -> Plan:
    return plan_for(model, [b.feeds for b in batches], **{**W4, **words})


def seen(model: Model, names: list[str], batches: list[Batch]) -> list[Any]:
    runner = open_runner(model.with_outputs(names))
    found = [runner.run(b.feeds) for b in batches]
    return [np.concatenate([f[n] for f in found]).astype(np.float64) for n in names]


class Opened:
    """Opens networks, and keeps what they were fed and asked for."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []
        self.fed: list[Any] = []

    def __call__(self, model: Model) -> Runner:
        self.outputs.append([o.name for o in model.outputs])
        runner, fed = open_runner(model), self.fed

        class Recorder:
            def run(self, feeds: Any) -> Any:
                fed.append(feeds["x"])
                return runner.run(feeds)

        return Recorder()  # type: ignore[return-value]


# -- one layer -------------------------------------------------------------------------------------------------------


def one(**words: Any) -> tuple[Model, list[Batch], Plan]:
    model = net("(float[N,8] x) => (float[N,6] y) { y = Gemm(x, w, b) }", w=(8, 6), b=(6,))
    rng = np.random.default_rng(3)
    x = (3 + rng.standard_normal((96, 3)) @ rng.standard_normal((3, 8))).astype(np.float32)
    batches = [Batch({"x": part}, i) for i, part in enumerate(np.split(x, 6))]
    return model, batches, planned(model, batches, **words)


def real(model: Model, plan: Plan, name: str = "w") -> Any:
    """A weight as the integer network has it."""
    w = const(model.value(name))
    assert w is not None
    params = weight_params_of(plan, name, w)
    return params.dequantize(integers(plan, name, w, params)).astype(np.float64)


def test_biases_take_the_mean_of_the_error() -> None:
    model, batches, plan = one()
    fitted = fit_isolated(model, plan, batches, open_runner, BIASES)
    x = np.concatenate([b.feeds["x"] for b in batches])
    w, b = const(model.value("w")), const(model.value("b"))
    assert w is not None and b is not None
    want = (x.astype(np.float64) @ w).mean(0) - (plan.params("x").fake(x).astype(np.float64) @ real(model, plan)).mean(
        0
    )
    np.testing.assert_allclose(fitted.nodes["y"].bias, want, rtol=1e-3, atol=1e-5)
    assert fitted.values == plan.values


def test_biases_are_fitted_to_the_integers_that_were_chosen_before() -> None:
    model, batches, plan = one()
    rounded = fit_isolated(model, plan, batches, open_runner, replace(ALL, bias=False))
    assert rounded.values["w"].nudge and not rounded.nodes["y"].bias
    then = fit_isolated(model, rounded, batches, open_runner, BIASES)
    once = fit_isolated(model, plan, batches, open_runner, ALL)
    assert then.values == rounded.values == once.values
    np.testing.assert_allclose(then.nodes["y"].bias, once.nodes["y"].bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("has_bias", [True, False])
def test_each_part_lowers_the_error_of_the_layer(sequential: bool, has_bias: bool) -> None:
    model, batches, plan = one()
    x = np.concatenate([b.feeds["x"] for b in batches])
    if not has_bias:
        model = net("(float[N,4,8] x) => (float[N,4,6] y) { y = MatMul(x, w) }", w=(8, 6))
        batches = [Batch({"x": part.reshape(-1, 4, 8)}, i) for i, part in enumerate(np.split(x, 6))]
        plan = planned(model, batches)
    (truth,) = seen(model, ["y"], batches)
    truth, xq = truth.reshape(-1, 6), plan.params("x").fake(x).astype(np.float64)

    def error(p: Plan) -> float:
        got = xq @ real(model, p)
        if has_bias:
            b = const(model.value("b"))
            got = got + (b if b is not None else 0) + (np.array(p.nodes["y"].bias) if p.nodes["y"].bias else 0)
        return float(np.square(truth - got).mean())

    def fitted(scales: bool, rounding: bool, bias: bool) -> Plan:
        how = Fitting(scales, rounding, bias)
        if sequential:
            return fit_sequential(model, plan, batches, open_runner, lambda p: emit_qdq(model, p), how)
        return fit_isolated(model, plan, batches, open_runner, how)

    plain = error(plan)
    assert error(fitted(True, False, has_bias)) < 0.9 * plain
    rounded = error(fitted(False, True, has_bias))
    assert rounded < (0.3 if has_bias else 0.7) * plain and error(fitted(True, True, has_bias)) < rounded
    if has_bias:
        assert error(fitted(False, False, True)) < plain
    else:
        assert not fitted(False, False, True).nodes["y"].bias


def test_only_what_is_asked_for_is_in_the_plan() -> None:
    model, batches, plan = one()
    for scales, rounding, bias in [(True, False, False), (False, True, False), (True, True, True)]:
        found = fit_isolated(model, plan, batches, open_runner, Fitting(scales, rounding, bias))
        v, n = found.values["w"], found.nodes["y"]
        plain = weight_params_of(plan, "w", const(model.value("w"))).scale  # type: ignore[arg-type]
        assert bool(v.nudge) is rounding and bool(n.bias) is bias and len(v.scale) == 6
        assert np.array_equal(np.float32(v.scale), plain) is not scales
        assert found.values["x"] == plan.values["x"] and Plan.from_json(found.to_json()) == found


def test_nudges_count_from_the_nearest_integer_for_the_new_scale() -> None:
    model, batches, plan = one()
    fitted = fit_isolated(model, plan, batches, open_runner, ALL)
    v, w = fitted.values["w"], const(model.value("w"))
    assert w is not None
    params = weight_params_of(fitted, "w", w)
    moved = unpack_nudges(v.nudge, w.shape, "w")
    assert moved.any() and np.abs(moved).max() <= 6  # two a turn
    np.testing.assert_array_equal(integers(fitted, "w", w, params), np.clip(params.quantize(w) + moved, -7, 7))


def test_one_scale_for_all_channels_stays_one() -> None:
    model, batches, plan = one(quantize_granularity="tensor-wise")
    fitted = fit_isolated(model, plan, batches, open_runner, ALL)
    assert len(fitted.values["w"].scale) == 1
    np.testing.assert_array_equal(
        np.float32(fitted.values["w"].scale[0]),
        weight_params_of(plan, "w", const(model.value("w"))).scale,  # type: ignore[arg-type]
    )
    emit_qdq(model, fitted)


def test_a_layer_that_is_too_wide_keeps_its_integers() -> None:
    model, batches, plan = one()
    fitted = fit_isolated(model, plan, batches, open_runner, replace(ALL, largest=7))
    assert not fitted.values["w"].nudge and fitted.values["w"].scale and fitted.nodes["y"].bias


def test_one_bit_activations_round_to_plus_or_minus() -> None:
    model, batches, plan = one(bit_num=1, weight_bit_num=4, overrides={"*": {"signed": True}})
    fitted = fit_isolated(model, plan, batches, open_runner, BIASES)
    x = np.concatenate([b.feeds["x"] for b in batches])
    (truth,) = seen(model, ["y"], batches)
    got = plan.params("x").fake(x).astype(np.float64) @ real(model, plan) + const(model.value("b"))  # type: ignore[operator]
    np.testing.assert_allclose(fitted.nodes["y"].bias, (truth - got).mean(0), rtol=1e-3, atol=1e-4)


# -- many layers -----------------------------------------------------------------------------------------------------


def means(model: Model, plan: Plan, batches: list[Batch], names: list[str]) -> list[float]:
    """Largest mean error of a channel in the integer network, as a share of the value's size, one a value."""
    integer = emit_qdq(model, plan)
    found = []
    for want, got in zip(seen(model, names, batches), seen(integer, names, batches), strict=True):
        found.append(float(np.abs((got - want).mean((0, 2, 3))).max() / want.std()))
    return found


def test_one_after_the_other_repairs_what_was_lost_before() -> None:
    model, batches = chain(), data()
    plan = planned(model, batches)
    alone = fit_isolated(model, plan, batches, open_runner, BIASES)
    after = fit_sequential(model, plan, batches, open_runner, lambda p: emit_qdq(model, p), BIASES)
    assert set(n for n in after.nodes if after.nodes[n].bias) == {"a", "d", "e", "y"}
    names = ["a", "d", "e"]
    assert max(means(model, plan, batches, names)) > 0.05
    assert max(means(model, after, batches, names)) < 3e-3
    assert means(model, alone, batches, names)[1] > 6e-3  # isolated layers know nothing of the error before them


def test_each_layer_sees_the_network_with_those_before_it_corrected() -> None:
    model, batches = chain(), data()
    emitted: list[set[str]] = []
    opened = Opened()
    told: list[tuple[int, int]] = []

    def emit(p: Plan) -> Model:
        emitted.append({n for n in p.nodes if p.nodes[n].bias})
        return emit_qdq(model, p)

    fit_sequential(
        model, planned(model, batches), batches, opened, emit, ALL, progress=lambda a, b: told.append((a, b))
    )
    assert emitted == [set(), {"a", "e"}, {"a", "d", "e"}]
    assert told == [(2, 4), (3, 4), (4, 4)]
    assert opened.outputs[0] == ["a", "d", "e", "y"]  # the float network, once


@pytest.mark.parametrize("sequential", [False, True])
def test_little_memory_takes_more_passes_and_gives_the_same(sequential: bool) -> None:
    model, batches = chain(), data()
    plan = planned(model, batches)
    found, passes = [], []
    for memory in (256, 0):
        opened, how = Opened(), replace(ALL, memory=memory)
        if sequential:
            made = fit_sequential(model, plan, batches, opened, lambda p: emit_qdq(model, p), how)
        else:
            made = fit_isolated(model, plan, batches, opened, how)
        found.append(made)
        passes.append(len(opened.outputs))
    assert found[0] == found[1] and passes == ([4, 8] if sequential else [1, 4])


def test_when_time_is_up_the_rest_stays_as_it_is() -> None:
    model, batches = chain(), data()
    plan = planned(model, batches)
    past = time.monotonic() - 1
    assert fit_isolated(model, plan, batches, open_runner, ALL, past) == plan
    assert fit_sequential(model, plan, batches, open_runner, lambda p: emit_qdq(model, p), ALL, past) == plan

    ends: list[float] = []

    def emit(p: Plan) -> Model:
        ends.append(time.monotonic())
        while time.monotonic() < deadline:
            time.sleep(0.005)
        return emit_qdq(model, p)

    deadline = time.monotonic() + 0.3
    some = fit_sequential(model, plan, batches, open_runner, emit, ALL, deadline)
    assert len(ends) <= 1 and {n for n in some.nodes if some.nodes[n].bias} <= {"a", "e"}


def test_the_same_data_gives_the_same_plan_and_nothing_is_changed() -> None:
    model, batches = chain(), data()
    plan, digest = planned(model, batches), model.digest()
    kept = [b.feeds["x"].copy() for b in batches]
    few = replace(ALL, places=5)
    assert fit_isolated(model, plan, batches, open_runner, few) == fit_isolated(model, plan, batches, open_runner, few)
    assert model.digest() == digest and not plan.nodes["a"].bias
    for b, x in zip(batches, kept, strict=True):
        np.testing.assert_array_equal(b.feeds["x"], x)


def test_a_network_without_such_layers_is_left_alone() -> None:
    model = net("(float[N,3,6,6] x) => (float[N,3,6,6] y) { y = Add(x, x) }")
    batches = data()
    plan = planned(model, batches)
    opened = Opened()
    assert fit_isolated(model, plan, batches, opened, ALL) == plan and not opened.outputs
    assert fit_sequential(model, plan, batches, opened, lambda p: model, ALL) == plan and not opened.outputs
