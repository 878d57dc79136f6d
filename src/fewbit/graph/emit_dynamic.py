"""Write layers whose input ranges are measured at run time (calib_mode none).

    before   y = MatMul(x, W)                      likewise Gemm and Conv, with bias
    after    x_q, s, z = DynamicQuantizeLinear(x)
             y = Cast(MatMulInteger(x_q, W_q, z)) · (s · s_W) [+ b]

    W · x          W_q as u8 around 128, x as s8: engines are fast at u8 · s8 only
    a · b          a as u8, b as s8
    one range a row (ACWL)    x as in `dynamic_inputs.by_row`
    α, β, transA of Gemm      go into the scale, into the bias, and into a Transpose of the integers

The float output keeps its name. ONNX Runtime merges the chain into one operator for products; for Conv it does not.
Where that operator answers wrongly (1.31) there is s / (1 / s_W) instead of s · s_W, which it does not know:

    one s a row; W · x; … · vector; what is added to it has more axes than the product

and one s_W a channel of a W of 3 axes and more is written out for each matrix: it multiplies b as well otherwise.
LSTM and Gather have files of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.graph.dynamic_gather import emit_gather
from fewbit.graph.dynamic_inputs import FLOAT, U8_MIDDLE, DynamicWriter, Measured, by_row, signed, take_over, unsigned
from fewbit.graph.dynamic_lstm import emit_lstm
from fewbit.graph.model import Array, attr, const


def emit_dynamic(node: ir.Node, w: DynamicWriter) -> None:
    """Replace a layer by its integer form; the caller removes what is unused then."""
    FORMS.get(node.op_type, _product)(node, w)


def _product(node: ir.Node, w: DynamicWriter) -> None:
    """MatMul and Gemm: W on the right, on the left, or both sides computed."""
    left, right, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert left is not None and right is not None
    roles = w.plan.nodes[str(node.name)].roles[:2]
    if roles == ("act", "weight"):
        a, (bq, weight_scale) = _input(node, left, w), _right_weight(node, w)
        acc = _integer(node, "MatMulInteger", [a.q, bq, a.zero], w)
        y_real = _real(node, acc, a, weight_scale, w)
    elif roles == ("weight", "act"):
        aq, weight_scale = _left_weight(node, w)
        b = signed(w, right)
        acc = _integer(node, "MatMulInteger", [aq, b.q, w.shared("u8_middle", U8_MIDDLE)], w)
        y_real = _real(node, acc, b, weight_scale, w)
    else:
        a, b = unsigned(w, left), signed(w, right)
        acc = _integer(node, "MatMulInteger", [a.q, b.q, a.zero], w)
        y_real = _real(node, acc, a, b.scale, w)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        y_real = w.append(ir.node("Add", [y_real, _times_beta(node, bias, w)]), f"{node.name}_biased", FLOAT, y.shape)
    take_over(y, y_real)


def _input(node: ir.Node, x: ir.Value, w: DynamicWriter) -> Measured:
    """The left side in integers, transposed if Gemm says so."""
    turned = bool(attr(node, "transA", 0))
    spec = w.plan.values[str(x.name)].spec
    if spec.granularity == "tensor":
        found = unsigned(w, x)
        return found.but(_turned(node, found.q, w)) if turned else found
    return by_row(w, _turned(node, x, w) if turned else x)


def _turned(node: ir.Node, x: ir.Value, w: DynamicWriter) -> ir.Value:
    shape = ir.Shape(list(x.shape)[::-1]) if x.shape is not None else None
    assert x.dtype is not None
    return w.append(ir.node("Transpose", [x], {"perm": [1, 0]}), f"{x.name}_turned_{node.name}", x.dtype, shape)


def _right_weight(node: ir.Node, w: DynamicWriter) -> tuple[ir.Value, Array]:
    """W_q as (…, in, out), and its scales along the last axis, with Gemm's α in them."""
    key, q, params = w.weight(node, 1)
    turned = node.op_type == "Gemm" and bool(attr(node, "transB", 0))
    scale = params.scale * np.float32(attr(node, "alpha", 1.0) if node.op_type == "Gemm" else 1.0)
    if scale.ndim and q.ndim > 2 and (_rank(node.inputs[0]) or 0) > 1:
        scale = np.broadcast_to(scale, (*q.shape[:-2], 1, q.shape[-1]))
    return w.shared(f"{key}_qt" if turned else f"{key}_q", q.T if turned else q), scale


def _left_weight(node: ir.Node, w: DynamicWriter) -> tuple[ir.Value, Array]:
    """W_q + 128 as u8, and its scales as a column; as a row if the product has no columns."""
    key, q, params = w.weight(node, 0)
    middle = (q.astype(np.int16) + int(U8_MIDDLE)).astype(np.uint8)
    column = params.scale.ndim > 0 and _rank(node.inputs[1]) != 1
    return w.shared(f"{key}_u8", middle), params.scale.reshape(-1, 1) if column else params.scale


def _rank(value: ir.Value | None) -> int | None:
    return len(value.shape) if value is not None and value.shape is not None else None


def _integer(node: ir.Node, op: str, inputs: list[ir.Value | None], w: DynamicWriter, **attrs: Any) -> ir.Value:
    made = ir.node(op, inputs, attributes=attrs)
    return w.append(made, f"{node.name}_int", ir.DataType.INT32, node.outputs[0].shape)


def _real(node: ir.Node, acc: ir.Value, x: Measured, other: ir.Value | Array, w: DynamicWriter) -> ir.Value:
    """Cast(acc) · (s · s_W); `other`: the scale of the other side, known or measured as well."""
    shape = node.outputs[0].shape
    apart = x.rows or _merged_wrongly(node, other)
    if isinstance(other, ir.Value) and apart:
        inverse = w.append(ir.node("Reciprocal", [other]), f"{node.name}_steps", FLOAT, other.shape)
        scale = ir.node("Div", [x.scale, inverse])
    elif isinstance(other, ir.Value):
        scale = ir.node("Mul", [x.scale, other])
    elif apart:
        with np.errstate(divide="ignore", over="ignore"):  # s / ∞ = 0: α may be 0, and s_W next to it
            steps = _float(1 / (other * x.unit))
        scale = ir.node("Div", [x.scale, w.constant(f"{node.name}_steps", steps)])
    else:
        scale = ir.node("Mul", [x.scale, w.constant(f"{node.name}_scales", _float(other * x.unit))])
    cast = w.append(ir.node("Cast", [acc], {"to": FLOAT}), f"{node.name}_cast", FLOAT, shape)
    both = w.append(scale, f"{node.name}_scale", FLOAT, None)
    return w.append(ir.node("Mul", [cast, both]), f"{node.name}_real", FLOAT, shape)


def _merged_wrongly(node: ir.Node, scale: ir.Value | Array) -> bool:
    """Whether ONNX Runtime's one operator for the chain is wrong here; `scale`: of the other side."""
    (left, right), many = map(_rank, node.inputs[:2]), not isinstance(scale, ir.Value) and scale.ndim > 0
    if node.op_type == "Conv" or right is None or right < 2 or (many and const(node.inputs[0]) is not None):
        return True
    vector = left is None or left < 2
    added = [v for user, _ in node.outputs[0].uses() if user.op_type == "Add" for v in user.inputs]
    axes = right - 1 if vector else max(left or 0, right)
    return (many and vector and right > 2) or any((_rank(v) or 0) > axes for v in added)


def _float(x: Array) -> Array:
    return np.asarray(x, np.float32)


def _times_beta(node: ir.Node, bias: ir.Value, w: DynamicWriter) -> ir.Value:
    beta = np.float32(attr(node, "beta", 1.0))
    if beta == 1:
        return bias
    data = const(bias)
    if data is not None:
        return w.constant(f"{bias.name}_{node.name}", data * beta)
    factor = w.constant(f"{node.name}_beta", beta)
    return w.append(ir.node("Mul", [bias, factor]), f"{node.name}_bias", FLOAT, bias.shape)


def _conv(node: ir.Node, w: DynamicWriter) -> None:
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    key, q, params = w.weight(node, 1)
    one = [1] * (q.ndim - 2)
    scale = params.scale.reshape(1, -1, *one) if params.scale.ndim else params.scale
    a = unsigned(w, x)
    inputs = [a.q, w.shared(f"{key}_q", q), a.zero]
    acc = _integer(node, "ConvInteger", inputs, w, **{k: attr(node, k) for k in node.attributes})
    out = _real(node, acc, a, scale, w)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        data = const(bias)
        added = w.constant(f"{bias.name}_{node.name}", data.reshape(1, -1, *one)) if data is not None else bias
        out = w.append(ir.node("Add", [out, added]), f"{node.name}_biased", FLOAT, y.shape)
    take_over(y, out)


FORMS: dict[str, Callable[[ir.Node, DynamicWriter], None]] = {"Conv": _conv, "LSTM": emit_lstm, "Gather": emit_gather}
"""Operator → its form; all others are products."""
