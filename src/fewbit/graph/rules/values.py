"""Small questions that several rules ask about values."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.model import const, dims, is_const, op_name

HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def arg(node: ir.Node, i: int) -> ir.Value | None:
    """Input `i` of a node; None if it is left out."""
    return node.inputs[i] if i < len(node.inputs) else None


def maker(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """The node that computes a value, if its operator is one of `ops`."""
    node = value.producer() if value is not None else None
    return node if node is not None and op_name(node) in ops else None


def const_shape(value: ir.Value) -> tuple[int, ...]:
    """Shape of a constant, without reading its data."""
    assert value.const_value is not None
    return tuple(int(d) for d in value.const_value.shape.numpy())


def const_dtype(value: ir.Value | None) -> ir.DataType | None:
    """Type of a constant; None if it is none."""
    return value.const_value.dtype if value is not None and is_const(value) and value.const_value is not None else None


def scalar(value: ir.Value | None) -> float | None:
    """A float32 constant of one element; None for anything else."""
    if value is None or const_dtype(value) != ir.DataType.FLOAT:
        return None
    shape = const_shape(value)
    return float(np.asarray(const(value)).reshape(())) if len(shape) <= 4 and set(shape) <= {1} else None


def vector(value: ir.Value | None) -> NDArray[np.float64] | None:
    """A float32 constant of one axis, in double precision; None for anything else."""
    if value is None or const_dtype(value) != ir.DataType.FLOAT or len(const_shape(value)) != 1:
        return None
    return np.asarray(const(value), np.float64)


def integers(value: ir.Value | None, most: int = 64) -> list[int] | None:
    """A short constant list of integers; None for anything else."""
    if value is None or const_dtype(value) not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    shape = const_shape(value)
    return [int(i) for i in np.asarray(const(value)).ravel()] if len(shape) <= 1 and sum(shape) <= most else None


def other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """The other input of a node with two."""
    a, b = node.inputs[:2]
    return b if a is value else a


def one_constant(node: ir.Node) -> tuple[ir.Value, float, bool] | None:
    """Of a node with two inputs, one a scalar constant: the other one, the number, whether it is on the left."""
    if len(node.inputs) != 2:
        return None
    a, b = node.inputs
    left, right = scalar(a), scalar(b)
    if a is not None and right is not None and not is_const(a):
        return a, right, False
    if b is not None and left is not None and not is_const(b):
        return b, left, True
    return None


def rank(value: ir.Value | None) -> int | None:
    """Number of axes; None if unknown."""
    shape = dims(value)
    return None if shape is None else len(shape)


def same_rank(x: ir.Value, y: ir.Value) -> bool:
    """Whether constants of one element on the way from `x` to `y` added no axis."""
    a, b = rank(x), rank(y)
    return a is not None and a == b


def close(a: float, b: float) -> bool:
    """Whether a constant is meant: equal but for the rounding of float32 and of printed digits."""
    return abs(a - b) <= 2e-5 * abs(b)
