"""Small networks that several tests need, and the few lines that run and calibrate them.

Builders give an `onnx.ModelProto`; `load` wraps one as a `Model`. Weights come from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.core.target import OpRule, Target
from fewbit.graph.files import from_proto, to_bytes
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan

Array = NDArray[Any]
Dims = Sequence[int | str | None]

TARGET = Target(
    name="onnxruntime",
    form="qdq",
    activation=QuantSpec(8, signed=False),
    weight=QuantSpec(8, signed=True, symmetric=True, narrow=True, granularity="channel", axis=0),
    rules=(
        OpRule("Conv", ("act", "weight", "bias"), core=True, absorbs=("Relu", "Clip"), when="weight is constant"),
        OpRule("ConvTranspose", ("act", "weight", "bias"), core=True, when="weight is constant"),
        OpRule("Gemm", ("act", "weight", "bias"), core=True, when="plain Gemm"),
        OpRule("MatMul", ("act", "weight"), core=True, when="matrix weight"),
        OpRule("Add", ("act",), absorbs=("Relu",)),
        OpRule("Concat", ("act",), shares=True),
        OpRule("MaxPool", ("act",), ("same",)),
        OpRule("Flatten", ("act",), ("same",)),
    ),
)
"""A plain target, so that tests of the graph do not move with the measured tables."""


# -- parts -----------------------------------------------------------------------------------------------------------


def info(name: str, shape: Dims | None, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def node(op: str, inputs: str, outputs: str, name: str | None = None, **attrs: Any) -> onnx.NodeProto:
    """`node("Conv", "x w b", "y", "conv")`; a lone `-` is an input left out."""
    ins = ["" if i == "-" else i for i in inputs.split()]
    return helper.make_node(op, ins, outputs.split(), name=name or f"{op.lower()}_{outputs.split()[0]}", **attrs)


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, Array] | None = None,
    name: str = "g",
) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(np.asarray(w), k) for k, w in (weights or {}).items()]
    return helper.make_graph(list(nodes), name, list(inputs), list(outputs), initializer=tensors)


def proto(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Mapping[str, Array] | None = None,
    *,
    opset: int = 17,
    ir_version: int = 8,
    domains: Mapping[str, int] | None = None,
    functions: Iterable[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    opsets = [helper.make_opsetid(d, v) for d, v in {"": opset, **(domains or {})}.items()]
    return helper.make_model(
        graph(nodes, inputs, outputs, weights), opset_imports=opsets, ir_version=ir_version, functions=list(functions)
    )


def weight(*shape: int, seed: int = 0, scale: float = 0.5) -> Array:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


def body(made: onnx.NodeProto, name: str) -> onnx.GraphProto:
    """The body of an If, Loop or Scan: `body(node, "then_branch")`."""
    return next(a.g for a in made.attribute if a.name == name)


# -- networks --------------------------------------------------------------------------------------------------------


def conv_relu(*, opset: int = 17, size: int = 6, channels: int = 4) -> onnx.ModelProto:
    """x → Conv(w, b) → Relu → y"""
    return proto(
        [node("Conv", "x w b", "c", "conv", pads=[1, 1, 1, 1]), node("Relu", "c", "y", "relu")],
        [info("x", ["n", 3, size, size])],
        [info("y", ["n", channels, size, size])],
        {"w": weight(channels, 3, 3, 3), "b": weight(channels)},
        opset=opset,
    )


def residual() -> onnx.ModelProto:
    """x → Conv → Relu = r;  r → Conv;  Add(…, r) → Relu → y"""
    return proto(
        [
            node("Conv", "x w1 b1", "c1", "conv1", pads=[1, 1, 1, 1]),
            node("Relu", "c1", "r", "relu1"),
            node("Conv", "r w2 b2", "c2", "conv2", pads=[1, 1, 1, 1]),
            node("Add", "c2 r", "a", "add"),
            node("Relu", "a", "y", "relu2"),
        ],
        [info("x", [1, 3, 6, 6])],
        [info("y", [1, 4, 6, 6])],
        {"w1": weight(4, 3, 3, 3), "b1": weight(4), "w2": weight(4, 4, 3, 3, seed=1), "b2": weight(4, seed=1)},
    )


def depthwise() -> onnx.ModelProto:
    """x → depthwise Conv → Clip 0…6 → pointwise Conv → y"""
    return proto(
        [
            node("Conv", "x wd bd", "d", "depthwise", group=4, pads=[1, 1, 1, 1]),
            node("Clip", "d lo hi", "k", "relu6"),
            node("Conv", "k wp bp", "y", "pointwise"),
        ],
        [info("x", [1, 4, 6, 6])],
        [info("y", [1, 3, 6, 6])],
        {
            "wd": weight(4, 1, 3, 3), "bd": weight(4), "wp": weight(3, 4, 1, 1), "bp": weight(3),
            "lo": np.float32(0), "hi": np.float32(6),
        },
    )  # fmt: skip


def matmul(*, k: int = 32, n: int = 8, opset: int = 17) -> onnx.ModelProto:
    """x[…, k] → MatMul(w) → y"""
    return proto([node("MatMul", "x w", "y", "mm")], [info("x", ["b", k])], [info("y", ["b", n])], {"w": weight(k, n)},
                 opset=opset)  # fmt: skip


def gemm(*, trans: int = 1, bias: bool = True) -> onnx.ModelProto:
    """x[b, 6] → Gemm(w, b) → y[b, 5]"""
    w = weight(5, 6) if trans else weight(6, 5)
    weights = {"w": w, "b": weight(5)} if bias else {"w": w}
    return proto([node("Gemm", "x w b" if bias else "x w", "y", "fc", transB=trans)], [info("x", ["b", 6])],
                 [info("y", ["b", 5])], weights)  # fmt: skip


def concat() -> onnx.ModelProto:
    """x → two convolutions of very different size → Concat → y"""
    return proto(
        [
            node("Conv", "x w1", "a", "conv1"),
            node("Conv", "x w2", "b", "conv2"),
            node("Concat", "a b", "y", "cat", axis=1),
        ],
        [info("x", [1, 3, 4, 4])],
        [info("y", [1, 4, 4, 4])],
        {"w1": weight(2, 3, 1, 1), "w2": weight(2, 3, 1, 1, scale=3.0)},
    )


def branches(*, opset: int = 17) -> onnx.ModelProto:
    """x → Conv → r;  If(flag): Mul(r, k) else Neg(r) → y. Both bodies read `r` from outside."""
    then = graph([node("Mul", "r k", "t", "scale")], [], [info("t", None)], {"k": np.float32(2.5)}, "then")
    other = graph([node("Neg", "r", "e", "negate")], [], [info("e", None)], name="else")
    return proto(
        [
            node("Conv", "x w b", "r", "conv"),
            node("If", "flag", "y", "choose", then_branch=then, else_branch=other),
        ],
        [info("x", [1, 3, 4, 4]), info("flag", [], TensorProto.BOOL)],
        [info("y", [1, 2, 4, 4])],
        {"w": weight(2, 3, 1, 1), "b": weight(2)},
        opset=opset,
    )


def loop() -> onnx.ModelProto:
    """Loop three times: s ← s + step, with `step` = Relu(x) from outside; gives the last s and all of them"""
    body = graph(
        [node("Add", "s step", "s_out", "plus"), node("Identity", "s_out", "each", "copy"),
         node("Identity", "go", "go_out", "on")],
        [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("s", [1, 4])],
        [info("go_out", [], TensorProto.BOOL), info("s_out", [1, 4]), info("each", [1, 4])],
        name="body",
    )  # fmt: skip
    return proto(
        [node("Relu", "x", "step", "relu"), node("Loop", "three yes x", "last all", "loop", body=body)],
        [info("x", [1, 4])],
        [info("last", [1, 4]), info("all", [3, 1, 4])],
        {"three": np.int64(3), "yes": np.bool_(True)},
    )


def scan() -> onnx.ModelProto:
    """Scan over the rows of x: running sum, times `k` from outside"""
    body = graph(
        [node("Add", "sum row", "sum_out", "plus"), node("Mul", "sum_out k", "out", "times")],
        [info("sum", [4]), info("row", [4])],
        [info("sum_out", [4]), info("out", [4])],
        name="body",
    )
    return proto(
        [node("Scan", "zero x", "total rows", "scan", body=body, num_scan_inputs=1)],
        [info("x", [3, 4])],
        [info("total", [4]), info("rows", [3, 4])],
        {"zero": np.zeros(4, np.float32), "k": np.float32(0.5)},
    )


def tied(*, same_axis: bool = True) -> onnx.ModelProto:
    """One square weight used by two Gemms, along the same axis or along both."""
    return proto(
        [
            node("Gemm", "x w", "h", "fc1", transB=1),
            node("Gemm", "h w", "y", "fc2", transB=1 if same_axis else 0),
        ],
        [info("x", ["b", 6])],
        [info("y", ["b", 6])],
        {"w": weight(6, 6)},
    )


NETWORKS = {
    "conv_relu": conv_relu,
    "residual": residual,
    "depthwise": depthwise,
    "matmul": matmul,
    "gemm": gemm,
    "concat": concat,
    "branches": branches,
    "loop": loop,
    "scan": scan,
    "tied": tied,
}
"""All of the above with their defaults."""


# -- use -------------------------------------------------------------------------------------------------------------


def load(made: onnx.ModelProto) -> Model:
    return from_proto(made)


def feeds_for(model: Model, seed: int = 0, batch: int = 2) -> dict[str, Array]:
    """Random inputs; free dimensions get size `batch`."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for i in model.inputs:
        x = rng.standard_normal([d if isinstance(d, int) else batch for d in i.shape])
        found[i.name] = np.asarray(x > 0) if i.dtype == np.bool_ else x.astype(i.dtype)
    return found


def run(given: Model | onnx.ModelProto, feeds: Mapping[str, Array], *, optimize: bool = False) -> dict[str, Array]:
    """Outputs by name, from ONNX Runtime; its optimizer is off unless asked for."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = to_bytes(given) if isinstance(given, Model) else given.SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def plan_for(model: Model, feeds: Sequence[Mapping[str, Array]] = (), *, target: Target = TARGET, **words: Any) -> Plan:
    """Everything that is legal becomes integer, with ranges from these feeds (by default, two random ones)."""
    plan = make_plan(model, QuantConfig(**{"quantize_mode": "full", **words}), target)
    seen: dict[str, tuple[float, float]] = {}
    observed = plan.observed()
    shown = model.with_outputs(n for n in observed if n not in {i.name for i in model.inputs})
    for f in feeds or (feeds_for(model, 0), feeds_for(model, 1)):
        values = {**f, **run(shown, f)}
        for name, group in observed.items():
            lo, hi = seen.get(group, (np.inf, -np.inf))
            seen[group] = (min(lo, float(values[name].min())), max(hi, float(values[name].max())))
    return plan.with_ranges(seen)
