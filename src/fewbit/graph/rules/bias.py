"""Recognise the bias of a MatMul.

    x (two axes) → MatMul(W) → Add(b) → y   ⇒   x → Gemm(W, b) → y
    x (more)     → MatMul(W) → Add(b) → y   ⇒   the same, the Add marked with BIAS_KEY as the MatMul's own

Gemm takes two axes only. With more, engines look for MatMul and Add as they stand, so these stay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import is_const
from fewbit.graph.rewrite import BIAS_KEY, Edit, Rule, is_tagged, why_not_private
from fewbit.graph.rules import linear
from fewbit.graph.rules.affine import coefficients
from fewbit.graph.rules.values import arg, maker, other_input, rank


class Biased(NamedTuple):
    """A MatMul, and the Add behind it."""

    matmul: ir.Node
    add: ir.Node


def pattern(node: ir.Node) -> Biased | None:
    """Add of a constant to a MatMul by a constant, not yet marked."""
    if is_tagged(node) or BIAS_KEY in node.metadata_props or len(node.inputs) != 2:
        return None
    for value in node.inputs:
        matmul = maker(value, "MatMul")
        if matmul is not None and value is not None and is_const(other_input(node, value)):
            return Biased(matmul, node) if any(is_const(v) for v in matmul.inputs) else None
    return None


def check(edit: Edit, match: Biased) -> str:
    """One number for each column of a constant matrix, and nobody else who reads the product."""
    matmul, add = match
    reason = linear.why_not_linear(matmul) or why_not_private(matmul.outputs[0], add)
    if reason:
        return reason
    found = coefficients(add, linear.outputs(matmul), 0, rank(arg(matmul, 0)))
    return found if isinstance(found, str) else ""


def replace(edit: Edit, match: Biased) -> str:
    """Make one Gemm, or mark the Add."""
    matmul, add = match
    if rank(arg(matmul, 0)) != 2:
        add.metadata_props[BIAS_KEY] = str(matmul.name)
        return f"it is the bias of {matmul.name!r}"
    found = coefficients(add, linear.outputs(matmul), 0, 2)
    assert not isinstance(found, str)
    name = str(matmul.name)
    edit.swallow(matmul, add)
    linear.scale_outputs(edit, matmul, np.ones(linear.outputs(matmul)), found[1], "add")
    return f"{name!r} and its bias are one Gemm"


BIAS = Rule("bias", ("Add",), pattern, check, replace)
