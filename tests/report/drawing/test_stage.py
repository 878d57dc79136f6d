"""Boxes, values and the steps between them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fewbit.core.plan import Plan
from fewbit.graph.model import Model
from fewbit.report.drawing.data import Box
from fewbit.report.drawing.stage import Sketch, Sources, sketch
from fewbit.report.drawing.verdicts import Verdict, by_plan, by_structure
from fewbit.report.drawing.wiring import Planned, Traced, Wiring
from tests.models import branches, info, load, loop, node, proto, scan


def drawn(model: Model, plan: Plan | None = None, **words: bool) -> Sketch:
    traced = Traced(model)
    verdicts = by_structure(model, traced)
    if plan is not None:
        verdicts |= {str(n.name): v for n in model.nodes if (v := by_plan(plan, n)) is not None}
    return sketch(Sources(model, traced, verdicts, "c", **words))


def named(found: Sketch, name: str, kind: str = "layer") -> Box:
    return next(b for b in found.boxes if b.name == name and b.kind == kind)


def into(found: Sketch, box: Box) -> list[tuple[str, str]]:
    """What arrives: (kind of the box in front, format)."""
    kinds = {b.id: b.kind for b in found.boxes}
    return [(kinds[e.tail], found.wires[e.wire].format) for e in found.edges if e.head == box.id]


def test_steps_stand_where_formats_change(made: Model, plan: Plan) -> None:
    found = drawn(made, plan)
    assert Counter(b.kind for b in found.boxes if b.kind != "layer") == {
        "input": 1, "output": 1, "quantize": 1, "dequantize": 1
    }  # fmt: skip
    assert into(found, named(found, "stem/conv")) == [("quantize", "u8")]
    assert into(found, named(found, "softmax")) == [("dequantize", "f32")]
    assert into(found, named(found, "body/0/add")) == [("layer", "u8"), ("layer", "u8")]


def test_inside_of_an_operator_there_is_no_value(made: Model, plan: Plan) -> None:
    found = drawn(made, plan)
    relu = named(found, "body/0/relu")
    (edge,) = [e for e in found.edges if e.head == relu.id]
    assert found.wires[edge.wire].inside and found.wires[edge.wire].format == ""
    assert named(found, "body/0/conv1").facts["Gives"][0][2] == "inside the operator"
    assert named(found, "body/0/conv2").facts["Gives"][0][2] == "u8"


def test_a_plan_alone_gives_the_same_picture(fused: Model, made: Model, plan: Plan) -> None:
    verdicts = {str(n.name): v for n in fused.nodes if (v := by_plan(plan, n)) is not None}
    planned = sketch(Sources(fused, Planned(fused, plan), verdicts, "c"))
    traced = drawn(made, plan)

    def shape(s: Sketch) -> list[tuple[str, ...]]:
        boxes = {b.id: (b.kind, b.name, b.verdict, b.types) for b in s.boxes}
        edges = [(*boxes[e.tail], *boxes[e.head], s.wires[e.wire].format, s.wires[e.wire].shape) for e in s.edges]
        return sorted(edges)

    assert shape(planned) == shape(traced)


def test_a_requantize_step_is_drawn() -> None:
    grid = {"s": np.float32(0.5), "z": np.uint8(3), "s2": np.float32(0.25), "z2": np.uint8(0)}
    nodes = [
        node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d"),
        node("QuantizeLinear", "d s2 z2", "q2"), node("DequantizeLinear", "q2 s2 z2", "d2"),
        node("Softmax", "d2", "y", "end"),
    ]  # fmt: skip
    found = drawn(load(proto(nodes, [info("x", [2, 4])], [info("y", [2, 4])], grid)))
    kinds = ["quantize", "requantize", "dequantize"]
    assert [b.kind for b in found.boxes] == ["input", "layer", *kinds, "output"]
    step = found.boxes[3].facts["Step"]
    assert step[:2] == (("from", "u8 0.5, z 3"), ("to", "u8 0.25")) and step[2][0] == "nodes"


def test_one_step_serves_all_that_want_the_same(made: Model, plan: Plan) -> None:
    found = drawn(made, plan)
    quantize = next(b for b in found.boxes if b.kind == "quantize")
    assert sum(e.head == quantize.id for e in found.edges) == 1


def test_every_node_can_be_drawn(made: Model) -> None:
    found = sketch(Sources(made, Wiring(made), {}, "c"))
    assert sum(b.kind == "layer" for b in found.boxes) == len(made.nodes)
    assert not any(b.kind == "quantize" for b in found.boxes)


def test_weights_can_be_boxes(fused: Model) -> None:
    found = sketch(Sources(fused, Wiring(fused), {}, "b", weights=True))
    stored = [b for b in found.boxes if b.kind == "weight"]
    assert any(b.detail == "4×4×3×3" for b in stored) and all(b.id in found.near for b in stored)
    assert not [b for b in sketch(Sources(fused, Wiring(fused), {}, "b")).boxes if b.kind == "weight"]


@pytest.mark.parametrize(
    ("made", "op"), [(branches(), "If"), (loop(), "Loop"), (scan(), "Scan")], ids="If Loop Scan".split()
)
def test_bodies_are_one_box(made: object, op: str) -> None:
    model = load(made)  # type: ignore[arg-type]
    found = sketch(Sources(model, Wiring(model), {}, "a"))
    box = next(b for b in found.boxes if b.op == op)
    assert box.kind == "body" and "nodes" in box.detail
    assert any(e.head == box.id for e in found.edges)


def test_reasons_and_weights_stand_in_the_box(made: Model, plan: Plan) -> None:
    found = drawn(made, plan)
    conv = named(found, "body/0/conv1")
    assert conv.weight == ("4×4×3×3", "s8 per channel", "eight") and conv.types == "u8×s8"
    assert conv.reason == plan.nodes["body/0/conv1"].reason and conv.detail == "3×3, pad 1"
    assert Verdict() == Verdict("", "", "")
