"""Ranges of weights, channel by channel: as they stand in the graph, and the same from the plan."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from fewbit import api
from fewbit.core.metrics import sqnr_db
from fewbit.errors import FewbitWarning
from fewbit.graph.emit import stored_weight
from fewbit.graph.model import Model, const
from fewbit.report.full import weights as module
from fewbit.report.full.weights import WeightFacts, weight_facts
from fewbit.report.quantized import Quantized
from tests.models import conv_relu, feeds_for, gemm, info, load, matmul, node, proto, weight


def made(given: Model, **words: object) -> tuple[Model, Quantized]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)  # nets of a few weights do not get smaller
        whole = api.quantize(given, feeds_for(given, batch=4), verify=False, effort="fast", **words)  # type: ignore[arg-type]
    return api.fuse(given), whole


def layer(model: Model, op: str) -> Any:
    return next(n for n in model.nodes if n.op_type == op)


CASES = {
    "channels of a Conv": (conv_relu, "Conv", {"quantize_mode": "full"}),
    "one scale": (conv_relu, "Conv", {"quantize_mode": "full", "quantize_granularity": "tensor-wise"}),
    "MatMul": (matmul, "MatMul", {"quantize_mode": "full"}),
    "Gemm": (gemm, "Gemm", {"quantize_mode": "full"}),
    "groups": (matmul, "MatMul", {"quant_type": "weight", "group_size": 12}),
    "groups, few bits": (matmul, "MatMul", {"quant_type": "weight", "group_size": 16, "bit_num": 3}),
    "1 bit": (matmul, "MatMul", {"quant_type": "weight", "bit_num": 1}),
    "dynamic": (lambda: matmul(k=512, n=512), "MatMul", {"quant_type": "dynamic"}),
}


@pytest.mark.parametrize("name", CASES)
def test_facts_of_every_form(name: str) -> None:
    build, op, words = CASES[name]
    fused, whole = made(load(build()), **words)
    found = weight_facts(whole, whole.plan, layer(fused, op))
    assert found is not None
    lists = (found.low, found.high, found.limit_low, found.limit_high, found.sqnr)
    assert {len(x) for x in lists} == {found.channels}
    assert all(a <= b for a, b in zip(found.low, found.high, strict=True))
    assert 0 <= found.sparsity <= 1 and 0 <= found.clip <= 1
    assert found.granularity == (
        "group" if "groups" in name else "tensor" if name == "one scale" else found.granularity
    )


@pytest.mark.parametrize("name", ["channels of a Conv", "one scale", "MatMul", "Gemm"])
def test_the_graph_and_the_plan_tell_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build, op, words = CASES[name]
    fused, whole = made(load(build()), **words)
    graph = weight_facts(whole, None, layer(fused, op))
    assert weight_facts(whole.values(), None, layer(fused, op)) == graph  # as many layers share it
    monkeypatch.setattr(module, "_in_graph", lambda *_: None)
    plan = weight_facts(whole, whole.plan, layer(fused, op))
    assert graph is not None and plan is not None
    assert (graph.low, graph.high, graph.sqnr, graph.sparsity) == (plan.low, plan.high, plan.sqnr, plan.sparsity)
    assert graph.limit_high == plan.limit_high  # the plan knows of narrow formats, whose lowest integer is not used
    assert all(a <= b for a, b in zip(graph.limit_low, plan.limit_low, strict=True))


def blocks(block: int, rows: int = 10) -> tuple[Model, WeightFacts, np.ndarray, np.ndarray]:
    """A MatMul of another tool: its weights in blocks of rows."""
    w = weight(rows, 6)
    count = -(-rows // block)
    scale = np.random.default_rng(1).uniform(0.01, 0.02, (count, 6)).astype(np.float32)
    full = np.repeat(scale, block, 0)[:rows]
    q = np.clip(np.rint(w / full), -128, 127).astype(np.int8)
    ours = load(proto([node("MatMul", "x w", "y", "m")], [info("x", ["n", rows])], [info("y", ["n", 6])], {"w": w}))
    nodes = [node("DequantizeLinear", "q s", "w", "dq", axis=0, block_size=block), node("MatMul", "x w", "y", "m")]
    theirs = load(proto(nodes, [info("x", ["n", rows])], [info("y", ["n", 6])], {"q": q, "s": scale}, opset=21))
    found = weight_facts(theirs, None, layer(ours, "MatMul"))
    assert found is not None
    return ours, found, w, q * full


@pytest.mark.parametrize("block", [5, 4])
def test_blocks_of_another_tool(block: int) -> None:
    _, found, w, real = blocks(block)
    assert found.granularity == "group" and found.channels == -(-10 // block) * 6
    for place, (row, column) in enumerate((r, c) for r in range(0, 10, block) for c in range(6)):
        part, back = w[row : row + block, column], real[row : row + block, column]
        assert found.high[place] == pytest.approx(part.max(), rel=1e-3)
        assert found.sqnr[place] == pytest.approx(sqnr_db(part, back), abs=0.01)


def test_many_channels_are_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    fused, whole = made(load(matmul(n=8)), quantize_mode="full")
    found = weight_facts(whole, whole.plan, layer(fused, "MatMul"))
    assert found is not None and (found.channels, found.together, len(found.high)) == (8, 3, 3)
    data = const(layer(fused, "MatMul").inputs[1])
    assert data is not None and found.high[0] == pytest.approx(data[:, :3].max(), rel=1e-3)


def test_layers_in_float_have_none() -> None:
    fused, whole = made(load(conv_relu()), exclude_operators=["Conv"])
    assert weight_facts(whole, whole.plan, layer(fused, "Conv")) is None
    assert weight_facts(whole, whole.plan, layer(fused, "Relu")) is None


def test_weights_that_fit_exactly_lose_nothing() -> None:
    w = np.array([[127, -127], [1, 0]], np.float32)
    ours = load(proto([node("MatMul", "x w", "y", "m")], [info("x", [1, 2])], [info("y", [1, 2])], {"w": w}))
    parts = {"q": w.astype(np.int8), "s": np.float32(1)}
    nodes = [node("DequantizeLinear", "q s", "w", "dq"), node("MatMul", "x w", "y", "m")]
    theirs = load(proto(nodes, [info("x", [1, 2], TensorProto.FLOAT)], [info("y", [1, 2])], parts))
    found = weight_facts(theirs, None, layer(ours, "MatMul"))
    assert found is not None and found.sqnr == (math.inf, math.inf) and found.clip == 0 and found.sparsity == 0.25


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 7, 8])
@pytest.mark.parametrize("op", ["Conv", "Gemm", "MatMul"])
def test_bits_of_weights_that_are_stored_in_more(op: str, bits: int) -> None:
    build = {"Conv": conv_relu, "Gemm": gemm, "MatMul": matmul}[op]
    fused, whole = made(load(build()), quantize_mode="full", weight_bit_num=bits)
    node_ = layer(fused, op)
    data = const(node_.inputs[1])
    assert data is not None
    known, seen = weight_facts(whole, whole.plan, node_), weight_facts(whole, None, node_)
    assert known is not None and seen is not None
    top = 2 ** (bits - 1) - 1
    assert (known.format, known.bits) == (f"int{bits}", bits)
    assert (seen.format, seen.bits) == (f"int{bits} in int8" if bits < 8 else "int8", bits)
    assert seen.limit_high == known.limit_high and (seen.sqnr, seen.clip) == (known.sqnr, known.clip)
    key = whole.plan.weight_key(str(node_.inputs[1].name), str(node_.name))
    scale = stored_weight(whole.plan, str(key), data).params.scale
    assert known.limit_high == pytest.approx(np.broadcast_to(scale * top, (known.channels,)), rel=1e-3)
    assert all(a == pytest.approx(-b, rel=1e-3) for a, b in zip(known.limit_low, known.limit_high, strict=True))


def test_a_plan_of_another_width_does_not_name_the_format() -> None:
    fused, whole = made(load(conv_relu()), quantize_mode="full")
    _, few = made(load(conv_relu()), quantize_mode="full", weight_bit_num=4)
    node_ = layer(fused, "Conv")
    for file, other in ((whole, few.plan), (few, whole.plan)):
        assert weight_facts(file, other, node_) == weight_facts(file, None, node_) is not None


@pytest.mark.parametrize(
    ("numbers", "kind", "format", "bits"),
    [
        ((-64, 63), np.int8, "int7 in int8", 7),
        ((-65, 63), np.int8, "int8", 8),
        ((-1, 1), np.int8, "int1 in int8", 1),
        ((-1, 0), np.int8, "int2 in int8", 2),
        ((0, 0), np.int8, "int2 in int8", 2),
        ((-8, 3), np.int8, "int4 in int8", 4),
        ((0, 15), np.uint8, "uint4 in uint8", 4),
        ((0, 1), np.uint8, "uint1 in uint8", 1),
        ((3, 200), np.uint8, "uint8", 8),
        ((-128, 5), np.int8, "int8", 8),
    ],
)
def test_integers_tell_the_width_that_holds_them(numbers: tuple[int, int], kind: Any, format: str, bits: int) -> None:
    w = np.array([numbers, numbers], np.float32)
    ours = load(proto([node("MatMul", "x w", "y", "m")], [info("x", [1, 2])], [info("y", [1, 2])], {"w": w}))
    parts = {"q": w.astype(kind), "s": np.float32(1), "z": kind(0)}
    nodes = [node("DequantizeLinear", "q s z", "w", "dq"), node("MatMul", "x w", "y", "m")]
    theirs = load(proto(nodes, [info("x", [1, 2])], [info("y", [1, 2])], parts))
    found = weight_facts(theirs, None, layer(ours, "MatMul"))
    assert found is not None and (found.format, found.bits, found.clip) == (format, bits, 0)
    assert all(a <= min(numbers) and max(numbers) <= b for a, b in zip(found.limit_low, found.limit_high, strict=True))


@pytest.mark.parametrize("clip", [False, True])
def test_the_last_layer_of_another_tool_whose_output_the_dq_has(clip: bool) -> None:
    w = np.array([[127, -127], [1, 0]], np.float32)
    ours = load(proto([node("MatMul", "x w", "y", "m")], [info("x", [1, 2])], [info("y", [1, 2])], {"w": w}))
    parts = {"q": w.astype(np.int8), "s": np.float32(1), "z": np.uint8(0), "a": np.uint8(0), "b": np.uint8(15)}
    nodes = [
        node("DequantizeLinear", "q s", "w", "dq"),
        node("MatMul", "x w", "y_QuantizeLinear_Input", "m"),
        node("QuantizeLinear", "y_QuantizeLinear_Input s z", "yq", "q"),
        *([node("Clip", "yq a b", "yc", "clip")] if clip else []),
        node("DequantizeLinear", "yc s z" if clip else "yq s z", "y", "ydq"),
    ]
    theirs = load(proto(nodes, [info("x", [1, 2])], [info("y", [1, 2])], parts))
    found = weight_facts(theirs, None, layer(ours, "MatMul"))
    assert found is not None and (found.format, found.granularity, found.high[0]) == ("int8", "tensor", 127)
