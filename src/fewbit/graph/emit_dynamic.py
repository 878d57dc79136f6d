"""Write a node whose input ranges are measured at run time (calib_mode none).

    before   y = MatMul(x, W)                      likewise Gemm and Conv, with bias
    after    x_q, s, z = DynamicQuantizeLinear(x)
             y = Cast(MatMulInteger(x_q, W_q, z)) · (s · s_W) [+ b]

The float output keeps its name. ONNX Runtime merges the chain into one operator for MatMul; for Conv it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.core.params import QuantParams
from fewbit.graph.model import attr, const, dims

Append = Callable[[ir.Node, str, ir.DataType, ir.Shape | None], ir.Value]
Constant = Callable[[str, Any], ir.Value]


def emit_dynamic(
    node: ir.Node,
    params: QuantParams,
    quantized: dict[str, tuple[ir.Value, ir.Value, ir.Value]],
    append: Append,
    constant: Constant,
) -> None:
    """Replace a MatMul, Gemm or Conv by its integer form; the caller removes what is unused then.

    Args:
        node: its weight is constant, its format symmetric, per tensor or output channel.
        params: of the weight.
        quantized: x → (x_q, s, z), filled as inputs are quantized, so that readers of one value share them.
        append: adds a node, names it and its outputs. constant: adds an initializer.
    """
    x, weight, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None and weight is not None
    name = str(node.name)
    data = const(weight)
    assert data is not None
    q = params.quantize(data)
    scale = params.scale
    kind, attrs, view = "MatMulInteger", {}, scale.shape
    if node.op_type == "Gemm" and attr(node, "transB", 0):
        q = np.ascontiguousarray(q.T)
    elif node.op_type == "Conv":
        kind = "ConvInteger"
        attrs = {k: attr(node, k) for k in node.attributes}
        view = (1, -1, *[1] * (q.ndim - 2)) if scale.ndim else ()
    xq, s, z = _input(x, quantized, append)
    wq = constant(f"{weight.name}_q", q)
    acc = append(ir.node(kind, [xq, wq, z], attributes=attrs), f"{name}_int", ir.DataType.INT32, y.shape)
    real = append(ir.node("Cast", [acc], {"to": ir.DataType.FLOAT}), f"{name}_cast", ir.DataType.FLOAT, y.shape)
    ws = constant(f"{weight.name}_scale", scale.reshape(view))
    both = append(ir.node("Mul", [s, ws]), f"{name}_scale", ir.DataType.FLOAT, None)
    out = append(ir.node("Mul", [real, both]), f"{name}_real", ir.DataType.FLOAT, y.shape)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        out = append(ir.node("Add", [out, _bias(node, bias, constant)]), f"{name}_biased", ir.DataType.FLOAT, y.shape)
    _take_over(y, out)


def _input(
    x: ir.Value, quantized: dict[str, tuple[ir.Value, ir.Value, ir.Value]], append: Append
) -> tuple[ir.Value, ir.Value, ir.Value]:
    name = str(x.name)
    if name not in quantized:
        node = ir.node("DynamicQuantizeLinear", [x], num_outputs=3)
        xq = append(node, f"{name}_q", ir.DataType.UINT8, x.shape)
        s, z = node.outputs[1], node.outputs[2]
        s.type, s.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
        z.type, z.shape = ir.TensorType(ir.DataType.UINT8), ir.Shape([])
        quantized[name] = xq, s, z
    return quantized[name]


def _bias(node: ir.Node, bias: ir.Value, constant: Constant) -> ir.Value:
    data = const(bias)
    rank = len(dims(node.inputs[1]) or ())
    if node.op_type != "Conv" or data is None:
        return bias
    return constant(f"{bias.name}_{node.name}", data.reshape(1, -1, *[1] * (rank - 2)))


def _take_over(old: ir.Value, new: ir.Value) -> None:
    """Let `new` stand where `old` stood, under its name."""
    graph = old.graph
    assert graph is not None
    for user, index in list(old.uses()):
        user.replace_input_with(index, new)
    name, old.name = old.name, f"{old.name}_unused"
    new.name = name
    for i, v in enumerate(graph.outputs):
        if v is old:
            graph.outputs[i] = new
