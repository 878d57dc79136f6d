"""Plans for ranges measured at run time: formats, verdicts, and the words that are refused."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto

import fewbit as fb
import fewbit.engines
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.core.target import TARGETS
from fewbit.errors import ConfigError, FewbitWarning
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan, slow_at_run_time
from tests.models import info, load, node, proto, weight


def plan(model: Model, target: str = "onnxruntime", **words: Any) -> Plan:
    return make_plan(model, QuantConfig(quant_type="dynamic", target=target, **words), TARGETS[target])


def product(rows: int = 4, inner: int = 384, outer: int = 384) -> Model:
    made = proto([node("MatMul", "x w", "y", "layer")], [info("x", [rows, inner])], [info("y", None)],
                 {"w": weight(inner, outer)})  # fmt: skip
    return load(made)


def table() -> Model:
    ids = info("i", [3], TensorProto.INT64)
    return load(proto([node("Gather", "t i", "y", "layer")], [ids], [info("y", None)], {"t": weight(700, 96)}))


def test_formats_of_the_strategies() -> None:
    one = plan(product(), quant_strategy="ALWC")
    assert one.values["x"].spec == QuantSpec(8, signed=False, dynamic=True)
    assert (one.values["w"].spec.granularity, one.values["w"].spec.axis) == ("channel", 1)
    assert one.values == plan(product()).values == plan(product(), quant_strategy="auto").values
    row = plan(product(), quant_strategy="ACWL")
    spec = row.values["x"].spec
    assert (spec.granularity, spec.axis, spec.symmetric, spec.dynamic) == ("channel", -2, True, True)
    assert row.values["w"].spec.granularity == "tensor"


def test_dynamic_and_calib_mode_none_are_the_same_path() -> None:
    told = make_plan(product(), QuantConfig(calib_mode="none"), TARGETS["onnxruntime"])
    assert (told.values, told.nodes) == (plan(product()).values, plan(product()).nodes)
    assert told.calibrated and not told.observed()


def test_a_target_that_measures_ranges_itself_has_no_strategy() -> None:
    with pytest.raises(ConfigError, match=r"'ACWL' is not for target 'openvino', which chooses.* take one of: onnxrun"):
        plan(product(), "openvino", quant_strategy="ACWL")
    assert plan(product(), "openvino").nodes["layer"].roles == ("keep", "weight")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"quant_strategy": "ALWC", "quantize_granularity": "tensor-wise"}, "'ALWC' has weights per channel; leave it"),
        ({"quant_strategy": "ACWL", "overrides": {"*": {"granularity": "channel"}}}, "'ACWL' has one scale a weight"),
        ({"quant_strategy": "GPTQ"}, "quant_strategy 'GPTQ' is for quant_type 'weight'; with 'dynamic' there is auto"),
        ({"calib_mode": "entropy"}, "measures ranges at run time; calib_mode 'entropy' is for 'full'"),
        ({"group_size": 32}, "no engine does group-wise"),
    ],
)
def test_words_that_contradict_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        QuantConfig(quant_type="dynamic", **words)


def test_small_weights_can_be_left_out() -> None:
    assert plan(table()).nodes["layer"].quantized
    kept = plan(table(), min_quant_weight_size=700 * 96 + 1).nodes["layer"]
    assert "67200 elements; 67200 or fewer stay float (min_quant_weight_size)" in kept.reason
    assert (
        "384 channels; 384 or fewer stay float (min_quant_weight_channel)"
        in plan(product(), min_quant_weight_channel=385).nodes["layer"].reason
    )
    assert plan(table(), exclude_operators=["Gather"]).nodes["layer"].reason == "excluded by exclude_operators 'Gather'"


def test_a_left_weight_counts_its_own_channels() -> None:
    made = proto([node("MatMul", "w x", "y", "layer")], [info("x", [256, 5])], [info("y", None)],
                 {"w": weight(300, 256)})  # fmt: skip
    model = load(made)
    assert plan(model, min_quant_weight_channel=300).nodes["layer"].quantized
    assert "300 channels; 300 or fewer" in plan(model, min_quant_weight_channel=301).nodes["layer"].reason


def test_attention_of_unknown_length_stays_float_unless_asked() -> None:
    made = proto([node("MatMul", "x z", "y", "layer")], [info("x", [1, 12, "t", 32]), info("z", [1, 12, 32, "t"])],
                 [info("y", None)])  # fmt: skip
    assert "would run at 1.30 of its float time" in plan(load(made)).nodes["layer"].reason
    full = plan(load(made), quantize_mode="full")
    assert full.nodes["layer"].quantized and full.values["z"].spec.signed and not full.values["x"].spec.signed


def test_what_costs_is_counted_and_told() -> None:
    made = proto(
        [node("Conv", "x w", "a", "c1"), node("Conv", "a w", "y", "c2")],
        [info("x", [1, 8, 9, 9])], [info("y", None)], {"w": weight(8, 8, 3, 3)},
    )  # fmt: skip
    model, target = load(made), TARGETS["onnxruntime"]
    config = QuantConfig(quant_type="dynamic", quantize_mode="full")
    assert slow_at_run_time(model, make_plan(model, config, target), config, target) == {"Conv": (2, 3.94)}
    with pytest.warns(FewbitWarning, match=r"2 Conv layers run at up to 3.94 of float time on onnxruntime when ranges"):
        fb.make_plan(model, config)
    smart = fb.make_plan(model, quant_type="dynamic")
    assert smart.nodes["c1"].reason == "would run at 3.94 of its float time (measured)"
