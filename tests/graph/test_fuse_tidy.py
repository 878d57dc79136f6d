"""What does nothing goes, constants are computed once, intervals and padding have one form."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.graph.fuse import fuse_with_report
from fewbit.graph.model import attr, const
from tests.graph.nets import f32, fused, i64, net, ops, reasons

X = "(float[N,3,8] x) => (float[N,3,8] y)"

NOTHING = {
    "identity": ("c = Identity(r)", {}),
    "dropout": ("c = Dropout(r)", {}),
    "dropout with a flag": ("c, mask = Dropout(r, ratio, off)", {"ratio": f32(0.5), "off": np.array(False)}),
    "cast": ("c = Cast<to=1>(r)", {}),
    "cast like": ("c = CastLike(r, k)", {"k": f32(1)}),
    "reshape": ("c = Reshape(r, k)", {"k": i64(0, -1, 8)}),
    "reshape, literal": ("c = Reshape(r, k)", {"k": i64(-1, 3, 8)}),
    "expand": ("c = Expand(r, k)", {"k": i64(3, 1)}),
    "transpose": ("c = Transpose<perm=[0,1,2]>(r)", {}),
    "concat": ("c = Concat<axis=1>(r)", {}),
    "sum": ("c = Sum(r)", {}),
    "max": ("c = Max(r)", {}),
    "pad": ("c = Pad(r, k)", {"k": i64(0, 0, 0, 0, 0, 0)}),
    "slice": ("c = Slice(r, k, e)", {"k": i64(0, 0), "e": i64(2**31 - 1, 2**63 - 1)}),
    "mul": ("c = Mul(k, r)", {"k": f32(1)}),
    "div": ("c = Div(r, k)", {"k": np.ones((1, 1, 1), np.float32)}),
    "add": ("c = Add(r, k)", {"k": f32(0)}),
    "sub": ("c = Sub(r, k)", {"k": np.zeros(1, np.float32)}),
    "clip without bounds": ("c = Clip(r)", {}),
    "clip to everything": ("c = Clip(r, lo, hi)", {"lo": f32(-np.inf), "hi": f32(3.4028235e38)}),
    "max of the lowest": ("c = Max(lo, r)", {"lo": f32(-np.inf)}),
}


@pytest.mark.parametrize("case", NOTHING)
def test_what_does_nothing_goes(case: str) -> None:
    text, weights = NOTHING[case]
    out, _ = fused(net(f"{X} {{ r = Sin(x) {text} y = Cos(c) }}", **weights))
    assert ops(out) == "Sin Cos"
    assert out.aliases == {"c": ""}
    assert not out.graph.initializers


@pytest.mark.parametrize("case", NOTHING)
def test_an_output_keeps_its_name(case: str) -> None:
    text, weights = NOTHING[case]
    out, _ = fused(net(f"{X} {{ r = Sin(x) {text} }}".replace("c = ", "y = ").replace("c, ", "y, "), **weights))
    assert ops(out) == "Sin"
    assert out.nodes[0].name == "r"
    assert out.nodes[0].outputs[0].name == "y"


SOMETHING = {
    "cast": ("d = Cast<to=11>(r) c = Cast<to=1>(d)", {}),
    "reshape": ("d = Reshape(r, k) c = Reshape(d, l)", {"k": i64(0, 8, 3), "l": i64(0, 3, 8)}),
    "transpose": ("d = Transpose<perm=[0,2,1]>(r) c = Transpose<perm=[0,2,1]>(d)", {}),
    "slice": ("c = Slice(r, k, e, a, s)", {"k": i64(0), "e": i64(2**31 - 1), "a": i64(0), "s": i64(2)}),
    "one divided": ("c = Div(k, r)", {"k": f32(1)}),
    "subtracted from zero": ("c = Sub(k, r)", {"k": f32(0)}),
}


@pytest.mark.parametrize("case", SOMETHING)
def test_what_does_something_stays(case: str) -> None:
    text, weights = SOMETHING[case]
    model = net(f"(float[N,3,8] x) => (float[M,3,8] y) {{ r = Exp(x) {text} y = Cos(c) }}", **weights)
    assert ops(fused(model)[0]) == ops(model)


def test_a_constant_that_adds_axes_is_not_neutral() -> None:
    k = np.ones((1, 1, 1), np.float32)
    assert ops(fused(net("(float[N,8] x) => (float[1,N,8] y) { r = Sin(x) y = Mul(r, k) }", k=k))[0]) == "Sin Mul"
    assert ops(fused(net("(float x) => (float[1] y) { r = Sin(x) y = Mul(r, k) }", k=k.ravel()))[0]) == "Sin Mul"


IN_THE_WAY = {
    "input is an input": (f"{X} {{ y = Identity(x) }}", "gives the output 'y'"),
    "input is an output": (
        "(float[N,8] x) => (float[N,8] y, float[N,8] r) { r = Sin(x) y = Identity(r) }",
        "gives the output",
    ),
    "mask in use": ("(float[N,8] x) => (float[N,8] y, bool[N,8] m) { r = Sin(x) y, m = Dropout(r) }", "'m' is in use"),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_tidy_refuses(case: str) -> None:
    text, reason = IN_THE_WAY[case]
    model = net(text)
    out, report = fused(model)
    assert ops(out) == ops(model)
    assert reason in reasons(report, "tidy")


# -- constants --------------------------------------------------------------------------------------------------------


def test_a_constant_subgraph_is_computed_once() -> None:
    out, _ = fused(
        net(
            f"{X} {{ a = ConstantOfShape<value = int64[1] {{0}}>(n) b = Concat<axis=0>(a, p) c = Reshape(b, two) "
            "d = Transpose(c) e = Reshape(d, flat) f = Cast<to=7>(e) r = Pad(x, f) y = Slice(r, p1, q1, p1) }",
            n=i64(4), p=i64(1, 2), two=i64(3, 2), flat=i64(-1), p1=i64(1), q1=i64(4),
        )
    )  # fmt: skip
    assert ops(out) == "Pad Slice"
    assert sorted(out.graph.initializers) == ["f", "p1", "q1"]
    assert out.graph.initializers["f"].const_value.numpy().tolist() == [0, 0, 1, 0, 0, 2]


def test_several_outputs() -> None:
    out, _ = fused(net(f"{X} {{ a, b = Split<axis=0>(k) c = Mul(x, a) y = Mul(c, b) }}", k=(6, 8)))
    assert ops(out) == "Mul Mul"
    assert sorted(out.graph.initializers) == ["a", "b"]


def test_shapes_that_are_known() -> None:
    out, _ = fused(
        net(
            "(float[N,3,8] x) => (float[N,24] y) "
            "{ s = Shape(x) t = Slice(s, one, three) p = ReduceProd<keepdims=1>(t) q = Concat<axis=0>(m, p) "
            "y = Reshape(x, q) }",
            one=i64(1), three=i64(3), m=i64(-1),
        )
    )  # fmt: skip
    assert ops(out) == "Reshape"
    assert out.graph.initializers["q"].const_value.numpy().tolist() == [-1, 24]


def test_a_whole_shape() -> None:
    model = net("(float[2,3,8] x) => (int64[3] y) { s = Shape(x) t = Neg(s) y = Neg(t) }")
    out, report = fused(model)
    assert ops(out) == "Neg"
    assert "'y' is an output of the network" in reasons(report, "constants")


def test_free_axes_stay() -> None:
    text = "(float[N,3,8] x) => (int64[2] y) { s = Shape(x) t = Slice(s, k, l) y = Neg(t) }"
    assert ops(fused(net(text, k=i64(0), l=i64(2)))[0]) == "Shape Slice Neg"


TOO_MUCH = {
    "expand": ("c = Expand(k, n)", {"k": f32(1), "n": i64(10**6, 3, 8)}, "bytes"),
    "tile": ("c = Tile(k, n)", {"k": (1, 1, 8), "n": i64(10**5, 3, 1)}, "bytes"),
    "fill": ("c = ConstantOfShape(n)", {"n": i64(10**12, 3, 8)}, "bytes"),
    "outer product": ("c = Mul(k, l)", {"k": (10**5, 1, 1), "l": (1, 3, 8)}, "bytes"),
    "impossible": ("c = Reshape(k, n)", {"k": (5,), "n": i64(1, 3, 8)}, "cannot be computed"),
    "out of range": ("c = Gather(k, n)", {"k": (5, 3, 8), "n": i64(9)}, "cannot be computed"),
    "sizes that do not fit": ("c = Add(k, n)", {"k": (5, 3, 8), "n": (4, 3, 8)}, "cannot be computed"),
}


@pytest.mark.parametrize("case", TOO_MUCH)
def test_constants_refuse(case: str) -> None:
    text, weights, reason = TOO_MUCH[case]
    model = net(f"{X} {{ {text} y = Add(x, c) }}", **weights)
    out, report = fuse_with_report(model)
    assert ops(out) == ops(model)
    assert reason in reasons(report, "constants")


def test_half_types_are_moved_but_not_computed_in() -> None:
    model = net(f"{X} {{ h = Neg(k) c = Cast<to=1>(h) y = Add(x, c) }}", k=(8,), dtype="float16")
    out, report = fused(model)
    assert ops(out) == ops(model)
    assert "it computes in FLOAT16" in reasons(report, "constants")
    assert ops(fused(net(f"{X} {{ c = Cast<to=1>(k) y = Add(x, c) }}", k=(8,), dtype="float16"))[0]) == "Add"


def test_chance_and_bodies_are_left_alone() -> None:
    model = net(
        "(float[N,8] x, bool t) => (float[N,8] y) { c = RandomUniformLike(k) d = If(t) "
        "<then_branch = yes () => (float[8] p) { q = Identity(k) p = Neg(q) }, "
        "else_branch = no () => (float[8] r) { r = Abs(k) }> e = Add(c, d) y = Add(x, e) }",
        k=(8,),
    )
    out, _ = fuse_with_report(model)
    assert out.op_counts() == model.op_counts()


# -- clip -------------------------------------------------------------------------------------------------------------

BOUNDS = {
    "zero": f32(0),
    "six": f32(6),
    "two": f32(2),
    "four": f32(-4),
    "big": f32(np.inf),
    "wide": np.array([3], np.float32),
}
CUT = {
    "relu and clip": ("r = Relu(x) y = Clip(r, zero, six)", "Clip", [0, 6]),
    "clip and relu": ("r = Clip(x, four, two) y = Relu(r)", "Clip", [0, 2]),
    "max": ("y = Max(zero, x)", "Relu", []),
    "max and min": ("r = Max(x, four) y = Min(r, wide)", "Clip", [-4, 3]),
    "clip at zero": ("y = Clip(x, zero)", "Relu", []),
    "clip to infinity": ("y = Clip(x, four, big)", "Clip", [-4]),
    "apart": ("r = Clip(x, four, zero) y = Clip(r, two, six)", "Clip", [2, 2]),
    "no lower bound": ("r = Min(x, six) y = Clip(r, , two)", "Clip", [None, 2]),
    "relu twice": ("r = Relu(x) y = Relu(r)", "Relu", []),
}


@pytest.mark.parametrize("case", CUT)
def test_cut_off(case: str) -> None:
    text, op, bounds = CUT[case]
    out, _ = fused(net(f"{X} {{ {text} }}", **BOUNDS))
    assert ops(out) == op
    found = [const(v) for v in out.nodes[0].inputs[1:]]
    assert [None if b is None else b.item() for b in found] == bounds


KEPT = {
    "used elsewhere": ("r = Relu(x) c = Clip(r, zero, six) y = Add(r, c)", "'r' is used elsewhere too"),
    "half": ("h = Cast<to=10>(x) c = Clip(h, low) y = Cast<to=1>(c)", "bounds are FLOAT16"),
    "computed": ("m = ReduceMax<keepdims=0>(x) y = Clip(x, four, m)", ""),
    "upside down": ("y = Clip(x, six, two)", ""),
}


@pytest.mark.parametrize("case", KEPT)
def test_clip_refuses(case: str) -> None:
    text, reason = KEPT[case]
    model = net(f"{X} {{ {text} }}", low=np.array(0, np.float16), **BOUNDS)
    out, report = fused(model)
    assert ops(out) == ops(model)
    assert reason in reasons(report, "clip")


# -- pad --------------------------------------------------------------------------------------------------------------

IMAGE = "(float[N,4,8,9] x) => (float[N,C,H,W] y)"
P = i64(0, 0, 1, 0, 0, 0, 1, 2)
PADS = {"p": P, "zero": f32(0), "low": f32(-np.inf), "w": (6, 4, 3, 3), "one": f32(1)}
POOL = "kernel_shape=[3,4]"
MOVED = {
    "conv": ("q = Pad(x, p) y = Conv<pads=[1,0,0,1]>(q, w)", "Conv", [2, 0, 1, 3]),
    "conv, explicit zero": ("q = Pad(x, p, zero) y = Conv(q, w)", "Conv", [1, 0, 1, 2]),
    "conv, valid": ('q = Pad(x, p) y = Conv<auto_pad="VALID">(q, w)', "Conv", [1, 0, 1, 2]),
    "average": (f"q = Pad(x, p) y = AveragePool<{POOL}>(q)", "AveragePool", [1, 0, 1, 2]),
    "average, counted": (
        f"q = Pad(x, p) y = AveragePool<{POOL}, pads=[1,1,0,1], count_include_pad=1>(q)", "AveragePool", [2, 1, 1, 3],
    ),
    "max of the lowest": (f"q = Pad(x, p, low) y = MaxPool<{POOL}, pads=[0,1,0,0]>(q)", "MaxPool", [1, 1, 1, 2]),
    "max of no negatives": (f"r = Relu(x) q = Pad(r, p) y = MaxPool<{POOL}>(q)", "Relu MaxPool", [1, 0, 1, 2]),
    "max of pooled": (
        f"r = Sigmoid(x) m = MaxPool<kernel_shape=[1,1]>(r) q = Pad(m, p) y = MaxPool<{POOL}>(q)",
        "Sigmoid MaxPool MaxPool", [1, 0, 1, 2],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVED)
def test_padding_moves(case: str) -> None:
    text, left, pads = MOVED[case]
    out, _ = fused(net(f"{IMAGE} {{ {text} }}", **PADS))
    assert ops(out) == left
    assert list(attr(out.node("y"), "pads")) == pads
    assert out.aliases == {"q": "y"}


def test_padding_with_axes() -> None:
    out, _ = fused(
        net(
            f"{IMAGE} {{ q = Pad(x, p, , a) y = Conv(q, w) }}",
            opset=18,
            **(PADS | {"p": i64(2, 1, 0, 3), "a": i64(-1, 2)}),
        )
    )
    assert list(attr(out.node("y"), "pads")) == [1, 2, 3, 0]


def test_each_reader_of_a_pad_is_rewritten() -> None:
    text = "(float[N,4,8,8] x) => (float[N,6,H,W] y, float[N,6,H,W] z) { q = Pad(x, p) y = Conv(q, w) z = Conv(q, v) }"
    out, _ = fused(net(text, v=(6, 4, 3, 3), **PADS))
    assert ops(out) == "Conv Conv"


STUCK = {
    "reflected": ('q = Pad<mode="reflect">(x, p) y = Conv(q, w)', "has mode 'reflect'"),
    "ones": ("q = Pad(x, p, one) y = Conv(q, w)", "pads with 1, a convolution with 0"),
    "channels": ("q = Pad(x, c) y = Conv(q, v)", "pads the batch or the channels"),
    "cut off": ("q = Pad(x, n) y = Conv(q, w)", "cuts off"),
    "computed": (
        "s = Shape(x) t = Sub(s, s) u = Concat<axis=0>(t, e) q = Pad(x, u) y = Conv(q, w)",
        "is not a constant",
    ),
    "computed fill": ("m = ReduceMin<keepdims=0>(x) q = Pad(x, p, m) y = Conv(q, w)", "not a float32 constant"),
    "same": ('q = Pad(x, p) y = Conv<auto_pad="SAME_LOWER">(q, w)', "auto_pad is 'SAME_LOWER'"),
    "max of negatives": (f"q = Pad(x, p) y = MaxPool<{POOL}>(q)", "may be larger than the values"),
    "rounded up": (f"q = Pad(x, p) y = AveragePool<{POOL}, strides=[2,2], ceil_mode=1>(q)", "ceil_mode"),
    "not counted": (f"q = Pad(x, p) y = AveragePool<{POOL}, pads=[1,1,1,1]>(q)", "does not count its own padding"),
    "average of ones": (f"q = Pad(x, p, one) y = AveragePool<{POOL}>(q)", "pads with 1, AveragePool with 0"),
    "all padding": ("q = Pad(x, p) y = AveragePool<kernel_shape=[1,1]>(q)", "in the padding as a whole"),
    "indices": ("q = Pad(x, p, low) y, i = MaxPool<kernel_shape=[3,4]>(q) z = Neg(i)", "indices are in use"),
}


@pytest.mark.parametrize("case", STUCK)
def test_padding_stays(case: str) -> None:
    text, reason = STUCK[case]
    more = {"c": i64(0, 1, 0, 0, 0, 0, 0, 0), "n": i64(0, 0, -1, 0, 0, 0, 0, 0), "v": (6, 5, 3, 3), "e": P[4:]}
    head = IMAGE.replace("y)", "y, int64[N,C,H,W] z)") if " z = " in text else IMAGE
    model = net(f"{head} {{ {text} }}", **PADS, **more)
    out, report = fuse_with_report(model)
    assert ops(out) == ops(model)
    assert reason in reasons(report, "pad")


def test_padding_of_half_precision_stays() -> None:
    model = net("(float16[N,4,8,8] x) => (float16[N,6,8,8] y) { q = Pad(x, p) y = Conv(q, w) }", dtype="float16",
                w=(6, 4, 3, 3), p=i64(0, 0, 1, 1, 0, 0, 1, 1))  # fmt: skip
    out, report = fuse_with_report(model)
    assert ops(out) == ops(model)
    assert "not a float32 constant" in reasons(report, "pad")
