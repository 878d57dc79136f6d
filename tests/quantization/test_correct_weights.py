"""Corrections of weight-only plans: never worse than the nearest, kept only if others agree, small without data."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

from fewbit.config import QuantConfig
from fewbit.core.params import weight_params
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.graph.emit import emit_qdq, stored_weight, weight_params_of
from fewbit.graph.model import Model, const
from fewbit.quantization.correct import Setting, any_wanted
from fewbit.quantization.correct_weights import correct_weights, finest, in_float, least_squares, without_data
from fewbit.quantization.layerwise import Fitting, fit_isolated, fit_sequential
from fewbit.quantization.trial import Trial
from fewbit.quantization.weight_moments import spread_and_mean
from fewbit.quantization.weight_only import make_weight_plan
from tests.graph.nets import net
from tests.models import TARGET
from tests.quantization.nets import Batch
from tests.quantization.test_smooth import open_runner


def convolutions() -> Model:
    """Two convolutions, a depthwise one between them, behind Relus, so that means matter."""
    return net(
        """(float[N,8,8,8] x) => (float[N,16,8,8] y) {
            a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a)
            d = Conv<group=16, pads=[1,1,1,1]>(r, w2, b2) s = Relu(d)
            y = Conv<pads=[1,1,1,1]>(s, w3)
        }""",
        w1=(16, 8, 3, 3), b1=(16,), w2=(16, 1, 3, 3), b2=(16,), w3=(16, 16, 3, 3),
    )  # fmt: skip


def products() -> Model:
    """MatMul with a bias behind it, then a transposed Gemm."""
    return net(
        """(float[N,64] x) => (float[N,24] y) {
            a = MatMul(x, w1) c = Add(a, b1) r = Relu(c) y = Gemm<transB=1>(r, w2, b2)
        }""",
        w1=(64, 48), b1=(48,), w2=(24, 48), b2=(24,),
    )  # fmt: skip


def data(model: Model, count: int = 8, size: int = 12, seed: int = 0) -> list[Batch]:
    """Inputs that lean on each other, in the same way for every seed."""
    rng = np.random.default_rng(seed)
    channels, *rest = (int(d) for d in model.inputs[0].shape[1:])  # type: ignore[union-attr]
    mix = np.random.default_rng(77).standard_normal((max(2, channels // 4), channels))
    found = []
    for i in range(count):
        few, own = (rng.standard_normal((size, c, *rest)) for c in (len(mix), channels))
        x = 0.5 + np.einsum("nb...,bc->nc...", few, mix) + 0.2 * own
        found.append(Batch({"x": x.astype(np.float32)}, i))
    return found


def planned(model: Model, **words: Any) -> tuple[Plan, QuantConfig]:
    config = QuantConfig(quant_type="weight", **words)
    return make_weight_plan(model, config, TARGET), config


def setting(model: Model, config: QuantConfig) -> Setting:
    emit = partial(in_float, model)
    trial = Trial(model, data(model, 4, seed=9), open_runner, emit)
    return Setting(model, config, TARGET, data(model), trial, open_runner, emit, lambda m, p: p)


def noise(model: Model, plan: Plan, seed: int = 5) -> float:
    truth, found = open_runner(model), open_runner(in_float(model, plan))
    feeds = [b.feeds for b in data(model, 4, seed=seed)]
    return sum(float(np.square(truth.run(f)["y"] - found.run(f)["y"]).sum()) for f in feeds)


@pytest.mark.parametrize("words", [{}, {"quant_strategy": "GPTQ", "effort": "fast"}, {"effort": "best"}])
@pytest.mark.parametrize("shape", [{"bit_num": 4}, {"bit_num": 3, "group_size": 16}, {"bit_num": 8}])
@pytest.mark.parametrize("made", [convolutions, products])
def test_what_is_fitted_helps_on_other_samples(made: Any, shape: dict[str, Any], words: dict[str, Any]) -> None:
    model = made()
    plan, config = planned(model, **shape, **words)
    found, told = correct_weights(plan, setting(model, config))
    assert any(c.kept for c in told) and all(c.gain > 0.1 for c in told if c.kept)
    free = without_data(plan, model, config)
    assert noise(model, found) < 0.8 * noise(model, free) and noise(model, found) < 0.8 * noise(model, plan)
    assert Plan.from_json(found.to_json()) == found


@pytest.mark.parametrize("made", [convolutions, products])
def test_the_packed_file_computes_what_was_judged(made: Any) -> None:
    model = made()
    plan, config = planned(model, bit_num=3)
    found, _ = correct_weights(plan, setting(model, config))
    feeds = data(model, 1)[0].feeds
    packed, judged = (open_runner(m).run(feeds)["y"] for m in (emit_qdq(model, found), in_float(model, found)))
    np.testing.assert_allclose(packed, judged, rtol=1e-5, atol=1e-5)


def test_max_min_keeps_the_nearest_integers() -> None:
    model = convolutions()
    plan, config = planned(model, bit_num=3, quant_strategy="MAX_MIN", bias_correction=False)
    assert correct_weights(plan, setting(model, config)) == (plan, ())
    plan, config = planned(model, bit_num=3, quant_strategy="MAX_MIN")
    found, told = correct_weights(plan, setting(model, config))
    assert told == () and found == spread_and_mean(plan, model) != plan


def test_mixed_bit_is_left_to_its_own_search() -> None:
    model = convolutions()
    plan, config = planned(model, bit_num=0)
    assert correct_weights(plan, setting(model, config)) == (plan, ()) and not any_wanted(config)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({}, True),
        ({"effort": "fast"}, False),
        ({"effort": "fast", "quant_strategy": "GPTQ"}, True),
        ({"effort": "best", "quant_strategy": "MAX_MIN"}, False),
    ],
)
def test_what_needs_data(words: dict[str, Any], wanted: bool) -> None:
    assert any_wanted(QuantConfig(quant_type="weight", bit_num=4, **words)) is wanted


def test_words_that_are_off_are_not_fitted() -> None:
    model = products()
    plan, config = planned(model, bit_num=3, bias_correction=False, weight_range=False)
    found, told = correct_weights(plan, setting(model, config))
    assert told[0].kept and all(v.nudge and not v.gain for v in found.values.values())
    assert not any(n.bias for n in found.nodes.values())
    plain = {k: v.scale for k, v in fresh_scales(model, plan).items()}
    assert {k: v.scale for k, v in found.values.items()} == plain


def fresh_scales(model: Model, plan: Plan) -> dict[str, Any]:
    """Entries with the scales of the largest magnitudes written out."""
    out = {}
    for key, v in plan.values.items():
        w = const(model.value(key))
        assert w is not None
        out[key] = replace(v, scale=tuple(map(float, weight_params_of(plan, key, w).scale.reshape(-1))))
    return out


# -- one layer -------------------------------------------------------------------------------------------------------


def layer_error(model: Model, plan: Plan, batches: list[Batch]) -> Any:
    """Mean squared error of each output of the last layer of a network of one layer."""
    truth, found = open_runner(model), open_runner(in_float(model, plan))
    off = [truth.run(b.feeds)["y"] - found.run(b.feeds)["y"] for b in batches]
    return np.square(np.concatenate(off).astype(np.float64)).mean(0)


@pytest.mark.parametrize("feedback", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group", [None, 8])
def test_no_layer_is_worse_than_with_nearest_integers(feedback: bool, bits: int, group: int | None) -> None:
    model = net("(float[N,32] x) => (float[N,24] y) { y = Gemm(x, w, b) }", w=(32, 24), b=(24,))
    words = {"group_size": group} if group else {}
    plan, _ = planned(model, bit_num=bits, **words)
    batches = data(model, 8, 16)
    fitted = fit_isolated(model, plan, batches, open_runner, Fitting(feedback=feedback, places=64, damping=0.01))
    before, after = (layer_error(model, p, batches) for p in (plan, fitted))
    assert after.sum() < 0.7 * before.sum() and (after < before * 1.3).all()


def test_biases_alone_take_gains_and_offsets_into_account() -> None:
    model = convolutions()
    plan, _ = planned(model, bit_num=3)
    alone, batches = Fitting(scales=False, rounding=False, places=64), data(model)
    plan = spread_and_mean(plan, model)
    fitted = fit_isolated(model, plan, batches, open_runner, alone)
    assert fitted.values == plan.values
    only = replace(fitted, nodes={k: replace(n, bias=n.bias if k == "a" else ()) for k, n in fitted.nodes.items()})
    (truth, found) = (open_runner(m.with_outputs(["a"])) for m in (model, in_float(model, only)))
    off = np.mean([(truth.run(b.feeds)["a"] - found.run(b.feeds)["a"]).mean((0, 2, 3)) for b in batches], 0)
    np.testing.assert_allclose(off, 0, atol=1e-4)


def test_layers_in_order_help_on_other_samples() -> None:
    model = products()
    plan, _ = planned(model, bit_num=2)
    batches, emit, fitting = data(model, 12, 8), partial(in_float, model), Fitting(damping=0.1)
    order = fit_sequential(model, plan, batches, open_runner, emit, fitting)
    assert noise(model, order) < 0.6 * noise(model, plan)


# -- without data ----------------------------------------------------------------------------------------------------


def test_scales_of_least_squares_against_every_candidate() -> None:
    w = np.random.default_rng(0).standard_t(3, (6, 20)).astype(np.float32)
    spec = QuantSpec(3, signed=True, granularity="channel", axis=0)
    params = weight_params(spec, w)
    found = least_squares(w, params)

    def error(scale: Any) -> Any:
        return np.square(replace(params, scale=scale).fake(w) - w).sum(1)

    assert (error(found) <= error(params.scale)).all() and error(found).sum() < 0.98 * error(params.scale).sum()
    for r in (0.3, 0.5, 0.8, 1.0):
        near = error(np.asarray(params.scale * r, np.float32))
        assert error(found).sum() <= 1.02 * near.sum()  # the grid is about 5 % wide


def test_the_best_rounding_of_four_weights_is_found_when_nothing_leans() -> None:
    """Against every way to round up or down, at the scales that were chosen."""
    model = net("(float[N,4] x) => (float[N,32] y) { y = Gemm(x, w) }", w=(4, 32))
    x = np.kron(np.eye(4), [[1], [-1]]).astype(np.float32) * 2
    plan, _ = planned(model, bit_num=3, min_quant_weight_size=0)
    if not plan.values:  # so small a weight is not worth storing; what is asked here is the rounding
        plan = forced(model, plan)
    fitted = fit_isolated(model, plan, [Batch({"x": x}, 0)], open_runner, Fitting(bias=False, damping=1e-3))
    w = const(model.value("w"))
    assert w is not None
    stored = stored_weight(fitted, "w", w)
    scale = stored.params.scale
    low = np.floor(w / scale)
    best = np.full(32, np.inf)
    for ups in product((0, 1), repeat=4):
        q = np.clip(low + np.array(ups)[:, None], stored.params.spec.qmin, stored.params.spec.qmax)
        best = np.minimum(best, np.square(q * scale - w).sum(0))
    np.testing.assert_allclose(np.square(stored.real() - w).sum(0), best, rtol=1e-3, atol=1e-6)


def forced(model: Model, plan: Plan) -> Plan:
    """The plan with `w` in 3 bits."""
    from fewbit.core.plan import NodePlan, ValuePlan

    spec = QuantSpec(3, signed=True, symmetric=True, narrow=True, granularity="channel", axis=1)
    value = ValuePlan(spec, "weight", "w", storage="packed", observe=False)
    return replace(plan, values={"w": value}, nodes={"y": NodePlan(True, "", ("keep", "weight"), ("float",))})


def test_wide_weights_and_nudged_ones_keep_their_scales() -> None:
    model = convolutions()
    wide, _ = planned(model, bit_num=6)
    assert finest(wide, model) == wide
    narrow, config = planned(model, bit_num=3)
    assert all(v.scale for v in finest(narrow, model).values.values())
    found, _ = correct_weights(narrow, setting(model, config))
    assert finest(found, model) == found


def test_groups_get_scales_that_half_precision_holds() -> None:
    model = products()
    plan, config = planned(model, bit_num=4, group_size=16)
    for found in (finest(plan, model), correct_weights(plan, setting(model, config))[0]):
        for v in found.values.values():
            assert v.scale and np.array_equal(np.float16(v.scale).astype(np.float32), np.float32(v.scale))
