"""What lies between marks belongs to the place behind it, and the network computes what it did."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fewbit.graph.marks import Marked, marked
from tests.models import node, run

W = np.arange(16, dtype=np.float32).reshape(4, 4) / 8 - 1
X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)


def mark(x: str, y: str, label: str) -> onnx.NodeProto:
    return helper.make_node("Mark", [x], [y], name=f"mark_{label}", domain="fewbit", label=label)


def find(*nodes: onnx.NodeProto, outputs: str) -> Marked:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["n", 4]) for o in outputs.split()],
        [numpy_helper.from_array(W, "w")],
    )
    sets = [helper.make_opsetid("", 18), helper.make_opsetid("fewbit", 1)]
    return marked(helper.make_model(graph, opset_imports=sets, ir_version=10))


def test_marks_are_gone_and_their_places_known() -> None:
    found = find(
        mark("x", "x1", "input"),
        node("MatMul", "x1 w", "p", "product"),
        node("Relu", "p", "r", "relu"),
        mark("r", "r1", "layer"),
        node("Add", "r1 x1", "s", "sum"),
        mark("s", "y", "add"),
        outputs="y",
    )
    assert [n.op_type for n in found.model.nodes] == ["MatMul", "Relu", "Add"]
    assert found.values == {"input": "x", "layer": "layer", "add": "y"}
    assert found.owners == {"layer/MatMul": "layer", "layer": "layer", "add": "add"}
    assert [str(n.name) for n in found.model.nodes] == ["layer/MatMul", "layer", "add"]
    assert "fewbit" not in found.model.ir.opset_imports
    np.testing.assert_array_equal(run(found.model, {"x": X})["y"], np.maximum(X @ W, 0) + X)


def test_a_mark_of_an_input_that_is_an_output_leaves_an_identity() -> None:
    found = find(mark("x", "y", "input"), outputs="y")
    assert found.values == {"input": "y"}
    np.testing.assert_array_equal(run(found.model, {"x": X})["y"], X)


def test_two_marked_outputs_of_one_value_both_keep_their_names() -> None:
    found = find(node("Relu", "x", "r", "relu"), mark("r", "y", "a"), mark("r", "z", "b"), outputs="y z")
    assert found.values == {"a": "y", "b": "z"}
    out = run(found.model, {"x": X})
    np.testing.assert_array_equal(out["y"], np.maximum(X, 0))
    np.testing.assert_array_equal(out["z"], np.maximum(X, 0))


def test_nodes_in_front_of_two_places_belong_to_the_first() -> None:
    found = find(
        node("Relu", "x", "r", "shared"),
        node("Neg", "r", "a", "left"), mark("a", "a1", "one"),
        node("Abs", "r", "b", "right"), mark("b", "b1", "two"),
        node("Add", "a1 b1", "y", "sum"),
        outputs="y",
    )  # fmt: skip
    assert found.owners == {"one/Relu": "one", "one": "one", "two": "two"}
    assert [str(n.name) for n in found.model.nodes] == ["one/Relu", "one", "two", "behind/Add"]


def test_a_place_inside_keeps_up_with_an_output_that_takes_its_name() -> None:
    found = find(node("Relu", "x", "r", "relu"), mark("r", "r1", "a"), mark("r1", "y", "b"), outputs="y")
    assert found.values == {"a": "y", "b": "y"}
    assert found.owners == {"a": "a"}
