"""The engine `ncnn` runs, times and shows networks as other engines do; quantizing for it verifies in it."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.api import common
from fewbit.core.target import TARGETS
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test
from fewbit.engines import engine_of, engine_version, open_runner
from fewbit.errors import ConfigError, EngineError, EngineMissing, FewbitWarning
from fewbit.graph.fuse import fuse
from tests.models import conv_relu, load, residual

CALIB, TEST = demo_calibration()["image"], demo_test()


@pytest.fixture(scope="module")
def demo() -> Any:
    return fb.quantize(DEMO_MODEL, {"image": CALIB}, target="ncnn", effort="fast", batch_size=32, verify=False)


@pytest.fixture(scope="module")
def runner(demo: Any) -> Any:
    return open_runner("ncnn", demo)


def test_the_demo_network_answers_as_simulated(demo: Any, runner: Any) -> None:
    x = TEST["image"][:100]
    got, want = runner.run({"image": x})["logits"], open_runner("onnxruntime", demo, literal=True).run({"image": x})
    assert got.shape == (100, 10) and got.dtype == np.float32
    assert (got.argmax(1) == want["logits"].argmax(1)).mean() >= 0.99
    assert np.square(got - want["logits"]).sum() < 1e-3 * np.square(got).sum()


def test_without_the_optimizer_it_is_the_simulation(demo: Any) -> None:
    """No packed kernels, no Winograd, float between the layers: what is left differs where sums end in other digits."""
    x = {"image": TEST["image"][:20]}
    got = open_runner("ncnn", demo, optimize=False).run(x)["logits"]
    np.testing.assert_allclose(got, open_runner("onnxruntime", demo, literal=True).run(x)["logits"], atol=1e-4)


def test_a_float_network_is_that_of_onnx_runtime() -> None:
    model, x = fb.load(DEMO_MODEL), {"image": TEST["image"][:20]}
    got, want = (open_runner(e, model).run(x)["logits"] for e in ("ncnn", "onnxruntime"))
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_executed_names_integer_layers_as_onnx_does(runner: Any) -> None:
    found = runner.executed()
    ops = [e.op for e in found if e.integer]
    assert [ops.count(op) for op in ("Convolution", "ConvolutionDepthWise", "InnerProduct")] == [11, 1, 1]
    assert {"/stem/conv/Conv", "/fc/Gemm"} <= {e.node for e in found if e.integer and e.types == "s8 s8"}
    assert {e.op for e in found if not e.integer} == {"BinaryOp", "ReLU", "Pooling"}


def test_profile_times_every_layer(runner: Any) -> None:
    found = runner.profile({"image": TEST["image"][:1]}, repeat=2)
    assert [t.node for t in found] == [e.node for e in runner.executed()]
    assert all(t.us > 0 for t in found)


def test_reports_take_the_engine_by_its_word(demo: Any) -> None:
    data = {"image": TEST["image"][:64], "labels": TEST["labels"][:64]}
    assert fb.evaluate(demo, data, engine="ncnn", threads=1, batch_size=32).accuracy[1].rate > 0.85
    x = {"x": np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)}
    q = fb.quantize(load(residual()), x, target="ncnn", effort="fast", verify=False)
    found = fb.compare(load(residual()), q, x, engine="ncnn", threads=1)
    assert {layer.name for layer in found.layers} == {"x", "c1", "r", "c2", "a", "y"}
    assert all(layer.sqnr > 15 for layer in found.layers)


def test_values_that_only_int8_layers_see_are_shown_rounded() -> None:
    fused, x = fuse(load(residual())), np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)
    q = fb.apply(fused, fb.calibrate(fused, fb.make_plan(fused, target="ncnn"), {"x": x}))
    seen = q.with_outputs(["x_dq", "r_dq", "r"])
    got, want = open_runner("ncnn", seen).run({"x": x}), open_runner("onnxruntime", seen, literal=True).run({"x": x})
    for name in ("y", "x_dq", "r_dq", "r"):
        np.testing.assert_allclose(got[name], want[name], atol=1e-4)


def test_several_threads_may_run_it_at_once(runner: Any) -> None:
    images = [TEST["image"][i : i + 2] for i in range(0, 24, 2)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda x: runner.run({"image": x})["logits"], images))
    for x, got in zip(images, found, strict=True):
        np.testing.assert_array_equal(got, runner.run({"image": x})["logits"])


def test_wrong_feeds_are_told_of(runner: Any) -> None:
    with pytest.raises(EngineError, match="there is no array for input image"):
        runner.run({})
    with pytest.raises(EngineError, match=r"input image.* was given shape \[1, 1, 20, 20\]"):
        runner.run({"image": np.zeros((1, 1, 20, 20), np.float32)})


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_network_for_another_engine_is_refused_with_the_way_out(target: str) -> None:
    fused, x = fuse(load(conv_relu())), np.ones((1, 3, 6, 6), np.float32)
    q = fb.apply(fused, fb.calibrate(fused, fb.make_plan(fused, target=target, quantize_mode="full"), {"x": x}))
    with pytest.raises(EngineError, match=r"quantized for another engine: value 'x' is not symmetric s8; .*'ncnn'"):
        open_runner("ncnn", q)


def test_ncnn_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(EngineMissing, match=r"pip install 'fewbit\[ncnn\]'"):
        open_runner("ncnn", load(conv_relu()))


# -- the target ------------------------------------------------------------------------------------------------------


def test_the_word_is_an_engine_and_a_target_that_is_simulated() -> None:
    assert engine_version("ncnn").startswith("ncnn ") and engine_of("ncnn-8bit") == "onnxruntime"
    assert common.own_engine("ncnn-8bit") == common.own_engine("ncnn") == "ncnn"
    assert common.own_engine("tensorrt") == common.own_engine("openvino") == ""


@pytest.mark.parametrize(("target", "bits"), [("ncnn", 6), ("ncnn-8bit", 8)])
def test_what_is_computed_by_winograd_has_6_bits(target: str, bits: int) -> None:
    fused = fuse(fb.load(DEMO_MODEL))
    plan = fb.make_plan(fused, target=target)
    weights = {k: v.spec for k, v in plan.values.items() if v.role == "weight"}
    assert {s.bits for k, s in weights.items() if "/layer1/conv" in k} == {bits}
    assert {s.bits for k, s in weights.items() if "depthwise" in k or "shortcut" in k or "fc" in k} == {8}
    acts = [v.spec for v in plan.values.values() if v.role == "act"]
    assert all(s.signed and s.symmetric and s.narrow and s.bits == 8 for s in acts)
    said = fb.make_plan(fused, target=target, overrides={"/layer1/conv1/*": {"weight_bit_num": 8}})
    bits_of = {k: v.spec.bits for k, v in said.values.items() if v.role == "weight" and "/layer1/conv" in k}
    assert [b for k, b in bits_of.items() if "conv1" in k] == [8] and [
        b for k, b in bits_of.items() if "conv2" in k
    ] == [bits]


def test_layers_round_their_inputs_and_all_else_reads_floats() -> None:
    fused = fuse(load(residual()))
    plan = fb.make_plan(fused, target="ncnn")
    assert plan.nodes["conv1"].roles == ("act", "weight", "keep") and plan.nodes["conv1"].outputs == ("both",)
    assert plan.nodes["relu1"].absorbed_by == "conv1" and not plan.nodes["add"].quantized
    q = fb.apply(fused, fb.calibrate(fused, plan, {"x": np.ones((1, 3, 6, 6), np.float32)}))
    assert [v.name for v in q.node("add").inputs] == ["c2", "r"] and q.node("conv2").inputs[0].name == "r_dq"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"quantized_dtype": "uint8"}, "its integers are signed"),
        ({"quant_type": "weight"}, "integer weights only for layers with integer inputs"),
        ({"calib_mode": "none"}, "ranges that are measured beforehand"),
        ({"weight_bit_num": 12}, "weights have 8 bits or fewer"),
        ({"bit_num": 6}, "activations have 8 bits there"),
        ({"group_size": 32}, "one scale an output channel"),
        ({"measure": True}, "time with fewbit benchmark --engine ncnn"),
    ],
)
def test_settings_that_ncnn_cannot_take(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"target 'ncnn' does not take .*{message}"):
        fb.make_plan(fuse(load(residual())), target="ncnn", **words)


def test_no_row_is_hidden_and_every_row_says_what_it_is() -> None:
    for name in ("ncnn", "ncnn-8bit"):
        target = TARGETS[name]
        assert all(r.note for r in target.rules) and not any(target.has(op) for op in target.float_only)
        assert len({(r.op, r.when) for r in target.rules}) == len(target.rules)


@pytest.mark.filterwarnings("ignore:NOT FASTER")
def test_quantize_verifies_in_ncnn_or_else_in_the_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    data, words = {"image": CALIB[:32]}, {"target": "ncnn", "effort": "fast", "batch_size": 32}
    report = fb.quantize(DEMO_MODEL, data, **words).report
    assert report is not None and report.latency is not None and report.sqnr > 20
    monkeypatch.setitem(sys.modules, "ncnn", None)
    report = fb.quantize(DEMO_MODEL, data, **words).report
    assert report is not None and report.latency is None and report.sqnr > 20
    assert any("ncnn itself was not run here" in w for w in report.warnings)


@pytest.mark.filterwarnings("ignore:compared in onnxruntime")
def test_quantize_tells_why_ncnn_could_not_verify() -> None:
    made = conv_relu()
    for value in made.graph.input:
        value.type.tensor_type.shape.dim[2].dim_param = "h"
        value.type.tensor_type.shape.dim[3].dim_param = "w"
    x = np.random.default_rng(0).standard_normal((8, 3, 6, 6)).astype(np.float32)
    with pytest.warns(FewbitWarning, match="verified in the simulation, not in ncnn: input x.*free"):
        fb.quantize(load(made), {"x": x}, target="ncnn", effort="fast")
