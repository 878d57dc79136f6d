"""MatMul, bias and what stands behind, with shapes known and free: integer in the engine itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.graph.model import Model
from tests.models import Dims, info, load, node, proto, weight

SHAPES = {"2, known": [6, 320], "2, free": ["n", 320], "3, known": [1, 6, 320], "3, free": ["n", 6, 320],
          "4, known": [1, 2, 6, 320], "4, free": ["n", "m", 6, 320]}  # fmt: skip
FEEDS = {"x": weight(24, 320, scale=1)}
FLOAT_PRODUCTS = {"MatMul", "Gemm", "FusedGemm", "FusedMatMul", "DequantizeLinear"}


def network(shape: Dims, relu: bool = False, bias: Dims = (320,), layers: int = 2) -> Model:
    """x → [MatMul → Add → (Relu) → Tanh] · layers; Tanh is float, and so the Add is."""
    nodes, weights, at = [], {}, "x"
    for i in range(layers):
        nodes += [node("MatMul", f"{at} w{i}", f"m{i}", f"product{i}"), node("Add", f"m{i} b{i}", f"s{i}", f"add{i}")]
        nodes += [node("Relu", f"s{i}", f"r{i}", f"relu{i}")] if relu else []
        nodes += [node("Tanh", f"{'r' if relu else 's'}{i}", f"h{i}", f"tanh{i}")]
        weights |= {f"w{i}": weight(320, 320, seed=i, scale=0.1), f"b{i}": weight(*bias, seed=i)}  # type: ignore[arg-type]
        at = f"h{i}"
    return load(proto(nodes, [info("x", shape)], [info(at, None)], weights))


def fed(shape: Dims) -> dict[str, Any]:
    sizes = [d if isinstance(d, int) else 2 for d in shape]
    return {"x": np.resize(FEEDS["x"], sizes)}


def quantized(model: Model, shape: Dims, **words: Any) -> Model:
    plan = fb.make_plan(model, effort="fast", **words)
    return fb.apply(model, fb.calibrate(model, plan, [fed(shape)]))


def executed(model: Model) -> Counter[str]:
    return Counter(e.op.split(".")[-1] for e in open_runner("onnxruntime", model).executed())


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_both_products_are_integer(shape: Dims, relu: bool) -> None:
    model = network(shape, relu)
    out = quantized(model, shape)
    found = executed(out)
    assert not FLOAT_PRODUCTS & set(found), found
    assert found["MatMulIntegerToFloat"] == 2 and found["Reshape"] == 0
    got, want = (open_runner("onnxruntime", m).run(fed(shape))["h1"] for m in (out, model))
    assert np.square(got - want).mean() < 1e-3 * np.square(want).mean()


@pytest.mark.parametrize("bias", [(320,), (1, 320), (6, 320), (6, 1), (1,)])
def test_whatever_the_shape_of_the_bias(bias: Dims) -> None:
    found = executed(quantized(network([6, 320], bias=bias, layers=1), [6, 320]))
    assert found["MatMulIntegerToFloat"] == 1 and not FLOAT_PRODUCTS & set(found)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_product_that_stays_float_is_not_quantized_by_the_engine(shape: Dims) -> None:
    """It reads what an integer layer made, and an integer layer reads it."""
    nodes = [node("MatMul", "x w0", "m", "first"), node("Add", "m b", "a", "between"),
             node("MatMul", "a w1", "y", "beside"), node("MatMul", "a w1", "f", "float"),
             node("Add", "f b", "s", "bias"), node("MatMul", "s w2", "z", "last")]  # fmt: skip
    weights = {f"w{i}": weight(320, 320, seed=i, scale=0.1) for i in range(3)} | {"b": weight(320)}
    model = load(proto(nodes, [info("x", shape)], [info("y", None), info("z", None)], weights))
    out = quantized(model, shape, exclude_layers=["float", "bias"])
    assert out.node("float").inputs[0].producer().op_type == "DequantizeLinear"
    found = executed(out)
    assert found["MatMul"] == 1 and found["QGemm"] == 0, found


def test_with_ranges_measured_at_run_time() -> None:
    for shape in ([6, 320], [1, 6, 320]):
        found = executed(quantized(network(shape), shape, calib_mode="none"))
        assert found["DynamicQuantizeMatMul"] == 2 and not FLOAT_PRODUCTS & set(found), found


def test_openvino_gets_the_add_that_it_merges() -> None:
    out = quantized(network([1, 6, 320]), [1, 6, 320], target="openvino")
    assert Counter(n.op_type for n in out.nodes)["Sum"] == 0
