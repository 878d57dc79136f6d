"""Small networks, their Q/DQ forms, and Runners that need no engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from fewbit.core.runner import Executed, Feeds, NodeTime
from fewbit.data.base import Batch
from fewbit.graph.files import from_proto, to_bytes
from fewbit.graph.model import Model

Array = NDArray[Any]
GOLDEN = Path(__file__).parents[1] / "golden"


def golden(name: str, text: str) -> None:
    """Compare with tests/golden/<name>.txt; what differs shows in the assertion."""
    assert text + "\n" == (GOLDEN / f"{name}.txt").read_text("utf-8")


def chain(*, extra: tuple[str, ...] = ()) -> onnx.ModelProto:
    """x[n, 4] → a = x + 1 → b = 2·a → y = relu(b); `extra` names more outputs."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["a"], "add"),
        helper.make_node("Mul", ["a", "two"], ["b"], "mul"),
        helper.make_node("Relu", ["b"], ["y"], "relu"),
    ]
    consts = [numpy_helper.from_array(np.float32(v).reshape(1), k) for k, v in (("one", 1), ("two", 2))]
    return build(nodes, consts, [("x", ["n", 4])], [(n, ["n", 4]) for n in ("y", *extra)])


def detector() -> onnx.ModelProto:
    """x[1, 6, 4] → boxes → scores → NonMaxSuppression → found, the boxes that are kept."""
    nodes = [
        helper.make_node("Mul", ["x", "one"], ["boxes"], "mul"),
        helper.make_node("ReduceMean", ["boxes", "last"], ["means"], "mean", keepdims=0),
        helper.make_node("Relu", ["means"], ["scores"], "relu"),
        helper.make_node("Unsqueeze", ["scores", "middle"], ["ranks"], "unsqueeze"),
        helper.make_node("Squeeze", ["boxes", "front"], ["flat"], "flat"),
        helper.make_node("NonMaxSuppression", ["boxes", "ranks", "most", "half", "none"], ["kept"], "nms"),
        helper.make_node("Gather", ["kept", "box"], ["where"], "where", axis=1),
        helper.make_node("Gather", ["flat", "where"], ["found"], "found", axis=0),
    ]
    consts = {"last": np.int64([2]), "middle": np.int64([1]), "front": np.int64([0]), "most": np.int64([6])}
    consts |= {"box": np.int64(2), "one": np.float32([1]), "half": np.float32([0.3]), "none": np.float32([0.1])}
    arrays = [numpy_helper.from_array(np.asarray(v), k) for k, v in consts.items()]
    return build(nodes, arrays, [("x", [1, 6, 4])], [("scores", [1, 6]), ("found", [None, 4])])


def build(nodes: list[Any], consts: list[Any], inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
    """A model of float32 inputs and outputs, opset 19."""
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in side] for side in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", ends[0], ends[1], consts)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def with_qdq(proto: onnx.ModelProto, formats: Mapping[str, tuple[float, int]]) -> onnx.ModelProto:
    """Put uint8 Q and DQ behind values (name → scale, zero point), with the names that fewbit gives."""
    out = onnx.ModelProto()
    out.CopyFrom(proto)
    graph = out.graph
    ends = {o.name for o in graph.output}
    for v, (scale, zero) in formats.items():
        graph.initializer.append(numpy_helper.from_array(np.float32(scale), f"{v}_scale"))
        graph.initializer.append(numpy_helper.from_array(np.uint8(zero), f"{v}_zero"))
        source, seen = (f"{v}_float", v) if v in ends else (v, f"{v}_dq")
        at = 0
        for i, node in enumerate(graph.node):
            node.input[:] = [seen if n == v else n for n in node.input]
            if v in node.output:
                node.output[:] = [source if n == v else n for n in node.output]
                at = i + 1
        how = [f"{v}_scale", f"{v}_zero"]
        graph.node.insert(at, helper.make_node("QuantizeLinear", [source, *how], [f"{v}_q"], f"{v}_q"))
        graph.node.insert(at + 1, helper.make_node("DequantizeLinear", [f"{v}_q", *how], [seen], f"{v}_dq"))
    return out


def model(proto: onnx.ModelProto) -> Model:
    return from_proto(proto)


class Reference:
    """Runs a Model in onnx's reference evaluator."""

    def __init__(self, network: Model) -> None:
        self.names = [o.name for o in network.outputs]
        self.session = ReferenceEvaluator(onnx.load_model_from_string(to_bytes(network)))

    def run(self, feeds: Feeds) -> dict[str, Array]:
        return dict(zip(self.names, self.session.run(None, dict(feeds)), strict=True))

    def profile(self, feeds: Feeds, repeat: int = 10) -> list[NodeTime]:
        return []

    def executed(self) -> list[Executed]:
        return []


class Fake:
    """A Runner made of a function; profile answers with what it was given."""

    def __init__(self, run: Callable[[Feeds], dict[str, Array]], times: list[NodeTime] | None = None) -> None:
        self.run = run
        self.times = times or []

    def profile(self, feeds: Feeds, repeat: int = 10) -> list[NodeTime]:
        return self.times

    def executed(self) -> list[Executed]:
        return []


def batches(x: Array, size: int, labels: Array | None = None, name: str = "x") -> list[Batch]:
    """Cut rows into batches."""
    found = []
    for i, a in enumerate(range(0, len(x), size)):
        part = x[a : a + size]
        tags = None if labels is None else labels[a : a + size]
        found.append(Batch({name: part}, tags, i, [f"sample {a + j}" for j in range(len(part))]))
    return found
