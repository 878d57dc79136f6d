"""Q and DQ out of the way: who reads what in which format."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from fewbit.core.plan import Plan
from fewbit.graph.emit import emit_qdq
from fewbit.graph.model import Model
from fewbit.graph.qoperator import to_qoperator
from fewbit.report.drawing.formats import Format
from fewbit.report.drawing.wiring import Constant, Planned, Read, Traced, Wiring, is_quantized, same
from tests.models import conv_relu, info, load, node, plan_for, proto, weight

GRID = {"s": np.float32(0.5), "z": np.uint8(3), "s2": np.float32(0.25), "z2": np.uint8(0)}


def steps(model: Model, name: str, index: int = 0, **words: Any) -> list[str]:
    read = Traced(model, **words).read(model.node(name), index)
    assert isinstance(read, Read)
    return [f"{read.source.name}", *(f"{s.format} {s.format.steps}".strip() for s in read.steps)]


def chain(*nodes: onnx.NodeProto, last: str, weights: dict | None = None) -> Model:
    end = node("Softmax", last, "y", "end")
    return load(proto([*nodes, end], [info("x", [2, 4])], [info("y", [2, 4])], GRID | (weights or {})))


Q, DQ = "QuantizeLinear", "DequantizeLinear"


def test_a_pair_is_the_format_of_an_edge() -> None:
    model = chain(node(Q, "x s z", "q"), node(DQ, "q s z", "d"), last="d")
    assert steps(model, "end") == ["x", "u8 0.5, z 3"]
    assert [Traced(model).hidden(n) for n in model.nodes] == [True, True, False]


def test_two_pairs_requantize() -> None:
    nodes = [node(Q, "x s z", "q"), node(DQ, "q s z", "d"), node(Q, "d s2 z2", "q2"), node(DQ, "q2 s2 z2", "d2")]
    assert steps(chain(*nodes, last="d2"), "end") == ["x", "u8 0.5, z 3", "u8 0.25"]


def test_a_pair_that_disagrees_is_two_formats() -> None:
    model = chain(node(Q, "x s z", "q"), node(DQ, "q s2 z2", "d"), last="d")
    assert steps(model, "end") == ["x", "u8 0.5, z 3", "u8 0.25"]


def test_a_clip_between_them_narrows() -> None:
    ends = {"lo": np.uint8(0), "hi": np.uint8(15)}
    nodes = [node(Q, "x s z", "q"), node("Clip", "q lo hi", "k"), node(DQ, "k s z", "d")]
    model = chain(*nodes, last="d", weights=ends)
    assert steps(model, "end") == ["x", "u4 0.5, z 3"]
    assert [Traced(model).hidden(n) for n in model.nodes[:3]] == [True] * 3


def test_a_float_clip_in_front_narrows_if_it_is_not_the_networks() -> None:
    ends = {"lo": np.float32(-1.5), "hi": np.float32(6.0)}
    nodes = [node("Clip", "x lo hi", "k", "x_clip"), node(Q, "k s z", "q"), node(DQ, "q s z", "d")]
    model = chain(*nodes, last="d", weights=ends)
    assert steps(model, "end", known={"end"}) == ["x", "u4 0.5, z 3"]
    assert steps(model, "end", known={"end", "x_clip"})[0] == "k" == steps(model, "end")[0]


def test_a_scale_that_is_computed_is_no_format() -> None:
    model = chain(node("ReduceMax", "x", "m", keepdims=0), node(Q, "x m z", "q"), node(DQ, "q m z", "d"), last="d")
    assert steps(model, "end") == ["d"]


def test_a_weight_is_read_as_it_is_stored() -> None:
    weights = {"w": (100 * weight(4, 4)).astype(np.int8), "ws": np.full(4, 0.5, np.float32), "wz": np.zeros(4, np.int8)}
    nodes = [node(DQ, "w ws wz", "wd", axis=0), node("MatMul", "x wd", "m", "mm")]
    model = chain(*nodes, last="m", weights=weights)
    found = Traced(model).read(model.node("mm"), 1)
    assert isinstance(found, Constant) and str(found.format) == "s8 per channel" and found.shape == (4, 4)
    assert Wiring(model).read(model.node("mm"), 1) is not None and not Wiring(model).hidden(model.nodes[0])


def test_integer_operators_tell_their_formats() -> None:
    model = load(conv_relu())
    whole = to_qoperator(emit_qdq(model, plan_for(model))).model
    conv = next(n for n in whole.nodes if n.op_type == "QLinearConv")
    wiring = Traced(whole)
    read = wiring.read(conv, 0)
    assert isinstance(read, Read) and read.source.name == "x" and read.steps[-1].format.word == "u8"
    assert wiring.read(conv, 1) is None
    stored = wiring.read(conv, 3)
    assert isinstance(stored, Constant) and stored.format.word == "s8"
    assert wiring.made(conv.outputs[0]).scale
    end = wiring.follow(whole.graph.outputs[0])
    assert isinstance(end, Read) and [s.format.word for s in end.steps] == ["f32"]


def test_a_plan_says_what_will_be(fused: Model, plan: Plan) -> None:
    wiring = Planned(fused, plan)
    conv = fused.node("body/0/conv1")
    read, stored = wiring.read(conv, 0), wiring.read(conv, 1)
    assert isinstance(read, Read) and read.steps[0].format.word == "u8" and read.steps[0].format.scale
    assert isinstance(stored, Constant) and str(stored.format) == "s8 per channel"
    empty = Plan({k: v.__class__(v.spec, v.role, v.group) for k, v in plan.values.items()}, plan.nodes)
    read = Planned(fused, empty).read(conv, 0)
    assert isinstance(read, Read) and read.steps[0].format.steps == ""


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (Format("u8", (0.5,), (0,)), Format("u8", (0.5 + 1e-9,), (0,)), True),
        (Format("u8", (0.5,), (0,)), Format("u8", (0.5,), (1,)), False),
        (Format("u8", (0.5,), (0,)), Format("s8", (0.5,), (0,)), False),
        (Format("u8", (0.5,), (0,)), Format("u8", (0.25,), (0,)), False),
    ],
)
def test_formats_are_the_same_if_their_numbers_are(a: Format, b: Format, equal: bool) -> None:
    assert same(a, b) is equal


def test_quantized_or_not(given: Model, made: Model) -> None:
    assert is_quantized(made) and not is_quantized(given)
