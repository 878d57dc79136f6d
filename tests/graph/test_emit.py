"""The integer network against numpy: the same parameters, the same arithmetic, written down here a second time."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fewbit.core.nudge import pack_nudges
from fewbit.core.params import QuantParams, weight_params
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.engines import open_runner
from fewbit.errors import PlanError
from fewbit.graph.files import to_bytes
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model, const
from tests.graph.emitted import convolve, fake_bias, fake_weight, message, quantized, reference, steps, stored
from tests.models import (
    NETWORKS,
    concat,
    conv_relu,
    feeds_for,
    gemm,
    info,
    load,
    matmul,
    node,
    plan_for,
    proto,
    run,
    tied,
    weight,
)

# -- the whole path, against numpy -----------------------------------------------------------------------------------


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


# -- weights and biases ----------------------------------------------------------------------------------------------


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


def twins(op: str) -> onnx.ModelProto:
    """x → op(w, b0), op(w, b1) → Concat: one input and one weight for both."""
    nodes = [node(op, f"x w b{i}", f"c{i}", f"{op}{i}", **({} if op == "Gemm" else {"pads": [1] * 4})) for i in (0, 1)]
    size, kernel = ([], []) if op == "Gemm" else ([16, 16], [3, 3])
    return proto([*nodes, node("Concat", "c0 c1", "y", axis=1)],
                 [info("x", [1, 32, *size])], [info("y", [1, 64, *size])],
                 {"w": weight(32, 32, *kernel), "b0": weight(32), "b1": weight(32, seed=1)})  # fmt: skip


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
def test_layers_that_share_input_and_weight_are_right_in_openvino(op):
    pytest.importorskip("openvino")
    model = load(twins(op))
    plan = plan_for(model)
    out = quantized(model, plan)
    feeds = feeds_for(model)
    ours, theirs = run(out, feeds)["y"], open_runner("openvino", out).run(feeds)["y"]
    assert steps(ours, theirs, plan.params("y")) <= 1.001
    assert (ours == theirs).mean() > 0.999
    kept = [n for n in out.graph.initializers if n.startswith("w_q")]
    assert len(kept) == 2
    np.testing.assert_array_equal(stored(out, kept[0]), stored(out, kept[1]))


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


# -- formats ---------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("k", "size"), [(32, 8), (32, 32), (30, 8)])
def test_weights_in_groups(k, size):
    model = load(matmul(k=k))
    spec = QuantSpec(8, True, symmetric=True, narrow=True, granularity="group", axis=0, group_size=size)
    plan = with_spec(model, "w", spec)
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


@pytest.mark.parametrize("grain", ["channel-wise", "tensor-wise"])
def test_the_bias_of_a_channel_without_weights_survives(grain):
    made = conv_relu()
    w = 1e-3 * weight(4, 3, 3, 3)
    w[1] = 0
    if grain == "tensor-wise":
        w[:] = 0
    for t in made.graph.initializer:
        t.CopyFrom(numpy_helper.from_array(w if t.name == "w" else np.full(4, 0.3, np.float32), t.name))
    model = load(made)
    feeds = {"x": np.full((1, 3, 6, 6), 255, np.float32)}  # one step of the input is 1
    plan = plan_for(model, [feeds], quantize_granularity=grain)
    got = run(quantized(model, plan), feeds)["y"]
    assert np.abs(got[:, 1] - 0.3).max() <= plan.params("y").scale


# -- corrections -----------------------------------------------------------------------------------------------------


def corrected(plan: Plan, name: str = "w", node: str = "", bias=(), **weight) -> Plan:
    values = {**plan.values, name: replace(plan.values[name], **weight)}
    nodes = {**plan.nodes, node: replace(plan.nodes[node], bias=tuple(bias))} if node else plan.nodes
    return replace(plan, values=values, nodes=nodes)


@pytest.mark.parametrize("made", [conv_relu, gemm, matmul])
def test_scales_of_the_plan_are_those_of_the_network(made):
    model = load(made())
    plan = plan_for(model)
    spec, w = plan.values["w"].spec, const(model.value("w"))
    plain = weight_params(spec, w)
    scale = np.float32(plain.scale * np.linspace(0.5, 1, len(plain.scale)))
    out = quantized(model, corrected(plan, scale=tuple(scale.tolist())))
    np.testing.assert_array_equal(stored(out, "w_scale"), scale)
    np.testing.assert_array_equal(stored(out, "w_q"), QuantParams(spec, scale, plain.zero_point).quantize(w))
    if "b_scale" in out.graph.initializers:
        np.testing.assert_array_equal(stored(out, "b_scale"), plan.params("x").scale * scale)


def test_one_scale_for_a_tensor():
    model = load(conv_relu())
    plan = corrected(plan_for(model, quantize_granularity="tensor-wise"), scale=(0.0125,))
    assert stored(quantized(model, plan), "w_scale") == np.float32(0.0125)


def test_scales_of_groups():
    model = load(matmul())
    spec = QuantSpec(8, True, symmetric=True, narrow=True, granularity="group", axis=0, group_size=8)
    scale = np.linspace(0.01, 0.02, 4 * 8).astype(np.float32)
    plan = corrected(with_spec(model, "w", spec), scale=tuple(scale.tolist()))
    np.testing.assert_array_equal(stored(quantized(model, plan), "w_scale"), scale.reshape(4, 8))


def test_a_scale_too_small_for_the_bias_is_made_larger():
    model = load(conv_relu())
    model.set_weight("w", const(model.value("w")) * np.float32(1e-10))
    plan = corrected(plan_for(model), scale=(2e-12,) * 4)
    out = quantized(model, plan)
    assert (stored(out, "w_scale") > 2e-12).all() and np.abs(stored(out, "b_q").astype(np.int64)).max() <= 2**30


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_nudges_move_the_integers_inside_their_limits(bits, rng):
    model = load(conv_relu())
    plan = plan_for(model, weight_bit_num=bits)
    w, spec = const(model.value("w")), plan.values["w"].spec
    nudge = rng.integers(-3, 4, w.shape).astype(np.int8)
    scale = (weight_params(spec, w).scale * np.float32(0.9)).tolist()
    plan = corrected(plan, scale=tuple(scale), nudge=pack_nudges(nudge))
    nearest = weight_params(spec, w)
    nearest = QuantParams(spec, np.float32(scale), nearest.zero_point).quantize(w).astype(int)
    q = stored(quantized(model, plan), "w_q")
    assert q.dtype == np.int8
    np.testing.assert_array_equal(q, np.clip(nearest + nudge, spec.qmin, spec.qmax))


def test_each_use_of_a_weight_has_nudges_of_its_own():
    model = load(tied(same_axis=False))
    ones = pack_nudges(np.ones((6, 6), np.int8))
    plan = corrected(plan_for(model), "w@fc2", nudge=ones)
    plain, moved = quantized(model, plan_for(model)), quantized(model, plan)
    np.testing.assert_array_equal(stored(moved, "w_q"), stored(plain, "w_q"))
    np.testing.assert_array_equal(stored(moved, "w@fc2_q"), np.minimum(stored(plain, "w@fc2_q").astype(int) + 1, 127))


@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_of_the_plan_is_added(bias):
    model = load(gemm(bias=bias))
    plan, shift = plan_for(model), np.linspace(-1, 1, 5)
    plan = plan.with_ranges({"y": (-9.0, 9.0)})
    out = quantized(model, corrected(plan, node="fc", bias=shift))
    old = const(model.value("b")) if bias else 0
    q, scale, _ = (stored(out, v.name) for v in out.node("fc").inputs[2].producer().inputs)
    assert q.dtype == np.int32
    np.testing.assert_allclose(q * scale.astype(np.float64), old + shift, atol=float(scale.max()))
    feeds = feeds_for(model, 5)
    moved = run(out, feeds)["y"] - run(quantized(model, plan), feeds)["y"]
    np.testing.assert_allclose(moved, np.broadcast_to(shift, moved.shape), atol=1.01 * plan.params("y").scale)


def test_a_plan_with_corrections_does_not_change_the_network():
    model = load(gemm())
    before, plan = to_bytes(model), plan_for(model)
    ones = pack_nudges(np.ones((5, 6), np.int8))
    out = quantized(model, corrected(plan, node="fc", bias=[1] * 5, scale=(0.01,) * 5, nudge=ones))
    assert to_bytes(model) == before and to_bytes(out) != to_bytes(quantized(model, plan))
    assert to_bytes(out) == to_bytes(
        quantized(model, corrected(plan, node="fc", bias=[1] * 5, scale=(0.01,) * 5, nudge=ones))
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": (0.1,)}, r"weight 'w' has 5 scales; the plan holds 1"),
        ({"scale": (0.1,) * 6}, r"weight 'w' has 5 scales; the plan holds 6"),
        ({"nudge": "eJw="}, r"weight 'w': its nudges are (damaged|for another)"),
        ({"nudge": pack_nudges(np.ones(29, np.int8))}, r"weight 'w': its nudges are for another number .* than 30"),
        ({"node": "fc", "bias": [1.0] * 4}, r"layer 'fc' has 5 channels; the plan holds 4 for its bias"),
    ],
)
def test_corrections_that_do_not_fit_are_told(change, says):
    model = load(gemm())
    with pytest.raises(PlanError, match=says):
        quantized(model, corrected(plan_for(model), **change))


def test_a_bias_for_a_layer_without_a_place_is_told():
    model = load(matmul())
    with pytest.raises(PlanError, match="corrects the bias of layer 'mm', which has no place for one"):
        quantized(model, corrected(plan_for(model), node="mm", bias=[1.0] * 8))


@pytest.mark.parametrize("exclude", [(), ("y",)])
def test_the_bias_behind_a_matmul_is_found_though_integers_come_between(exclude):
    made = proto([node("MatMul", "x w", "p", "mm"), node("Add", "p b", "y", "y")], [info("x", [2, 3, 6])],
                 [info("y", [2, 3, 5])], {"w": weight(6, 5), "b": weight(5)})  # fmt: skip
    model = fuse(load(made))
    plan = plan_for(model, exclude_layers=exclude).with_ranges({"p": (-9.0, 9.0)})
    if not exclude:
        plan = plan.with_ranges({"y": (-9.0, 9.0)})
    feeds, shift = feeds_for(model, 5), np.linspace(-1, 1, 5)
    before, after = (run(quantized(model, p), feeds)["y"] for p in (plan, corrected(plan, node="mm", bias=shift)))
    close = 1e-6 if exclude else 1.01 * plan.params("y").scale
    np.testing.assert_allclose(after - before, np.broadcast_to(shift, before.shape), atol=close)
