"""Fold what scales and shifts channels into the weights next to it.

    x → Conv, ConvTranspose, Gemm or MatMul → BatchNormalization → y    ⇒  x → Conv … → y     (s·W, s·b + t)
    x → Conv, ConvTranspose, Gemm or MatMul → Mul, Div, Add or Sub → y  ⇒  x → Conv … → y     (s·W, s·b + t)
    x → BatchNormalization, Mul, Div, Add or Sub → Conv … → y           ⇒  x → Conv … → y     (W·s, b + W t)

The first two always, where the value between has no other use. The third is exact only if every product sees a value
of x, so a shift (t ≠ 0) in front of padded zeros stays. A BatchNormalization between two activations stays what it is.

BatchNormalization: s = scale / √(var + ε), t = bias - mean·s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.model import attr, const, dims, is_const, op_name
from fewbit.graph.rewrite import Edit, Rule, is_tagged, why_not_private
from fewbit.graph.rules import linear
from fewbit.graph.rules.values import HALF, arg, const_dtype, const_shape, maker, rank, vector

F64 = NDArray[np.float64]

ARITHMETIC = ("Mul", "Div", "Add", "Sub")


@dataclass
class Affine:
    """y = s·x + t beside a node with weights.

    Args:
        node: what scales or shifts. x: what goes into it. host: the node with the weights.
    """

    node: ir.Node
    x: ir.Value
    host: ir.Node

    @property
    def word(self) -> str:
        """What it is called in the names of constants."""
        return "bn" if op_name(self.node) == "BatchNormalization" else op_name(self.node).lower()


def operand(node: ir.Node) -> ir.Value | None:
    """What a node scales or shifts, if by constants; None if it does something else."""
    if is_tagged(node) or not node.inputs:
        return None
    if op_name(node) == "BatchNormalization":
        return arg(node, 0)
    if len(node.inputs) != 2 or is_const(arg(node, 0)) == is_const(arg(node, 1)):
        return None
    left = is_const(arg(node, 0))
    if left and op_name(node) == "Div":
        return None
    c = node.inputs[0 if left else 1]
    return node.inputs[1 if left else 0] if const_dtype(c) in (ir.DataType.FLOAT, *HALF) else None


def coefficients(node: ir.Node, channels: int, right: int, axes: int | None) -> tuple[F64, F64] | str:
    """Find s and t, one number for each channel; or why there are none.

    Args:
        node: as `operand` takes it. channels: how many. right: how many axes lie right of them.
        axes: how many axes the value has; None if unknown.
    """
    if op_name(node) == "BatchNormalization":
        found = _batchnorm(node)
        if isinstance(found, tuple):
            if axes is None or axes != right + 2:
                return f"{node.name!r} normalizes axis 1, which is not known to be the channels of the weight"
            if found[0].shape != (channels,):
                return f"{node.name!r} has {found[0].size} channels, the weight {channels}"
    else:
        found = _arithmetic(node, channels, right, axes)
    if isinstance(found, str):
        return found
    s, t = found
    with np.errstate(over="ignore"):
        finite = np.isfinite(s.astype(np.float32)).all() and np.isfinite(t.astype(np.float32)).all()
    return found if finite else f"{node.name!r} scales or shifts by numbers that are not finite"


def _batchnorm(node: ir.Node) -> tuple[F64, F64] | str:
    if attr(node, "training_mode", 0) or len([v for v in node.outputs[1:] if v.uses() or v.is_graph_output()]):
        return f"{node.name!r} is in training mode"
    parts = [vector(v) for v in node.inputs[1:5]]
    scale, bias, mean, var = (*parts, None, None, None, None)[:4]
    if scale is None or bias is None or mean is None or var is None:
        return f"the parameters of {node.name!r} are not float32 constants"
    if not scale.shape == bias.shape == mean.shape == var.shape:
        return f"the parameters of {node.name!r} differ in size"
    with np.errstate(all="ignore"):
        s = scale / np.sqrt(var + float(attr(node, "epsilon", 1e-5)))
        return s, bias - mean * s


def _arithmetic(node: ir.Node, channels: int, right: int, axes: int | None) -> tuple[F64, F64] | str:
    left = is_const(arg(node, 0))
    value = node.inputs[0 if left else 1]
    assert value is not None
    if const_dtype(value) != ir.DataType.FLOAT:
        return f"{str(value.name)!r} is {const_dtype(value)}; only float32 is rewritten"
    shape = const_shape(value)
    if len(shape) > (1 if axes is None else axes):
        return f"{str(value.name)!r} has shape {shape}, which may add an axis"
    wide = [i for i, d in enumerate(shape) if d != 1]
    if wide and (wide != [len(shape) - 1 - right] or shape[wide[0]] != channels):
        return f"{str(value.name)!r} has shape {shape}, which is not one number for each of {channels} channels"
    c = np.broadcast_to(np.asarray(const(value), np.float64).reshape(-1), (channels,))
    one, zero = np.ones(channels), np.zeros(channels)
    op = op_name(node)
    if op == "Mul":
        return c, zero
    if op == "Div":
        with np.errstate(all="ignore"):
            return 1 / c, zero
    if op == "Add":
        return one, c
    return (-one, c) if left else (one, -c)


# -- into the weights in front ----------------------------------------------------------------------------------------


def after_weights(node: ir.Node) -> Affine | None:
    """A node that scales what a node with weights gives; bias of a MatMul is a rule of its own."""
    x = operand(node)
    host = maker(x, *linear.OPS)
    if x is None or host is None or not _has_weights(host) or (op_name(host), op_name(node)) == ("MatMul", "Add"):
        return None
    return Affine(node, x, host)


def _after(match: Affine) -> tuple[F64, F64] | str:
    host = match.host
    axes = linear.channel_from_right(host) + 2 if op_name(host) != "MatMul" else rank(arg(host, 0))
    return coefficients(match.node, linear.outputs(host), linear.channel_from_right(host), axes)


def check_after(edit: Edit, match: Affine) -> str:
    """Constant weights and numbers, one for each channel, and nobody else who reads the value between."""
    reason = linear.why_not_linear(match.host) or why_not_private(match.x, match.node)
    if reason:
        return reason
    found = _after(match)
    if isinstance(found, str):
        return found
    return linear.takes_bias(match.host) if found[1].any() else ""


def replace_after(edit: Edit, match: Affine) -> str:
    """Multiply the weights, shift the bias."""
    found = _after(match)
    assert not isinstance(found, str)
    name = str(match.host.name)
    edit.swallow(match.host, match.node)
    linear.scale_outputs(edit, match.host, *found, match.word)
    return f"{op_name(match.node)} is folded into {name!r}"


# -- into the weights behind ------------------------------------------------------------------------------------------


def before_weights(node: ir.Node) -> Affine | None:
    """A node that scales what a node with weights, and nobody else, takes."""
    x = operand(node)
    uses = node.outputs[0].uses()
    if x is None or len(uses) != 1 or node.outputs[0].is_graph_output():
        return None
    ((host, index),) = uses
    if index != 0 or op_name(host) not in linear.OPS or host.graph is not node.graph or not _has_weights(host):
        return None
    return Affine(node, x, host)


def _has_weights(host: ir.Node) -> bool:
    """A MatMul of two computed values, as in attention, is no layer with weights."""
    return op_name(host) != "MatMul" or any(is_const(v) for v in host.inputs)


def _before(match: Affine) -> tuple[F64, F64] | str:
    host = match.host
    channels, right = linear.inputs(host), linear.channel_from_right(host)
    shape = dims(match.x)
    known = shape is not None and len(shape) > right and shape[-1 - right] == channels
    if not known and op_name(match.node) != "BatchNormalization" and not _is_one_number(match.node):
        return f"{str(match.x.name)!r} is not known to have {channels} channels"
    axes = right + 2 if op_name(host) != "MatMul" else rank(match.x)
    if shape is not None:
        axes = len(shape)
    return coefficients(match.node, channels, right, axes)


def _is_one_number(node: ir.Node) -> bool:
    value = node.inputs[0 if is_const(arg(node, 0)) else 1]
    return value is not None and set(const_shape(value)) <= {1}


def check_before(edit: Edit, match: Affine) -> str:
    """Constant weights and numbers, one for each channel, and no zeros set beside what is shifted."""
    host = match.host
    reason = linear.why_not_linear(host)
    if reason:
        return reason
    if op_name(host) == "Gemm" and attr(host, "transA", 0):
        return f"{host.name!r} takes its input transposed"
    found = _before(match)
    if isinstance(found, str):
        return found
    if not found[1].any():
        return ""
    if linear.pads_zeros(host):
        return f"it shifts, and {host.name!r} sets zeros beside what it takes"
    return linear.takes_bias(host)


def replace_before(edit: Edit, match: Affine) -> str:
    """Multiply the weights, and send the shift through them."""
    found = _before(match)
    assert not isinstance(found, str)
    node, host, name = match.node, match.host, str(match.host.name)
    index = next(i for i, v in enumerate(node.inputs) if v is match.x)
    edit.bypass(node, index, into=host)
    linear.scale_inputs(edit, host, *found, match.word)
    return f"{op_name(node)} is folded into {name!r} behind it"


def bn_alone(node: ir.Node) -> ir.Node | None:
    """A BatchNormalization with no weights beside it."""
    return None if is_tagged(node) or after_weights(node) or before_weights(node) else node


def check_alone(edit: Edit, node: ir.Node) -> str:
    """Always stays: two operators of scale and shift would cost more than one, and round twice."""
    return "no node with weights stands before it, or alone behind it, that could take it"


def replace_alone(edit: Edit, node: ir.Node) -> str:
    """Never happens."""
    raise AssertionError("check_alone refuses")


BATCHNORM = Rule("batchnorm", ("BatchNormalization",), after_weights, check_after, replace_after)
BATCHNORM_BEFORE = Rule("batchnorm", ("BatchNormalization",), before_weights, check_before, replace_before)
BATCHNORM_ALONE = Rule("batchnorm", ("BatchNormalization",), bn_alone, check_alone, replace_alone)
SCALE = Rule("scale", ARITHMETIC, after_weights, check_after, replace_after)
SCALE_BEFORE = Rule("scale", ARITHMETIC, before_weights, check_before, replace_before)
