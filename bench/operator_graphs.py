"""Small graphs for `operators.py`: each operator alone, or between two convolutions, float or quantized.

    alone     float:  x → op → y                       quantized:  q(x) → DQ → op → Q → q(y)
    between   float:  x → conv → op → conv → y         quantized:  … conv → Q DQ → op → Q DQ → conv …
                                                        float:     the same, but `op` computes in float

The graph inputs and outputs of quantized graphs are integers, so that no conversion is timed that a network would not
have. The weights are random; an int8 kernel takes as long for any numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

ELEMENT = {"u8": (np.uint8, 128), "s8": (np.int8, 0), "u16": (np.uint16, 32768), "s16": (np.int16, 0)}
"""Type → numpy type, zero point of a range around 0."""


@dataclass(frozen=True)
class Types:
    """Activation and weight type ("u8", "s8" …; None = float), and whether each output channel has its own scale."""

    act: str | None = None
    weight: str | None = None
    channel: bool = True

    def __str__(self) -> str:
        if not self.act and not self.weight:
            return "float"
        return f"{self.act or 'f32'} × {self.weight}{' channel' if self.channel else ' tensor'}"


FLOAT = Types()


@dataclass
class Net:
    """A graph being built.

    Args:
        types: of the quantized parts.
        leave: "" = quantize the operator under test too; "float" = keep it float between Q and DQ, by asking for the
            shape of its output, so that ONNX Runtime finds a reader that is no Q; "bare" = no Q/DQ in front of it.
        edges: "int" = integer graph inputs and outputs, "float" = Q and DQ inside.
        free: leave the batch open, without which a shape is a constant.
    """

    types: Types
    leave: str = ""
    edges: str = "int"
    free: bool = True
    nodes: list[Any] = field(default_factory=list)
    inits: list[Any] = field(default_factory=list)
    ins: list[Any] = field(default_factory=list)
    outs: list[Any] = field(default_factory=list)
    count: int = 0
    scales: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}_{self.count}"

    def const(self, value: Any, stem: str = "const") -> str:
        name = self.name(stem)
        self.inits.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], n: int = 1, **attrs: Any) -> Any:
        outs = [self.name(op.lower()) for _ in range(n)]
        self.nodes.append(helper.make_node(op, inputs, outs, name=f"{op}_{self.count}", **attrs))
        return outs[0] if n == 1 else outs

    def params(self, stem: str, scale: float, zero: int | None = None) -> list[str]:
        kind, middle = ELEMENT[str(self.types.act)]
        return [
            self.const(np.float32(scale), stem + "_scale"),
            self.const(kind(middle if zero is None else zero), stem + "_zero"),
        ]

    def lowest(self) -> int | None:
        """The zero point of a range that starts at 0."""
        return 0 if self.types.act == "u8" else None

    def input(self, shape: list[Any]) -> str:
        name, shape = self.name("x"), [1 if d == "n" and not self.free else d for d in shape]
        if not self.types.act or self.edges == "float":
            self.ins.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
            return self.q(name)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(ELEMENT[self.types.act][0]))
        self.ins.append(helper.make_tensor_value_info(name, kind, shape))
        return self.dequantized(name, self.params("in", 0.02), 0.02)

    def dequantized(self, q: str, params: list[str], scale: Any, **attrs: Any) -> str:
        """A DQ; its scale is remembered for the bias of what comes behind."""
        x = str(self.node("DequantizeLinear", [q, *params], **attrs))
        self.scales[x] = scale
        return x

    def q(self, x: str, scale: float = 0.02, zero: int | None = None) -> str:
        """Put Q and DQ behind a value; nothing in a float graph."""
        if not self.types.act:
            return x
        par = self.params(x, scale, zero)
        return self.dequantized(self.node("QuantizeLinear", [x, *par]), par, scale)

    def before(self, x: str, scale: float = 0.02) -> str:
        """Q and DQ in front of the operator under test."""
        return x if self.leave == "bare" else self.q(x, scale)

    def after(self, x: str, scale: float = 0.02, zero: int | None = None) -> str:
        """Q and DQ behind the operator under test."""
        if self.leave == "float":
            shape = self.node("Shape", [x])
            self.outs.append(helper.make_tensor_value_info(shape, TensorProto.INT64, None))
        return self.q(x, scale, zero)

    def output(self, x: str, scale: float = 0.02, zero: int | None = None, quantize: bool = True) -> None:
        kind = TensorProto.FLOAT
        if self.types.act and quantize:
            if self.edges == "float":
                x = self.q(x, scale, zero)
            else:
                kind = helper.np_dtype_to_tensor_dtype(np.dtype(ELEMENT[self.types.act][0]))
                x = self.node("QuantizeLinear", [x, *self.params("out", scale, zero)])
        self.outs.append(helper.make_tensor_value_info(x, kind, None))

    def weight(self, shape: list[int], axis: int, fan: int | None = None) -> str:
        """A weight with its DQ; `axis` is that of the output channels."""
        w = self.rng.standard_normal(shape).astype(np.float32) / np.float32(
            np.sqrt(fan or np.prod(shape) / shape[axis])
        )
        if not self.types.weight:
            return self.const(w, "w")
        kind, zero = ELEMENT[self.types.weight]
        others = tuple(i for i in range(len(shape)) if i != axis)
        top = np.abs(w).max(others) if self.types.channel else np.abs(w).max()
        scale = (top / 127).astype(np.float32)
        spread = scale.reshape([-1 if i == axis else 1 for i in range(len(shape))]) if self.types.channel else scale
        q = np.clip(np.rint(w / spread) + zero, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
        zeros = np.full(scale.shape, zero, kind)
        par = [self.const(scale, "w_scale"), self.const(zeros, "w_zero")]
        return self.dequantized(self.const(q, "w"), par, scale, axis=axis if self.types.channel else 0)

    def bias(self, n: int, x: str, w: str) -> str:
        """An int32 bias with its DQ. ONNX Runtime stays float unless the scale is input × weight to about 1 %."""
        if not self.types.act or not self.types.weight:
            return self.const(np.zeros(n, np.float32), "b")
        scale = np.asarray(np.float32(self.scales[x]) * self.scales[w])
        par = [self.const(scale, "b_scale"), self.const(np.zeros(scale.shape, np.int32), "b_zero")]
        return self.dequantized(self.const(np.zeros(n, np.int32), "b"), par, scale, axis=0)

    def conv(self, x: str, cin: int, cout: int, kernel: list[int], groups: int = 1, **attrs: Any) -> str:
        pads = [k // 2 for k in kernel] * 2
        w = self.weight([cout, cin // groups, *kernel], 0)
        return str(self.node("Conv", [x, w, self.bias(cout, x, w)], group=groups, pads=pads, **attrs))

    def proto(self) -> ModelProto:
        wide = self.types.act in ("u16", "s16")  # 16-bit Q and DQ came with opset 21
        graph = helper.make_graph(self.nodes, "net", self.ins, self.outs, self.inits)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21 if wide else 17)], ir_version=10)


Build = Callable[[Net], None]


@dataclass(frozen=True)
class Case:
    """One line of the table: a name, the operator it measures, and how to build its graph."""

    name: str
    op: str
    build: Build
    support: bool = False


IMAGE = [1, 64, 56, 56]
ANY = ["n", 64, 56, 56]
"""With a free batch, so that a shape is not a constant; 1 when run."""


def _conv(shape: list[int], kernel: list[int], groups: int = 1, *, to: int = 0, act: str = "", deep: int = 4) -> Build:
    """`deep` convolutions in a row, so that changes of layout at both ends weigh as little as in a network."""

    def build(net: Net) -> None:
        x, cin, cout = net.input(shape), shape[1], to or shape[1]
        for i in range(deep):
            y = net.conv(x, cin, cout, kernel, groups)
            if act:
                bounds = [net.const(np.float32(0)), net.const(np.float32(6))] if act == "Clip" else []
                y = net.node(act, [y, *bounds])
            zero = net.lowest() if act else None
            x = net.q(y, zero=zero) if i < deep - 1 else y
            cin, cout = cout, cin
        net.output(x, zero=zero)

    return build


def _first(net: Net) -> None:
    net.output(net.conv(net.input([1, 3, 224, 224]), 3, 64, [7, 7], strides=[2, 2]))


def _thin(cin: int, cout: int, kernel: list[int]) -> Build:
    """One convolution with few channels."""

    def build(net: Net) -> None:
        net.output(net.conv(net.input([1, cin, 56, 56]), cin, cout, kernel))

    return build


def _deconv(axis: int) -> Build:
    """`axis`: that of the weight scales; (in, out, kh, kw)."""

    def build(net: Net) -> None:
        x, w = net.input([1, 64, 28, 28]), net.weight([64, 64, 4, 4], axis)
        net.output(net.node("ConvTranspose", [x, w, net.bias(64, x, w)], strides=[2, 2], pads=[1, 1, 1, 1]))

    return build


def _shown(net: Net) -> None:
    """A conv that answers in float."""
    net.output(net.conv(net.input(IMAGE), 64, 64, [3, 3]), quantize=False)


def _projected(net: Net) -> None:
    """X·A times (X·B): the right side is made as s8 by a MatMul that takes u8, as keys in attention are."""
    x, own = net.input([1, 128, 64]), net.types
    a = net.q(net.node("MatMul", [x, net.weight([64, 128], 1)]))
    b = net.node("MatMul", [x, net.weight([64, 128], 1)])
    net.types = Types("s8", own.weight, own.channel) if own.act else own
    b = net.q(net.node("Transpose", [net.q(b)], perm=[0, 2, 1]))
    net.types = own
    net.output(net.node("MatMul", [a, b]), scale=0.2)


def _gemm(rows: int, quantize: bool = True, bias: bool = True) -> Build:
    def build(net: Net) -> None:
        x, w = net.input([rows, 1024]), net.weight([1024, 1024], 0)
        net.output(net.node("Gemm", [x, w, *([net.bias(1024, x, w)] if bias else [])], transB=1), quantize=quantize)

    return build


def _matmul(quantize: bool = True) -> Build:
    def build(net: Net) -> None:
        net.output(net.node("MatMul", [net.input([1, 128, 384]), net.weight([384, 1536], 1)]), quantize=quantize)

    return build


def _attention(second: str | None = None, quantize: bool = True) -> Build:
    """Activation × activation; `second`: another type for the right one."""

    def build(net: Net) -> None:
        a, own = net.input([1, 12, 128, 64]), net.types
        if second and own.act:
            net.types = Types(second, own.weight, own.channel)
        b = net.input([1, 12, 64, 128])
        net.types = own
        net.output(net.node("MatMul", [a, b]), scale=0.2, quantize=quantize)

    return build


def _recurrent(op: str, gates: int) -> Build:
    """Weights quantized, activations float: what a static quantizer can do for LSTM and GRU."""

    def build(net: Net) -> None:
        own, net.types = net.types, FLOAT
        x = net.input([32, 1, 256])
        net.types = Types(None, own.weight, False)
        w, r = net.weight([1, gates * 256, 256], 1), net.weight([1, gates * 256, 256], 1)
        y, _ = net.node(op, [x, w, r], n=2, hidden_size=256)
        net.types = FLOAT
        net.output(y)

    return build


def _embedding(net: Net) -> None:
    """Rows of a table of weights; the indices stay integers."""
    net.ins.append(helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 128]))
    own, net.types = net.types, Types(None, net.types.weight, False)
    y = net.node("Gather", [net.weight([30000, 384], 0), "ids"])
    net.types = FLOAT
    net.output(y)
    net.types = own


CORE = (
    Case("Conv 3×3 64 56²", "Conv", _conv(IMAGE, [3, 3])),
    Case("Conv 3×3 + Relu", "Conv", _conv(IMAGE, [3, 3], act="Relu")),
    Case("Conv 3×3 + Clip", "Conv", _conv(IMAGE, [3, 3], act="Clip")),
    Case("Conv 3×3, output float", "Conv", _shown),
    Case("Conv 1×1 256↔64 56²", "Conv", _conv([1, 256, 56, 56], [1, 1], to=64)),
    Case("Conv 7×7 3→64 224² (first)", "Conv", _first),
    Case("Conv 3×3 1→16 56² (thin)", "Conv", _thin(1, 16, [3, 3])),
    Case("Conv 3×3 3→16 56² (thin)", "Conv", _thin(3, 16, [3, 3])),
    Case("Conv 3×3 8→4 56² (thin)", "Conv", _thin(8, 4, [3, 3])),
    Case("Conv 3×3 16→16 56²", "Conv", _thin(16, 16, [3, 3])),
    Case("Conv depthwise 3×3 96 112²", "Conv", _conv([1, 96, 112, 112], [3, 3], 96)),
    Case("Conv depthwise 5×5 240 28²", "Conv", _conv([1, 240, 28, 28], [5, 5], 240)),
    Case("Conv grouped 3×3 128 28², 32 groups", "Conv", _conv([1, 128, 28, 28], [3, 3], 32)),
    Case("Conv 1-D 3 128 1024", "Conv", _conv([1, 128, 1024], [3])),
    Case("Conv 1-D depthwise 9 256 1024", "Conv", _conv([1, 256, 1024], [9], 256)),
    Case("Conv 3-D 3×3×3 32 16×28²", "Conv", _conv([1, 32, 16, 28, 28], [3, 3, 3], deep=2)),
    Case("ConvTranspose 4×4 64→64 28²", "ConvTranspose", _deconv(1)),
    Case("ConvTranspose, scales along the input channels", "ConvTranspose", _deconv(0)),
    Case("Gemm 1×1024→1024", "Gemm", _gemm(1)),
    Case("Gemm 32×1024→1024", "Gemm", _gemm(32)),
    Case("Gemm 32×1024→1024, output float", "Gemm", _gemm(32, quantize=False)),
    Case("MatMul 128×384→1536", "MatMul", _matmul()),
    Case("MatMul 128×384→1536, output float", "MatMul", _matmul(quantize=False)),
    Case("MatMul computed 12×128×64×128", "MatMul", _attention()),
    Case("MatMul computed, right s8", "MatMul", _attention("s8")),
    Case("MatMul computed, right made as s8", "MatMul", _projected),
    Case("MatMul computed, output float", "MatMul", _attention(quantize=False)),
    Case("LSTM 256, 32 steps (weights)", "LSTM", _recurrent("LSTM", 4)),
    Case("GRU 256, 32 steps (weights)", "GRU", _recurrent("GRU", 3)),
    Case("Gather 128 of 30000×384 (weights)", "Gather", _embedding),
)


Make = Callable[[Net, str], str]


def _between(make: Make, channels: int = 64, kernel: int = 2, scale: float = 0.02, positive: bool = False) -> Build:
    """conv → what `make` adds → conv. `scale`: of the values behind the operator under test; 0.02 lies before it."""

    def build(net: Net) -> None:
        a = net.before(net.conv(net.input(ANY), 64, 64, [1, 1]))
        y = net.after(make(net, a), scale, net.lowest() if positive else None)
        net.output(net.conv(y, channels, 64, [1] * kernel))

    return build


def _pair(op: str, channels: int = 64, scales: Any = (0.02, 0.03, 0.04), act: str = "", **attrs: Any) -> Build:
    """Two convs → the operator → conv."""

    def build(net: Net) -> None:
        x = net.input(ANY)
        a = net.before(net.conv(x, 64, 64, [1, 1]), scales[0])
        b = net.before(net.conv(x, 64, 64, [1, 1]), scales[1])
        y = net.node(op, [a, b], **attrs)
        y = net.after(net.node(act, [y]) if act else y, scales[2], net.lowest() if act else None)
        net.output(net.conv(y, channels, 64, [1, 1]))

    return build


def _narrow(shape: list[Any], kernel: list[int], groups: int) -> Build:
    """1×1 conv → grouped conv → 1×1 conv; left in float it keeps float weights."""

    def build(net: Net) -> None:
        c, own = shape[1], net.types
        a = net.before(net.conv(net.input(shape), c, c, [1] * len(kernel)))
        net.types = FLOAT if net.leave else own
        y = net.conv(a, c, c, kernel, groups)
        net.types = own
        net.output(net.conv(net.after(y), c, c, [1] * len(kernel)))

    return build


def _one(op: str, *consts: Any, **attrs: Any) -> Make:
    return lambda net, x: str(net.node(op, [x, *(net.const(c) for c in consts)], **attrs))


def _constant(op: str) -> Make:
    """With one number for each channel, quantized like an activation."""

    def make(net: Net, x: str) -> str:
        if not net.types.act or net.leave:
            return str(net.node(op, [x, net.const(np.full((1, 64, 1, 1), 0.5, np.float32))]))
        kind, zero = ELEMENT[net.types.act]
        q = net.const(np.full((1, 64, 1, 1), zero + 25, kind))
        return str(net.node(op, [x, net.dequantized(q, net.params("c", 0.02), 0.02)]))

    return make


def _shuffle(net: Net, x: str) -> str:
    """There and back, so that the second conv fits."""
    return str(net.node("Transpose", [net.q(net.node("Transpose", [x], perm=[0, 2, 3, 1]))], perm=[0, 3, 1, 2]))


def _lift(net: Net, x: str) -> str:
    axis = net.const(np.array([2], np.int64))
    return str(net.node("Squeeze", [net.q(net.node("Unsqueeze", [x, axis])), axis]))


def _split(net: Net) -> None:
    a = net.before(net.conv(net.input(ANY), 64, 64, [1, 1]))
    parts = net.node("Split", [a, net.const(np.array([32, 32], np.int64))], n=2, axis=1)
    one, two = (net.conv(net.after(p), 32, 32, [1, 1]) for p in parts)
    net.output(net.node("Add", [net.q(one), net.q(two)]))


def _flatten(net: Net) -> None:
    a = net.before(net.conv(net.input(["n", 64, 28, 28]), 64, 64, [1, 1]))
    y = net.after(net.node("Flatten", [a]))
    w = net.weight([64 * 784, 32], 1)
    net.output(net.node("Gemm", [y, w, net.bias(32, y, w)]))


def _global(net: Net) -> None:
    a = net.before(net.conv(net.input(["n", 64, 28, 28]), 64, 64, [1, 1]))
    y = net.after(net.node("GlobalAveragePool", [a]), 0.01)
    net.output(net.conv(y, 64, 64, [1, 1]))


def _softmax(net: Net) -> None:
    x = net.input(["n", 12, 128, 64])
    y = net.node("MatMul", [x, net.weight([64, 128], 1)])
    y = net.after(net.node("Softmax", [net.before(y, 0.1)], axis=-1), 1 / 256, net.lowest())
    net.output(net.node("MatMul", [y, net.weight([128, 64], 1)]))


def _shared_dq(net: Net) -> None:
    """One Q/DQ pair read by two convolutions and an Add."""
    a = net.q(net.conv(net.input(ANY), 64, 64, [1, 1]))
    b = net.q(net.conv(a, 64, 64, [1, 1]))
    c = net.q(net.conv(a, 64, 64, [1, 1]))
    net.output(net.node("Add", [net.q(net.node("Add", [b, c])), a]))


HALF = np.array([1, 1, 2, 2], np.float32)
MOVES = {  # operator, constants, attributes, channels behind, rank of the kernel behind
    "MaxPool 2×2": (_one("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), 64, 2),
    "Reshape": (_one("Reshape", np.array([-1, 64, 3136], np.int64)), 64, 1),
    "Transpose": (_shuffle, 64, 2),
    "Unsqueeze Squeeze": (_lift, 64, 2),
    "Slice": (_one("Slice", *(np.array([v], np.int64) for v in (0, 32, 1))), 32, 2),
    "Gather": (_one("Gather", np.arange(0, 64, 2), axis=1), 32, 2),
    "Resize nearest": (_one("Resize", np.zeros(0, np.float32), HALF, mode="nearest"), 64, 2),
    "Resize linear": (_one("Resize", np.zeros(0, np.float32), HALF, mode="linear"), 64, 2),
    "Pad": (_one("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)), 64, 2),
}
COMPUTES = {  # operator, and whether its range starts at 0
    "AveragePool 2×2": (_one("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), False),
    "Relu": (_one("Relu"), True),
    "LeakyRelu": (_one("LeakyRelu", alpha=0.1), False),
    "Clip": (_one("Clip", np.float32(0), np.float32(6)), True),
    "Sigmoid": (_one("Sigmoid"), True),
    "Tanh": (_one("Tanh"), False),
    "HardSwish": (_one("HardSwish"), False),
    "Add a constant": (_constant("Add"), False),
    "Mul by a constant": (_constant("Mul"), False),
}
SUPPORT = (
    *(Case(name, name.split()[0], _between(f, c, k), support=True) for name, (f, c, k) in MOVES.items()),
    *(Case(f"{n}, unequal", n.split()[0], _between(f, c, k, 0.03), support=True) for n, (f, c, k) in MOVES.items()),
    *(Case(n, n.split()[0], _between(f, scale=0.03, positive=p), support=True) for n, (f, p) in COMPUTES.items()),
    Case("depthwise 3×3 between", "Conv", _narrow(["n", 96, 56, 56], [3, 3], 96), support=True),
    Case("depthwise 5×5 between", "Conv", _narrow(["n", 240, 28, 28], [5, 5], 240), support=True),
    Case("depthwise 1-D 9 between", "Conv", _narrow(["n", 256, 1024], [9], 256), support=True),
    *(
        Case(f"grouped 3×3 {128 // g} channels a group, between", "Conv", _narrow(["n", 128, 28, 28], [3, 3], g), True)
        for g in (32, 16, 8, 4)
    ),
    Case("Flatten", "Flatten", _flatten, support=True),
    Case("Split", "Split", _split, support=True),
    Case("GlobalAveragePool", "GlobalAveragePool", _global, support=True),
    Case("Softmax", "Softmax", _softmax, support=True),
    Case("Add", "Add", _pair("Add"), support=True),
    Case("Add + Relu", "Add", _pair("Add", act="Relu"), support=True),
    Case("Sub", "Sub", _pair("Sub"), support=True),
    Case("Mul", "Mul", _pair("Mul"), support=True),
    Case("Concat, shared", "Concat", _pair("Concat", 128, (0.02, 0.02, 0.02), axis=1), support=True),
    Case("Concat, unshared", "Concat", _pair("Concat", 128, axis=1), support=True),
    Case("one Q/DQ, three consumers", "Conv", _shared_dq),
)
