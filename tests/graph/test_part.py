"""Cutting a network at inner values, and running only what stands behind."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from fewbit.engines import open_runner
from fewbit.errors import UnknownName
from fewbit.graph.files import from_proto
from fewbit.graph.model import Model
from fewbit.graph.part import can_be_fed, live, part
from tests.models import graph, info, node, proto, residual

X = np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)


@pytest.fixture
def net() -> Model:
    return from_proto(residual())


def test_live_is_what_the_rest_reads(net: Model) -> None:
    assert [live(net, i) for i in range(5)] == [["x"], ["c1"], ["r"], ["c2", "r"], ["a"]]


def test_both_halves_together_are_the_whole(net: Model) -> None:
    before = open_runner("onnxruntime", part(net, {"x": 4}, ["r"])).run({"x": X})
    behind = part(net, {"r": 4}, ["y"])
    assert [n.name for n in behind.nodes] == ["conv2", "add", "relu2"] and [i.name for i in behind.inputs] == ["r"]
    whole = open_runner("onnxruntime", net).run({"x": X})["y"]
    np.testing.assert_allclose(open_runner("onnxruntime", behind).run(before)["y"], whole, atol=1e-6)
    assert len(net.nodes) == 5 and [i.name for i in net.inputs] == ["x"]  # as it was


def test_what_is_fed_and_not_needed_is_no_input(net: Model) -> None:
    assert [i.name for i in part(net, {"x": 4, "a": 4}, ["y"]).inputs] == ["a"]


def test_a_value_of_unknown_rank_is_fed_with_free_axes() -> None:
    net = from_proto(proto([node("Abs", "x", "a"), node("Neg", "a", "y")], [info("x", None)], [info("y", None)]))
    (fed,) = part(net, {"a": 2}, ["y"]).inputs
    assert fed.shape == (None, None)


def test_a_name_that_is_no_value_is_refused(net: Model) -> None:
    with pytest.raises(UnknownName, match=r"unknown value 'rr'.*'r'"):
        part(net, {"rr": 4}, ["y"])


def test_bodies_of_control_flow_read_too() -> None:
    then, other = (
        graph([node(op, "a", f"{op}_out", f"{op}_in")], [], [info(f"{op}_out", [2])]) for op in ("Neg", "Sqrt")
    )
    nodes = [
        node("Abs", "x", "a", "abs"),
        node("Exp", "x", "e", "exp"),
        node("If", "c", "i", "if", then_branch=then, else_branch=other),
        node("Add", "i e", "y", "add"),
    ]
    inputs = [info("x", [2]), info("c", [], TensorProto.BOOL)]
    net = from_proto(proto(nodes, inputs, [info("y", [2])]))
    assert sorted(live(net, 2)) == ["a", "c", "e"] and can_be_fed(net, live(net, 2))
    feeds = {"x": np.float32([1, -4]), "c": np.array(False)}
    kept = open_runner("onnxruntime", part(net, {"x": 1, "c": 0}, ["a", "e"])).run({"x": feeds["x"]})
    behind = open_runner("onnxruntime", part(net, {"a": 1, "c": 0, "e": 1}, ["y"]))
    whole = open_runner("onnxruntime", net).run(feeds)["y"]
    np.testing.assert_allclose(behind.run({**kept, "c": feeds["c"]})["y"], whole, rtol=1e-6)


def test_what_is_no_tensor_cannot_be_fed() -> None:
    nodes = [node("SequenceConstruct", "x", "s", "seq"), node("ConcatFromSequence", "s", "y", "cat", axis=0)]
    net = from_proto(proto(nodes, [info("x", [2])], [info("y", [2])]))
    assert not can_be_fed(net, live(net, 1))
