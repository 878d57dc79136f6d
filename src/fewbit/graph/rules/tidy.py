"""Remove nodes that pass their input on unchanged.

    x → Identity → y                                        ⇒  x
    x → Dropout (inference) → y                             ⇒  x
    x → Cast to the type it has, CastLike likewise → y      ⇒  x
    x → Reshape, Flatten or Expand to the shape it has → y  ⇒  x
    x → Transpose by (0, 1, 2 …) → y                        ⇒  x
    x → Concat, Sum, Mean, Max or Min of one → y            ⇒  x
    x → Pad by nothing → y                                  ⇒  x
    x → Slice of everything → y                             ⇒  x
    x → Mul or Div by 1, Add or Sub of 0 → y                ⇒  x

If y is an output of the network, what makes x takes over the name of y; if it cannot (x is an input, a constant or an
output itself), the node stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import attr, const, dims, op_name
from fewbit.graph.rewrite import Edit, Rule, is_tagged
from fewbit.graph.rules.values import arg, const_dtype, const_shape, integers, one_constant, rank, same_rank

WHOLE = 2**31 - 1
"""A slice that ends here or later ends at the end."""


class NoOp(NamedTuple):
    """A node and which of its inputs it passes on."""

    node: ir.Node
    at: int


def _always(node: ir.Node) -> int | None:
    return 0


def _dropout(node: ir.Node) -> int | None:
    training = arg(node, 2)
    if training is None:
        return 0
    return 0 if const_dtype(training) == ir.DataType.BOOL and not np.any(const(training)) else None


def _same_type(node: ir.Node) -> int | None:
    x = arg(node, 0)
    like = arg(node, 1)
    to = like.dtype if like is not None else attr(node, "to")
    return 0 if x is not None and x.dtype is not None and to is not None and x.dtype == to else None


def _same_shape(node: ir.Node) -> int | None:
    """Reshape: each axis is copied, equal, or the one that is left over."""
    shape, target = dims(arg(node, 0)), integers(arg(node, 1))
    if shape is None or target is None or len(shape) != len(target):
        return None
    copies = not attr(node, "allowzero", 0)
    open_axes = [i for i, (d, t) in enumerate(zip(shape, target, strict=True)) if not (t == d or (t == 0 and copies))]
    left_over = len(open_axes) == 1 and target[open_axes[0]] == -1 and 0 not in shape
    return 0 if left_over or not open_axes else None


def _flat_already(node: ir.Node) -> int | None:
    return 0 if attr(node, "axis", 1) in (1, -1) and rank(arg(node, 0)) == 2 else None


def _expanded_already(node: ir.Node) -> int | None:
    shape, target = dims(arg(node, 0)), integers(arg(node, 1))
    if shape is None or target is None or len(target) > len(shape):
        return None
    return 0 if all(t == 1 or t == d for d, t in zip(reversed(shape), reversed(target), strict=False)) else None


def _in_order(node: ir.Node) -> int | None:
    perm = attr(node, "perm")
    if perm is None:  # then the order is reversed
        n = rank(arg(node, 0))
        return 0 if n is not None and n < 2 else None
    return 0 if perm == tuple(range(len(perm))) else None


def _only_one(node: ir.Node) -> int | None:
    return 0 if len(node.inputs) == 1 else None


def _pads_nothing(node: ir.Node) -> int | None:
    pads = integers(arg(node, 1))
    return 0 if pads is not None and not any(pads) else None


def _slices_nothing(node: ir.Node) -> int | None:
    if len(node.inputs) < 3:
        return None
    starts, ends = integers(arg(node, 1)), integers(arg(node, 2))
    steps = arg(node, 4)
    one_by_one = steps is None or set(integers(steps) or [0]) == {1}
    whole = starts is not None and ends is not None and not any(starts) and all(e >= WHOLE for e in ends)
    return 0 if whole and one_by_one else None


def _neutral(node: ir.Node) -> int | None:
    found = one_constant(node)
    if found is None:
        return None
    x, number, left = found
    op = op_name(node)
    if number != (1.0 if op in ("Mul", "Div") else 0.0) or (left and op in ("Div", "Sub")):
        return None
    c = node.inputs[0 if left else 1]
    axes = len(const_shape(c)) if c is not None else 0
    adds_axes = (axes > 1 or (axes == 1 and rank(x) == 0)) and not same_rank(x, node.outputs[0])
    return None if adds_axes else int(left)


TESTS: dict[str, Callable[[ir.Node], int | None]] = {
    "Identity": _always,
    "Dropout": _dropout,
    "Cast": _same_type,
    "CastLike": _same_type,
    "Reshape": _same_shape,
    "Flatten": _flat_already,
    "Expand": _expanded_already,
    "Transpose": _in_order,
    "Concat": _only_one,
    "Sum": _only_one,
    "Mean": _only_one,
    "Max": _only_one,
    "Min": _only_one,
    "Pad": _pads_nothing,
    "Slice": _slices_nothing,
    "Mul": _neutral,
    "Div": _neutral,
    "Add": _neutral,
    "Sub": _neutral,
}
"""Operator → which input it passes on unchanged, None if it does something."""


def pattern(node: ir.Node) -> NoOp | None:
    """A node that does nothing."""
    if not node.inputs or arg(node, 0) is None or is_tagged(node):
        return None
    index = TESTS[op_name(node)](node)
    return None if index is None else NoOp(node, index)


def check(edit: Edit, match: NoOp) -> str:
    """Its input must be able to stand in for its output."""
    return edit.why_not_bypass(match.node, match.at)


def replace(edit: Edit, match: NoOp) -> str:
    """Take it out."""
    edit.bypass(match.node, match.at)
    return f"{op_name(match.node)} does nothing"


TIDY = Rule("tidy", tuple(TESTS), pattern, check, replace)
