"""What scales or shifts goes into the weights beside it: batchnorm, scale, shift, bias."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fewbit.graph.fuse import fuse_with_report
from fewbit.graph.model import const
from fewbit.graph.rewrite import BIAS_KEY
from tests.graph.nets import bn, f32, fused, net, ops, reasons

BN = "BatchNormalization(c, s, b, m, v)"
IMAGE = "(float[N,4,8,8] x) => (float[N,C,H,W] y)"
ROWS = "(float[N,4] x) => (float[N,6] y)"
TOKENS = "(float[N,5,4] x) => (float[N,5,6] y)"


def per(axes: int, channels: int = 6) -> np.ndarray[Any, Any]:
    """One number for each channel, with `axes` axes right of it."""
    return np.linspace(-1.5, 2, channels, dtype=np.float32).reshape(-1, *[1] * axes)


FOLDED = {
    # batchnorm
    "conv": (f"{IMAGE} {{ c = Conv(x, w, b0) y = {BN} }}", {"w": (6, 4, 3, 3), "b0": (6,)}, "Conv"),
    "conv without bias": (f"{IMAGE} {{ c = Conv<pads=[1,1,1,1]>(x, w) y = {BN} }}", {"w": (6, 4, 3, 3)}, "Conv"),
    "grouped": (f"{IMAGE} {{ c = Conv<group=2>(x, w) y = {BN} }}", {"w": (6, 2, 3, 3)}, "Conv"),
    "1-D": (
        f"(float[N,4,9] x) => (float[N,6,L] y) {{ c = Conv(x, w) y = {BN} }}",
        {"w": (6, 4, 3)},
        "Conv",
    ),
    "3-D": (
        f"(float[N,4,5,5,5] x) => (float[N,6,D,H,W] y) {{ c = Conv(x, w) y = {BN} }}",
        {"w": (6, 4, 2, 2, 2)},
        "Conv",
    ),
    "transposed": (
        f"{IMAGE} {{ c = ConvTranspose<strides=[2,2]>(x, w, b0) y = {BN} }}",
        {"w": (4, 6, 3, 3), "b0": (6,)},
        "ConvTranspose",
    ),
    "transposed, grouped": (
        f"{IMAGE} {{ c = ConvTranspose<group=2>(x, w) y = {BN} }}",
        {"w": (4, 3, 3, 3)},
        "ConvTranspose",
    ),
    "gemm": (
        f"{ROWS} {{ c = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, b0) y = {BN} }}",
        {"w": (6, 4), "b0": (6,)},
        "Gemm",
    ),
    "gemm, bias of one": (f"{ROWS} {{ c = Gemm(x, w, b0) y = {BN} }}", {"w": (4, 6), "b0": (1, 1)}, "Gemm"),
    "gemm, transposed input": (
        f"(float[4,N] x) => (float[N,6] y) {{ c = Gemm<transA=1>(x, w) y = {BN} }}",
        {"w": (4, 6)},
        "Gemm",
    ),
    "matmul": (f"{ROWS} {{ c = MatMul(x, w) y = {BN} }}", {"w": (4, 6)}, "Gemm"),
    # scale
    "mul": (f"{IMAGE} {{ c = Conv(x, w) y = Mul(c, k) }}", {"w": (6, 4, 3, 3), "k": per(2)}, "Conv"),
    "mul, on the left": (f"{IMAGE} {{ c = Conv(x, w) y = Mul(k, c) }}", {"w": (6, 4, 3, 3), "k": f32(-3)}, "Conv"),
    "div": (f"{IMAGE} {{ c = Conv(x, w, b0) y = Div(c, k) }}", {"w": (6, 4, 3, 3), "b0": (6,), "k": f32(3)}, "Conv"),
    "add": (f"{IMAGE} {{ c = Conv(x, w) y = Add(c, k) }}", {"w": (6, 4, 3, 3), "k": per(2)[None]}, "Conv"),
    "sub": (f"{IMAGE} {{ c = Conv(x, w) y = Sub(c, k) }}", {"w": (6, 4, 3, 3), "k": per(2)}, "Conv"),
    "sub, on the left": (
        f"{IMAGE} {{ c = Conv(x, w, b0) y = Sub(k, c) }}",
        {"w": (6, 4, 3, 3), "b0": (6,), "k": f32(3)},
        "Conv",
    ),
    "a chain": (
        f"{IMAGE} {{ c = ConvTranspose<group=2>(x, w) d = Mul(c, k) e = Add(d, k) f = Div(e, two) y = Sub(f, two) }}",
        {"w": (4, 3, 3, 3), "k": per(2), "two": f32(2)},
        "ConvTranspose",
    ),
    "gemm, add": (f"{ROWS} {{ c = Gemm<transB=1>(x, w) y = Add(c, k) }}", {"w": (6, 4), "k": per(0)}, "Gemm"),
    "matmul of tokens, mul": (f"{TOKENS} {{ c = MatMul(x, w) y = Mul(c, k) }}", {"w": (4, 6), "k": per(0)}, "MatMul"),
    # in front
    "before conv": (
        f"{IMAGE} {{ c = Mul(x, k) d = Add(c, k) y = Conv(d, w, b0) }}",
        {"k": per(2, 4), "w": (6, 4, 3, 3), "b0": (6,)},
        "Conv",
    ),
    "before grouped conv": (
        f"{IMAGE} {{ c = Sub(k, x) y = Conv<group=2>(c, w) }}",
        {"k": per(2, 4), "w": (6, 2, 3, 3)},
        "Conv",
    ),
    "scale before padded conv": (
        f"{IMAGE} {{ c = Mul(x, k) y = Conv<pads=[1,1,1,1]>(c, w) }}",
        {"k": per(2, 4), "w": (6, 4, 3, 3)},
        "Conv",
    ),
    "scale before transposed": (
        f"{IMAGE} {{ c = Div(x, k) y = ConvTranspose<group=2>(c, w) }}",
        {"k": per(2, 4), "w": (4, 3, 3, 3)},
        "ConvTranspose",
    ),
    "before gemm": (
        f"{ROWS} {{ c = Add(x, k) d = Mul(c, k) y = Gemm<alpha=0.5, beta=3.0, transB=1>(d, w, b0) }}",
        {"k": per(0, 4), "w": (6, 4), "b0": (6,)},
        "Gemm",
    ),
    "before matmul": (f"{ROWS} {{ c = Add(x, k) y = MatMul(c, w) }}", {"k": f32(2), "w": (4, 6)}, "Gemm"),
    "batchnorm before conv": (
        f"{IMAGE} {{ r = Relu(x) q = BatchNormalization(r, s, b, m, v) y = Conv(q, w) }}",
        {"w": (6, 4, 1, 1), **bn(4)},
        "Relu Conv",
    ),
    # shift
    "shift": (
        f"{IMAGE} {{ r = Relu(x) c = Mul(k, r) d = Add(c, k) y = Conv<pads=[1,1,1,1]>(d, w) }}",
        {"k": f32(3), "w": (6, 4, 3, 3)},
        "Relu Add Conv",
    ),
    "shift per channel": (
        f"{IMAGE} {{ r = Relu(x) c = Div(r, k) d = Sub(c, k) y = Conv<auto_pad='SAME_UPPER', group=2>(d, w, b0) }}",
        {"k": per(2, 4), "w": (6, 2, 3, 3), "b0": (6,)},
        "Relu Sub Conv",
    ),
    # bias
    "bias of rows": (f"{ROWS} {{ c = MatMul(x, w) y = Add(k, c) }}", {"w": (4, 6), "k": per(0)}, "Gemm"),
}


@pytest.mark.parametrize("case", FOLDED)
def test_folded(case: str) -> None:
    text, weights, left = FOLDED[case]
    text = text.replace("auto_pad='SAME_UPPER'", 'auto_pad="SAME_UPPER"')
    model = net(text, **({**bn(6), **weights} if BN in text else weights))
    out, _ = fused(model)
    assert ops(out) == left


CONV = {"w": (6, 4, 3, 3), **bn(6)}
REFUSED = {
    "used elsewhere": (
        f"(float[N,4,8,8] x) => (float[N,6,6,6] y, float[N,6,6,6] z) {{ c = Conv(x, w) y = {BN} z = Relu(c) }}",
        CONV, "batchnorm", "'c' is used elsewhere too",
    ),
    "an output": (
        f"(float[N,4,8,8] x) => (float[N,6,6,6] y, float[N,6,6,6] c) {{ c = Conv(x, w) y = {BN} }}",
        CONV, "batchnorm", "'c' is an output of the network",
    ),
    "used in a body": (
        f"(float[N,4,8,8] x, bool t) => (float[N,6,6,6] y, float[N,6,6,6] z) {{ c = Conv(x, w) y = {BN} "
        f"z = If(t) <then_branch = yes () => (float[N,6,6,6] p) {{ p = Relu(c) }}, "
        f"else_branch = no () => (float[N,6,6,6] q) {{ q = Abs(c) }}> }}",
        CONV, "batchnorm", "'c' is used elsewhere too",
    ),
    "computed weight": (
        f"(float[N,4,8,8] x, float[6,4,3,3] w) => (float[N,6,6,6] y) {{ c = Conv(x, w) y = {BN} }}",
        bn(6), "batchnorm", "the weight of 'c' is not a constant",
    ),
    "computed parameters": (
        f"(float[N,4,8,8] x, float[6] m) => (float[N,6,6,6] y) {{ c = Conv(x, w) y = {BN} }}",
        {k: v for k, v in CONV.items() if k != "m"}, "batchnorm", "parameters of 'y' are not float32 constants",
    ),
    "computed bias": (
        f"(float[N,4,8,8] x, float[6] b0) => (float[N,6,6,6] y) {{ c = Conv(x, w, b0) y = {BN} }}",
        CONV, "batchnorm", "the bias of 'c' is not a float32 constant",
    ),
    "another axis": (
        f"(float[N,5,4] x) => (float[N,5,5] y) {{ c = MatMul(x, w) y = {BN} }}",
        {"w": (4, 5), **bn(5)}, "batchnorm", "normalizes axis 1",
    ),
    "alone": (
        f"(float[N,4,8,8] x) => (float[N,4,8,8] y) {{ c = Relu(x) d = {BN} y = Sigmoid(d) }}",
        bn(4), "batchnorm", "no node with weights",
    ),
    "before padding": (
        f"{IMAGE} {{ c = Relu(x) d = {BN} y = Conv<pads=[1,1,1,1]>(d, w) }}",
        {"w": (6, 4, 3, 3), **bn(4)}, "batchnorm", "'y' sets zeros beside what it takes",
    ),
    "shift before transposed": (
        f"{IMAGE} {{ c = Add(x, k) y = ConvTranspose(c, w) }}",
        {"w": (4, 6, 3, 3), "k": f32(1)}, "scale", "'y' sets zeros beside what it takes",
    ),
    "a number for each pixel": (
        f"{IMAGE} {{ c = Conv(x, w) y = Mul(c, k) }}",
        {"w": (6, 4, 3, 3), "k": (6, 6)}, "scale", "not one number for each of 6 channels",
    ),
    "a new axis": (
        "(float[N,4,8,8] x) => (float[A,N,6,6,6] y) { c = Conv(x, w) y = Add(c, k) }",
        {"w": (6, 4, 3, 3), "k": (1, 1, 1, 1, 1)}, "scale", "may add an axis",
    ),
    "one channel becomes more": (
        "(float[N,1,8,8] x) => (float[N,6,6,6] y) { c = Mul(x, k) y = Conv(c, w) }",
        {"w": (6, 4, 3, 3), "k": per(2, 4)}, "scale", "'x' is not known to have 4 channels",
    ),
    "more outputs than channels": (
        "(float[N,4,8,8] x) => (float[N,6,6,6] y) { c = Conv(x, w) y = Mul(c, k) }",
        {"w": (1, 4, 3, 3), "k": per(2)}, "scale", "not one number for each of 1 channels",
    ),
    "tokens and a shift": (
        f"{TOKENS} {{ c = MatMul(x, w) y = Sub(c, k) }}",
        {"w": (4, 6), "k": per(0)}, "scale", "has no bias",
    ),
    "input taken transposed": (
        "(float[4,4] x) => (float[4,6] y) { c = Mul(x, k) y = Gemm<transA=1>(c, w) }",
        {"w": (4, 6), "k": per(0, 4)}, "scale", "takes its input transposed",
    ),
    "scale by zero": (
        f"{IMAGE} {{ r = Relu(x) c = Mul(r, z) d = Add(c, k) y = Conv<pads=[1,1,1,1]>(d, w) }}",
        {"z": f32(0), "k": f32(3), "w": (6, 4, 3, 3)}, "shift", "'c' scales by 0",
    ),
    "bias of unknown shape": (
        f"{TOKENS} {{ c = MatMul(x, w) y = Add(c, k) }}",
        {"w": (4, 6), "k": (5, 6)}, "bias", "not one number for each of 6 channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    text, weights, rule, reason = REFUSED[case]
    model = net(text, **weights)
    out, report = fused(model)
    assert ops(out) == ops(model)
    assert reason in reasons(report, rule)


@pytest.mark.parametrize("dtype", ["float16", "float64", "bfloat16"])
def test_only_float32_is_folded(dtype: str) -> None:
    kind = {"float16": "float16", "float64": "double", "bfloat16": "bfloat16"}[dtype]
    real = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    weights = {k: np.full(6 if k != "w" else (6, 4, 3, 3), 0.5, np.float32).astype(real) for k in "wsbmvk"}
    body = f"c = Conv(x, w) d = {BN} e = Relu(d) f = Conv(e, w2) y = Mul(f, h)"
    text = f"({kind}[1,4,8,8] x) => ({kind}[1,6,6,6] y) {{ {body} }}"
    weights |= {"w2": np.full((6, 6, 1, 1), 0.5, np.float32).astype(real), "h": np.array(0.5, np.float32).astype(real)}
    out, report = fuse_with_report(net(text, **weights))
    assert ops(out) == "Conv BatchNormalization Relu Conv Mul"
    assert "only float32 is rewritten" in reasons(report, "batchnorm")
    assert "only float32 is rewritten" in reasons(report, "scale")


def test_names_of_what_stays() -> None:
    model = net(f"{IMAGE} {{ c = Conv(x, w) q = {BN} y = Relu(q) }}", **CONV)
    out, report = fused(model)
    assert [n.name for n in out.nodes] == ["c", "y"]
    assert out.node("c").outputs[0].name == "q"
    assert sorted(out.graph.initializers) == ["c.bias_bn", "c.weight_bn"]
    assert out.aliases == {"q": "c"}
    assert report.lines() == ["batchnorm: q: BatchNormalization is folded into 'c'"]


def test_tied_weights_are_copied_not_changed() -> None:
    model = net(
        "(float[N,4,8,8] x) => (float[N,4,8,8] y, float[N,4,8,8] z) "
        "{ c = Conv<pads=[1,1,1,1]>(x, w, b0) y = BatchNormalization(c, s, b, m, v) r = Relu(y) "
        "z = Conv<pads=[1,1,1,1]>(r, w, b0) }",
        w=(4, 4, 3, 3), b0=(4,), **bn(4),
    )  # fmt: skip
    tied = np.array(const(model.value("w")))
    out, _ = fused(model)
    assert out.node("z").inputs[1] is out.value("w")
    assert np.array_equal(np.asarray(const(out.value("w"))), tied)
    assert str(out.node("c").inputs[1].name) == "c.weight_bn"


def test_a_shifted_value_gets_a_new_name() -> None:
    text, weights, _ = FOLDED["shift"]
    out, _ = fused(net(text, **weights))
    assert [n.outputs[0].name for n in out.nodes] == ["r", "d_unscaled", "y"]
    assert out.aliases == {"c": "y"}


def test_the_bias_of_tokens_is_marked() -> None:
    model = net(f"{TOKENS} {{ c = MatMul(x, w) y = Add(c, k) }}", w=(4, 6), k=per(0))
    out, report = fused(model)
    assert ops(out) == "MatMul Add"
    assert out.node("y").metadata_props[BIAS_KEY] == "c"
    assert report.lines() == ["bias: y: it is the bias of 'c'"]


def test_training_batchnorm_stays() -> None:
    text = f"{IMAGE} {{ c = Conv(x, w) y, i, j = BatchNormalization<training_mode=1>(c, s, b, m, v) }}"
    model = net(text, **CONV)
    out, report = fuse_with_report(model)
    assert ops(out) == ops(model)
    assert "training mode" in reasons(report, "batchnorm")


def test_numbers_that_are_not_finite_are_not_folded() -> None:
    model = net(f"{IMAGE} {{ c = Conv(x, w) y = Div(c, k) }}", w=(6, 4, 3, 3), k=f32(0))
    out, report = fuse_with_report(model)
    assert ops(out) == ops(model)
    assert "'y' scales or shifts by numbers that are not finite" in reasons(report, "scale")


def test_products_of_computed_matrices_are_no_layers() -> None:
    model = net("(float[N,5,4] x, float[N,4,6] k) => (float[N,5,6] y) { c = MatMul(x, k) y = Mul(c, h) }", h=f32(0.3))
    _, report = fused(model)
    assert not report.lines()
