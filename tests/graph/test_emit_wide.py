"""Layers of more than 8 bits: ONNX Runtime computes them in float, and its optimizer must not make them worse.

It gives a float bias between DQ and Q the scale s_x · s_W, in int32; of 16 bits each that overflows.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnx
import pytest

from fewbit.engines.onnxruntime_rules import TARGET as ORT
from fewbit.graph.emit import emit_qdq
from fewbit.graph.files import to_bytes
from fewbit.graph.finalize import finalize
from fewbit.graph.model import Model
from tests.graph.emitted import message, stored
from tests.models import conv_relu, feeds_for, info, load, node, plan_for, proto, run, weight

OPS = ("Conv", "depthwise", "ConvTranspose", "grouped", "Gemm", "turned", "MatMul", "MatMul + Add")
C = 8


def three(op: str, bias: float) -> onnx.ModelProto:
    """x → layer → Relu → the layer in question → Relu → layer → y, with biases of this size."""
    spatial = op in OPS[:4]
    ends, size, kernel = ("Conv", [6, 6], [3, 3]) if spatial else ("Gemm", [], [])
    pads = {"pads": [1] * 4} if spatial else {}
    kind = {"depthwise": "Conv", "grouped": "ConvTranspose", "turned": "Gemm", "MatMul + Add": "MatMul"}.get(op, op)
    groups = {"depthwise": C, "grouped": 2}.get(op, 1)
    shape = [C, C, *kernel] if groups == 1 else [C, C // groups, *kernel]
    more = {**pads, **({"group": groups} if groups > 1 else {}), **({"transB": 1} if op == "turned" else {})}
    biased = kind != "MatMul"
    nodes = [
        node(ends, "x w0 b0", "c0", "first", **pads),
        node("Relu", "c0", "r0"),
        node(kind, "r0 w1 b1" if biased else "r0 w1", "c1", "middle", **more),
        *([node("Add", "c1 b1", "a1", "add")] if op == "MatMul + Add" else []),
        node("Relu", "a1" if op == "MatMul + Add" else "c1", "r1"),
        node(ends, "r1 w2 b2", "y", "last", **pads),
    ]
    weights = {f"b{i}": bias * weight(C, seed=i) for i in range(3) if biased or op != "MatMul" or i != 1}
    weights |= {"w0": weight(C, C, *kernel), "w1": weight(*shape), "w2": weight(C, C, *kernel, seed=2)}
    return proto(nodes, [info("x", ["n", C, *size])], [info("y", ["n", C, *size])], weights)


def quantized(model: Model, plan) -> Model:
    return finalize(emit_qdq(model, plan), 13, {}, ORT.grabs, plan.kept_float())


def sqnr(want, got) -> float:
    want = want.astype(np.float64)
    return float(10 * np.log10((want**2).sum() / max(((want - got) ** 2).sum(), 1e-300)))


def with_and_without_optimizer(model: Model, **words) -> tuple[float, float]:
    feeds = feeds_for(model, batch=64)
    out = quantized(model, plan_for(model, [feeds], **words))
    want = run(model, feeds)["y"]
    found = (sqnr(want, run(out, feeds, optimize=on)["y"]) for on in (True, False))
    return next(found), next(found)


WORDS = {f"{b} bits": {"bit_num": b} for b in range(9, 17)} | {
    "wide weights": {"weight_bit_num": 16},
    "wide activations": {"bit_num": 16, "weight_bit_num": 8},
    "signed": {"bit_num": 16, "signed": True},
    "per tensor": {"bit_num": 16, "granularity": "tensor"},
}


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("op", OPS)
def test_one_wide_layer_does_not_make_the_network_worse(op, words):
    fast, slow = with_and_without_optimizer(load(three(op, 50.0)), overrides={"middle": WORDS[words]})
    assert fast > in_eight_bits(op) - 2 and abs(fast - slow) < 1


@lru_cache
def in_eight_bits(op: str) -> float:
    return with_and_without_optimizer(load(three(op, 50.0)))[0]


@pytest.mark.parametrize("bias", [0.5, 50.0, 5e4])
@pytest.mark.parametrize("op", OPS)
def test_a_whole_network_of_16_bits_is_all_but_exact(op, bias):
    assert min(with_and_without_optimizer(load(three(op, bias)), bit_num=16)) > 75


def test_a_16_bit_layer_keeps_its_bias_to_the_last_bit():
    model = load(conv_relu())
    out = quantized(model, plan_for(model, bit_num=16))
    onnx.checker.check_model(message(out), full_check=True)
    q, s = stored(out, "b_q"), stored(out, "b_scale")
    assert q.dtype == np.int32 and "b" not in out.graph.initializers
    np.testing.assert_array_equal(q.astype(np.float32) * s, weight(4))
    assert to_bytes(out) == to_bytes(quantized(model, plan_for(model, bit_num=16)))


@pytest.mark.parametrize("bits", [9, 16])
def test_openvino_agrees_on_wide_layers(bits):
    pytest.importorskip("openvino")
    from fewbit.engines import open_runner

    model = load(conv_relu())
    plan, feeds = plan_for(model, bit_num=bits), feeds_for(model)
    out = quantized(model, plan)
    assert sqnr(run(out, feeds)["y"], open_runner("openvino", out).run(feeds)["y"]) > 35


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_float_layer_between_integer_ones_stays_float(op, bits):
    model = load(three(op, 0.5))
    feeds = feeds_for(model)
    plan = plan_for(model, [feeds], target=ORT, bit_num=bits, exclude_layers=("middle",))
    out = quantized(model, plan)
    assert [u.node.op_type for u in out.node("middle").outputs[0].uses()] == ["Sum"]
    fast, slow = (run(out, feeds, optimize=on)["y"] for on in (True, False))
    assert sqnr(slow, fast) > (80 if bits == 16 else 40)
