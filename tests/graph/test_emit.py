"""The integer network against numpy: the same parameters, the same arithmetic, written down here a second time."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from fewbit.core.params import QuantParams, weight_params
from fewbit.core.plan import NodePlan, Plan, ValuePlan
from fewbit.core.spec import QuantSpec
from fewbit.errors import NotCalibrated, PlanError
from fewbit.graph.emit import emit_qdq
from fewbit.graph.files import to_bytes
from fewbit.graph.finalize import finalize
from fewbit.graph.model import Model, const
from tests.models import (
    NETWORKS,
    branches,
    concat,
    conv_relu,
    depthwise,
    feeds_for,
    gemm,
    info,
    load,
    matmul,
    node,
    plan_for,
    proto,
    residual,
    run,
    tied,
    weight,
)


def message(model: Model) -> onnx.ModelProto:
    return onnx.load_from_string(to_bytes(model))


def reference(model: Model, feeds) -> dict[str, np.ndarray]:
    """Outputs by name from ONNX's own reference implementation."""
    made = message(model)
    made.opset_import[0].version = max(19, model.opset)  # it has no older Q and DQ; what they compute is the same
    return dict(zip([o.name for o in made.graph.output], ReferenceEvaluator(made).run(None, feeds), strict=True))


def stored(model: Model, name: str) -> np.ndarray:
    """An initializer of the file."""
    return next(numpy_helper.to_array(t) for t in message(model).graph.initializer if t.name == name)


def quantized(model: Model, plan: Plan) -> Model:
    return finalize(emit_qdq(model, plan), 13, {})


def steps(a, b, params: QuantParams) -> float:
    """Largest difference in quantization steps."""
    return float(np.abs(a.astype(np.float64) - b).max() / params.scale)


def fake_weight(plan: Plan, model: Model, name: str = "w") -> np.ndarray:
    w = const(model.value(name))
    return weight_params(plan.values[name].spec, w).fake(w)


def fake_bias(plan: Plan, model: Model, x: str, w: str = "w", b: str = "b") -> np.ndarray:
    """rint(b / (s_x s_w)) s_x s_w"""
    s = (plan.params(x).scale * weight_params(plan.values[w].spec, const(model.value(w))).scale).astype(np.float64)
    return np.rint(const(model.value(b)) / s) * s


# -- the whole path, against numpy ----------------------------------------------------------------------------------------


def convolve(x, w, b, pad):
    """A plain convolution in float64: x (n, in, h, w), w (out, in, kh, kw)."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))  # (n, in, h, w, kh, kw)
    return np.einsum("nihwkl,oikl->nohw", windows, w) + np.reshape(b, (1, -1, 1, 1))


@pytest.mark.parametrize("grain", ["channel-wise", "tensor-wise"])
@pytest.mark.parametrize("dtype", ["auto", "int8"])
def test_conv_bias_relu(grain, dtype):
    model = load(conv_relu())
    plan = plan_for(model, quantize_granularity=grain, quantized_dtype=dtype)
    feeds = feeds_for(model, 5)
    x, y = plan.params("x"), plan.params("y")
    real = convolve(x.fake(feeds["x"]), fake_weight(plan, model), fake_bias(plan, model, "x"), 1)
    want = y.fake(np.maximum(real, 0).astype(np.float32))
    got = reference(quantized(model, plan), feeds)["y"]
    assert steps(got, want, y) <= 1.001
    assert (got == want).mean() > 0.999


@pytest.mark.parametrize("trans", [0, 1])
def test_gemm(trans):
    model = load(gemm(trans=trans))
    plan = plan_for(model)
    feeds = feeds_for(model, 5, batch=64)
    w = fake_weight(plan, model)
    real = plan.params("x").fake(feeds["x"]).astype(np.float64) @ (w.T if trans else w) + fake_bias(plan, model, "x")
    want = plan.params("y").fake(real.astype(np.float32))
    got = reference(quantized(model, plan), feeds)["y"]
    assert steps(got, want, plan.params("y")) <= 1.001 and (got == want).mean() > 0.99


def test_add_is_exact():
    made = proto([node("Add", "x z", "y", "add")], [info("x", [64]), info("z", [64])], [info("y", [64])])
    model = load(made)
    plan = plan_for(model)
    feeds = feeds_for(model, 5)
    want = plan.params("y").fake(plan.params("x").fake(feeds["x"]) + plan.params("z").fake(feeds["z"]))
    np.testing.assert_array_equal(reference(quantized(model, plan), feeds)["y"], want)


def test_a_concat_shares_one_set_of_parameters():
    model = load(concat())
    plan = plan_for(model)
    assert {plan.values[n].group for n in "aby"} == {plan.values["a"].group}
    out = quantized(model, plan)
    feeds = feeds_for(model, 5)
    y = plan.params("y")
    parts = [convolve(plan.params("x").fake(feeds["x"]), fake_weight(plan, model, w), 0.0, 0) for w in ("w1", "w2")]
    want = np.concatenate([y.fake(p.astype(np.float32)) for p in parts], 1)
    assert steps(reference(out, feeds)["y"], want, y) <= 1.001
    scales = {n.inputs[1].name for n in out.nodes if n.op_type == "QuantizeLinear" and n.inputs[0].name != "x"}
    assert len(scales) == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_runs_alike_everywhere_and_close_to_float(name):
    model = load(NETWORKS[name]())
    plan = plan_for(model)
    out = quantized(model, plan)
    onnx.checker.check_model(message(out), full_check=True)
    feeds = feeds_for(model)
    plain, fast, real = run(out, feeds), run(out, feeds, optimize=True), run(model, feeds)
    assert list(plain) == list(real)
    for key, want in real.items():
        step = float(plan.params(key).scale) if key in plan.values else 1e-6
        assert np.abs(plain[key] - fast[key]).max() <= 1.01 * step
        assert np.abs(plain[key] - want).max() <= max(1e-6, 0.06 * np.abs(want).max())


@pytest.mark.parametrize("name", ["conv_relu", "residual", "depthwise", "gemm", "concat", "matmul"])
def test_openvino_agrees_to_one_step(name):
    ov = pytest.importorskip("openvino")
    model = load(NETWORKS[name]())
    plan = plan_for(model)
    out = quantized(model, plan)
    feeds = feeds_for(model)
    core = ov.Core()
    compiled = core.compile_model(core.read_model(to_bytes(out)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    got = compiled(feeds)[0]
    assert steps(got, run(out, feeds)["y"], plan.params("y")) <= 1.01


# -- weights and biases ---------------------------------------------------------------------------------------------------


def test_weights_are_stored_as_integers_and_the_float_ones_are_gone():
    model = load(conv_relu())
    plan = plan_for(model)
    out = quantized(model, plan)
    params = weight_params(plan.values["w"].spec, const(model.value("w")))
    q = stored(out, "w_q")
    assert q.dtype == np.int8 and params.scale.shape == (4,)
    np.testing.assert_array_equal(q, params.quantize(const(model.value("w"))))
    np.testing.assert_array_equal(stored(out, "w_scale"), params.scale)
    assert "w" not in out.graph.initializers and "b" not in out.graph.initializers


def test_a_bias_is_int32_in_the_scale_of_the_accumulator():
    model = load(conv_relu())
    plan = plan_for(model)
    out = quantized(model, plan)
    scale = plan.params("x").scale * stored(out, "w_scale")
    assert stored(out, "b_q").dtype == np.int32
    np.testing.assert_array_equal(stored(out, "b_scale"), scale)
    np.testing.assert_array_equal(stored(out, "b_q"), np.rint(const(model.value("b")) / scale.astype(np.float64)))


def test_a_bias_too_large_for_int32_makes_the_weight_scale_larger():
    made = conv_relu()
    tiny = weight(4, 3, 3, 3) * np.float32(1e-12)
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(tiny, "w"))
    model = load(made)
    plan = plan_for(model)
    out = quantized(model, plan)
    assert np.abs(stored(out, "b_q").astype(np.int64)).max() <= 2**30
    assert (stored(out, "w_scale") > weight_params(plan.values["w"].spec, tiny).scale).all()
    real = stored(out, "b_q") * stored(out, "b_scale").astype(np.float64)
    np.testing.assert_allclose(real, const(model.value("b")), rtol=1e-6)


def test_scales_so_small_that_their_product_is_zero_give_no_nonsense():
    made = conv_relu()
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight(4, 3, 3, 3) * np.float32(1e-36), "w"))
    made.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.zeros(4, np.float32), "b"))
    model = load(made)
    plan = plan_for(model, [{"x": np.full((1, 3, 6, 6), 1e-36, np.float32)}])
    out = quantized(model, plan)
    assert not stored(out, "b_q").any() and (stored(out, "b_scale") > 0).all()


@pytest.mark.parametrize("shape", [(1, 5), (1,), ()])
def test_a_bias_of_odd_shape_stays_float_and_right(shape):
    made = gemm()
    made.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full(shape, 0.7, np.float32), "b"))
    model = load(made)
    out = quantized(model, plan_for(model))
    feeds = feeds_for(model)
    assert "b" in out.graph.initializers
    assert np.abs(run(out, feeds)["y"] - run(model, feeds)["y"]).max() < 0.1


def test_a_grouped_transposed_convolution():
    made = proto([node("ConvTranspose", "x w b", "y", "up", group=2)], [info("x", [1, 4, 3, 3])],
                 [info("y", [1, 6, 4, 4])], {"w": weight(4, 3, 2, 2), "b": weight(6)})  # fmt: skip
    model = load(made)
    out = quantized(model, plan_for(model))
    feeds = feeds_for(model)
    assert np.abs(run(out, feeds)["y"] - run(model, feeds)["y"]).max() < 0.15


def test_a_tied_weight_along_one_axis_is_stored_once():
    model = load(tied())
    out = quantized(model, plan_for(model))
    assert sum(n.endswith("_q") or "_q_" in n for n in out.graph.initializers) == 1


def test_a_tied_weight_along_two_axes_is_stored_twice():
    model = load(tied(same_axis=False))
    plan = plan_for(model)
    assert "w@fc2" in plan.values
    out = quantized(model, plan)
    assert {"w_q", "w@fc2_q"} <= set(out.graph.initializers)
    np.testing.assert_array_equal(
        stored(out, "w@fc2_q"), weight_params(plan.values["w@fc2"].spec, weight(6, 6)).quantize(weight(6, 6))
    )


def test_one_bias_used_twice_gets_the_scale_of_each_user():
    made = proto([node("Gemm", "x w b", "h", "fc1", transB=1), node("Gemm", "h v b", "y", "fc2", transB=1)],
                 [info("x", ["b", 6])], [info("y", ["b", 6])],
                 {"w": weight(6, 6), "v": weight(6, 6, scale=4.0), "b": weight(6)})  # fmt: skip
    model = load(made)
    out = quantized(model, plan_for(model))
    biases = [
        n for n in out.graph.initializers if n.startswith("b_") and out.graph.initializers[n].dtype.name == "INT32"
    ]
    assert len([b for b in biases if not b.endswith("zero") and "zero" not in b]) == 2
    feeds = feeds_for(model)
    assert np.abs(run(out, feeds)["y"] - run(model, feeds)["y"]).max() < 0.5


def test_a_constant_read_like_an_activation_is_stored_as_integers():
    made = proto([node("Add", "x c", "y", "add")], [info("x", [8])], [info("y", [8])], {"c": weight(8)})
    model = load(made)
    plan = plan_for(model)
    out = quantized(model, plan)
    np.testing.assert_array_equal(stored(out, "c_q"), plan.params("c").quantize(weight(8)))
    feeds = feeds_for(model)
    want = plan.params("y").fake(plan.params("x").fake(feeds["x"]) + plan.params("c").fake(weight(8)))
    np.testing.assert_array_equal(run(out, feeds)["y"], want)


# -- formats --------------------------------------------------------------------------------------------------------------


def with_spec(model: Model, name: str, spec: QuantSpec, **ranges) -> Plan:
    plan = plan_for(model)
    return replace(plan, values={**plan.values, name: replace(plan.values[name], spec=spec)}).with_ranges(ranges)


NARROW = [QuantSpec(b, signed=False) for b in (1, 2, 4, 6, 7, 9, 12)] + [
    QuantSpec(b, signed=True, symmetric=True) for b in (1, 2, 4, 7, 10)
]


@pytest.mark.parametrize("spec", NARROW, ids=lambda s: f"{'s' if s.signed else 'u'}{s.bits}")
def test_narrow_activations_saturate_at_their_own_limits(spec):
    made = proto([node("Add", "x z", "y", "add")], [info("x", [512]), info("z", [512])], [info("y", [512])])
    model = load(made)
    plan = with_spec(model, "x", spec, x=(-1.0, 1.5))
    out = quantized(model, plan)
    x = np.linspace(-4, 4, 512, dtype=np.float32)
    feeds = {"x": x, "z": np.zeros(512, np.float32)}
    want = plan.params("y").fake(plan.params("x").fake(x) + plan.params("z").fake(feeds["z"]))
    np.testing.assert_array_equal(reference(out, feeds)["y"], want)
    np.testing.assert_array_equal(run(out, feeds)["y"], want)
    assert len(np.unique(want)) <= (1 << spec.bits)


@pytest.mark.parametrize("bits", [1, 2, 4, 7])
def test_narrow_weights_lie_inside_int8(bits):
    model = load(conv_relu())
    plan = plan_for(model)
    spec = replace(plan.values["w"].spec, bits=bits, narrow=False)
    plan = replace(plan, values={**plan.values, "w": replace(plan.values["w"], spec=spec)})
    out = quantized(model, plan)
    q = stored(out, "w_q")
    assert q.dtype == np.int8 and q.min() >= spec.qmin and q.max() <= spec.qmax
    params = weight_params(spec, weight(4, 3, 3, 3))
    np.testing.assert_array_equal(q, params.quantize(weight(4, 3, 3, 3)))
    if bits == 1:
        np.testing.assert_allclose(params.scale, np.abs(weight(4, 3, 3, 3)).mean((1, 2, 3)), rtol=1e-6)
    run(out, feeds_for(model))


def test_sixteen_bits_raise_the_opset_and_are_much_closer():
    model = load(matmul())
    feeds = feeds_for(model)
    want = run(model, feeds)["y"]
    errors = {}
    for bits in (8, 16):
        out = quantized(model, plan_for(model, bit_num=bits))
        assert out.opset == (21 if bits == 16 else 17)
        errors[bits] = np.abs(run(out, feeds)["y"] - want).max()
        if bits == 16:
            assert stored(out, "w_q").dtype == np.int16 and stored(out, "x_zero").dtype == np.uint16
    assert errors[16] < errors[8] / 50


def test_a_sixteen_bit_layer_keeps_its_bias_in_float():
    model = load(conv_relu())
    out = quantized(model, plan_for(model, bit_num=16))
    assert "b" in out.graph.initializers and "b_q" not in out.graph.initializers


@pytest.mark.parametrize(("k", "size"), [(32, 8), (32, 32), (30, 8)])
def test_weights_in_groups(k, size):
    model = load(matmul(k=k))
    plan = plan_for(model, quantize_granularity="group-wise", group_size=size)
    spec = plan.values["w"].spec
    assert (spec.axis, spec.group_size) == (0, size)
    out = quantized(model, plan)
    dq = next(n for n in out.nodes if n.op_type == "DequantizeLinear" and n.inputs[0].name == "w_q")
    assert dq.attributes["block_size"].value == size and dq.attributes["axis"].value == 0 and out.opset == 21
    params = weight_params(spec, weight(k, 8))
    assert stored(out, "w_scale").shape == (-(-k // size), 8)
    feeds = feeds_for(model, 3, batch=16)
    real = plan.params("x").fake(feeds["x"]).astype(np.float64) @ params.fake(weight(k, 8))
    want = plan.params("y").fake(real.astype(np.float32))
    assert steps(run(out, feeds)["y"], want, plan.params("y")) <= 1.001


def test_group_wise_networks_are_legal_for_both_engines():
    ov = pytest.importorskip("openvino")
    model = load(matmul())
    out = quantized(model, plan_for(model, quantize_granularity="group-wise", group_size=8))
    onnx.checker.check_model(message(out), full_check=True)
    core = ov.Core()
    compiled = core.compile_model(core.read_model(to_bytes(out)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    feeds = feeds_for(model)
    assert np.abs(compiled(feeds)[0] - run(out, feeds)["y"]).max() < 0.05


# -- where values go --------------------------------------------------------------------------------------------------------


def test_outputs_keep_their_names_types_and_shapes():
    for build in NETWORKS.values():
        model = load(build())
        out = quantized(model, plan_for(model))
        assert (out.inputs, out.outputs) == (model.inputs, model.outputs)


def test_an_output_read_inside_keeps_its_name_for_everybody():
    made = residual()
    made.graph.output.append(info("r", [1, 4, 6, 6]))
    model = load(made)
    out = quantized(model, plan_for(model))
    assert [o.name for o in out.outputs] == ["y", "r"]
    assert out.value("r").producer().op_type == "DequantizeLinear"
    assert out.value("r_float").producer().op_type == "Relu"
    feeds = feeds_for(model)
    found, want = run(out, feeds), run(model, feeds)
    for key in want:
        assert np.abs(found[key] - want[key]).max() < 0.3


def test_float_readers_of_a_float_value_keep_the_exact_one():
    made = proto([node("Sin", "x", "s"), node("Gemm", "s w", "y", "fc"), node("Exp", "s", "z")],
                 [info("x", ["b", 6])], [info("y", ["b", 5]), info("z", ["b", 6])], {"w": weight(6, 5)})  # fmt: skip
    model = load(made)
    out = quantized(model, plan_for(model))
    assert out.node("exp_z").inputs[0].name == "s"
    assert out.node("fc").inputs[0].producer().op_type == "DequantizeLinear"
    feeds = feeds_for(model)
    np.testing.assert_array_equal(run(out, feeds)["z"], run(model, feeds)["z"])


def test_float_readers_of_an_integer_value_read_what_the_engine_has():
    made = proto([node("Gemm", "x w", "h", "fc"), node("Exp", "h", "z")], [info("x", ["b", 6])], [info("z", ["b", 5])],
                 {"w": weight(6, 5)})  # fmt: skip
    model = load(made)
    out = quantized(model, plan_for(model))
    assert out.node("exp_z").inputs[0].producer().op_type == "DequantizeLinear"


@pytest.mark.parametrize("flag", [True, False])
def test_bodies_read_the_integer_form_of_outer_values(flag):
    model = load(branches())
    plan = plan_for(model)
    out = quantized(model, plan)
    readers = [n for n in out.graph.all_nodes() if n.op_type in ("Mul", "Neg")]
    assert [n.inputs[0].producer().op_type for n in readers] == ["DequantizeLinear"] * 2
    feeds = {**feeds_for(model, 5), "flag": np.array(flag)}
    r = plan.params("r")
    inner = r.fake(
        convolve(plan.params("x").fake(feeds["x"]), fake_weight(plan, model), fake_bias(plan, model, "x"), 0).astype(
            np.float32
        )
    )
    want = inner * np.float32(2.5) if flag else -inner
    assert steps(run(out, feeds)["y"], want, r) <= 2.501


def test_new_names_do_not_hide_those_of_bodies():
    made = branches()
    for a in made.graph.node[1].attribute:
        a.g.output[0].name = a.g.node[0].output[0] = "r_dq"
    model = load(made)
    out = quantized(model, plan_for(model))
    values = [v.name for n in out.graph.all_nodes() for v in n.outputs]
    assert len(values) == len(set(values))
    run(out, feeds_for(model))


def test_an_input_that_is_also_an_output_stays_as_it_was():
    made = gemm()
    made.graph.output.append(info("x", ["b", 6]))
    model = load(made)
    feeds = feeds_for(model)
    np.testing.assert_array_equal(run(quantized(model, plan_for(model)), feeds)["x"], feeds["x"])


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_networks_of_other_float_types_stay_float(dtype):
    made = gemm()
    kind = np.float16 if dtype == TensorProto.FLOAT16 else np.float64
    for value in (made.graph.input[0], made.graph.output[0]):
        value.type.tensor_type.elem_type = dtype
    for t in made.graph.initializer:
        t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(kind), t.name))
    model = load(made)
    plan = plan_for(model)
    assert not plan.values
    assert "only float32 becomes integer" in plan.kept_float()["fc"]
    out = quantized(model, plan)
    feeds = feeds_for(model)
    np.testing.assert_array_equal(run(out, feeds)["y"], run(model, feeds)["y"])


def test_optional_inputs_left_out_do_not_shift_the_roles():
    made = proto([node("Clip", "c - hi", "y", "clip"), node("Conv", "x w", "c", "conv")][::-1], [info("x", [1, 3, 4, 4])],
                 [info("y", [1, 2, 4, 4])], {"w": weight(2, 3, 1, 1), "hi": np.float32(1)})  # fmt: skip
    model = load(made)
    out = quantized(model, plan_for(model))
    feeds = feeds_for(model)
    assert np.abs(run(out, feeds)["y"] - run(model, feeds)["y"]).max() < 0.1


# -- plans ------------------------------------------------------------------------------------------------------------------


def test_the_float_network_is_not_changed_and_bytes_repeat():
    model = load(residual())
    plan = plan_for(model)
    before = to_bytes(model)
    first, second = quantized(model, plan), quantized(model, plan)
    assert to_bytes(model) == before
    assert to_bytes(first) == to_bytes(second)
    assert to_bytes(quantized(load(residual()), Plan.from_json(plan.to_json()))) == to_bytes(first)


def test_edited_ranges_are_honoured():
    model = load(conv_relu())
    found = plan_for(model).to_json()
    found["values"]["y"]["range"] = [0.0, 0.5]
    out = quantized(model, Plan.from_json(found))
    assert stored(out, "y_scale") == np.float32(0.5 / 255)
    assert run(out, feeds_for(model))["y"].max() == np.float32(0.5 / 255) * 255


def test_a_plan_without_ranges_says_what_to_do():
    model = load(conv_relu())
    plan = plan_for(model)
    bare = replace(plan, values={k: replace(v, lo=None, hi=None) for k, v in plan.values.items()})
    with pytest.raises(NotCalibrated, match=r"value 'x' has no range; run calibrate with data, or write a range"):
        emit_qdq(model, bare)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (gemm, r"another network: unknown layer 'conv'"),
        (lambda: conv_named("convolution"), r"unknown layer 'conv'; did you mean 'convolution'"),
        (lambda: renamed("w", "weights"), r"unknown value 'w'"),
    ],
)
def test_a_plan_for_another_network_is_refused(build, says):
    with pytest.raises(PlanError, match=says):
        emit_qdq(load(build()), plan_for(load(conv_relu())))


def conv_named(name: str) -> onnx.ModelProto:
    made = conv_relu()
    made.graph.node[0].name = name
    return made


def renamed(old: str, new: str) -> onnx.ModelProto:
    made = conv_relu()
    made.graph.initializer[0].name = made.graph.node[0].input[1] = new
    return made


def test_a_plan_whose_weight_is_computed_here_is_refused():
    made = conv_relu()
    made.graph.initializer.pop(0)
    made.graph.input.append(info("w", [4, 3, 3, 3]))
    plan = plan_for(load(conv_relu()))
    with pytest.raises(PlanError, match="layer 'conv': its weight 'w' is computed at run time"):
        emit_qdq(load(made), plan)
    nodes = {"conv": NodePlan(True, "", ("act", "act"), ("act",))}
    with pytest.raises(PlanError, match="says that 'w' is a weight, but in this network it is computed"):
        emit_qdq(load(made), replace(plan, nodes=nodes))


def test_a_plan_for_values_that_are_not_float32_is_refused():
    model = load(branches())
    plan = Plan({"flag": ValuePlan(QuantSpec(8, False), "act", "flag", lo=0.0, hi=1.0)}, {})
    with pytest.raises(PlanError, match="value 'flag' is bool; only float32 becomes integer"):
        emit_qdq(model, plan)


def test_float_nodes_that_are_gone_do_not_matter():
    model = load(conv_relu())
    plan = plan_for(model)
    more = replace(plan, nodes={**plan.nodes, "gone": NodePlan(False, "was float")})
    assert to_bytes(quantized(model, more)) == to_bytes(quantized(model, plan))


def test_two_weights_with_one_scale_each_are_told_apart():
    model = load(depthwise())
    out = quantized(model, plan_for(model))
    assert {"wd_q", "wp_q", "bd_q", "bp_q"} <= set(out.graph.initializers)
