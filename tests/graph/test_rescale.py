"""Channels divided here and multiplied there: the network computes the same, or says why it cannot."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from fewbit.core.plan import Rescale
from fewbit.errors import PlanError
from fewbit.graph.files import to_bytes
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.graph.rescale import reach, rescaled, sites, sites_with_refusals, smoothable, why_not_absorb
from fewbit.graph.rewrite import is_tagged
from tests.graph.nets import assert_same, f32, feeds, i64, net, run_plain, run_reference

IMAGE = "(float[N,3,8,8] x) => (float[N,M,P,Q] y)"
C4 = {"w": (4, 3, 3, 3), "b": (4,)}
OUT = {"u": (2, 4, 1, 1), "c": (2,)}

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "conv relu conv": (f"{IMAGE} {{ v = Conv(x, w, b) r = Relu(v) y = Conv(r, u, c) }}", {**C4, **OUT}),
    "no biases": (f"{IMAGE} {{ v = Conv(x, w) r = Relu(v) y = Conv(r, u) }}", {"w": (4, 3, 3, 3), "u": (2, 4, 1, 1)}),
    "padded": (f"{IMAGE} {{ v = Conv(x, w, b) y = Conv<pads=[1,1,1,1]>(v, u) }}", {**C4, "u": (2, 4, 3, 3)}),
    "depthwise reads": (
        f"{IMAGE} {{ v = Conv(x, w, b) r = LeakyRelu<alpha=0.1>(v) y = Conv<group=4>(r, u) }}",
        {**C4, "u": (4, 1, 3, 3)},
    ),
    "multiplied depthwise": (f"{IMAGE} {{ v = Conv(x, w, b) y = Conv<group=4>(v, u) }}", {**C4, "u": (8, 1, 3, 3)}),
    "depthwise makes": (
        f"{IMAGE} {{ v = Conv<group=3>(x, w, b) r = Relu(v) y = Conv(r, u) }}",
        {"w": (3, 1, 3, 3), "b": (3,), "u": (5, 3, 1, 1)},
    ),
    "groups on both sides": (
        "(float[N,4,6,6] x) => (float[N,M,P,Q] y) { v = Conv<group=2>(x, w, b) y = Conv<group=3>(v, u) }",
        {"w": (6, 2, 1, 1), "b": (6,), "u": (9, 2, 1, 1)},
    ),
    "transposed": (
        f"{IMAGE} {{ v = ConvTranspose(x, w, b) r = Relu(v) y = ConvTranspose<strides=[2,2]>(r, u, c) }}",
        {"w": (3, 4, 3, 3), "b": (4,), "u": (4, 2, 2, 2), "c": (2,)},
    ),
    "grouped transposed": (
        "(float[N,4,5,5] x) => (float[N,M,P,Q] y) "
        "{ v = ConvTranspose<group=2>(x, w, b) y = ConvTranspose<group=3>(v, u) }",
        {"w": (4, 3, 2, 2), "b": (6,), "u": (6, 2, 1, 1)},
    ),
    "one axis": (
        "(float[N,3,20] x) => (float[N,M,P] y) { v = Conv(x, w, b) r = Relu(v) y = Conv(r, u) }",
        {"w": (4, 3, 5), "b": (4,), "u": (2, 4, 3)},
    ),
    "prelu and pools": (
        f"{IMAGE} {{ v = Conv(x, w, b) p = PRelu(v, a) m = MaxPool<kernel_shape=[2,2], pads=[1,1,1,1]>(p) "
        "g = AveragePool<kernel_shape=[2,2]>(m) y = Conv(g, u, c) }",
        {**C4, **OUT, "a": (4, 1, 1)},
    ),
    "pooled and flattened": (
        "(float[N,3,8,8] x) => (float[N,2] y) "
        "{ v = Conv(x, w, b) r = Relu(v) g = GlobalAveragePool(r) f = Flatten(g) y = Gemm<transB=1>(f, u, c) }",
        {**C4, "u": (2, 4), "c": (2,)},
    ),
    "flattened with its pixels": (
        "(float[N,3,6,6] x) => (float[N,2] y) { v = Conv(x, w, b) r = Relu(v) f = Flatten(r) y = Gemm(f, u, c) }",
        {**C4, "u": (64, 2), "c": (2,)},
    ),
    "reshaped and transposed": (
        "(float[2,3,6,6] x) => (float[2,P,5] y) "
        "{ v = Conv(x, w, b) f = Reshape(v, s) t = Transpose<perm=[0,2,1]>(f) y = MatMul(t, u) }",
        {**C4, "s": i64(0, 4, 16), "u": (4, 5)},
    ),
    "gemms": (
        "(float[N,6] x) => (float[N,3] y) "
        "{ v = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b) r = Relu(v) y = Gemm<alpha=3.0>(r, u, c) }",
        {"w": (4, 6), "b": (1, 4), "u": (4, 3), "c": (3,)},
    ),
    "gemm with one bias": (
        "(float[N,6] x) => (float[N,3] y) { v = Gemm(x, w, b) y = Gemm<transB=1>(v, u) }",
        {"w": (6, 4), "b": f32(0.5), "u": (3, 4)},
    ),
    "matmuls with biases": (
        "(float[N,5,6] x) => (float[N,5,3] y) "
        "{ m = MatMul(x, w) a = Add(b, m) r = Relu(a) n = MatMul(r, u) y = Add(n, c) }",
        {"w": (6, 4), "b": (4,), "u": (4, 3), "c": (3,)},
    ),
    "a scalar is added": (
        "(float[N,5,6] x) => (float[N,5,3] y) { m = MatMul(x, w) a = Sub(k, m) r = Relu(a) y = MatMul(r, u) }",
        {"w": (6, 4), "k": f32(0.5), "u": (4, 3)},
    ),
    "layernorm, three readers": (
        "(float[N,5,4] x) => (float[N,5,3] y, float[N,5,3] z, float[N,5,3] t, int64[3] q) "
        "{ v = LayerNormalization(x, g, h) q = Shape(v) y = MatMul(v, u) z = MatMul(v, u2) t = MatMul(v, u3) }",
        {"g": (4,), "h": (4,), "u": (4, 3), "u2": (4, 3), "u3": (4, 3)},
    ),
    "layernorm without beta": (
        "(float[N,5,4] x) => (float[N,5,3] y) { v = LayerNormalization(x, g) y = MatMul(v, u) }",
        {"g": (4,), "u": (4, 3)},
    ),
    "layernorm in pieces": (
        "(float[N,5,4] x) => (float[N,5,3] y) { a = ReduceMean<axes=[-1]>(x) d = Sub(x, a) s = Pow(d, two) "
        "e = ReduceMean<axes=[-1]>(s) f = Add(e, eps) q = Sqrt(f) n = Div(d, q) k = Mul(n, g) v = Add(k, h) "
        "y = MatMul(v, u) }",
        {"two": f32(2), "eps": f32(1e-5), "g": (4,), "h": (4,), "u": (4, 3)},
    ),
    "batchnorm": (
        f"{IMAGE} {{ s = Sigmoid(x) v = BatchNormalization(s, g, h, m, n) r = Relu(v) y = Conv(r, u) }}",
        {"g": (3,), "h": (3,), "m": (3,), "n": f32(0.5, 1, 2), "u": (4, 3, 3, 3)},
    ),
    "squeeze and excite": (
        f"{IMAGE} {{ v = Conv(x, w, b) r = Relu(v) g = GlobalAveragePool(r) e = Conv(g, u1) s = Sigmoid(e) "
        "m = Mul(r, s) y = Conv(m, u) }",
        {**C4, "u1": (4, 4, 1, 1), "u": (2, 4, 1, 1)},
    ),
    "values of an attention": (
        "(float[2,5,6] x, float[2,2,5,5] p) => (float[2,5,3] y) "
        "{ m = MatMul(x, w) a = Add(m, b) r = Reshape(a, s1) t = Transpose<perm=[0,2,1,3]>(r) o = MatMul(p, t) "
        "k = Transpose<perm=[0,2,1,3]>(o) f = Reshape(k, s2) y = MatMul(f, u) }",
        {"w": (6, 8), "b": (8,), "s1": i64(0, 0, 2, 4), "s2": i64(0, 0, 8), "u": (8, 3)},
    ),
}  # fmt: skip


def form(name: str) -> Model:
    text, weights = FORMS[name]
    opset = 13 if name == "layernorm in pieces" else 17
    return fuse(net(text, opset=opset, **weights))


def random(model: Model, seed: int = 0, **words: Any) -> list[Rescale]:
    rng = np.random.default_rng(seed)
    return [Rescale(s.value, tuple(np.exp(rng.normal(0, 1.5, s.channels)).tolist()), **words) for s in sites(model)]


@pytest.mark.parametrize("name", FORMS)
def test_the_network_computes_the_same(name: str) -> None:
    model = form(name)
    before, fed = to_bytes(model), feeds(model)
    chosen = random(model)
    assert chosen, [str(r) for r in sites_with_refusals(model)[1]]
    out = rescaled(model, chosen)
    assert to_bytes(model) == before
    assert [(n.name, n.op_type) for n in out.nodes] == [(n.name, n.op_type) for n in model.nodes]
    assert [[v.name for v in n.inputs if v] for n in out.nodes] == [
        [v.name for v in n.inputs if v] for n in model.nodes
    ]
    onnx.checker.check_model(onnx.load_from_string(to_bytes(out)))
    assert_same(run_plain(model, fed), run_plain(out, fed), 1e-5)
    if name not in ("grouped transposed", "prelu and pools"):  # beyond the reference implementation
        assert_same(run_reference(model, fed), run_reference(out, fed), 1e-5)
    names = [r.value for r in chosen]
    for a, b, r in zip(inner(model, names), inner(out, names), chosen, strict=True):
        axis = next(s.axis for s in sites(model) if s.value == r.value)
        view = np.reshape(r.scale, (-1, *[1] * (-axis - 1)))
        np.testing.assert_allclose(b * view, a, rtol=1e-4, atol=1e-5 * np.abs(a).max())


def inner(model: Model, names: list[str]) -> list[Any]:
    return run_plain(model.with_outputs(names), feeds(model))[len(model.outputs) :]


def test_a_site_tells_who_makes_reads_and_cuts_it() -> None:
    model = net(
        "(float[N,3,6,6] x) => (float[N,2] y) "
        "{ v = Conv(x, w, b) k = Clip(v, lo, hi) f = Flatten(k) y = Gemm(f, u) }",
        **C4, u=(64, 2), lo=f32(0), hi=f32(6),
    )  # fmt: skip
    (site,) = sites(model)
    (read,) = site.reads
    assert (site.value, site.maker, site.channels, site.axis) == ("v", "v", 4, -3)
    assert (read.node, read.value, read.axis) == ("y", "f", -1)
    assert read.index == tuple(np.repeat(np.arange(4), 16))
    assert site.clips == {"k": ("v", -3, 6.0)}
    assert site.watched == {"v": -3, "f": -1}


def test_nothing_to_do_is_the_same_model() -> None:
    model = form("conv relu conv")
    assert rescaled(model, ()) is model


def test_rescales_are_done_one_after_the_other() -> None:
    model = form("conv relu conv")
    once, twice = random(model, 1), random(model, 2)
    both = [Rescale(once[0].value, tuple(np.multiply(once[0].scale, twice[0].scale).tolist()))]
    fed = feeds(model)
    a, b = (run_plain(rescaled(model, r).with_outputs(["v"]), fed) for r in ([*once, *twice], both))
    assert_same(a, b, 1e-6)


def test_a_shared_bias_is_not_written_into() -> None:
    text = f"{IMAGE} {{ v = Conv(x, w, b) r = Relu(v) t = Conv(r, u, b) y = Sigmoid(t) }}"
    model = net(text, **C4, u=(4, 4, 1, 1))
    out = rescaled(model, random(model))
    assert_same(run_plain(model, feeds(model)), run_plain(out, feeds(model)), 1e-5)


RELU = "v = Conv(x, w, b) r = Relu(v)"
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "an output": (f"{IMAGE} {{ y = Conv(x, w, b) }}", C4, "'y' is an output of the network"),
    "an inner output": (
        f"(float[N,3,8,8] x) => (float[N,2,P,Q] y, float[N,4,P,Q] r) {{ {RELU} y = Conv(r, u) }}",
        {**C4, "u": (2, 4, 1, 1)},
        "'r' is an output of the network",
    ),
    "a residual": (
        f"{IMAGE} {{ {RELU} t = Conv(r, u) y = Add(t, r) }}",
        {**C4, "u": (4, 4, 1, 1)},
        "'y' (Add) adds another value",
    ),
    "not homogeneous": (
        f"{IMAGE} {{ v = Conv(x, w, b) r = Sigmoid(v) y = Conv(r, u) }}",
        {**C4, "u": (2, 4, 1, 1)},
        "'r' (Sigmoid) reads it",
    ),
    "one of two readers": (
        f"{IMAGE} {{ {RELU} t = Conv(r, u) s = Exp(r) q = Conv(s, u2) y = Add(t, q) }}",
        {**C4, "u": (2, 4, 1, 1), "u2": (2, 4, 1, 1)},
        "'s' (Exp) reads it",
    ),
    "a lower end": (
        f"{IMAGE} {{ v = Conv(x, w, b) r = Clip(v, lo, hi) y = Conv(r, u) }}",
        {**C4, "u": (2, 4, 1, 1), "lo": f32(-1), "hi": f32(1)},
        "is a Clip whose lower end is not 0",
    ),
    "a square": (f"{IMAGE} {{ {RELU} s = Mul(v, r) y = Conv(s, u) }}", {**C4, **OUT}, "reads it twice"),
    "a square at once": (f"{IMAGE} {{ {RELU} s = Mul(r, r) y = Conv(s, u) }}", {**C4, **OUT}, "reads it twice"),
    "a shared weight": (
        "(float[N,4,8,8] x) => (float[N,4,8,8] y) { v = Conv(x, w) r = Relu(v) y = Conv(r, w) }",
        {"w": (4, 4, 1, 1)},
        "the weight 'w' of 'v' is used elsewhere too",
    ),
    "a reader's shared weight": (
        f"{IMAGE} {{ {RELU} t = Conv(r, u) s = Sigmoid(t) y = Conv(s, u) }}",
        {**C4, "u": (4, 4, 1, 1)},
        "the weight 'u' of 't' is used elsewhere too",
    ),
    "a weight that is computed": (
        "(float[N,4,8,8] x, float[2,4,1,1] u) => (float[N,2,8,8] y) { v = Conv(x, w) y = Conv(v, u) }",
        {"w": (4, 4, 1, 1)},
        "'y' (Conv) reads it",
    ),
    "another axis": (
        "(float[N,3,6,4] x) => (float[N,4,6,2] y) { v = Conv(x, w) y = MatMul(v, u) }",
        {"w": (4, 3, 1, 1), "u": (4, 2)},
        "'y' sums along another axis",
    ),
    "transposed Gemm": (
        "(float[4,6] x) => (float[4,3] y) { v = Gemm(x, w) y = Gemm<transA=1>(v, u) }",
        {"w": (6, 4), "u": (4, 3)},
        "'y' takes its input transposed",
    ),
    "unknown size": (
        "(float[N,3,H,W] x) => (float[N,4,L] y) { v = Conv(x, w) f = Reshape(v, s) y = Conv(f, u) }",
        {"w": (4, 3, 1, 1), "s": i64(0, 4, -1), "u": (4, 4, 1)},
        "where 'f' (Reshape) puts the channels is unknown",
    ),
    "nobody reads": ("(float[N,3] x) => (float[N,3] y) { v = MatMul(x, w) y = Add(v, x) }", {"w": (3, 3)}, "adds"),
    "one channel": (f"{IMAGE} {{ v = Conv(x, w) y = Conv(v, u) }}", {"w": (1, 3, 1, 1), "u": (2, 1, 1, 1)}, "has one"),
    "a pattern": (
        "(float[N,4] x) => (float[N,2] y) { v = Gemm(x, w) d = Div(v, q) e = Erf(d) a = Add(e, one) m = Mul(v, a) "
        "h = Mul(m, half) y = Gemm(h, u) }",
        {"w": (4, 4), "q": f32(2**0.5), "one": f32(1), "half": f32(0.5), "u": (4, 2)},
        "is part of a Gelu",
    ),
    "read in a body": (
        "(float[N,4] x, bool c) => (float[N,4] y) { v = Gemm(x, w) y = If(c) <then_branch = g1 () => (float[N,4] p) "
        "{ p = Relu(v) }, else_branch = g2 () => (float[N,4] q) { q = Neg(v) }> }",
        {"w": (4, 4)},
        "'v' is read inside of a body",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_prevents_a_site_is_told(name: str) -> None:
    text, weights, reason = REFUSED[name]
    model = fuse(net(text, **weights)) if name == "a pattern" else net(text, **weights)
    found, refused = sites_with_refusals(model)
    assert "v" not in {s.value for s in found}
    told = [str(r) for r in refused if r.node in ("v", "y")]
    assert any(reason in t for t in told), told
    if name != "another axis":  # there a Mul between does it
        value = "y" if name == "an output" else "v"
        with pytest.raises(PlanError, match=f"rescale of '{value}' is not possible in this network: "):
            rescaled(model, [Rescale(value, (2.0,) * 4)])


def relu6(*, hi: float = 6.0) -> Model:
    text = f"{IMAGE} {{ v = Conv(x, w, b) k = Clip(v, lo, hi) y = Conv(k, u, c) }}"
    return net(text, **C4, **OUT, lo=f32(0), hi=f32(hi))


def test_a_clip_becomes_relu_where_the_rescale_says_so() -> None:
    model = relu6(hi=1e4)  # never reached
    (rescale,) = random(model, unclip=("k",))
    out = rescaled(model, [rescale])
    assert out.node("k").op_type == "Relu" and out.node("k").outputs[0].name == "k"
    assert_same(run_plain(model, feeds(model)), run_plain(out, feeds(model)), 1e-5)


def test_a_clip_that_cuts_something_off_changes_the_network_knowingly() -> None:
    model = relu6(hi=0.5)
    out = rescaled(model, [Rescale("v", (1.0,) * 4, unclip=("k",))])
    a, b = (run_plain(m.with_outputs(["k"]), feeds(model))[1] for m in (model, out))
    assert a.max() == 0.5 < b.max()
    np.testing.assert_allclose(np.minimum(b, 0.5), a, rtol=1e-6)


@pytest.mark.parametrize(
    ("rescale", "told"),
    [
        (Rescale("q", (1.0,) * 4), "unknown value 'q'"),
        (Rescale("b", (1.0,) * 3), "rescale of 'b' is not possible in this network: no layer with weights makes it"),
        (
            Rescale("k", (1.0,) * 4, absorb=(1.0,) * 4),
            "need a layer in front that is divided; here no layer with weights",
        ),
        (Rescale("v", (1.0,) * 3), "scale has 3 numbers; the value has 4 channels"),
        (Rescale("v", (1.0, 2.0, 3.0, 0.0)), "a factor is not greater than 0"),
        (Rescale("v", (1.0, 2.0, 3.0, np.inf)), "scale holds a number that is not finite"),
        (Rescale("v", (2.0,) * 4), "'k' cuts it off at 6; add it to unclip"),
        (Rescale("v", (2.0,) * 4, unclip=("kk",)), "did you mean 'k'"),
        (Rescale("v", (1.0,) * 4, absorb=(1.0,) * 4), "'k' cuts it off at 6; add it to unclip"),
        (Rescale("v", (1.0,) * 4, unclip=("k",), absorb=(1.0,) * 5), "absorb has 5 numbers"),
        (Rescale("v", (1.0,) * 4, unclip=("k",), absorb=(1.0, 0.0, 0.0, -1.0)), "an amount is less than 0"),
    ],
)
def test_a_rescale_of_another_network_is_told(rescale: Rescale, told: str) -> None:
    with pytest.raises(PlanError) as e:
        rescaled(relu6(), [rescale])
    assert told in str(e.value)


# -- a Mul between ---------------------------------------------------------------------------------------------------


def post_norm() -> Model:
    """A LayerNormalization that two MatMuls and a residual read, a Gelu that a third one reads."""
    return fuse(
        net(
            "(float[N,5,4] x) => (float[N,5,4] y, float[N,5,3] z) { v = LayerNormalization(x, g) a = MatMul(v, w) "
            "z = MatMul(v, w2) d = Div(a, q) e = Erf(d) o = Add(e, one) m = Mul(a, o) h = Mul(m, half) "
            "t = MatMul(h, u) y = Add(t, v) }",
            g=(4,), w=(4, 6), w2=(4, 3), u=(6, 4), q=f32(2**0.5), one=f32(1), half=f32(0.5),
        )
    )  # fmt: skip


def test_what_cannot_be_divided_gets_a_mul_in_front_of_its_readers() -> None:
    model = post_norm()
    assert not sites(model)
    found = smoothable(model)
    assert [(s.value, s.channels, s.maker, [r.node for r in s.reads]) for s in found] == [
        ("v", 4, "", ["a", "z"]),
        ("h", 6, "", ["t"]),
    ]
    rng = np.random.default_rng(0)
    chosen = [Rescale(s.value, tuple(np.exp(rng.normal(0, 1.5, s.channels)).tolist())) for s in found]
    out = rescaled(model, chosen)
    onnx.checker.check_model(onnx.load_from_string(to_bytes(out)))
    fed = feeds(model)
    assert_same(run_plain(model, fed), run_plain(out, fed), 1e-5)
    assert_same(run_reference(model, fed), run_reference(out, fed), 1e-5)
    known = [str(v.name) for n in model.nodes for v in n.outputs]
    assert_same(run_plain(model.with_outputs(known), fed), run_plain(out.with_outputs(known), fed), 1e-4)
    mul = out.node("v.rescale")
    assert mul.op_type == "Mul" and is_tagged(mul) and mul.outputs[0].name == "v.rescaled"
    assert [out.node(n).inputs[0].name for n in ("a", "z", "y")] == ["v.rescaled", "v.rescaled", "t"]


def test_a_mul_between_serves_convolutions_and_inputs_too() -> None:
    model = net("(float[N,3,8,8] x) => (float[N,2,6,6] y) { y = Conv(x, w) }", w=(2, 3, 3, 3))
    assert not smoothable(model)  # in front of a convolution it costs too much to be proposed
    out = rescaled(model, [Rescale("x", (1.0, 20.0, 0.1))])
    assert_same(run_plain(model, feeds(model)), run_plain(out, feeds(model)), 1e-5)


def test_a_site_that_can_be_divided_gets_no_mul() -> None:
    model = form("layernorm, three readers")
    assert smoothable(model) == sites(model)


# -- absorbing -------------------------------------------------------------------------------------------------------

HIGH = np.full(4, 300, np.float32)  # above all that the weights can take off
ABSORBED: dict[str, tuple[str, dict[str, Any]]] = {
    "conv": (f"{IMAGE} {{ {RELU} y = Conv(r, u) }}", {"u": (2, 4, 3, 3)}),
    "depthwise": (f"{IMAGE} {{ {RELU} y = Conv<group=4>(r, u, c) }}", {"u": (4, 1, 3, 3), "c": (4,)}),
    "max of padded": (
        f"{IMAGE} {{ {RELU} m = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(r) y = Conv(m, u) }}",
        {"u": (2, 4, 1, 1)},
    ),
    "gemm": (
        "(float[N,3,8,8] x) => (float[N,2] y) "
        f"{{ {RELU} g = GlobalAveragePool(r) f = Flatten(g) y = Gemm<alpha=2.0, beta=3.0>(f, u, c) }}",
        {"u": (4, 2), "c": (2,)},
    ),
    "clip": (f"{IMAGE} {{ v = Conv(x, w, b) r = Clip(v, lo) y = Conv(r, u) }}", {"u": (2, 4, 1, 1), "lo": f32(0)}),
}  # fmt: skip


@pytest.mark.parametrize("name", ABSORBED)
def test_high_biases_move_on(name: str) -> None:
    text, weights = ABSORBED[name]
    model = net(text, w=(4, 3, 3, 3), b=HIGH, **weights)
    (site,) = sites(model)
    rescale = Rescale("v", (1.0, 2.0, 0.5, 1.0), tuple(site.clips), (200.0, 100.0, 0.0, 250.0))
    out = rescaled(model, [rescale])
    fed = feeds(model)
    assert_same(run_plain(model, fed), run_plain(out, fed), 1e-5)
    a, b = (run_plain(m.with_outputs(["v"]), fed)[1].min((0, 2, 3)) for m in (model, out))
    np.testing.assert_allclose(b, a / rescale.scale - rescale.absorb, rtol=1e-3)


def test_biases_of_matmuls_move_on() -> None:
    text = "m = MatMul(x, w) v = Add(m, b) r = Relu(v) n = MatMul(r, u) y = Add(n, c)"
    text = f"(float[N,5,6] x) => (float[N,5,3] y) {{ {text} }}"
    model = fuse(net(text, w=(6, 4), b=HIGH, u=(4, 3), c=(3,)))
    out = rescaled(model, [Rescale("m", (2.0,) * 4, absorb=(100.0,) * 4)])
    fed = feeds(model)
    assert_same(run_plain(model, fed), run_plain(out, fed), 1e-5)
    assert (
        run_plain(out.with_outputs(["v"]), fed)[1].max() < 70 < 250 < run_plain(model.with_outputs(["v"]), fed)[1].max()
    )


@pytest.mark.parametrize(
    ("text", "weights", "told"),
    [
        (f"{IMAGE} {{ {RELU} y = Conv<pads=[1,1,1,1]>(r, u) }}", {"u": (2, 4, 3, 3)}, "'y' sets zeros beside"),
        (
            f"{IMAGE} {{ {RELU} m = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(r) "
            "y = Conv(m, u) }",
            {"u": (2, 4, 1, 1)},
            "'m' (AveragePool) does not pass it",
        ),
        (f"{IMAGE} {{ {RELU} m = Mul(r, k) y = Conv(m, u) }}", {"u": (2, 4, 1, 1), "k": f32(2)}, "'m' (Mul) does not"),
        (
            "(float[N,2,4] x) => (float[N,2,2] y) { v = MatMul(x, w2) y = MatMul(v, u) }",
            {"w2": (4, 4), "u": (4, 2)},
            "'v' has no bias to take it from",
        ),
        (
            "(float[N,2,4] x) => (float[N,2,2] y) { v = LayerNormalization(x, b, b) y = MatMul(v, u) }",
            {"u": (4, 2)},
            "'y' has no bias to put it into",
        ),
    ],
)
def test_what_prevents_absorbing_is_told(text: str, weights: dict[str, Any], told: str) -> None:
    conv = {"w": (4, 3, 3, 3)} if "Conv" in text else {}
    model = net(text, **conv, b=HIGH, **weights) if "b" in text.split("=>")[1] else net(text, **conv, **weights)
    site = next(s for s in sites(model) if s.value == "v")
    assert told in why_not_absorb(model, site)
    with pytest.raises(PlanError) as e:
        rescaled(model, [Rescale("v", (1.0,) * 4, absorb=(1.0,) * 4)])
    assert f"rescale of 'v': absorb is not possible: {told}" in str(e.value)


# -- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shape", "groups"),
    [
        ("v = Conv<group=2>(x, w)", (4, 2, 3, 3), (2, 2, 2)),
        ("v = ConvTranspose<group=2>(x, w)", (4, 3, 3, 3), (2, 3, 2)),
    ],
)
def test_reach_of_grouped_weights(text: str, shape: tuple[int, ...], groups: tuple[int, ...]) -> None:
    model = net(f"(float[1,4,5,5] x) => (float[N,M,P,Q] v) {{ {text} }}", w=shape)
    found = reach(model.node("v"))
    assert found.shape == groups
    one = np.zeros((1, 4, 5, 5), np.float32)
    one[0, 3, 2, 2] = 1  # the second channel of the second group: its weights come out as they are
    seen = np.abs(run_plain(model, {"x": one})[0]).max((0, 2, 3)).reshape(groups[:2])
    np.testing.assert_allclose(seen, np.stack([np.zeros(groups[1]), found[1, :, 1]]), rtol=1e-6)


def test_reach_of_matrices() -> None:
    text = "(float[N,3] x) => (float[N,2] v, float[N,2] t) { v = Gemm<transB=1>(x, w) t = MatMul(x, u) }"
    w = np.array([[1, -2, 3], [4, 5, -6]], np.float32)
    model = net(text, w=w, u=np.ascontiguousarray(w.T))
    np.testing.assert_array_equal(reach(model.node("v")), np.abs(w)[None])
    np.testing.assert_array_equal(reach(model.node("t")), np.abs(w)[None])
