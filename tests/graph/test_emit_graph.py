"""Where the integer network's values go, and which plans are refused."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from fewbit.core.plan import NodePlan, Plan, ValuePlan
from fewbit.core.spec import QuantSpec
from fewbit.core.target import OpRule
from fewbit.errors import ModelError, NotCalibrated, PlanError
from fewbit.graph.emit import emit_qdq
from fewbit.graph.files import to_bytes
from tests.graph.emitted import convolve, fake_bias, fake_weight, quantized, steps, stored
from tests.models import (
    NETWORKS,
    TARGET,
    branches,
    conv_relu,
    depthwise,
    feeds_for,
    gemm,
    info,
    load,
    node,
    plan_for,
    proto,
    residual,
    run,
    weight,
)

# -- where values go -------------------------------------------------------------------------------------------------


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


def test_a_weight_that_is_also_an_output_keeps_its_float_form():
    made = gemm()
    made.graph.output.append(info("w", [5, 6]))
    model = load(made)
    out = quantized(model, plan_for(model))
    np.testing.assert_array_equal(run(out, feeds_for(model))["w"], weight(5, 6))
    assert "w_q" in out.graph.initializers


def test_outputs_that_nobody_uses_leave_no_trace():
    split = onnx.helper.make_node("Split", ["c"], ["p", "spare"], "split", axis=1)
    nodes = [node("Conv", "x w", "c", "conv"), split, node("Conv", "p v", "y", "conv2")]
    weights = {"w": weight(2, 3, 1, 1), "v": weight(2, 1, 1, 1)}
    model = load(proto(nodes, [info("x", [1, 3, 4, 4])], [info("y", [1, 2, 4, 4])], weights))
    plan = plan_for(model)
    for name in ("p", "spare"):
        nodes = {**plan.nodes, "split": NodePlan(True, "", ("act",), ("same", "same"))}
        plan = replace(plan, nodes=nodes, values={**plan.values, name: replace(plan.values["c"], group="c")})
    out = quantized(model, plan)
    assert not [n for n in out.nodes if "spare" in n.name]
    feeds = feeds_for(model)
    assert np.abs(run(out, feeds)["y"] - run(model, feeds)["y"]).max() < 0.15


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
    nodes = [node("Conv", "x w", "c", "conv"), node("Clip", "c - hi", "y", "clip")]
    weights = {"w": weight(2, 3, 1, 1), "hi": np.float32(1)}
    made = proto(nodes, [info("x", [1, 3, 4, 4])], [info("y", [1, 2, 4, 4])], weights)
    model = load(made)
    out = quantized(model, plan_for(model))
    feeds = feeds_for(model)
    assert np.abs(run(out, feeds)["y"] - run(model, feeds)["y"]).max() < 0.1


# -- plans -----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("index", "name", "mode"), [(0, "w", "naive"), (1, "b", "naive"), (0, "w", "none")])
def test_nan_in_a_weight_is_told_when_it_is_quantized(index, name, mode):
    made = conv_relu()
    target = replace(TARGET, dynamic=(OpRule("Conv", ("act", "weight"), ("float",), core=True),))
    plan = plan_for(load(made), target=target, calib_mode=mode)
    assert plan.values["x"].spec.dynamic == (mode == "none")
    broken = numpy_helper.to_array(made.graph.initializer[index]).copy()
    broken.flat[0] = np.nan
    made.graph.initializer[index].CopyFrom(numpy_helper.from_array(broken, name))
    with pytest.raises(ModelError, match=f"weight '{name}' of layer 'conv' holds NaN or infinity"):
        emit_qdq(load(made), plan)


def edited(plan: Plan, *, node: dict | None = None, **values: dict | None) -> Plan:
    """The plan with changes, by way of its JSON; None removes a value."""
    found = plan.to_json()
    found["nodes"]["conv"] |= node or {}
    for name, change in values.items():
        if change is None:
            del found["values"][name]
        else:
            found["values"][name]["spec"] |= change
    return Plan.from_json(found)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"w": {"axis": 4}}, r"weight 'w' has 4 axes; the plan puts its scales along axis 4"),
        ({"w": {"axis": -5}}, r"along axis -5"),
        ({"w": None}, r"layer 'conv' reads 'w' as a weight, but the plan has no value of that name"),
        (
            {"node": {"roles": ["act", "weight"]}},
            r"layer 'conv' has 3 inputs; its roles are \['act', 'weight'\], not one",
        ),
        ({"node": {"roles": []}}, r"layer 'conv' has 3 inputs; its roles are \[\]"),
        ({"node": {"roles": ["act", "weight", "bias", "keep"]}}, r"has 3 inputs; its roles are"),
    ],
)
def test_edits_that_would_have_no_effect_are_refused(change, says):
    model = load(conv_relu())
    plan = plan_for(model)
    assert to_bytes(emit_qdq(model, edited(plan))) == to_bytes(emit_qdq(model, plan))
    with pytest.raises(PlanError, match=says):
        emit_qdq(model, edited(plan, **change))
