"""Target tensorrt: what is written obeys NVIDIA's rules, runs in the engine that stands in for it, and says so."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.core.target import TARGETS
from fewbit.engines import engine_of, engine_version, open_runner
from fewbit.engines.tensorrt_rules import FLOAT_ONLY, REFUSES, RULES
from fewbit.errors import ConfigError, FewbitWarning
from fewbit.graph.model import Model, op_name
from fewbit.graph.tensorrt_legal import ILLEGAL, check_tensorrt
from fewbit.quantization.limits import LIMITS
from tests.models import NETWORKS, feeds_for, info, load, node, proto, weight

TARGET = TARGETS["tensorrt"]


def samples(model: Model, count: int = 2) -> list[dict[str, Any]]:
    return [feeds_for(model, seed) for seed in range(count)]


def quantized(model: Model, **words: Any) -> fb.Quantized:
    return fb.quantize(model, samples(model), target="tensorrt", **{"effort": "fast", "verify": False, **words})


def bottleneck(shortcut: bool) -> Model:
    """x → stem → Relu → two convolutions + (stem, or a convolution of it) → Relu → pool → Flatten → Gemm → y."""
    side = [node("Conv", "r wd bd", "d", "down")] if shortcut else []
    return load(proto([
        node("Conv", "x w1 b1", "c1", "stem"), node("Relu", "c1", "r", "relu1"),
        node("Conv", "r w2 b2", "c2", "inner"), node("Relu", "c2", "r2", "relu2"),
        node("Conv", "r2 w3 b3", "c3", "outer"), *side,
        node("Add", "c3 d" if shortcut else "c3 r", "s", "sum"), node("Relu", "s", "r3", "relu3"),
        node("GlobalAveragePool", "r3", "p", "pool"), node("Flatten", "p", "f", "flat"),
        node("Gemm", "f wf bf", "y", "head", transB=1),
    ], [info("x", ["n", 3, 6, 6])], [info("y", ["n", 5])], {
        "w1": weight(4, 3, 1, 1), "b1": weight(4), "w2": weight(4, 4, 1, 1, seed=1), "b2": weight(4, seed=1),
        "w3": weight(4, 4, 1, 1, seed=2), "b3": weight(4, seed=2), "wd": weight(4, 4, 1, 1, seed=3),
        "bd": weight(4, seed=3), "wf": weight(5, 4), "bf": weight(5),
    }))  # fmt: skip


def quantized_inputs(model: Model, name: str) -> list[bool]:
    """Which inputs of a layer come from a DQ."""
    return [
        v is not None and v.producer() is not None and op_name(v.producer()) == "DequantizeLinear"
        for v in model.node(name).inputs
    ]


@pytest.mark.parametrize("mode", ["smart", "full"])
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"loop", "scan"}))
def test_every_network_becomes_legal(name: str, mode: str) -> None:
    model = load(NETWORKS[name]())
    made = quantized(model, quantize_mode=mode)
    assert [v for v in check_tensorrt(made) if v.severity == ILLEGAL] == []
    assert any(op_name(n) == "QuantizeLinear" for n in made.nodes), made.plan.kept_float()
    feeds = samples(model)[1]
    for key, want in open_runner("onnxruntime", model).run(feeds).items():
        got = open_runner("tensorrt", made).run(feeds)[key]
        assert np.square(got - want).mean() < 0.01 * np.square(want).mean()


@pytest.mark.parametrize("shortcut", [False, True])
def test_residual_sums_merge_into_the_layer_in_front(shortcut: bool) -> None:
    made = quantized(bottleneck(shortcut))
    assert check_tensorrt(made) == []
    assert quantized_inputs(made, "sum") == [False, True], "the layer's side stays float, the other one does not"
    assert made.plan.nodes["sum"].roles == ("keep", "act") and made.plan.nodes["sum"].quantized
    assert quantized_inputs(made, "stem") == [True, True, False], "input and weight; the bias stays float"
    assert quantized_inputs(made, "pool") == [True] and quantized_inputs(made, "head") == [True, True, False]
    assert "y" not in made.plan.values, "what the network answers stays float"


def test_a_layer_that_others_read_too_is_no_main_branch() -> None:
    model = bottleneck(False)
    model.graph.outputs.append(model.value("c3"))
    assert quantized(model).plan.nodes["sum"].roles == ("act", "act")


def test_a_layer_kept_float_keeps_its_place_in_the_sum() -> None:
    made = quantized(bottleneck(False), exclude_layers=["outer"])
    assert quantized_inputs(made, "outer")[1:] == [False, False]
    assert made.plan.nodes["sum"].roles == ("keep", "act")
    assert check_tensorrt(made) == []


def test_corrected_biases_stay_float() -> None:
    model = bottleneck(False)
    model.node("inner").resize_inputs(2)  # a new bias, too
    made = quantized(model)
    names = {n: (0.25,) * 4 for n in ("stem", "inner")}
    nodes = {k: replace(n, bias=names.get(k, ())) for k, n in made.plan.nodes.items()}
    again = fb.apply(fb.fuse(model), replace(made.plan, nodes=nodes))
    assert check_tensorrt(again) == []
    assert len(again.node("inner").inputs) == 3 and quantized_inputs(again, "inner") == [True, True, False]


def test_formats() -> None:
    made = quantized(bottleneck(True))
    for name, v in made.plan.values.items():
        assert (v.spec.bits, v.spec.signed, v.spec.symmetric) == (8, True, True), name
        want = ("channel", 0) if v.role == "weight" else ("tensor", None)
        assert (v.spec.granularity, v.spec.axis) == want, name


def test_grouped_transposed_and_one_dimensional_convolutions_stay_float() -> None:
    weights = {"w": weight(4, 2, 2, 2), "v": weight(4, 3, 3)}
    model = load(proto([node("ConvTranspose", "x w", "y", "up", group=2), node("Conv", "z v", "q", "line")],
                       [info("x", [1, 4, 6, 6]), info("z", [1, 3, 9])], [info("y", None), info("q", None)],
                       weights))  # fmt: skip
    plan = fb.make_plan(model, target="tensorrt")
    assert plan.nodes["up"].reason == "ConvTranspose is integer on tensorrt only if: weight is constant, one group"
    assert plan.nodes["line"].reason == "Conv is integer on tensorrt only if: 2-D convolution or 3-D convolution"


# -- what it cannot take ----------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("run-time ranges", {"quant_type": "dynamic"}, "calib_mode 'none': .* use quant_type full"),
    ("weights alone", {"quant_type": "weight"}, "quant_type 'weight': .* use quant_type full"),
    ("uint8 activations", {"quantized_dtype": "uint8"}, "quantized_dtype 'uint8': its integers are signed"),
    ("uint8 activations", {"overrides": {"conv": {"signed": False}}}, "^override for 'conv': .* signed False: "),
    ("zero points", {"overrides": {"conv": {"symmetric": False}}}, "symmetric False: its integers are symmetric"),
    ("activations of other widths", {"bit_num": 4}, "bit_num 4: .* for smaller weights say weight_bit_num"),
    ("activations of other widths", {"overrides": {"*": {"bit_num": 16}}}, "bit_num 16: activations have 8 bits"),
    ("weights over 8 bits", {"weight_bit_num": 9}, "weight_bit_num 9: .* keep the layer float instead"),
    ("groups", {"group_size": 8}, "quantize_granularity 'group-wise': .* use quantize_granularity channel-wise"),
    ("groups", {"overrides": {"*": {"granularity": "group"}}}, "granularity 'group'"),
    ("timing", {"measure": True}, "measure True: .* time with trtexec"),
    ("timing", {"max_latency": 0.5}, "max_latency 0.5: TensorRT does not run here"),
]


@pytest.mark.parametrize(("limit", "words", "says"), REFUSED)
def test_words_that_it_cannot_take_are_refused(limit: str, words: dict[str, Any], says: str) -> None:
    model = load(NETWORKS["conv_relu"]())
    with pytest.raises(ConfigError, match=says) as e:
        fb.make_plan(model, target="tensorrt", **words)
    assert "target 'tensorrt' does not take" in str(e.value) and REFUSES[limit] in str(e.value)
    if limit != "timing":
        fb.make_plan(model, target="onnxruntime", **words)


def test_every_limit_is_tried_and_known() -> None:
    assert {limit for limit, _, _ in REFUSED} == set(REFUSES) == set(LIMITS)
    assert all(set(t.refuses) <= set(LIMITS) for t in TARGETS.values())


def test_narrow_weights_are_stored_in_8_bits() -> None:
    model = load(NETWORKS["conv_relu"]())
    made = quantized(model, weight_bit_num=4)
    assert check_tensorrt(made) == [] and made.plan.values["w"].spec.bits == 4


# -- the engine that stands in ----------------------------------------------------------------------------------------


def test_it_runs_in_onnxruntime_as_it_is_written() -> None:
    assert engine_of("tensorrt") == "onnxruntime" and engine_of("onnxruntime-arm") == "onnxruntime"
    assert engine_of("openvino") == "openvino"
    assert engine_version("tensorrt") == engine_version("onnxruntime")
    made = quantized(bottleneck(False))
    assert not any(e.integer for e in open_runner("tensorrt", made).executed()), "Q and DQ as they stand"
    assert any(e.integer for e in open_runner("onnxruntime", made).executed())


def test_the_report_says_where_it_ran_and_times_nothing() -> None:
    model = load(NETWORKS["conv_relu"]())
    report = quantized(model, verify=True).report
    assert report is not None and report.latency is None and report.sqnr is not None
    assert any("compared in onnxruntime" in w and "tensorrt itself was not run here" in w for w in report.warnings)
    assert "not measured" in report.text()


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)
        yield


def test_sizes_times_nothing(quiet: None) -> None:
    model = load(NETWORKS["conv_relu"]())
    found = fb.sizes(model, samples(model), forms=("full",), target="tensorrt")
    assert all(r.latency is None for r in found.rows) and "onnxruntime" in found.about


# -- the table --------------------------------------------------------------------------------------------------------


def test_rows() -> None:
    assert not [op for op in FLOAT_ONLY if TARGET.has(op)] and all(FLOAT_ONLY.values())
    assert all(r.note and r.pays is None and "bias" not in r.inputs for r in RULES), "nothing was measured"
    for row in RULES:
        above = [r.when for r in RULES[: RULES.index(row)] if r.op == row.op]
        assert row.when not in above and "always" not in above
    assert TARGET.checked == "not run here" and TARGET.float_bias and not TARGETS["onnxruntime"].float_bias
