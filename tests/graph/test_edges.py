"""Inputs and outputs of another type or layout: the same numbers, through another door."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from fewbit.errors import FewbitWarning
from fewbit.graph.edges import cast_ends, integer_inputs, integer_outputs
from fewbit.graph.float16 import LARGEST, store_half
from fewbit.graph.layout import inputs_as, outputs_as
from fewbit.graph.model import Model
from tests.graph.nets import f32, i64, net
from tests.models import run as run_ort

X = np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32)
CONV = "(float[2,3,5,6] x) => (float[2,4,5,6] y) { c = Conv <pads=[1,1,1,1]> (x, w) y = Relu (c) }"


def run(model: Model, **feeds: Any) -> list[np.ndarray]:
    return list(run_ort(model, feeds).values())


def conv() -> Model:
    return net(CONV, w=(4, 3, 3, 3))


def types(model: Model) -> list[str]:
    return [n.op_type for n in model.nodes]


# -- layout -------------------------------------------------------------------------------------------------------


def test_nhwc_at_both_ends() -> None:
    model, want = conv(), run(conv(), x=X)[0]
    assert inputs_as(model, "NHWC") == ["x"] and outputs_as(model, "NHWC") == ["y"]
    assert [str(i) for i in model.inputs] == ["x: float32[2, 5, 6, 3]"]
    assert [str(o) for o in model.outputs] == ["y: float32[2, 5, 6, 4]"]
    assert types(model) == ["Transpose", "Conv", "Relu", "Transpose"]
    np.testing.assert_array_equal(run(model, x=X.transpose(0, 2, 3, 1))[0], want.transpose(0, 2, 3, 1))


def test_what_has_the_layout_stays() -> None:
    model = conv()
    assert inputs_as(model, "NCHW") == ["x"] and outputs_as(model, "NCHW") == ["y"]
    assert types(model) == ["Conv", "Relu"]


def test_a_network_that_takes_nhwc_is_known() -> None:
    text = (
        "(float[2,5,6,3] x) => (float[2,5,6,4] y) "
        "{ t = Transpose <perm=[0,3,1,2]> (x) c = Conv <pads=[1,1,1,1]> (t, w) y = Transpose <perm=[0,2,3,1]> (c) }"
    )
    model = net(text, w=(4, 3, 3, 3))
    assert inputs_as(model, "NHWC") == ["x"] and outputs_as(model, "NHWC") == ["y"]
    assert len(model.nodes) == 3
    want = run(model, x=X.transpose(0, 2, 3, 1))[0]
    assert inputs_as(model, "NCHW") == ["x"] and outputs_as(model, "NCHW") == ["y"]
    np.testing.assert_array_equal(run(model, x=X)[0], want.transpose(0, 3, 1, 2))


def test_channels_tell_the_layout_of_pictures_and_that_is_a_guess() -> None:
    model = net("(float[2,5,6,3] x) => (float[2,5,6,3] y) { y = Relu (x) }")
    guess = r"no layer tells the layout of input 'x' \(2, 5, 6, 3\); it is taken for NHWC"
    with pytest.warns(FewbitWarning, match=guess):
        assert inputs_as(model, "NHWC") == ["x"] and types(model) == ["Relu"]
    with pytest.warns(FewbitWarning, match=guess):
        assert inputs_as(model, "NCHW") == ["x"] and types(model) == ["Transpose", "Relu"]
    model = net("(float[2,3,5,6] x) => (float[2,3,5,6] y) { y = Relu (x) }")
    assert inputs_as(model, "NCHW") == ["x"] and types(model) == ["Relu"]  # nothing changes: nothing to say
    with pytest.warns(FewbitWarning, match=r"'x' \(2, 3, 5, 6\); it is taken for NCHW"):
        assert inputs_as(model, "NHWC") == ["x"] and types(model) == ["Transpose", "Relu"]


LAYERS = (
    *("Conv <pads=[1,1,1,1]> (h, w)", "ConvTranspose (h, w)", "BatchNormalization (h, v, v, v, v)", "LRN <size=3> (h)"),
    *("MaxPool <kernel_shape=[2,2]> (h)", "GlobalAveragePool (h)", "Transpose <perm=[0,2,3,1]> (h)"),
)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("before", ["h = Clip (x)", "a = Sub (x, k) b = Relu (a) h = Concat <axis=1> (b, x)", ""])
def test_layers_tell_the_layout_whatever_the_sizes(layer: str, before: str) -> None:
    """The last axis looks like the channels of a picture."""
    channels = 32 if "Concat" in before else 16
    text = f"{before} y = {layer if before else layer.replace('(h', '(x')}"
    shapes: dict[str, tuple[int, ...]] = {"w": (channels, channels, 3, 3), "v": (channels,), "k": (1, 16, 1, 1)}
    used = {k: v for k, v in shapes.items() if f", {k}" in text}
    model = net(f"(float[1,16,4,4] x) => (float[a,b,c,d] y) {{ {text} }}", **used)
    x = np.abs(np.random.default_rng(1).standard_normal((1, 16, 4, 4))).astype(np.float32)
    want, count = run(model, x=x)[0], len(model.nodes)
    assert inputs_as(model, "NCHW") == ["x"] and len(model.nodes) == count
    assert inputs_as(model, "NHWC") == ["x"] and len(model.nodes) == count + 1
    np.testing.assert_array_equal(run(model, x=x.transpose(0, 2, 3, 1))[0], want)


def test_a_transpose_behind_the_scaling_of_pixels_tells_too() -> None:
    text = (
        "(float[2,5,6,7] x) => (float[2,5,6,7] y) "
        "{ s = Mul (x, k) t = Transpose <perm=[0,3,1,2]> (s) r = Abs (t) "
        "u = Transpose <perm=[0,2,3,1]> (r) y = Relu (u) }"
    )
    model = net(text, k=(1,))
    assert inputs_as(model, "NHWC") == ["x"] and outputs_as(model, "NHWC") == ["y"] and len(model.nodes) == 5


def test_an_input_that_is_an_output_keeps_its_layout() -> None:
    model = net(CONV, w=(4, 3, 3, 3))
    model.graph.outputs.append(model.graph.inputs[0])
    with pytest.warns(FewbitWarning, match="input 'x' is an output as well; it stays NCHW"):
        assert inputs_as(model, "NHWC") == ["x"]
    assert inputs_as(model, "NCHW") == ["x"] and outputs_as(model, "NHWC") == ["y"]
    assert [str(o) for o in model.outputs] == ["y: float32[2, 5, 6, 4]", "x: float32[2, 3, 5, 6]"]


def test_an_output_that_is_listed_twice_stays_one() -> None:
    for change in (lambda m: outputs_as(m, "NHWC"), lambda m: cast_ends(m, "float16", inputs=False)):
        model = conv()
        model.graph.outputs.append(model.graph.outputs[0])
        assert change(model) == ["y"]
        assert [o.name for o in model.outputs] == ["y", "y"]


def test_other_ranks_are_left_alone() -> None:
    model = net("(float[2,4] x) => (float[2,4] y) { y = Relu (x) }")
    assert inputs_as(model, "NHWC") == outputs_as(model, "NHWC") == []


# -- casts --------------------------------------------------------------------------------------------------------


def test_float16_at_both_ends() -> None:
    model, want = conv(), run(conv(), x=X)[0]
    assert cast_ends(model, "float16", inputs=True) == ["x"]
    assert cast_ends(model, "float16", inputs=False) == ["y"]
    assert [str(v) for v in (*model.inputs, *model.outputs)] == ["x: float16[2, 3, 5, 6]", "y: float16[2, 4, 5, 6]"]
    got = run(model, x=X.astype(np.float16))[0]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got, want, atol=0.02)
    assert cast_ends(model, "float32", inputs=True) == ["x"]
    np.testing.assert_array_equal(run(model, x=X.astype(np.float16).astype(np.float32))[0], got)


def test_each_type_concerns_its_kind() -> None:
    text = "(int64[3] i, float[4,2] x) => (float[3,2] y, int64[3] j) { y = Gather (x, i) j = Add (i, i) }"
    model = net(text)
    assert cast_ends(model, "int32", inputs=True) == ["i"] and cast_ends(model, "int32", inputs=False) == ["j"]
    assert cast_ends(model, "float32", inputs=True) == ["x"]
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    got = run(model, i=np.array([1, 0, 3], np.int32), x=table)
    np.testing.assert_array_equal(got[0], table[[1, 0, 3]])
    assert got[1].dtype == np.int32 and got[1].tolist() == [2, 0, 6]


# -- integers -----------------------------------------------------------------------------------------------------

QDQ = (
    "(float[2,3,5,6] x) => (float[2,3,5,6] y) { q = QuantizeLinear (x, s, z) d = DequantizeLinear (q, s, z) "
    "r = Relu (d) q2 = QuantizeLinear (r, s2, z2) y = DequantizeLinear (q2, s2, z2) }"
)


def integer(zero: int = 120) -> Model:
    numbers = {"s": f32(0.02), "z": np.uint8(zero), "s2": f32(0.013), "z2": np.uint8(3)}
    return net(QDQ, **{k: np.asarray(v) for k, v in numbers.items()})


def grid(x: np.ndarray, scale: float, zero: int, dtype: str) -> np.ndarray:
    ends = np.iinfo(dtype)
    return np.clip(np.rint(x / np.float32(scale)) + zero, ends.min, ends.max).astype(dtype)


@pytest.mark.parametrize(("dtype", "shift", "nodes"), [("uint8", 0, 3), ("int8", -128, 7)])
def test_integers_at_both_ends(dtype: str, shift: int, nodes: int) -> None:
    model, want = integer(), run(integer(), x=X)[0]
    assert integer_inputs(model, dtype) == {"x": ""} and integer_outputs(model, dtype) == {"y": ""}
    assert [v.dtype.name for v in (*model.inputs, *model.outputs)] == [dtype, dtype]
    assert len(model.nodes) == nodes
    got = run(model, x=grid(X, 0.02, 120 + shift, dtype))[0]
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got, grid(want, 0.013, 3 + shift, dtype))


def test_layers_in_float_have_no_integers() -> None:
    model = conv()
    assert integer_inputs(model, "uint8") == {"x": "the layers that read it compute in float"}
    assert integer_outputs(model, "uint8") == {"y": "the layer that makes it answers in float"}
    assert types(model) == ["Conv", "Relu"]


def test_grids_of_other_widths_are_not_taken() -> None:
    text = "(float[2,4] x) => (float[2,4] y) { q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z) }"
    model = net(text, opset=21, s=f32(0.1), z=np.asarray(np.int16(0)))
    assert integer_inputs(model, "int8")["x"] and integer_outputs(model, "int8")["y"]


def test_whole_numbered_ends_are_not_asked() -> None:
    model = net("(int64[3] i) => (int64[3] j) { j = Add (i, i) }")
    assert integer_inputs(model, "int8") == integer_outputs(model, "int8") == {}


# -- weights in 16 bits -------------------------------------------------------------------------------------------


def test_weights_in_half_the_room() -> None:
    model, want = conv(), run(conv(), x=X)[0]
    before = model.nbytes
    assert store_half(model) == (["w"], [])
    assert model.nbytes == before // 2 and types(model) == ["Cast", "Conv", "Relu"]
    assert model.node("c").inputs[1].name == "w"  # type: ignore[union-attr]
    np.testing.assert_allclose(run(model, x=X)[0], want, atol=5e-3)


def test_values_beyond_float16_stay() -> None:
    w = np.full((4, 3, 3, 3), 1.0, np.float32)
    w[0, 0, 0, 0] = LARGEST * 1.01
    model = net(CONV, w=w)
    assert store_half(model) == ([], ["w"]) and types(model) == ["Conv", "Relu"]
    w[0, 0, 0, 0] = LARGEST
    assert store_half(net(CONV, w=w)) == (["w"], [])


def test_only_weights_are_looked_at() -> None:
    text = (
        "(float[64] x) => (float[64] y) "
        "{ q = QuantizeLinear <axis=0> (x, s, z) d = DequantizeLinear <axis=0> (q, s, z) "
        "m = Mul (d, g) r = Reshape (m, shape) y = Add (r, b) }"
    )
    words = {"s": np.full(64, 0.1, np.float32), "z": np.zeros(64, np.uint8), "g": (64,), "b": f32(1), "shape": i64(64)}
    assert store_half(net(text, **words)) == (["g"], [])
    assert store_half(net(text, **words), elementwise=False) == ([], [])


def test_a_weight_that_is_read_twice_is_stored_once() -> None:
    model = net("(float[9,8] x) => (float[9,8] y) { a = MatMul (x, w) y = MatMul (a, w) }", w=(8, 8))
    want = run(model, x=np.ones((9, 8), np.float32))[0]
    assert store_half(model) == (["w"], []) and types(model) == ["Cast", "MatMul", "MatMul"]
    np.testing.assert_allclose(run(model, x=np.ones((9, 8), np.float32))[0], want, rtol=0.02, atol=0.02)
    assert model.value("w").dtype == ir.DataType.FLOAT
