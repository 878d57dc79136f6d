"""Q and DQ out of a network: what is left computes the same, and the integers are those that stood in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import fewbit as fb
from fewbit.errors import EngineError
from fewbit.graph.fuse import fuse
from fewbit.graph.strip import has_integers, strip
from tests.models import conv_relu, depthwise, gemm, load, matmul, residual, run


def quantized(made: onnx.ModelProto, target: str = "ncnn", **words: Any) -> Any:
    fused = fuse(load(made))
    plan = fb.make_plan(fused, target=target, quantize_mode="full", **words)
    feeds = {i.name: sample([d if isinstance(d, int) else 4 for d in i.shape]) for i in fused.inputs}
    return fb.apply(fused, fb.calibrate(fused, plan, feeds))


def sample(shape: Any) -> Any:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("made", [conv_relu(), residual(), depthwise(), matmul(), gemm(), gemm(trans=0)])
def test_what_is_left_is_float_and_has_the_weights_that_the_integers_stand_for(made: onnx.ModelProto) -> None:
    q = quantized(made)
    assert has_integers(q)
    found = strip(q, "ncnn")
    assert not has_integers(found.model) and found.layers and not found.rounded
    values = q.values()
    for name, layer in found.layers.items():
        before, after = q.node(name), found.model.node(name)
        assert after.inputs[0].name == layer.x and f"{layer.x}_dq" == before.inputs[0].name
        ints = values[before.inputs[1].producer().inputs[0].name].const_value.numpy()
        turned = before.op_type != "Conv" and len(layer.weight) != len(ints)
        np.testing.assert_array_equal(layer.weight, ints.T if turned else ints)
        wide = layer.weight_scale.reshape(-1, *[1] * (ints.ndim - 1))
        real = layer.weight.astype(np.float32) * wide
        np.testing.assert_array_equal(after.inputs[1].const_value.numpy(), real.T if turned else real)


def test_the_float_network_is_the_integer_one_without_rounding_of_values() -> None:
    q = quantized(residual())
    x = {"x": sample((1, 3, 6, 6))}
    got, want = run(strip(q, "ncnn").model, x)["y"], run(q, x)["y"]
    assert 0 < np.abs(got - want).max() < 0.05 * np.abs(want).max()


def test_rounded_values_that_are_outputs_are_told_of() -> None:
    q = quantized(residual()).with_outputs(["x_dq", "r_dq"])
    found = strip(q, "ncnn")
    assert {k: v for k, (v, _) in found.rounded.items()} == {"x_dq": "x", "r_dq": "r"}
    assert [o.name for o in found.model.outputs] == ["y", "r"]


def test_the_given_network_stays_as_it_is() -> None:
    q = quantized(conv_relu())
    before = q.digest()
    strip(q, "ncnn")
    assert q.digest() == before


@pytest.mark.parametrize(
    ("made", "words", "what"),
    [
        (conv_relu(), {"target": "onnxruntime"}, "value 'x' is not symmetric s8"),
        (residual(), {"target": "tensorrt"}, "value 'x' is rounded to other integers than -127 … 127"),
    ],
)
def test_networks_for_other_engines_are_refused(made: Any, words: dict[str, Any], what: str) -> None:
    with pytest.raises(EngineError, match=f"quantized for another engine: {what}; quantize it with target='ncnn'"):
        strip(quantized(made, **words), "ncnn")


def test_a_float_reader_of_a_rounded_value_is_refused() -> None:
    q = quantized(residual())
    q.node("add").replace_input_with(1, q.value("r_dq"))
    with pytest.raises(EngineError, match="Add 'add' reads the rounded value 'r'"):
        strip(q, "ncnn")


def test_a_rounded_input_of_a_float_layer_is_refused() -> None:
    q = quantized(conv_relu())
    q.node("conv").replace_input_with(1, q.add_initializer("plain", np.ones((4, 3, 3, 3), np.float32)))
    with pytest.raises(EngineError, match="layer 'conv' rounds its input, but has no integer weight"):
        strip(q, "ncnn")


def test_weights_of_other_formats_are_refused() -> None:
    q = quantized(conv_relu())
    weight = q.node("conv").inputs[1].producer().inputs[0]
    data = weight.const_value.numpy().copy()
    data.flat[0] = -128
    q.set_weight(weight.name, data)
    with pytest.raises(EngineError, match="the weight of layer 'conv' is not symmetric s8"):
        strip(q, "ncnn")
