"""Activations and normalizations in small operators are one again, or marked as one."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.graph.fuse import fuse_with_report
from fewbit.graph.model import Model
from fewbit.graph.rewrite import PATTERN_KEY
from tests.graph.nets import f32, fused, i64, net, ops, reasons

X = "(float[N,3,8] x) => (float[N,3,8] y)"
HARD = {"three": f32(3), "zero": f32(0), "six": f32(6), "half": f32(0.5), "one": f32(1), "sixth": f32(1 / 6)}
GELU = {"root": f32(2**0.5), "inv": f32(0.5**0.5), "one": f32(1), "half": f32(0.5)}
TANH = {
    "k": f32((2 / np.pi) ** 0.5),
    "c": f32(0.044715),
    "one": f32(1),
    "half": f32(0.5),
    "cube": f32(3),
    "two": f32(2),
}
NORM = {"two": f32(2), "eps": f32(1e-5), "g": (8,), "b": (8,), "one": f32(1)}
CORE = (
    "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) q = Pow(d, two) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) "
    "s = Sqrt(e)"
)

WHOLE = {
    "hardsigmoid, div": ("a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six)", HARD, "HardSigmoid"),
    "hardsigmoid, mul": ("a = Add(three, x) c = Clip(a, zero, six) y = Mul(sixth, c)", HARD, "HardSigmoid"),
    "hardsigmoid, scaled first": (
        "t = Div(x, six) a = Add(t, half) y = Clip(a, zero, one)", HARD, "HardSigmoid",
    ),
    "hardsigmoid, min and max": (
        "a = Add(x, three) r = Relu(a) c = Min(r, six) y = Div(c, six)", HARD, "HardSigmoid",
    ),
    "hardswish, last": ("a = Add(x, three) c = Clip(a, zero, six) t = Mul(x, c) y = Div(t, six)", HARD, "HardSwish"),
    "hardswish, before": ("a = Add(x, three) c = Clip(a, zero, six) t = Div(c, six) y = Mul(t, x)", HARD, "HardSwish"),
    "hardswish, on x": ("a = Add(x, three) c = Clip(a, zero, six) t = Mul(x, sixth) y = Mul(t, c)", HARD, "HardSwish"),
    "hardswish, hardsigmoid": ("h = HardSigmoid<alpha=0.16666667, beta=0.5>(x) y = Mul(x, h)", HARD, "HardSwish"),
    "layernorm": (f"{CORE} n = Div(d, s) t = Mul(n, g) y = Add(t, b)", NORM, "LayerNormalization"),
    "layernorm, order": (
        "m = ReduceMean<axes=[2]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes=[2]>(q) e = Add(eps, v) "
        "s = Sqrt(e) n = Div(d, s) t = Mul(g, n) y = Add(b, t)", NORM, "LayerNormalization",
    ),
    "layernorm, two subtractions": (
        "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) d2 = Sub(x, m) q = Pow(d2, two) v = ReduceMean<axes=[-1]>(q) "
        "e = Add(v, eps) s = Sqrt(e) n = Div(d, s) t = Mul(n, g) y = Add(t, b)", NORM, "LayerNormalization",
    ),
    "layernorm, reciprocal": (f"{CORE} i = Reciprocal(s) n = Mul(d, i) y = Mul(n, g)", NORM, "LayerNormalization"),
    "layernorm, one over": (f"{CORE} i = Div(one, s) n = Mul(i, d) y = Add(n, b)", NORM, "LayerNormalization"),
    "layernorm, alone": (f"{CORE} y = Div(d, s)", NORM, "LayerNormalization"),
    "layernorm, two axes": (
        CORE.replace("[-1]", "[1,2]") + " n = Div(d, s) t = Mul(n, g) y = Add(t, b)",
        {**NORM, "g": (3, 1), "b": (1, 3, 8)}, "LayerNormalization",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WHOLE)
def test_one_operator(case: str) -> None:
    body, weights, op = WHOLE[case]
    out, _ = fused(net(f"{X} {{ {body} }}", **weights))
    assert ops(out) == op
    assert out.nodes[0].name == "y"
    assert set(out.aliases.values()) == {"y"}


TAGGED = {
    "gelu": ("t = Div(x, root) e = Erf(t) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)", GELU, "Gelu"),
    "gelu, half first": ("h = Mul(half, x) t = Mul(x, inv) e = Erf(t) a = Add(one, e) y = Mul(h, a)", GELU, "Gelu"),
    "gelu, half inside": ("t = Div(x, root) e = Erf(t) a = Add(e, one) m = Mul(a, half) y = Mul(x, m)", GELU, "Gelu"),
    "gelu, tanh": (
        "p = Pow(x, cube) q = Mul(c, p) r = Add(x, q) s = Mul(k, r) t = Tanh(s) a = Add(t, one) h = Mul(x, half) "
        "y = Mul(h, a)", TANH, "Gelu",
    ),
    "gelu, tanh, products": (
        "p = Mul(x, x) p3 = Mul(p, x) q = Mul(p3, c) r = Add(q, x) s = Mul(r, k) t = Tanh(s) a = Add(one, t) "
        "h = Mul(a, half) y = Mul(h, x)", TANH, "Gelu",
    ),
    "gelu, tanh, factored": (
        "p = Pow(x, two) q = Mul(p, c) r = Add(q, one) z = Mul(x, k) s = Mul(z, r) t = Tanh(s) a = Add(t, one) "
        "h = Mul(x, half) y = Mul(h, a)", TANH, "Gelu",
    ),
    "swish": ("s = Sigmoid(x) y = Mul(x, s)", {}, "Swish"),
    "swish, scaled": ("t = Mul(x, k) s = Sigmoid(t) y = Mul(s, x)", {"k": f32(1.702)}, "Swish"),
    "rmsnorm": (
        "q = Pow(x, two) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) s = Sqrt(e) n = Div(x, s) y = Mul(n, g)",
        NORM, "RMSNorm",
    ),
    "layernorm of channels": (
        CORE.replace("[-1]", "[1]") + " n = Div(d, s) t = Mul(n, g) y = Add(t, b)",
        {**NORM, "g": (3, 1), "b": (3, 1)}, "LayerNormalization",
    ),
}  # fmt: skip


def tags(model: Model) -> set[str | None]:
    return {n.metadata_props.get(PATTERN_KEY) for n in model.nodes}


@pytest.mark.parametrize("case", TAGGED)
def test_marked_as_one(case: str) -> None:
    body, weights, kind = TAGGED[case]
    model = net(f"{X} {{ {body} }}", **weights)
    out, report = fused(model)
    assert ops(out) == ops(model)
    assert tags(out) == {f"{kind}:y"}
    assert f"{len(out.nodes)} nodes are one {kind}" in report.changes[0].detail


@pytest.mark.parametrize("case", [c for c in TAGGED if c.startswith("gelu")])
def test_gelu_is_an_operator_from_opset_20(case: str) -> None:
    body, weights, _ = TAGGED[case]
    out, _ = fused(net(f"{X} {{ {body} }}", opset=20, **weights))
    assert ops(out) == "Gelu"


def test_reduced_axes_may_be_an_input() -> None:
    body = f"{CORE} n = Div(d, s) y = Mul(n, g)".replace("<axes=[-1]>(x)", "(x, a)").replace("<axes=[-1]>(q)", "(q, a)")
    out, _ = fused(net(f"{X} {{ {body} }}", opset=18, a=i64(-1), **NORM))
    assert ops(out) == "LayerNormalization"


@pytest.mark.parametrize(
    ("body", "weights", "opset", "kind"),
    [(WHOLE["hardswish, last"][0], HARD, 13, "HardSwish"), (WHOLE["layernorm"][0], NORM, 13, "LayerNormalization")],
)
def test_marked_where_the_opset_has_no_operator(body: str, weights: dict[str, object], opset: int, kind: str) -> None:
    model = net(f"{X} {{ {body} }}", opset=opset, **weights)
    out, _ = fused(model)
    assert ops(out) == ops(model)
    assert tags(out) == {f"{kind}:y"}


XZ = "(float[N,3,8] x) => (float[N,3,8] y, float[N,3,8] z)"
SHARED = {
    "hardsigmoid": ("a = Add(x, three) c = Clip(a, zero, six) y = Div(c, six) z = Abs(c)", HARD, "'c'"),
    "hardswish": ("a = Add(x, three) c = Clip(a, zero, six) t = Mul(x, c) y = Div(t, six) z = Abs(a)", HARD, "'a'"),
    "gelu": ("t = Div(x, root) e = Erf(t) a = Add(e, one) m = Mul(x, a) y = Mul(m, half) z = Abs(e)", GELU, "'e'"),
    "swish": ("s = Sigmoid(x) y = Mul(x, s) z = Abs(s)", {}, "'s'"),
    "layernorm": (f"{CORE} n = Div(d, s) t = Mul(n, g) y = Add(t, b) z = Abs(d)", NORM, "'d'"),
}


@pytest.mark.parametrize("rule", SHARED)
def test_a_value_inside_that_is_used_elsewhere(rule: str) -> None:
    body, weights, name = SHARED[rule]
    model = net(f"{XZ} {{ {body} }}", **weights)
    out, report = fused(model)
    assert ops(out) == ops(model)
    assert tags(out) == {None}
    assert f"{name} inside of it is used elsewhere too" in reasons(report, rule)


@pytest.mark.parametrize("rule", SHARED)
def test_a_value_inside_that_is_an_output(rule: str) -> None:
    body, weights, name = SHARED[rule]
    model = net(f"{XZ} {{ {body} }}", **weights)
    inner = model.with_outputs([name.strip("'")])
    inner.graph.outputs.pop(1)
    inner.drop_unused()
    out, report = fused(inner)
    assert ops(out) == ops(inner)
    assert f"{name} inside of it is an output of the network" in reasons(report, rule)


OTHERS = {
    "other slope": "a = Add(x, two) c = Clip(a, zero, four) t = Mul(x, c) y = Div(t, six)",
    "other input": "u = Abs(x) a = Add(u, three) c = Clip(a, zero, six) t = Mul(x, c) y = Div(t, six)",
    "not a gelu": "t = Div(x, four) e = Erf(t) a = Add(e, one) m = Mul(x, a) y = Mul(m, half)",
    "not a gelu either": "t = Div(x, four) e = Erf(t) a = Add(e, two) m = Mul(x, a) y = Mul(m, half)",
    "a gate of another": "u = Abs(x) s = Sigmoid(u) y = Mul(x, s)",
    "another mean": "m = ReduceMean<axes=[1]>(x) d = Sub(x, m) q = Pow(d, two) v = ReduceMean<axes=[-1]>(q) "
    "e = Add(v, one) s = Sqrt(e) y = Mul(d, s)",
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_only_looks_alike_stays(case: str) -> None:
    model = net(f"{X} {{ {OTHERS[case]} }}", two=f32(2), four=f32(4), **HARD)
    out, _ = fused(model)
    assert ops(out) == ops(model)
    assert tags(out) == {None}


def test_half_precision_is_not_recognised() -> None:
    weights = {k: np.asarray(v, np.float16) for k, v in HARD.items()}
    model = net(f"(float16[N,8] x) => (float16[N,8] y) {{ {WHOLE['hardswish, last'][0]} }}", **weights)
    out, report = fuse_with_report(model)
    assert ops(out) == ops(model)
    assert "only float32 is rewritten" in reasons(report, "clip")


def test_constants_of_a_pattern_are_not_folded_into_weights() -> None:
    body = TAGGED["gelu"][0].replace("y =", "g =")
    model = net(f"(float[N,3,8] x) => (float[N,3,4] y) {{ {body} y = MatMul(g, w) }}", w=(8, 4), **GELU)
    out, _ = fused(model)
    assert ops(out) == ops(model)


def test_a_shift_that_belongs_to_an_activation_is_not_folded_into_the_layer_before() -> None:
    body = WHOLE["hardsigmoid, div"][0].replace("Add(x,", "Add(c0,")
    text = f"(float[N,3,8,8] x) => (float[N,4,8,8] y) {{ c0 = Conv(x, w) {body} }}"
    out, _ = fused(net(text, w=(4, 3, 1, 1), **HARD))
    assert ops(out) == "Conv HardSigmoid"
