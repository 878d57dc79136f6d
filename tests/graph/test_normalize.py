import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fewbit.errors import UnsupportedModel
from fewbit.graph import normalize
from fewbit.graph.files import to_bytes
from fewbit.graph.normalize import infer_shapes, name_everything, raise_opset
from tests import models
from tests.models import (
    NETWORKS,
    body,
    branches,
    conv_relu,
    feeds_for,
    graph,
    info,
    load,
    matmul,
    node,
    proto,
    run,
    weight,
)


def one(op: str, opset: int, inputs: str = "x", outputs: str = "y", *, shape=(2, 3, 4, 5), weights=None, **attrs):
    """A network of one operator."""
    outs = [info(o, None) for o in outputs.split()]
    return proto(
        [node(op, inputs, outputs, op, **attrs)], [info("x", list(shape))], outs, weights, opset=opset, ir_version=4
    )


def equal(made: onnx.ModelProto, *, opset: int | None = 17) -> None:
    """Check that loading does not change what a network computes."""
    model = load(made)
    assert opset is None or model.opset == opset
    feeds = feeds_for(model)
    want, got = run(made, feeds), run(model, feeds)
    assert list(want) == list(got)
    for key in want:
        np.testing.assert_array_equal(want[key], got[key])


UP, DOWN = np.array([1, 1, 2, 1.7], np.float32), np.array([1, 1, 0.7, 0.6], np.float32)
BN = {"s": weight(3), "b": weight(3), "m": weight(3), "v": np.abs(weight(3)) + 0.1}
OLD = {
    "Pad": lambda: one("Pad", 7, pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.5),
    "Slice": lambda: one("Slice", 9, axes=[2], starts=[1], ends=[3]),
    "Clip": lambda: one("Clip", 7, min=0.0, max=6.0),
    "Squeeze": lambda: one("Squeeze", 11, shape=(1, 3, 4), axes=[0]),
    "Unsqueeze": lambda: one("Unsqueeze", 9, axes=[0]),
    "ReduceSum": lambda: one("ReduceSum", 11, axes=[1], keepdims=0),
    "Split": lambda: one("Split", 11, outputs="y z", axis=1, split=[1, 2]),
    "Softmax": lambda: one("Softmax", 9, axis=1),
    "LogSoftmax": lambda: one("LogSoftmax", 12, axis=2),
    "Dropout": lambda: one("Dropout", 7, ratio=0.5),
    "BatchNormalization": lambda: one("BatchNormalization", 7, "x s b m v", weights=BN),
    "Upsample 7": lambda: one("Upsample", 7, scales=[1.0, 1.0, 2.0, 2.0], mode="linear"),
    "Upsample 9": lambda: one("Upsample", 9, "x s", weights={"s": np.float32([1, 1, 2, 2])}, mode="nearest"),
    "Resize up, linear": lambda: one("Resize", 10, "x s", weights={"s": UP}, mode="linear"),
    "Resize up, nearest": lambda: one("Resize", 10, "x s", weights={"s": UP}, mode="nearest"),
    "Resize down, linear": lambda: one("Resize", 10, "x s", weights={"s": DOWN}, mode="linear"),
    "Resize down, nearest": lambda: one("Resize", 10, "x s", weights={"s": DOWN}, mode="nearest"),
    "Gemm": lambda: one("Gemm", 7, "x w b", shape=(2, 3), weights={"w": weight(3, 4), "b": weight(4)}),
    "RoiAlign": lambda: one("RoiAlign", 10, "x r n", shape=(1, 2, 8, 8), output_height=3, output_width=3,
                            weights={"r": np.float32([[0, 0, 5, 5]]), "n": np.array([0])}),
    "If": lambda: branches(opset=9),
    "opset 13": lambda: one("Softmax", 13, axis=1),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD)
def test_raising_an_old_opset_changes_no_result(name):
    equal(OLD[name]())


def test_bodies_of_old_opsets_are_raised_too():
    made = branches(opset=9)
    then = body(made.graph.node[1], "then_branch")
    then.node.extend([node("Unsqueeze", "t", "u", axes=[0]), node("Squeeze", "u", "v", axes=[0])])
    then.output[0].name = "v"
    equal(made)


def test_newer_opsets_stay_as_they_are():
    for opset in (17, 18, 21):
        assert load(conv_relu(opset=opset)).opset == opset


@pytest.mark.parametrize("opset", [1, 6, 99])
def test_opsets_beyond_our_reach_are_refused(opset):
    with pytest.raises(UnsupportedModel, match=rf"uses opset {opset}; fewbit reads opsets 7 to \d+"):
        load(conv_relu(opset=opset))


def test_an_old_operator_nobody_knows_is_an_error_and_a_newer_one_a_note():
    with pytest.raises(UnsupportedModel, match=r"uses opset 11, which cannot hold per-channel integers.*Flurb"):
        load(one("Flurb", 11))
    model = load(one("Flurb", 13))
    assert model.opset == 13
    assert [n for n in model.notes if "opset stays 13: raising it to 17 failed" in n and "Flurb" in n]


@pytest.mark.parametrize(("op", "opset"), [("Hardmax", 12), ("Scan", 8)])
def test_operators_that_changed_their_meaning_are_not_raised_silently(op, opset):
    if op == "Scan":
        made = models.scan()
        made.opset_import[0].version = opset
    else:
        made = one(op, opset)
    with pytest.raises(UnsupportedModel, match=f"{op} means something else since opset"):
        load(made)


def test_operators_of_other_domains_and_their_imports_survive():
    nodes = [node("Gelu", "x", "h", domain="com.microsoft"), node("Squeeze", "h", "y", axes=[0])]
    extra = {"com.microsoft": 1}
    made = proto(nodes, [info("x", [1, 3])], [info("y", [3])], opset=11, ir_version=6, domains=extra)
    equal(made)
    assert load(made).op_counts()["com.microsoft.Gelu"] == 1


def test_raising_keeps_metadata_names_and_free_dimensions():
    made = matmul(k=64, n=32, opset=9)
    made.ir_version = 4
    helper.set_model_props(made, {"author": "somebody"})
    made.doc_string = "words"
    model = load(made)
    assert model.opset == 17 and model.metadata == {"author": "somebody"} and model.ir.doc_string == "words"
    assert list(model.graph.initializers) == ["w"]
    assert [str(i) for i in model.inputs] == ["x: float32[b, 64]"]
    assert [str(o) for o in model.outputs] == ["y: float32[b, 32]"]


def test_large_weights_do_not_pass_through_the_converter(monkeypatch):
    seen = []
    real = onnx.version_converter.convert_version

    def spy(given, version):
        seen.append(given.ByteSize())
        return real(given, version)

    monkeypatch.setattr(normalize.onnx.version_converter, "convert_version", spy)
    model = load(matmul(k=512, n=64, opset=11))
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), weight(512, 64))
    assert seen and max(seen) < 1000


def test_old_files_that_list_weights_as_inputs_lose_these_inputs():
    made = matmul(opset=7)
    made.ir_version = 3
    made.graph.input.append(info("w", [32, 8]))
    equal(made)
    model = load(made)
    assert [i.name for i in model.inputs] == ["x"] and model.ir.ir_version >= 4


def test_constant_nodes_become_initializers():
    made = proto(
        [
            helper.make_node("Constant", [], ["k"], value=helper.make_tensor("", TensorProto.FLOAT, [2], [1, 2])),
            helper.make_node("Constant", [], ["f"], value_float=0.5),
            node("Add", "x k", "h"),
            node("Mul", "h f", "y"),
        ],
        [info("x", [2])],
        [info("y", [2])],
    )
    equal(made)
    assert load(made).op_counts() == {"Add": 1, "Mul": 1}


def test_a_constant_that_is_an_output_survives():
    made = proto([helper.make_node("Constant", [], ["y"], value_float=0.5)], [info("x", [2])], [info("y", [])])
    equal(made)


def test_model_local_functions_are_inlined():
    function = helper.make_function(
        "mine", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    made = proto(
        [node("Twice", "x", "h", "t1", domain="mine"), node("Twice", "h", "y", "t2", domain="mine")],
        [info("x", [2])], [info("y", [2])], domains={"mine": 1}, functions=[function],
    )  # fmt: skip
    equal(made)
    model = load(made)
    assert model.op_counts() == {"Add": 2} and not model.ir.functions


def test_functions_that_unfold_without_end_are_refused():
    first = helper.make_function(
        "mine", "F0", ["a"], ["b"], [node("Relu", "a", "b", "r")], [helper.make_opsetid("", 17)]
    )
    functions = [first]
    for i in range(1, 40):  # each calls the one before twice
        calls = [node(f"F{i - 1}", "a", "c", "c1", domain="mine"), node(f"F{i - 1}", "c", "b", "c2", domain="mine")]
        functions.append(helper.make_function("mine", f"F{i}", ["a"], ["b"], calls, [helper.make_opsetid("mine", 1)]))
    made = proto(
        [node("F39", "x", "y", "all", domain="mine")], [info("x", [2])], [info("y", [2])],
        domains={"mine": 1}, functions=functions,
    )  # fmt: skip
    with pytest.raises(UnsupportedModel, match="unfolds its functions into 549,755,813,888 nodes; fewbit takes up to"):
        load(made)


# -- names -----------------------------------------------------------------------------------------------------------


def names(model) -> list[str]:
    graphs = [model.graph, *(g for g in model.graph.subgraphs() if g is not model.graph)]
    values = [v for g in graphs for v in (*g.inputs, *g.initializers.values(), *(v for n in g for v in n.outputs))]
    return [v.name for v in values]


@pytest.mark.parametrize("name", NETWORKS)
def test_all_names_are_there_and_unique(name):
    made = NETWORKS[name]()
    for n in made.graph.node:
        n.ClearField("name")
    model = load(made)
    found = names(model)
    assert all(found) and len(set(found)) == len(found)
    nodes = [n.name for n in model.graph.all_nodes()]
    assert all(nodes) and len(set(nodes)) == len(nodes)
    assert [i.name for i in model.inputs] == [i.name for i in made.graph.input]
    assert [o.name for o in model.outputs] == [o.name for o in made.graph.output]
    assert to_bytes(load(made)) == to_bytes(model)


def test_outputs_left_out_stay_left_out():
    weights = {"w": weight(1, 20, 4), "r": weight(1, 20, 5)}
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["", "y"], "lstm", hidden_size=5)
    made = proto([lstm], [info("x", [2, 3, 4])], [info("y", [1, 3, 5])], weights)
    equal(made)
    assert [v.name for v in load(made).node("lstm").outputs] == ["", "y"]
    assert list(onnx.load_from_string(to_bytes(load(made))).graph.node[0].output) == ["", "y"]


def test_equal_node_names_are_told_apart_in_order():
    made = models.residual()
    for n in made.graph.node:
        n.name = "same"
    assert [n.name for n in load(made).nodes] == ["same", "same_2", "same_3", "same_4", "same_5"]


def test_bodies_that_reuse_names_are_told_apart():
    then = graph([node("Mul", "r k", "t")], [], [info("t", None)], {"k": np.float32(2)}, "then")
    other = graph([node("Mul", "r k", "t")], [], [info("t", None)], {"k": np.float32(3)}, "else")
    made = proto(
        [node("Relu", "x", "r"), node("If", "c", "q", then_branch=then, else_branch=other), node("Neg", "q", "y")],
        [info("x", [2]), info("c", [], TensorProto.BOOL)], [info("y", [2])],
    )  # fmt: skip
    equal(made)
    found = names(load(made))
    assert len(set(found)) == len(found)
    feeds = {"x": np.ones(2, np.float32), "c": np.array(False)}
    assert run(load(made), feeds)["y"].tolist() == [-3, -3]


def test_the_inputs_of_a_body_do_not_hide_outer_values():
    made = models.loop()
    inner = body(made.graph.node[1], "body")
    inner.input[2].name = inner.node[0].input[0] = "x"  # as in the main graph
    model = load(made)
    assert len(set(names(model))) == len(names(model))
    want = run(models.loop(), feeds_for(model))
    got = run(model, feeds_for(model))
    np.testing.assert_array_equal(want["all"], got["all"])


def test_naming_twice_changes_nothing():
    model = load(branches())
    before = to_bytes(model)
    name_everything(model)
    assert to_bytes(model) == before


# -- shapes ----------------------------------------------------------------------------------------------------------


def test_inner_shapes_are_inferred_and_free_dimensions_keep_their_names():
    value = load(conv_relu()).value("c")
    assert str(value.shape) == "[n,4,6,6]" and value.dtype.name == "FLOAT"


def test_what_inputs_and_outputs_say_is_not_overwritten():
    made = conv_relu()
    made.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "mine"
    assert str(load(made).outputs[0]) == "y: float32[mine, 4, 6, 6]"


def test_negative_sizes_are_free_dimensions():
    made = conv_relu()
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    model = load(made)
    assert [str(i) for i in (*model.inputs, *model.outputs)] == ["x: float32[?, 3, 6, 6]", "y: float32[?, 4, 6, 6]"]


def test_a_failing_inference_is_a_note_not_an_error(monkeypatch, caplog):
    def fail(*_, **__):
        raise onnx.shape_inference.InferenceError("no idea\nmore lines")

    model = load(conv_relu())
    monkeypatch.setattr(normalize.onnx.shape_inference, "infer_shapes", fail)
    with caplog.at_level(logging.INFO, "fewbit"):
        infer_shapes(model)
    assert model.notes == ["shapes could not be inferred (no idea); operators of unknown shape stay float"]
    assert caplog.messages == model.notes


def test_a_failing_conversion_leaves_the_model_as_it_was(monkeypatch):
    def fail(*_):
        raise RuntimeError("not today")

    model = load(conv_relu())
    before = to_bytes(model)
    monkeypatch.setattr(normalize.onnx.version_converter, "convert_version", fail)
    raise_opset(model, 21, "the model")
    assert to_bytes(model) == before and model.notes == ["opset stays 17: raising it to 21 failed (not today)"]


@pytest.mark.parametrize("name", NETWORKS)
def test_raising_to_21_changes_no_result(name):
    model = load(NETWORKS[name]())
    want = run(model, feeds_for(model))
    raise_opset(model, 21, "the model")
    assert model.opset == 21
    for key, value in run(model, feeds_for(model)).items():
        np.testing.assert_array_equal(value, want[key])


def test_a_file_newer_than_its_opset_asks_for_is_lowered() -> None:
    made = conv_relu()
    made.ir_version = 14
    model = load(made)
    assert model.ir.ir_version == 10
    run(model, feeds_for(model))
