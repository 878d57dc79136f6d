"""Each row of the QOperator form: the operator that is wanted is there, and it computes the same to one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto

from fewbit.graph.files import to_bytes
from fewbit.graph.model import Model
from fewbit.graph.qoperator import MOVES, RULES, to_qoperator
from tests.models import info, load, node, proto, weight

RNG = np.random.default_rng(0)
U8, S8 = np.uint8, np.int8
STEP = 1.001
"""Largest distance in steps of the output: rounding at a tie may fall to either side."""


class Net:
    """A network of one layer between DQ and Q, put together piece by piece."""

    def __init__(self, shape: list[Any], kind: Any = U8) -> None:
        self.kind, self.shape = kind, shape
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Any] = {}

    def pair(self, x: str, scale: float, zero: int, kind: Any = None, *, only: str = "") -> str:
        """Q and DQ behind a value."""
        self.weights |= {f"{x}_s": np.float32(scale), f"{x}_z": np.asarray(zero, kind or self.kind)}
        self.nodes.append(node("QuantizeLinear", f"{x} {x}_s {x}_z", f"{x}_q"))
        if only != "q":
            self.nodes.append(node("DequantizeLinear", f"{x}_q {x}_s {x}_z", f"{x}_d"))
        return f"{x}_d"

    def constant(self, name: str, q: Any, scale: Any, zero: Any = None, axis: int = 0) -> str:
        """A DQ behind integers."""
        zero = np.zeros(np.shape(scale), q.dtype) if zero is None else zero
        self.weights |= {f"{name}_q": q, f"{name}_s": np.asarray(scale, np.float32), f"{name}_z": zero}
        attrs = {"axis": axis} if np.ndim(scale) else {}
        self.nodes.append(node("DequantizeLinear", f"{name}_q {name}_s {name}_z", f"{name}_d", **attrs))
        return f"{name}_d"

    def add(self, op: str, inputs: str, output: str = "t", **attrs: Any) -> None:
        self.nodes.append(node(op, inputs, output, f"layer_{output}", **attrs))

    def model(self, out: str, **words: Any) -> Model:
        return load(proto(self.nodes, [info("x", self.shape)], [info(out, None)], self.weights, **words))


def conv(kind: Any = U8, weights: Any = S8, clamp: str = "", bias: str = "int32", zero: int | None = None) -> Model:
    net = Net(["n", 4, 6, 6], kind)
    x = net.pair("x", 0.02, 120 if kind is U8 else -3)
    low, high = np.iinfo(weights).min + 1, np.iinfo(weights).max
    w = RNG.integers(low, high, (6, 4, 3, 3)).astype(weights)
    scale = np.float32(RNG.uniform(0.001, 0.003, 6))
    middle = np.full(6, 128 if weights is U8 else 0, weights)
    words = [x, net.constant("w", w, scale, middle)]
    if bias == "int32":
        words.append(net.constant("b", RNG.integers(-9000, 9000, 6).astype(np.int32), np.float32(0.02) * scale))
    elif bias == "float":
        net.weights["b"] = weight(6)
        words.append("b")
    elif bias == "other scale":
        words.append(net.constant("b", RNG.integers(-9000, 9000, 6).astype(np.int32), scale * 0.013))
    net.add("Conv", " ".join(words), "c", pads=[1, 1, 1, 1], strides=[2, 2])
    last = "c"
    if clamp == "Relu":
        net.add("Relu", "c", last := "r")
    elif clamp:
        net.weights |= {"lo": np.float32(-0.2), "hi": np.float32(0.9)}
        net.add("Clip", "c lo hi", last := "r")
    return net.model(net.pair(last, 0.03, (130 if kind is U8 else 5) if zero is None else zero))


def product(op: str, kind: Any = U8, *, bias: bool = False, result: bool = True, columns: bool = True) -> Model:
    net = Net(["n", 8], kind)
    x = net.pair("x", 0.02, 120 if kind is U8 else -3)
    scale = np.float32(RNG.uniform(0.001, 0.003, 5)) if columns else np.float32(0.002)
    w = RNG.integers(-127, 127, (8, 5)).astype(S8)
    words = f"{x} {net.constant('w', w, scale, axis=1)}"
    if bias and op == "Gemm":
        b = np.full(5, 0.02, np.float32) * scale
        words += " " + net.constant("b", RNG.integers(-900, 900, 5).astype(np.int32), b)
    net.add(op, words, "t")
    last = "t"
    if bias and op == "MatMul":
        net.weights["b"] = weight(5)
        net.add("Sum", "t b", last := "sum")
    return net.model(net.pair(last, 0.01, 128 if kind is U8 else 0) if result else last)


def two(op: str, kind: Any = U8) -> Model:
    net = Net(["n", 3, 4, 4], kind)
    x = net.pair("x", 0.02, 120 if kind is U8 else -3)
    net.add("Neg", x, "m")
    m = net.pair("m", 0.017, 110 if kind is U8 else 4)
    net.add(op, f"{x} {m}", "t", **({"axis": 1} if op == "Concat" else {}))
    return net.model(net.pair("t", 0.05, 100 if kind is U8 else 7))


def one(op: str, kind: Any = U8, *, same: bool = False, more: str = "", opset: int = 17, **attrs: Any) -> Model:
    net = Net(["n", 4, 6, 6], kind)
    x = net.pair("x", 0.02, 120 if kind is U8 else -3)
    net.weights["shape"] = np.asarray([0, -1], np.int64)
    net.add(op, f"{x} {more}", "t", **attrs)
    scale, zero = (0.02, 120 if kind is U8 else -3) if same else (0.013, 100 if kind is U8 else -9)
    return net.model(net.pair("t", scale, zero), opset=opset)


POOL = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}

CASES: dict[str, tuple[Callable[[], Model], list[str]]] = {
    "conv": (conv, ["QLinearConv"]),
    "conv s8": (lambda: conv(S8), ["QLinearConv"]),
    "conv u8 weights": (lambda: conv(U8, U8), ["QLinearConv"]),
    "conv relu, Q cuts off": (lambda: conv(clamp="Relu", zero=0), ["QLinearConv"]),
    "conv relu, s8, Q cuts off": (lambda: conv(S8, clamp="Relu", zero=-128), ["QLinearConv"]),
    "conv relu, clip stays": (lambda: conv(S8, clamp="Relu", zero=0), ["QLinearConv", "Clip"]),
    "conv clip": (lambda: conv(clamp="Clip"), ["QLinearConv", "Clip"]),
    "conv float bias": (lambda: conv(bias="float"), ["QLinearConv"]),
    "conv no bias": (lambda: conv(bias=""), ["QLinearConv"]),
    "conv bias of another scale": (lambda: conv(bias="other scale"), ["QLinearConv"]),
    "matmul": (lambda: product("MatMul"), ["QLinearMatMul"]),
    "matmul s8": (lambda: product("MatMul", S8, columns=False), ["QLinearMatMul"]),
    "matmul to float": (lambda: product("MatMul", result=False), ["MatMulIntegerToFloat"]),
    "matmul bias": (lambda: product("MatMul", bias=True), ["MatMulIntegerToFloat", "QuantizeLinear"]),
    "gemm": (lambda: product("Gemm"), ["QGemm"]),
    "gemm bias": (lambda: product("Gemm", bias=True), ["QGemm"]),
    "gemm to float": (lambda: product("Gemm", S8, bias=True, result=False), ["QGemm"]),
    "add": (lambda: two("Add"), ["QLinearAdd"]),
    "add s8": (lambda: two("Add", S8), ["QLinearAdd"]),
    "mul": (lambda: two("Mul"), ["QLinearMul"]),
    "concat": (lambda: two("Concat"), ["QLinearConcat"]),
    "average pool": (lambda: one("AveragePool", **POOL), ["QLinearAveragePool"]),
    "average pool, pads counted": (lambda: one("AveragePool", count_include_pad=1, **POOL), ["QLinearAveragePool"]),
    "global average pool": (lambda: one("GlobalAveragePool"), ["QLinearGlobalAveragePool"]),
    "leaky relu": (lambda: one("LeakyRelu", alpha=0.2), ["QLinearLeakyRelu"]),
    "sigmoid s8": (lambda: one("Sigmoid", S8), ["QLinearSigmoid"]),
    "max pool": (lambda: one("MaxPool", same=True, **POOL), ["MaxPool"]),
    "reshape": (lambda: one("Reshape", same=True, more="shape"), ["Reshape"]),
    "transpose s8": (lambda: one("Transpose", S8, same=True, perm=[0, 2, 3, 1]), ["Transpose"]),
    "flatten": (lambda: one("Flatten", same=True), ["Flatten"]),
}


def run(model: Model, x: Any, *, optimize: bool) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(to_bytes(model), options, ["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def feed(model: Model, seed: int) -> Any:
    shape = [d if isinstance(d, int) else 3 for d in model.inputs[0].shape]
    return np.random.default_rng(seed).normal(0, 1.2, shape).astype(np.float32)


@pytest.mark.parametrize("name", CASES)
def test_the_operator_is_there_and_computes_the_same(name: str) -> None:
    build, wanted = CASES[name]
    model = build()
    made = to_qoperator(model)
    between = [n.op_type for n in made.model.nodes if n.op_type not in ("QuantizeLinear", "DequantizeLinear", "Neg")]
    kept = [op for op in wanted if op != "QuantizeLinear"]
    assert sorted(between) == sorted(kept) and made.left.keys() <= {"Neg"}
    assert sum(made.made.values()) == 1 and set(made.made) <= set(wanted)
    onnx.checker.check_model(onnx.load_from_string(to_bytes(made.model)))
    scales = [v.const_value for k, v in model.values().items() if k in ("c_s", "r_s", "t_s", "sum_s")]
    step = max((float(s.numpy()) for s in scales if s is not None), default=1e-4)
    for seed in range(3):
        x = feed(model, seed)
        for optimize in (True, False):
            ours, theirs = run(made.model, x, optimize=optimize), run(model, x, optimize=optimize)
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() <= STEP * step, f"{name}, optimize={optimize}"
        assert np.unique(theirs).size > 3, "the case tells nothing"


def test_every_row_has_a_case() -> None:
    tested = {n.op_type for build, _ in CASES.values() for n in build().nodes}
    assert set(RULES) - tested <= MOVES, "rows of their own need a case of their own"
    assert len(MOVES & tested) >= 4


def test_the_float_model_stays_as_it_is() -> None:
    model = conv()
    before = to_bytes(model)
    to_qoperator(model)
    assert to_bytes(model) == before


STAYS: dict[str, Callable[[], Model]] = {
    "max pool with other parameters": lambda: one("MaxPool", **POOL),
    "average pool with gaps": lambda: one("AveragePool", opset=19, dilations=[2, 2], **POOL),
    "average pool, ceil_mode, pads counted": lambda: one("AveragePool", count_include_pad=1, ceil_mode=1, **POOL),
    "softmax": lambda: one("Softmax", axis=1),
    "tanh": lambda: one("Tanh"),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_has_no_kernel_keeps_its_pairs(name: str) -> None:
    model = STAYS[name]()
    made = to_qoperator(model)
    assert not made.made and made.left.total() == 1
    np.testing.assert_array_equal(run(made.model, x := feed(model, 0), optimize=False), run(model, x, optimize=False))


def test_a_layer_whose_output_is_read_as_floats_too_stays() -> None:
    net = Net(["n", 4, 6, 6])
    x = net.pair("x", 0.02, 120)
    net.add("GlobalAveragePool", x, "t")
    net.add("Add", f"t {net.pair('t', 0.01, 100)}", "y")
    made = to_qoperator(net.model("y"))
    assert not made.made


def test_sixteen_bits_stay() -> None:
    net = Net(["n", 4, 6, 6], np.uint16)
    net.add("Sigmoid", net.pair("x", 0.001, 30000), "t")
    made = to_qoperator(net.model(net.pair("t", 0.0001, 0), opset=21, ir_version=10))
    assert not made.made and made.left == {"Sigmoid": 1}


def test_a_computed_scale_stays() -> None:
    net = Net(["n", 4, 6, 6])
    net.weights |= {"z": np.uint8(0), "one": np.float32(0.5)}
    net.add("ReduceMax", "x", "max", keepdims=0)
    net.add("Mul", "max one", "s")
    net.nodes.append(node("QuantizeLinear", "x s z", "x_q"))
    net.nodes.append(node("DequantizeLinear", "x_q s z", "x_d"))
    net.add("Sigmoid", "x_d", "t")
    made = to_qoperator(net.model(net.pair("t", 0.01, 0)))
    assert not made.made


def test_a_chain_needs_no_float_between() -> None:
    net = Net(["n", 4, 6, 6])
    x = net.pair("x", 0.02, 120)
    net.add("AveragePool", x, "t", **POOL)
    net.add("Sigmoid", net.pair("t", 0.02, 120), "u")
    net.add("Flatten", net.pair("u", 0.004, 0), "v")
    made = to_qoperator(net.model(net.pair("v", 0.004, 0)))
    ops = [n.op_type for n in made.model.nodes]
    assert ops == ["QuantizeLinear", "QLinearAveragePool", "QLinearSigmoid", "Flatten", "DequantizeLinear"]
    assert made.model.ir.opset_imports["com.microsoft"] == 1
    assert next(v.type for v in to_onnx(made.model).graph.output).tensor_type.elem_type == TensorProto.FLOAT


def to_onnx(model: Model) -> onnx.ModelProto:
    return onnx.load_from_string(to_bytes(model))
