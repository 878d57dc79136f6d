"""Fusion as a whole: what holds for every network, however odd."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fewbit.graph.rules as rules
from fewbit.graph.files import from_proto, to_bytes
from fewbit.graph.fuse import PHASES, RULES, fuse, fuse_with_report
from fewbit.graph.rewrite import Rule
from tests.graph.nets import bn, f32, fused, i64, net, ops

BLOCK = """(float[N,4,8,8] x) => (float[N,5] y) {
  p = Pad(x, pads) c1 = Conv(p, w) b1 = BatchNormalization(c1, s, b, m, v) a3 = Add(b1, three)
  k1 = Clip(a3, zero, six) h1 = Mul(b1, k1) h2 = Div(h1, six) m2 = Mul(h2, gain) o2 = Add(m2, three)
  c2 = Conv<group=4, pads=[1,1,1,1]>(o2, wd) r2 = Relu(c2) k2 = Clip(r2, zero, six)
  d2 = Dropout(k2) sum = Add(d2, x) g = GlobalAveragePool(sum) shape = Shape(g) batch = Slice(shape, i0, i1)
  flat = Concat<axis=0>(batch, rest) q = Reshape(g, flat) f = MatMul(q, wf) y = Add(f, bf)
}"""
WEIGHTS = {
    "pads": i64(0, 0, 1, 1, 0, 0, 1, 1), "w": (4, 4, 3, 3), "wd": (4, 1, 3, 3), "wf": (4, 5), "bf": (5,),
    "three": f32(3), "zero": f32(0), "six": f32(6), "gain": f32(0.7), "i0": i64(0), "i1": i64(1),
    "rest": i64(4), **bn(4),
}  # fmt: skip


def test_a_whole_network() -> None:
    out, report = fused(net(BLOCK, **WEIGHTS))
    assert ops(out) == "Conv HardSwish Add Conv Clip Add GlobalAveragePool Shape Slice Concat Reshape Gemm"
    assert {c.rule for c in report.changes} == {"pad", "batchnorm", "hardswish", "shift", "clip", "tidy", "bias"}
    assert {k: v for k, v in out.aliases.items() if v} == {
        "p": "c1", "b1": "c1", "a3": "h2", "k1": "h2", "h1": "h2", "m2": "c2", "r2": "k2", "y": "f",
    }  # fmt: skip
    assert {k for k, v in out.aliases.items() if not v} == {"d2"}


def test_the_same_bytes_every_time() -> None:
    assert to_bytes(fuse(net(BLOCK, **WEIGHTS))) == to_bytes(fuse(net(BLOCK, **WEIGHTS)))


def test_the_marks_are_in_the_file() -> None:
    model = net("(float[N,8] x) => (float[N,8] y) { s = Sigmoid(x) y = Mul(x, s) }")
    read = from_proto(onnx.load_from_string(to_bytes(fuse(model))))
    assert {n.metadata_props["fewbit.pattern"] for n in read.nodes} == {"Swish:y"}


def test_every_rule_is_in_exactly_one_phase_and_shows_its_picture() -> None:
    found = []
    for info in pkgutil.iter_modules(rules.__path__):
        module = importlib.import_module(f"{rules.__name__}.{info.name}")
        own = [r for r in vars(module).values() if isinstance(r, Rule)]
        found += own
        assert not own or "⇒" in (module.__doc__ or ""), f"{info.name} does not show before ⇒ after"
    assert sorted(map(id, found)) == sorted(map(id, RULES))
    assert len(RULES) == sum(map(len, PHASES))


# -- odd networks -----------------------------------------------------------------------------------------------------

ODD = {
    "empty optional inputs": (
        "(float[N,8] x) => (float[N,8] y) { c = Clip(x, , six) y = Clip(c, , ) }",
        {"six": f32(6)},
    ),
    "nothing inside": (
        "(float[0,4,8,8] x) => (float[0,6,6,6] y) { c = Conv(x, w) y = Mul(c, k) }",
        {"w": (6, 4, 3, 3), "k": f32(2)},
    ),
    "no channels": ("(float[N,4] x) => (float[N,0] y) { c = MatMul(x, w) y = Add(c, k) }", {"w": (4, 0), "k": (0,)}),
    "no shapes": (
        "(float x) => (float y) { c = Relu(x) d = Reshape(c, k) y = Add(d, one) }",
        {"k": i64(-1), "one": f32(1)},
    ),
    "input is the output": ("(float[N] x) => (float[N] y) { y = Identity(x) }", {}),
    "a weight is the output": ("(float[N] x) => (float[N] y, float[3] k) { y = Identity(x) }", {"k": (3,)}),
    "one input twice": ("(float[N,3] x) => (float[N,3] y) { c = Mul(x, x) d = Add(c, c) y = Div(d, d) }", {}),
    "weight used as a value": (
        "(float[N,4] x) => (float[N,4] y) { c = MatMul(x, w) d = Add(c, k) e = MatMul(d, w) y = Add(e, k) }",
        {"w": (4, 4), "k": (4,)},
    ),
    "constants alone": ("(float[N] x) => (float[3] y) { c = Neg(k) y = Neg(c) }", {"k": (3,)}),
    "unused nodes": ("(float[N] x) => (float[N] y) { c = Neg(x) d = Neg(c) y = Abs(x) }", {}),
    "integers": ("(int64[N] x) => (int64[N] y) { c = Mul(x, k) d = Max(c, k) y = Add(d, k) }", {"k": i64(3)}),
    "scalars": (
        "(float x) => (float y) { c = Add(x, k) d = Clip(c, z, s) e = Mul(x, d) y = Div(e, s) }",
        {"k": f32(3), "z": f32(0), "s": f32(6)},
    ),
    "a loop": (
        "(float[4] x) => (float[4] y) { c = Mul(x, k) y = Loop(n, , c) <body = step (int64 i, bool t, float[4] a) => "
        "(bool u, float[4] b) { u = Identity(t) d = Mul(a, k) b = Add(d, c) }> }",
        {"n": np.array(3), "k": f32(0.5)},
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_networks_are_fused_or_left(case: str) -> None:
    text, weights = ODD[case]
    fused(net(text, **weights))


def test_bodies_are_not_touched() -> None:
    text, weights = ODD["a loop"]
    model = net(text, **weights)
    assert fuse(model).op_counts() == model.op_counts()


IMAGE = "(float[N,4,8,8] x) => (float[N,6,6,6] y)"
NORMED = f"{IMAGE} {{ c = Conv(x, w) y = BatchNormalization(c, s, b, m, v) }}"
BROKEN = {
    "wrong channels": (NORMED, {"w": (5, 4, 3, 3), **bn(6)}),
    "uneven groups": (f"{IMAGE} {{ c = Conv<group=4>(x, w) y = Mul(c, k) }}", {"w": (6, 1, 3, 3), "k": f32(2)}),
    "flat kernel": (f"{IMAGE} {{ c = Conv(x, w) y = Mul(c, k) }}", {"w": (6, 4), "k": f32(2)}),
    "too few inputs": (f"{IMAGE} {{ c = Conv(x) p = Pad(c) y = MaxPool(p) }}", {}),
    "no inputs": (
        f"{IMAGE} {{ c = Concat() d = Relu() e = Reshape() f = Slice() g = Shape() y = Sum(c, d, e, f, g) }}",
        {},
    ),
    "half a batchnorm": (NORMED.replace("c, s, b, m, v", "c, s"), {"w": (6, 4, 3, 3), "s": (6,)}),
    "three terms": (
        "(float[N,4] x) => (float[N,4] y) { c = MatMul(x, w) y = Add(c, k, k) }",
        {"w": (4, 4), "k": (4,)},
    ),
    "short pads": (f"{IMAGE} {{ p = Pad(x, k) y = Conv(p, w) }}", {"k": i64(1, 1, 1), "w": (6, 4, 3, 3)}),
    "text": ("(float[N] x) => (string[2] y) { y = Identity(k) }", {"k": np.array(["a", "b"], object)}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_networks_do_not_break_fusion(case: str) -> None:
    text, weights = BROKEN[case]
    model = net(text, **weights)
    assert fuse(model).op_counts() == model.op_counts()


# -- any network ------------------------------------------------------------------------------------------------------

STEPS = {
    "conv": "{y} = Conv<pads=[1,1,1,1]>({x}, w, b)",
    "pointwise": "{y} = Conv({x}, w1)",
    "depthwise": "{y} = Conv<group=4, pads=[1,1,1,1]>({x}, wd)",
    "transposed": "{y} = ConvTranspose<pads=[1,1,1,1]>({x}, w)",
    "bn": "{y} = BatchNormalization({x}, s, b, m, v)",
    "mul": "{y} = Mul({x}, k)",
    "gain": "{y} = Mul(two, {x})",
    "div": "{y} = Div({x}, two)",
    "add": "{y} = Add(k, {x})",
    "sub": "{y} = Sub({x}, k)",
    "relu": "{y} = Relu({x})",
    "clip": "{y} = Clip({x}, zero, two)",
    "identity": "{y} = Identity({x})",
    "gate": "{y}a = Add({x}, three) {y}c = Clip({y}a, zero, six) {y} = Div({y}c, six)",
    "swish": "{y}s = Sigmoid({x}) {y} = Mul({y}s, {x})",
    "hardswish": "{y}a = Add({x}, three) {y}c = Clip({y}a, zero, six) {y}m = Mul({x}, {y}c) {y} = Div({y}m, six)",
    "pad": "{y}p = Pad({x}, pads) {y} = Conv({y}p, w)",
    "pool": "{y}r = Relu({x}) {y}p = Pad({y}r, pads) {y} = MaxPool<kernel_shape=[3,3]>({y}p)",
    "join": "{y} = Add({x}, {z})",
}
PARTS = {
    "w": (4, 4, 3, 3), "w1": (4, 4, 1, 1), "wd": (4, 1, 3, 3), **bn(4), "k": (4, 1, 1), "two": f32(2), "three": f32(3),
    "zero": f32(0), "six": f32(6), "pads": i64(0, 0, 1, 1, 0, 0, 1, 1),
}  # fmt: skip


@given(
    steps=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3)), min_size=1, max_size=9),
    tap=st.integers(0, 9),
)
@settings(max_examples=60)
def test_any_chain_computes_the_same(steps: list[tuple[str, int]], tap: int) -> None:
    names, lines = ["x"], []
    for i, (step, back) in enumerate(steps):
        lines.append(STEPS[step].format(x=names[-1], y=f"v{i}", z=names[-1 - min(back, len(names) - 1)]))
        names.append(f"v{i}")
    other = names[min(tap, len(names) - 1)]
    outputs = [names[-1]] if other in ("x", names[-1]) else [names[-1], other]
    text = ", ".join(f"float[1,4,5,5] {o}" for o in outputs)
    fused(net(f"(float[1,4,5,5] x) => ({text}) {{ {' '.join(lines)} }}", **PARTS))


LOOKED_AT = sorted(
    {op for rule in RULES for op in rule.ops}
    | set("Conv ConvTranspose Gemm MatMul Sigmoid Erf Tanh Sqrt ReduceMean HardSigmoid Reciprocal".split())
)
VALUES = ["x", "", "zero", "three", "pads", "w", "wd", "s", "half", "words"]
NODES = st.lists(
    st.tuples(st.sampled_from(LOOKED_AT), st.lists(st.integers(0, 20), max_size=5)), min_size=1, max_size=12
)


@given(NODES)
@settings(max_examples=150)
def test_any_nonsense_is_left_alone(nodes: list[tuple[str, list[int]]]) -> None:
    names, lines = list(VALUES), []
    for i, (op, picks) in enumerate(nodes):
        lines.append(f"v{i} = {op}({', '.join(names[-1 - p % len(names)] for p in picks)})")
        names.append(f"v{i}")
    text = f"(float[1,4,5,5] x) => (float y) {{ {' '.join(lines)} y = Sum({', '.join(names[len(VALUES) :])}) }}"
    strange = {"half": np.ones(4, np.float16), "words": np.array(["a", "b"], object)}
    out = fuse(net(text, **PARTS, **strange))
    assert not fuse_with_report(out)[1].changes


def test_fusing_logs_what_it_does(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG", logger="fewbit"):
        _, report = fuse_with_report(net(BLOCK, **WEIGHTS))
    assert [r.message for r in caplog.records if r.name == "fewbit"][-len(report.lines()) :] == report.lines()
