"""SmoothQuant: outlier channels in front of a MatMul, and where it can do nothing. Channel ranges, streamed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewbit.config import QuantConfig
from fewbit.core.metrics import sqnr_db
from fewbit.core.plan import Plan, Rescale
from fewbit.core.target import TARGETS
from fewbit.engines.onnxruntime import OnnxRuntime
from fewbit.errors import BadSample, ConfigError, EmptyData, NotCalibrated
from fewbit.graph.emit import emit_qdq
from fewbit.graph.model import Model
from fewbit.graph.rescale import rescaled, sites, smoothable
from fewbit.quantization.channels import ChannelRange, channel_maxima, watched
from fewbit.quantization.plan import make_plan
from fewbit.quantization.smooth import SAME, smooth
from fewbit.quantization.static import calibrate
from tests.graph.nets import f32, net
from tests.models import TARGET
from tests.quantization.nets import Batches

OUTLIERS = np.array([1, 1, 1, 60, 1, 1, 1, 0.2], np.float32)


def open_runner(model: Model) -> OnnxRuntime:
    return OnnxRuntime(model, threads=1)


def normal(shape: tuple[int, ...], count: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal(shape, dtype=np.float32)} for _ in range(count)]


def transformer(*, gamma: Any = OUTLIERS, residual: bool = False) -> Model:
    """LayerNormalization with channels of very different size, and two MatMuls, to which they matter alike."""
    text = (
        "(float[N,6,8] x) => (float[N,6,8] y, float[N,6,8] z) "
        "{ v = LayerNormalization(x, g) a = MatMul(v, w) z = MatMul(v, u) y = "
        + ("Add(a, v) }" if residual else "Relu(a) }")
    )
    g = np.asarray(gamma, np.float32)
    w, u = np.random.default_rng(5).standard_normal((2, 8, 8)).astype(np.float32) / np.maximum(g, 1)[:, None]
    return net(text, g=g, w=w, u=u)


def calibrated(model: Model, batches: list[dict[str, Any]], **words: Any) -> Plan:
    config = QuantConfig(quantize_mode="full", calib_mode="naive", **words)
    plan = make_plan(model, config, TARGET)
    return calibrate(model, plan, Batches(*(b["x"] for b in batches)), open_runner, config)


def error(model: Model, rescales: tuple[Rescale, ...], batches: list[dict[str, Any]], **words: Any) -> float:
    """SQNR of the worst output of the integer network, on other data than it was calibrated on."""
    float_net = rescaled(model, rescales)
    ours = open_runner(emit_qdq(float_net, calibrated(float_net, batches, **words)))
    theirs = open_runner(model)
    held = normal(batches[0]["x"].shape, 4, seed=99)
    pairs = [(theirs.run(b), ours.run(b)) for b in held]
    names = [o.name for o in model.outputs]
    return min(sqnr_db(np.stack([a[n] for a, _ in pairs]), np.stack([b[n] for _, b in pairs])) for n in names)


def maxima(model: Model, batches: list[dict[str, Any]]) -> dict[str, ChannelRange]:
    return channel_maxima(model, watched(smoothable(model)), batches, open_runner)


def test_outliers_in_front_of_matmuls_cost_less() -> None:
    model, data = transformer(), normal((64, 6, 8))
    chosen = smooth(model, sites(model), maxima(model, data))
    assert [r.value for r in chosen] == ["v"] and chosen[0].why == "SmoothQuant, α = 0.8"
    assert error(model, chosen, data) > error(model, (), data) + 6


def test_so_they_do_where_a_residual_reads_the_value_too() -> None:
    model, data = transformer(residual=True), normal((64, 6, 8))
    assert not smooth(model, sites(model), maxima(model, data))
    chosen = smooth(model, smoothable(model), maxima(model, data))
    assert rescaled(model, chosen).node("v.rescale").op_type == "Mul"
    plan = make_plan(rescaled(model, chosen), QuantConfig(quantize_mode="full"), TARGETS["onnxruntime"])
    assert not plan.nodes["v.rescale"].quantized and plan.nodes["v.rescale"].reason.startswith("part of a Rescale")
    assert "v.rescaled" in plan.values
    assert error(model, chosen, data) > error(model, (), data) + 6
    before, after = (open_runner(rescaled(model, r)) for r in ((), chosen))
    for b in data:
        np.testing.assert_allclose(before.run(b)["y"], after.run(b)["y"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_factors_are_the_formula(alpha: float) -> None:
    model, data = transformer(), normal((2, 6, 8))
    seen = maxima(model, data)
    (rescale,) = smooth(model, sites(model), seen, alpha)
    values = model.values()
    w = np.maximum(*(np.abs(values[n].const_value.numpy()).max(1) for n in ("w", "u")))  # type: ignore[union-attr]
    ratio = np.array(rescale.scale) / (seen["v"].top ** alpha / w ** (1 - alpha))
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
    assert np.prod(rescale.scale) == pytest.approx(1)


def test_a_depthwise_reader_has_weights_of_its_own_for_each_channel() -> None:
    model = net(
        "(float[N,3,6,6] x) => (float[N,4,6,6] y) { v = Conv(x, w) y = Conv<group=4, pads=[1,1,1,1]>(v, u) }",
        w=(4, 3, 1, 1), u=(4, 1, 3, 3),
    )  # fmt: skip
    seen = {"v": ChannelRange(-np.array([1.0, 2, 4, 8]), np.ones(4))}
    (rescale,) = smooth(model, sites(model), seen, 0.5)
    np.testing.assert_allclose(np.array(rescale.scale) / rescale.scale[0], [1, 2, 4, 8])


def test_channels_that_are_never_used_keep_factors_in_reason() -> None:
    model = transformer()
    top = np.array([1.0, 0, 1, 1, 1, 1, 1, 1])
    (rescale,) = smooth(model, sites(model), {"v": ChannelRange(-top, top)}, 1.0)
    assert max(rescale.scale) / min(rescale.scale) == pytest.approx(1000)
    assert smooth(model, sites(model), {"v": ChannelRange(0 * top, 0 * top)}, 1.0) == ()


def test_equal_channels_leave_nothing_to_do() -> None:
    model, one = transformer(), np.ones(8)
    assert smooth(model, sites(model), {"v": ChannelRange(-one, one * SAME**0.5)}, 1.0) == ()
    assert smooth(net("(float[N,4] x) => (float[N,2] y) { y = Gemm(x, w) }", w=(4, 2)), [], {}) == ()


def test_a_reader_is_smoothed_once() -> None:
    model, top = transformer(), OUTLIERS.astype(np.float64)
    twice = [*sites(model), *sites(model)]
    assert len(smooth(model, twice, {"v": ChannelRange(-top, top)})) == 1


def relu6() -> Model:
    text = "(float[N,3,6,6] x) => (float[N,2,6,6] y) { v = Conv(x, w) k = Clip(v, lo, hi) y = Conv(k, u) }"
    return net(text, w=(4, 3, 1, 1), u=(2, 4, 1, 1), lo=f32(0), hi=f32(6))


def test_a_clip_is_taken_away_only_where_it_cuts_nothing_off() -> None:
    model, lo = relu6(), np.zeros(4)
    idle, busy = np.array([1.0, 2, 3, 6]), np.array([1.0, 2, 3, 6.1])
    (rescale,) = smooth(model, sites(model), {"v": ChannelRange(lo, idle), "k": ChannelRange(lo, idle)})
    assert rescale.unclip == ("k",)
    assert smooth(model, sites(model), {"v": ChannelRange(lo, busy), "k": ChannelRange(lo, idle)}) == ()


def test_a_plan_carries_it() -> None:
    model, data = transformer(), normal((2, 6, 8))
    chosen = smooth(model, sites(model), maxima(model, data))
    plan = replace(calibrated(rescaled(model, chosen), data), rescales=chosen)
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_alpha_is_checked(alpha: float) -> None:
    with pytest.raises(ConfigError, match="it must be from 0"):
        smooth(transformer(), [], {}, alpha)


def test_a_missing_range_is_told() -> None:
    model = transformer()
    with pytest.raises(NotCalibrated, match="the channels of 'v' were not measured; give channel_maxima"):
        smooth(model, sites(model), {})


# -- channel ranges --------------------------------------------------------------------------------------------------


def test_channel_ranges_are_those_of_all_batches() -> None:
    model, data = transformer(), normal((2, 6, 8), 3)
    runner = open_runner(model.with_outputs(["v"]))
    every = np.concatenate([runner.run(b)["v"] for b in data])
    found = channel_maxima(model, {"v": -1, "x": -2}, data, open_runner)
    np.testing.assert_array_equal(found["v"].lo, every.min((0, 1)))
    np.testing.assert_array_equal(found["v"].hi, every.max((0, 1)))
    np.testing.assert_array_equal(found["v"].top, np.abs(every).max((0, 1)))
    np.testing.assert_array_equal(found["x"].hi, np.concatenate([b["x"] for b in data]).max((0, 2)))


def test_nothing_to_watch_runs_nothing() -> None:
    assert channel_maxima(transformer(), {}, [], open_runner) == {}


def test_no_data_and_bad_data_are_told() -> None:
    model = transformer()
    with pytest.raises(EmptyData, match="holds no batch"):
        channel_maxima(model, {"v": -1}, [], open_runner)
    bad = {"x": np.full((1, 6, 8), np.nan, np.float32)}
    with pytest.raises(BadSample, match="value 'v' holds NaN or infinity in batch 1"):
        channel_maxima(model, {"v": -1}, [*normal((1, 6, 8), 1), bad], open_runner)
