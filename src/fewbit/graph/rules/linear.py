"""Weights of operators that multiply by a matrix, and what is added behind: W and b of y = W x + b.

    scale_outputs   s · (W x + b) + t  =  (s W) x + (s b + t)
    scale_inputs    W (s · x + t) + b  =  (W s) x + (b + W t)

s and t hold one number for each channel. Where the channels lie in the weights:

    Conv           (out, in/group, k…)      Gemm     (in, out), transB (out, in)
    ConvTranspose  (in, out/group, k…)      MatMul   (in, out)

Weights are never written into: others may use the same ones.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.model import attr, const, is_const, op_name
from fewbit.graph.rewrite import Edit
from fewbit.graph.rules.values import arg, const_dtype, const_shape, rank

F64 = NDArray[np.float64]

OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def why_not_linear(node: ir.Node) -> str:
    """Why the weights of a node of `OPS` cannot be changed; "" if they can."""
    op, (weight, bias) = op_name(node), _parts(node)
    if not is_const(weight) or weight is None or (op in ("Gemm", "MatMul") and is_const(arg(node, 0))):
        return f"the weight of {node.name!r} is not a constant"
    if const_dtype(weight) != ir.DataType.FLOAT:
        return f"the weight of {node.name!r} is {const_dtype(weight)}; only float32 is rewritten"
    shape, group = const_shape(weight), int(attr(node, "group", 1))
    if len(shape) < 3 if op.startswith("Conv") else len(shape) != 2:
        return f"the weight of {node.name!r} has shape {shape}"
    if group < 1 or shape[0] % group:
        return f"{node.name!r} has {group} groups for a weight of shape {shape}"
    if bias is not None:
        if const_dtype(bias) != ir.DataType.FLOAT:
            return f"the bias of {node.name!r} is not a float32 constant"
        n, b = outputs(node), const_shape(bias)
        if b != (n,) and not (op == "Gemm" and (b in ((), (1,), (1, 1), (1, n)))):
            return f"the bias of {node.name!r} has shape {b}, not one number for each of {n} channels"
    return ""


def _parts(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    weight, bias = (*node.inputs[1:3], None, None)[:2]
    return weight, bias


def outputs(node: ir.Node) -> int:
    """Number of output channels."""
    shape, op = _shape(node), op_name(node)
    if op == "ConvTranspose":
        return shape[1] * int(attr(node, "group", 1))
    return shape[0] if op == "Conv" or attr(node, "transB", 0) else shape[1]


def inputs(node: ir.Node) -> int:
    """Number of input channels."""
    shape, op = _shape(node), op_name(node)
    if op == "Conv":
        return shape[1] * int(attr(node, "group", 1))
    return shape[1] if op == "Gemm" and attr(node, "transB", 0) else shape[0]


def channel_from_right(node: ir.Node) -> int:
    """How many axes lie right of the channels, in what goes in and comes out."""
    return len(_shape(node)) - 2 if op_name(node).startswith("Conv") else 0


def _shape(node: ir.Node) -> tuple[int, ...]:
    weight = arg(node, 1)
    assert weight is not None
    return const_shape(weight)


def pads_zeros(node: ir.Node) -> bool:
    """Whether zeros are set around the input (ConvTranspose: whether outputs see different numbers of inputs)."""
    if op_name(node) == "Conv":
        auto = attr(node, "auto_pad", "NOTSET")
        return auto not in ("NOTSET", "VALID") or (auto == "NOTSET" and any(attr(node, "pads", ())))
    return op_name(node) == "ConvTranspose"


def scale_outputs(edit: Edit, node: ir.Node, s: F64, t: F64, word: str) -> None:
    """Fold y' = s·y + t into the node; a MatMul of two axes becomes a Gemm if t is not 0.

    Args:
        s, t: (out,), finite. word: what new constants are called by: `<node>.weight_<word>`.
    """
    op, shape = op_name(node), _shape(node)
    if op == "Conv":
        view = s.reshape(-1, *[1] * (len(shape) - 1))
    elif op == "ConvTranspose":
        group = int(attr(node, "group", 1))
        view = np.repeat(s.reshape(group, shape[1]), shape[0] // group, axis=0)
        view = view.reshape(*shape[:2], *[1] * (len(shape) - 2))
    else:
        view = s[:, None] if attr(node, "transB", 0) else s[None, :]
    if (s != 1).any():
        _multiply(edit, node, view, word)
    _set_bias(edit, node, _bias(node) * s + t, word)


def scale_inputs(edit: Edit, node: ir.Node, s: F64, t: F64, word: str) -> None:
    """Fold x' = s·x + t into the node; t is 0 where the node sets zeros around its input.

    Args:
        s, t: (in,), finite. word: what new constants are called by.
    """
    view, lifted = _input_view(node, s), None
    if t.any():
        weight = np.asarray(const(arg(node, 1)), np.float64) * _input_view(node, t)
        axes = tuple(range(1, weight.ndim)) if op_name(node) == "Conv" else (1 if attr(node, "transB", 0) else 0,)
        lifted = _bias(node) + weight.sum(axis=axes) * float(attr(node, "alpha", 1.0))
    if (s != 1).any():
        _multiply(edit, node, view, word)
    if lifted is not None:
        _set_bias(edit, node, lifted, word)


def _input_view(node: ir.Node, s: F64) -> F64:
    """(in,) so that it broadcasts against the weight."""
    op, shape = op_name(node), _shape(node)
    if op == "Conv":
        group = int(attr(node, "group", 1))
        view = np.repeat(s.reshape(group, shape[1]), shape[0] // group, axis=0)
        return view.reshape(*shape[:2], *[1] * (len(shape) - 2))
    if op == "ConvTranspose":
        return s.reshape(-1, *[1] * (len(shape) - 1))
    return s[None, :] if attr(node, "transB", 0) else s[:, None]


def _multiply(edit: Edit, node: ir.Node, view: F64, word: str) -> None:
    weight = np.asarray(const(arg(node, 1)))
    edit.set_input(node, 1, edit.constant(f"{node.name}.weight_{word}", weight * view.astype(np.float32)))


def _bias(node: ir.Node) -> F64:
    """What the node adds, (out,); zeros if nothing."""
    value = _parts(node)[1]
    given = 0.0 if value is None else np.asarray(const(value), np.float64) * float(attr(node, "beta", 1.0))
    return np.broadcast_to(np.reshape(given, (-1,)), (outputs(node),)).astype(np.float64)


def _set_bias(edit: Edit, node: ir.Node, bias: F64, word: str) -> None:
    """Add `bias` (out,) instead of what was added."""
    if not bias.any() and _parts(node)[1] is None:
        return
    value = edit.constant(f"{node.name}.bias_{word}", bias.astype(np.float32))
    if op_name(node) == "MatMul":
        edit.replace(node, "Gemm", [*node.inputs, value])
    else:
        edit.set_input(node, 2, value)
        node.attributes.pop("beta", None)


def takes_bias(node: ir.Node) -> str:
    """Why nothing can be added in the node; "" if it can."""
    if op_name(node) == "MatMul" and rank(arg(node, 0)) != 2:
        return f"{node.name!r} is a MatMul whose input is not known to have two axes, and has no bias"
    return ""
