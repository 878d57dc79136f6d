from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from fewbit.core.runner import NodeTime
from fewbit.graph.model import Model
from fewbit.report.profile import Profile, by_operator, layer_names, profile_pair
from tests.report.helpers import Fake, build, golden, model, with_qdq


def network() -> Any:
    """x → conv1 → relu1 → conv2 → add(relu1) → fc, with names such as exporters give."""
    rng = np.random.default_rng(0)
    consts = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32) / 5, n)
        for n, s in (("w1", (8, 3, 3, 3)), ("b1", (8,)), ("w2", (8, 8, 3, 3)), ("b2", (8,)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "block/conv2", pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["y"], "block/add"),
    ]
    return build(nodes, consts, [("x", [1, 3, 8, 8])], [("y", [1, 8, 8, 8])])


FLOAT = [
    NodeTime("r1_nchwc", "Conv", "f32 f32 f32", 40.0),
    NodeTime("ReorderOutput", "ReorderOutput", "f32", 3.0),
    NodeTime("c2_nchwc", "Conv", "f32 f32 f32 f32", 50.0),
]
INT = [
    NodeTime("x_q", "QuantizeLinear", "f32 f32 u8", 2.0),
    NodeTime("conv1_token_1", "QLinearConv", "u8 f32 u8 f32 s8 f32 u8 s32", 60.0),
    NodeTime("block/conv2_token_4", "QLinearConv", "u8 f32 u8 f32 s8 f32 u8 s32", 15.0),
    NodeTime("block/conv2_reorder", "Transpose", "u8", 1.0),
    NodeTime("block/add", "QLinearAdd", "u8 f32 u8 u8 f32 u8 f32 u8", 4.0),
]


@pytest.fixture
def told() -> Profile:
    return profile_pair(Fake(lambda f: {}, FLOAT), Fake(lambda f: {}, INT), {}, model=model(network()))


def test_an_operator_named_after_the_last_merged_part_meets_the_one_named_after_the_first(told: Profile) -> None:
    rows = {r.layer: r for r in told.rows}
    assert (rows["conv1"].us_float, rows["conv1"].us_int, rows["conv1"].ratio) == (40.0, 60.0, 1.5)
    assert "relu1" not in rows


def test_several_operators_of_a_layer_are_summed_under_the_slowest(told: Profile) -> None:
    row = next(r for r in told.rows if r.layer == "block/conv2")
    assert (row.op_int, row.us_int) == ("QLinearConv", 20.0) and row.ratio == pytest.approx(0.4)


def test_what_fits_nowhere_stands_on_its_side(told: Profile) -> None:
    rows = {r.layer: r for r in told.rows}
    assert rows["x_q"].us_float is None and rows["x_q"].op_float == "" and rows["x_q"].ratio is None
    assert rows["ReorderOutput"].us_int is None and rows["ReorderOutput"].us_float == 3
    assert rows["x_q"].us_int == 2 and rows["x_q"].lost is rows["ReorderOutput"].lost is None


def test_an_add_that_the_float_engine_computes_in_its_convolution_is_no_loss(told: Profile) -> None:
    rows = {r.layer: r for r in told.rows}
    assert "block/add" not in rows and rows["block/conv2"].lost == -30


def test_of_two_convolutions_in_front_of_an_add_the_one_that_reads_more_has_it() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "left"),
        helper.make_node("Conv", ["x", "w"], ["b"], "right"),
        helper.make_node("Add", ["a", "b"], ["y"], "add"),
    ]
    w = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    m = model(build(nodes, [w], [("x", [1, 3, 8, 8])], [("y", [1, 3, 8, 8])]))
    theirs = [NodeTime(n, "Q", "u8", 2.0) for n in ("left", "right", "add")]
    for types, has in (("f32 f32", "right"), ("f32 f32 f32 f32", "left")):
        ours = [NodeTime("left", "Conv", types, 5.0), NodeTime("right", "Conv", "f32 f32", 5.0)]
        rows = profile_pair(Fake(lambda f: {}, ours), Fake(lambda f: {}, theirs), {}, model=m).rows
        assert {r.layer: r.us_int for r in rows} == {"left": 2.0, "right": 2.0} | {has: 4.0}


def test_most_time_lost_comes_first_and_nothing_is_lost_from_the_sum(told: Profile) -> None:
    assert [(r.layer, r.lost) for r in told.rows] == [
        ("conv1", 20), ("block/conv2", -30), ("ReorderOutput", None), ("x_q", None)
    ]  # fmt: skip
    for side, times in (("us_float", FLOAT), ("us_int", INT)):
        assert sum(getattr(r, side) or 0 for r in told.rows) == pytest.approx(sum(t.us for t in times))


def test_totals_by_operator() -> None:
    assert by_operator(INT) == {
        "QLinearConv": (2, 75.0), "QLinearAdd": (1, 4.0), "QuantizeLinear": (1, 2.0), "Transpose": (1, 1.0)
    }  # fmt: skip
    assert list(by_operator(INT)) == ["QLinearConv", "QLinearAdd", "QuantizeLinear", "Transpose"]


def test_without_a_model_names_of_the_float_profile_are_used() -> None:
    ours = [NodeTime("conv1", "Conv", "f32", 4.0), NodeTime("r", "Relu", "f32", 1.0)]
    theirs = [NodeTime("conv1_quant", "QLinearConv", "u8", 2.0)]
    rows = profile_pair(Fake(lambda f: {}, ours), Fake(lambda f: {}, theirs), {}).rows
    assert [(r.layer, r.ratio) for r in rows] == [("conv1", 0.5), ("r", None)]


def test_old_names_of_fused_layers_count() -> None:
    m = model(network())
    m.aliases["bn1"] = "conv1"
    m.aliases["gone"] = "not there"
    names = layer_names(m)
    assert names["bn1"] == "conv1" and names["c1"] == "conv1" and names["conv1"] == "conv1" and "gone" not in names


def test_text(told: Profile) -> None:
    golden("profile", told.text())


def test_json(told: Profile) -> None:
    found = json.loads(json.dumps(told.to_json(), allow_nan=False))
    assert found["rows"][0]["layer"] == "conv1" and found["int_operators"]["QLinearConv"] == [2, 75.0]


def test_a_real_engine() -> None:
    from fewbit.engines.onnxruntime import open_onnxruntime

    proto = network()
    f, q = (
        model(proto),
        model(with_qdq(proto, {"x": (0.05, 128), "r1": (0.05, 0), "c2": (0.05, 128), "y": (0.05, 128)})),
    )
    feeds = {"x": np.zeros((1, 3, 8, 8), np.float32)}

    def open_(m: Model) -> Any:
        return open_onnxruntime(m)

    found = profile_pair(open_(f), open_(q), feeds, model=f, repeat=2)
    rows = {r.layer: r for r in found.rows}
    assert rows["conv1"].ratio is not None and rows["block/conv2"].ratio is not None
    assert sum(n for n, _ in found.int_operators.values()) >= 4
