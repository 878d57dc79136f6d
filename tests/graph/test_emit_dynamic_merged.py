"""Products that ONNX Runtime merges into one operator: in all shapes the same numbers with its optimizer as without."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fewbit.engines  # noqa: F401  registers
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.target import TARGETS
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan
from tests.graph.emitted import quantized
from tests.models import info, load, node, plan_for, proto, run, weight

M, K, N = 5, 16, 6
X: tuple[tuple[int, ...], ...] = ((K,), (M, K), (3, M, K), (2, 3, M, K))
W: tuple[tuple[int, ...], ...] = ((K, N), (3, K, N), (1, K, N), (2, 3, K, N), (K,))
BIASES = ("", "last", "row", "rows", "deep", "wide", "one")
WAYS: tuple[dict[str, Any], ...] = ({}, {"quantize_granularity": "tensor-wise"}, {"quant_strategy": "ACWL"})


def _bias(kind: str, product: tuple[int, ...]) -> np.ndarray:
    last = product[-1:]
    shape = {"last": last, "row": (1, *last), "rows": product[-2:], "deep": (1, 1, *last), "one": (1,)}
    return 3 * weight(*shape.get(kind, (1,) * (5 - len(last)) + last), seed=7)


def _network(a: tuple[int, ...], b: tuple[int, ...], known: str, bias: str, first: bool, given: bool):
    """Add(MatMul(a, b), c), c first or second; `known`: the side that is a weight, if any; `given`: c is an input."""
    values = {"a": weight(*a), "b": weight(*b, seed=1)}
    added = _bias(bias, np.matmul(*values.values()).shape) if bias else None
    inputs = {k: v for k, v in values.items() if k != known} | ({"c": added} if given and bias else {})
    weights = {known: values[known]} if known else {}
    if added is not None and not given:
        weights["c"] = added
    nodes = [node("MatMul", "a b", "p" if bias else "y", "layer")]
    if bias:
        nodes.append(node("Add", "c p" if first else "p c", "y"))
    ins = [info(k, list(v.shape)) for k, v in inputs.items()]
    want = np.matmul(*values.values()) + (0 if added is None else added)
    return load(proto(nodes, ins, [info("y", None)], weights)), inputs, want


def _plan(model: Model, way: dict[str, Any]) -> Plan:
    plan = plan_for(model, target=TARGETS["onnxruntime"], quant_type="dynamic", **way)
    assert plan.nodes["layer"].quantized
    return plan


def _check(a: tuple[int, ...], b: tuple[int, ...], known: str, bias: str, *, first: bool = False, given: bool = False,
           way: dict[str, Any] | None = None) -> None:  # fmt: skip
    model, feeds, want = _network(a, b, known, bias, first, given)
    out = quantized(model, _plan(model, way or {}))
    plain, merged = (run(out, feeds, optimize=on)["y"] for on in (False, True))
    assert plain.shape == merged.shape == want.shape
    size = np.linalg.norm(want)
    assert np.linalg.norm(plain - want) < 0.04 * size + 1e-3
    assert np.linalg.norm(merged - plain) < 0.005 * size + 1e-3


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("w", W[:-1], ids=str)
@pytest.mark.parametrize("x", X, ids=str)
def test_a_weight_on_the_right(x: tuple[int, ...], w: tuple[int, ...], bias: str) -> None:
    for way in WAYS:
        _check(x, w, "b", bias, way=way)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("x", [(K,), (K, N), (3, K, N), (2, 3, K, N)], ids=str)
def test_a_weight_on_the_left(x: tuple[int, ...], bias: str) -> None:
    """Stacks of matrices stay float on the left."""
    for way in WAYS[:2]:
        _check((M, K), x, "a", bias, way=way)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("b", W, ids=str)
@pytest.mark.parametrize("a", X, ids=str)
def test_both_sides_computed(a: tuple[int, ...], b: tuple[int, ...], bias: str) -> None:
    _check(a, b, "", bias)


@pytest.mark.parametrize("known", ["a", "b", ""])
@pytest.mark.parametrize("bias", BIASES[1:])
def test_the_bias_first_and_computed(bias: str, known: str) -> None:
    for a, b in (((M, K), (K, N)), ((3, M, K), (3, K, N)), ((3, M, K), (1, K, N)))[: 1 if known == "a" else 3]:
        for given in (False, True):
            _check(a, b, known, bias, first=True, given=given)
        _check(a, b, known, bias, given=True)


def test_inputs_of_unknown_rank() -> None:
    """A rank that nobody told may be one."""
    nodes = [node("Reshape", "x s", "r"), node("MatMul", "r w", "p", "layer"), node("Add", "p c", "y")]
    for shape, w, c in (((K,), (3, K, N), (N,)), ((K,), (K, N), (1, N)), ((M, K), (3, K, N), (N,))):
        weights = {"w": weight(*w), "c": weight(*c, seed=2)}
        ins = [info("x", [int(np.prod(shape))]), info("s", ["rank"], 7)]
        model = load(proto(nodes, ins, [info("y", None)], weights))
        feeds = {"x": weight(int(np.prod(shape)), seed=3), "s": np.array(shape)}
        config = QuantConfig(quant_type="dynamic", quantize_mode="full")
        out = quantized(model, make_plan(model, config, TARGETS["onnxruntime"]))
        assert "MatMulInteger" in out.op_counts()
        want = feeds["x"].reshape(shape) @ weights["w"] + weights["c"]
        for on in (False, True):
            found = run(out, feeds, optimize=on)["y"]
            assert found.shape == want.shape
            assert np.linalg.norm(found - want) < 0.04 * np.linalg.norm(want)


@pytest.mark.parametrize("way", WAYS)
def test_a_factor_of_zero(way: dict[str, Any]) -> None:
    weights = {"w": weight(K, N), "c": weight(N, seed=2)}
    nodes = [node("Gemm", "x w c", "y", "layer", alpha=0.0)]
    model = load(proto(nodes, [info("x", [M, K])], [info("y", None)], weights))
    out = quantized(model, _plan(model, way))
    for on in (False, True):
        found = run(out, {"x": weight(M, K, seed=3)}, optimize=on)["y"]
        np.testing.assert_array_equal(found, np.broadcast_to(weights["c"], (M, N)))
