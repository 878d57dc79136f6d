import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto

from fewbit.errors import UnknownName
from fewbit.graph.files import to_bytes
from fewbit.graph.model import TensorInfo, attr, const, dims, is_const, is_float, known_operators, op_name
from tests.models import (
    branches,
    conv_relu,
    depthwise,
    feeds_for,
    gemm,
    info,
    load,
    loop,
    matmul,
    node,
    proto,
    residual,
    run,
    tied,
    weight,
)


def test_inputs_and_outputs_are_described():
    model = load(branches())
    assert model.inputs == [
        TensorInfo("x", np.dtype(np.float32), (1, 3, 4, 4)),
        TensorInfo("flag", np.dtype(bool), ()),
    ]
    assert [str(o) for o in load(conv_relu()).outputs] == ["y: float32[n, 4, 6, 6]"]
    assert str(TensorInfo("x", np.dtype(np.int64), (None, "n", 3))) == "x: int64[?, n, 3]"


def test_strings_are_objects():
    made = proto(
        [node("Identity", "x", "y")], [info("x", [2], TensorProto.STRING)], [info("y", [2], TensorProto.STRING)]
    )
    assert load(made).inputs[0].dtype == np.dtype(object)


def test_looking_up_offers_the_nearest_name():
    model = load(residual())
    assert model.node("conv1").op_type == "Conv"
    assert model.value("c2").producer() is model.node("conv2")
    assert model.value("w1").const_value is not None and model.value("x").is_graph_input()
    with pytest.raises(UnknownName, match=r"unknown layer 'conv3'; did you mean 'conv[12]'"):
        model.node("conv3")
    with pytest.raises(UnknownName, match="unknown value 'c9'"):
        model.value("c9")


def test_counts_include_bodies():
    model = load(branches())
    assert model.op_counts() == {"Conv": 1, "If": 1, "Mul": 1, "Neg": 1}
    assert model.parameters == 6 + 2 + 1 and model.nbytes == 4 * model.parameters
    assert {"k", "t", "e", "w", "x", "flag", "choose", "scale"} <= model.names()
    assert {"i", "go", "s", "each"} <= load(loop()).names()


def test_the_repr_says_what_it_is():
    assert repr(load(conv_relu())) == "<fewbit.Model: 2 nodes, 112 parameters, opset 17>"


def test_a_clone_is_independent_and_shares_the_weights():
    model = load(residual())
    model.aliases["bn"] = "conv1"
    before = to_bytes(model)
    copy = model.clone()
    assert to_bytes(copy) == before
    assert copy.value("w1").const_value.numpy() is model.value("w1").const_value.numpy()
    copy.node("conv1").name = "other"
    copy.add_initializer("new", np.zeros(3, np.float32))
    copy.aliases["more"] = "conv2"
    copy.notes.append("note")
    copy.metadata["key"] = "value"
    assert to_bytes(model) == before
    assert model.aliases == {"bn": "conv1"} and model.notes == []


def test_with_outputs_answers_more_and_leaves_the_model_alone():
    model = load(residual())
    before = to_bytes(model)
    more = model.with_outputs(["r", "c2", "y", "r"])
    assert [o.name for o in more.outputs] == ["y", "r", "c2"]
    feeds = feeds_for(model)
    found = run(more, feeds)
    np.testing.assert_array_equal(found["y"], run(model, feeds)["y"])
    assert found["r"].min() == 0
    assert to_bytes(model) == before
    with pytest.raises(UnknownName, match="unknown value 'nope'"):
        model.with_outputs(["nope"])


def test_fresh_names_count_up():
    model, taken = load(conv_relu()), {"a", "a_2"}
    assert [model.fresh("a", taken), model.fresh("b", taken), model.fresh("b", taken)] == ["a_3", "b", "b_2"]
    assert {"a_3", "b", "b_2"} <= taken


def test_initializers_can_be_added_also_of_four_bits():
    model = load(conv_relu())
    value = model.add_initializer("nibbles", np.int8([[1, -2], [3, -8]]), ir.DataType.INT4)
    assert value.dtype == ir.DataType.INT4 and value.const_value.nbytes == 2
    strided = model.add_initializer("strided", weight(4, 6)[:, ::2])
    np.testing.assert_array_equal(const(strided), weight(4, 6)[:, ::2])
    assert const(model.add_initializer("scalar", np.float32(2))).shape == ()
    assert strided in model.weights()


def test_what_no_output_needs_is_dropped():
    made = residual()
    made.graph.node.extend([node("Neg", "c1", "dead1"), node("Abs", "dead1", "dead2")])
    made.graph.initializer.append(made.graph.initializer[0])
    made.graph.initializer[-1].name = "unused"
    model = load(made)
    assert model.drop_unused() == 2
    assert len(model.nodes) == 5 and "unused" not in model.graph.initializers
    assert model.drop_unused() == 0


def test_a_value_read_by_a_body_is_used_until_its_body_goes():
    made = branches()
    made.graph.node.append(node("Identity", "x", "z"))
    made.graph.output.append(info("z", [1, 3, 4, 4]))
    model = load(made)
    assert model.drop_unused() == 0
    model.graph.outputs.pop(0)
    assert model.drop_unused() == 2  # If, and the Conv that only its bodies read
    assert model.op_counts() == {"Identity": 1} and not model.graph.initializers


def test_the_digest_is_about_graph_and_weights_only():
    first = load(residual())
    assert first.digest() == load(residual()).digest() == first.clone().digest()
    first.metadata["author"] = "somebody"
    first.ir.producer_name = "other"
    assert first.digest() == load(residual()).digest()


def changed_weight(made):
    made.graph.initializer[0].raw_data = bytes(len(made.graph.initializer[0].raw_data))


@pytest.mark.parametrize(
    "change",
    [
        changed_weight,
        lambda m: setattr(m.graph.node[1], "op_type", "Sigmoid"),
        lambda m: m.graph.node[0].attribute[0].ints.__setitem__(0, 2),
        lambda m: m.graph.node[4].output.__setitem__(0, "z") or setattr(m.graph.output[0], "name", "z"),
        lambda m: m.graph.node[3].input.__setitem__(0, "r"),
    ],
)
def test_every_change_of_graph_or_weights_changes_the_digest(change):
    made = residual()
    change(made)
    assert load(made).digest() != load(residual()).digest()


def test_the_digest_sees_into_bodies():
    made = branches()
    next(a for a in made.graph.node[1].attribute if a.name == "then_branch").g.initializer[0].raw_data = bytes(4)
    assert load(made).digest() != load(branches()).digest()


def test_constants_are_told_from_values_that_are_fed():
    model = load(depthwise())
    assert is_const(model.value("wd")) and not is_const(model.value("x")) and not is_const(None)
    np.testing.assert_array_equal(const(model.value("wd")), weight(4, 1, 3, 3))
    assert const(model.value("x")) is None and const(model.value("d")) is None and const(None) is None
    assert (
        dims(model.value("d")) == (1, 4, 6, 6) and dims(load(matmul()).value("x")) == (None, 32) and dims(None) is None
    )
    assert is_float(model.value("d")) and not is_float(None) and not is_float(load(branches()).value("flag"))


def test_attributes_have_plain_values():
    conv = load(depthwise()).node("depthwise")
    assert attr(conv, "pads") == (1, 1, 1, 1) and attr(conv, "group") == 4
    assert attr(conv, "dilations") is None and attr(conv, "dilations", 1) == 1
    assert attr(load(gemm()).node("fc"), "transB") == 1
    padded = proto([node("Pad", "x p", "y", mode="edge")], [info("x", [2])], [info("y", [4])], {"p": np.array([1, 1])})
    assert attr(load(padded).node("pad_y"), "mode") == "edge"


def test_operators_of_other_domains_are_named_with_them():
    made = proto(
        [node("Gelu", "x", "y", domain="com.microsoft")],
        [info("x", [2])],
        [info("y", [2])],
        domains={"com.microsoft": 1},
    )
    assert op_name(load(made).nodes[0]) == "com.microsoft.Gelu"
    assert op_name(load(conv_relu()).nodes[0]) == "Conv"
    assert {"Conv", "MatMul", "Scan"} <= known_operators() and "com.microsoft.Gelu" not in known_operators()


def test_a_tied_weight_is_one_value():
    model = load(tied())
    assert len(model.weights()) == 1 and len(model.value("w").uses()) == 2


@pytest.mark.parametrize("source", ["x", "w"])
def test_an_output_may_be_an_input_or_a_weight(source):
    made = proto([node("Add", "x w", "y")], [info("x", [2])], [info("y", [2]), info(source, [2])], {"w": weight(2)})
    model = load(made)
    feeds = feeds_for(model)
    found = run(model, feeds)
    np.testing.assert_array_equal(found[source], feeds["x"] if source == "x" else weight(2))
    assert model.drop_unused() == 0 and [o.name for o in model.outputs] == ["y", source]


def test_inputs_left_out_stay_left_out():
    made = proto([node("Clip", "x - hi", "y")], [info("x", [3])], [info("y", [3])], {"hi": np.float32(1)})
    model = load(made)
    assert model.nodes[0].inputs[1] is None
    assert run(model, {"x": np.float32([-5, 0, 5])})["y"].tolist() == [-5, 0, 1]
