"""Stages put together: groups, partners, pieces."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.engines import onnxruntime_rules
from fewbit.graph.emit import emit_qdq
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan
from fewbit.report.drawing.compose import draw
from fewbit.report.drawing.data import STAGES, DrawingData, Stage
from tests.models import info, load, node, proto, weight
from tests.report.drawing.conftest import network

assert onnxruntime_rules


def stage(data: DrawingData, name: str) -> Stage:
    return next(s for s in data.stages if s.name == name)


def test_all_stages_have_the_same_groups(data: DrawingData) -> None:
    keys = [[g.key for g in s.groups] for s in data.stages]
    assert [s.name for s in data.stages] == list(STAGES)
    assert keys[1] == keys[2] == ["group body", "group body/0", "group body/1"]
    assert set(keys[1]) <= set(keys[0])  # the stem is three layers in front of fusing
    assert [g.title for g in stage(data, "fused").groups] == ["body", "body.0", "body.1"]


def test_ids_are_unique(data: DrawingData) -> None:
    ids = [x.id for s in data.stages for x in (*s.boxes, *s.groups)]
    assert len(ids) == len(set(ids))


def test_partners_share_a_key(data: DrawingData) -> None:
    keys = {s.name: {b.name: b.key for b in s.boxes} for s in data.stages}
    assert keys["float"]["stem/bn"] == keys["float"]["stem/conv"] == keys["fused"]["stem/conv"] == "stem/conv"
    assert keys["quantized"]["stem/conv"] == "stem/conv" and "stem/bn" not in keys["fused"]
    (conv,) = [b for b in stage(data, "fused").boxes if b.name == "stem/conv"]
    assert conv.facts["Stands for"] == (("stem/bn",),)


def test_groups_say_what_is_in_them(data: DrawingData) -> None:
    group = next(g for g in stage(data, "quantized").groups if g.title == "body.0")
    assert group.what == ("2 Conv, Relu, Add", "4 integer") and group.verdict == "integer" and group.count == 4
    assert len({g.alike for g in stage(data, "fused").groups if g.depth == 2}) == 1


def test_steps_are_in_the_group_around_both_ends(data: DrawingData) -> None:
    quantized = stage(data, "quantized")
    assert {b.group for b in quantized.boxes if b.kind == "quantize"} == {""}


def test_a_layer_that_was_written_out_is_one_group() -> None:
    nodes = [
        node("MatMul", "x w", "m", "net/first"),
        node("Relu", "m", "r", "net/relu"),
        node("MatMul", "r v", "y", "net/fc"),
    ]
    weights = {"w": weight(32, 32), "v": weight(32, 8)}
    fused = fuse(load(proto(nodes, [info("x", ["N", 32])], [info("y", ["N", 8])], weights)))
    plan = make_plan(fused, QuantConfig(quant_type="dynamic", quantize_mode="full"), onnxruntime_rules.TARGET)
    made = emit_qdq(fused, plan)
    for float_model in (fused, None):
        found = stage(draw("net", float_model, float_model, made, plan, ("quantized",)), "quantized")
        group = next(g for g in found.groups if g.title == "net/first")
        inside = [b for b in found.boxes if b.group == group.id]
        assert len(inside) >= 3 and {b.verdict for b in inside} == {"dynamic"} and group.verdict == "dynamic"
        assert {b.key for b in inside} == {"net/first"}
        assert any(b.kind == "quantize" for b in found.boxes)


def test_layers_that_fusing_removes_stay_near_their_readers() -> None:
    made = network()
    shape = [
        node("Shape", "r", "s0", "S0"), node("Gather", "s0 zero", "s1", "S1"), node("Unsqueeze", "s1 axes", "s2", "S2"),
        node("Concat", "s2 rest", "s3", "S3", axis=0), node("Reshape", "1d s3", "e", "body/1/reshape"),
    ]  # fmt: skip
    made.graph.node[-1].input[0] = "e"
    for n in shape:
        made.graph.node.insert(len(made.graph.node) - 1, n)
    for name, x in {"zero": 0, "axes": [0], "rest": [4, 8, 8]}.items():
        made.graph.initializer.append(numpy_helper.from_array(np.array(x, np.int64), name))
    given = load(made)
    data = draw("net", given, fuse(given), None, None, ("float", "fused"))
    assert {s.name for s in data.stages} == {"float", "fused"}
    for s in data.stages:
        groups = {g.id: g for g in s.groups}
        sizes = [b for b in s.boxes if b.name in ("S0", "S1", "S2", "S3")]
        if sizes:
            assert {groups[b.group].title for b in sizes} <= {"sizes", "body.1"}


def test_one_stage_alone(given: Model, fused: Model, plan: Plan, made: Model) -> None:
    for wanted in STAGES:
        found = draw("net", given, fused, made, plan, (wanted,))
        assert [s.name for s in found.stages] == [wanted] and found.stages[0].groups
    assert draw("net", None, None, made, None, ("quantized",)).stages[0].boxes


def test_the_data_is_plain_json(data: DrawingData) -> None:
    found = data.to_json()
    assert found["stages"][2]["boxes"][1]["facts"]["Reads"] and found["title"] == "net.onnx"
