"""Networks that TensorRT takes, written down so that a test can change them in one place: `LEGAL`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto

from fewbit.graph.model import Model
from tests.models import graph, info, load, node, proto, weight


@dataclass
class Net:
    """A Q/DQ network, written down line by line."""

    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[str] = field(default_factory=lambda: ["y"])
    types: dict[str, int] = field(default_factory=dict)
    opset: int = 13
    domains: dict[str, int] = field(default_factory=dict)

    def feed(self, name: str, *shape: int) -> str:
        self.inputs.append(info(name, list(shape)))
        return name

    def op(self, kind: str, inputs: str, output: str, **attrs: Any) -> str:
        self.nodes.append(node(kind, inputs, output, output, **attrs))
        return output

    def pair(self, x: str, scale: Any = 0.1, *, axis: int | None = None) -> str:
        """x → Q → DQ; nodes and values are x_q and x_dq, parameters x_s and x_z."""
        self.weights[f"{x}_s"] = np.asarray(scale, np.float32)
        self.weights[f"{x}_z"] = np.zeros(np.shape(scale), np.int8)
        attrs = {} if axis is None else {"axis": axis}
        self.op("QuantizeLinear", f"{x} {x}_s {x}_z", f"{x}_q", **attrs)
        return self.op("DequantizeLinear", f"{x}_q {x}_s {x}_z", f"{x}_dq", **attrs)

    def stored(self, name: str, *shape: int, axis: int = 0, scales: int | None = None) -> str:
        """Integers with a DQ behind them: name_q → name."""
        count = shape[axis] if scales is None else scales
        self.weights[f"{name}_q"] = np.ones(shape, np.int8)
        self.weights[f"{name}_s"] = np.full(count, 0.1, np.float32) if count > 1 else np.float32(0.1)
        self.weights[f"{name}_z"] = np.zeros(np.shape(self.weights[f"{name}_s"]), np.int8)
        attrs = {"axis": axis} if count > 1 else {}
        return self.op("DequantizeLinear", f"{name}_q {name}_s {name}_z", name, **attrs)

    def conv(self, x: str, out: str, ins: int = 4, outs: int = 4) -> str:
        self.weights[f"{out}_b"] = np.ones(outs, np.float32)
        return self.op("Conv", f"{x} {self.stored(f'{out}_w', outs, ins, 3, 3)} {out}_b", out, pads=[1, 1, 1, 1])

    def node(self, name: str) -> Any:
        return next(n for n in self.nodes if n.name == name)

    def model(self) -> Model:
        outputs = [info(o, None, self.types.get(o, TensorProto.FLOAT)) for o in self.outputs]
        return load(proto(self.nodes, self.inputs, outputs, self.weights, opset=self.opset, domains=self.domains))


def residual() -> Net:
    """Q DQ → a Conv → Relu → Q DQ → b Conv ─ Add (a's Relu) → Relu → Q DQ → pool → Q DQ → Flatten → Gemm → y."""
    net = Net()
    a = net.op("Relu", net.conv(net.pair(net.feed("x", 1, 4, 8, 8)), "a"), "ra")
    short = net.pair(a)
    net.op("Add", f"{net.conv(short, 'b')} {short}", "sum")
    pool = net.op("GlobalAveragePool", net.pair(net.op("Relu", "sum", "rs")), "pool")
    net.op("Flatten", net.pair(pool), "flat")
    net.op("Gemm", f"flat {net.stored('w', 3, 4)}", "y", transB=1)
    return net


def joined() -> Net:
    """Two parts → Concat, all of one scale → Conv → y."""
    net = Net()
    parts = [net.pair(net.feed(name, 1, 2, 8, 8)) for name in ("x", "z")]
    net.conv(net.pair(net.op("Concat", " ".join(parts), "cat", axis=1)), "y")
    return net


def transposed(group: int = 1) -> Net:
    net = Net()
    w = net.stored("w", 4, 3, 2, 2, axis=1, scales=3 if group == 1 else 1)
    net.op("ConvTranspose", f"{net.pair(net.feed('x', 1, 4, 8, 8))} {w}", "y", group=group)
    return net


def products() -> Net:
    """x · W, with weights in float behind Q and DQ, then a product of two activations."""
    net = Net(weights={"w": weight(6, 5)})
    m = net.op("MatMul", f"{net.pair(net.feed('x', 4, 6))} {net.pair('w', np.full(5, 0.1), axis=1)}", "m")
    net.op("MatMul", f"{net.pair(m)} {net.pair(net.feed('z', 5, 2))}", "y")
    return net


def turned() -> Net:
    """Weights that are moved behind their DQ: turned (Conv, MatMul), and given another shape (Gemm)."""
    net = Net(weights={"u": weight(5, 3), "shape": np.array([3, 5], np.int64)})
    w = net.op("Transpose", net.stored("w", 3, 2, 3, 4, axis=2), "wt", perm=[2, 3, 1, 0])
    c = net.op("Conv", f"{net.pair(net.feed('x', 1, 4, 8, 8))} {w}", "c", pads=[0, 0, 0, 0])
    flat = net.op("Flatten", net.pair(net.op("GlobalMaxPool", c, "pool")), "flat")
    m = net.op("MatMul", f"{flat} {net.op('Transpose', net.pair('u', np.full(5, 0.1), axis=0), 'ut')}", "m")
    g = net.op("Reshape", f"{net.stored('r', 1, 3, 5, axis=1)} shape", "g")
    net.op("Gemm", f"{net.pair(m)} {g}", "y", transB=1)
    return net


def left() -> Net:
    """Weights on the left side: W · x, and Gemm with a turned one."""
    net = Net()
    m = net.op("MatMul", f"{net.stored('w', 5, 8)} {net.pair(net.feed('x', 8, 4))}", "m")
    net.op("Gemm", f"{net.stored('v', 5, 3, axis=1)} {net.pair(m)}", "y", transA=1)
    return net


def branched() -> Net:
    """If: Q → DQ → Relu of what is fed, or that as it is."""
    net = Net()
    inner = Net()
    inner.op("Relu", inner.pair(net.feed("x", 1, 4)), "t")
    then = graph(inner.nodes, [], [info("t", None)], inner.weights, "then")
    other = graph([node("Identity", "x", "e", "e")], [], [info("e", None)], name="else")
    net.inputs.append(info("b", [], TensorProto.BOOL))
    net.op("If", "b", "y", then_branch=then, else_branch=other)
    return net


def looped() -> Net:
    """Scan over rows: Q → DQ → MatMul with integer weights."""
    net = Net()
    inner = Net()
    row = net.op("Identity", net.feed("x", 6, 4), "rows")
    m = inner.op("MatMul", f"{inner.pair('row')} {inner.stored('w', 4, 3, axis=1)}", "m")
    loop = graph(inner.nodes, [info("row", [1, 4])], [info(m, None)], inner.weights, "loop")
    net.weights["axes"] = np.array([1], np.int64)
    net.op("Scan", net.op("Unsqueeze", f"{row} axes", "seq"), "y", body=loop, num_scan_inputs=1)
    return net


LEGAL: dict[str, Callable[[], Net]] = {
    "residual": residual, "joined": joined, "transposed": transposed, "grouped": lambda: transposed(2),
    "products": products, "turned": turned, "left": left, "branched": branched, "looped": looped,
}  # fmt: skip
