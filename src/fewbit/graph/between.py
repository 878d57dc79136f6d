"""A Mul of its own, where a value cannot be divided: others read it as it is, or what makes it takes no factors.

    LayerNorm ─ v ─┬─ MatMul(W) ─ y          LayerNorm ─ v ─┬─ Mul(1/s) ─ MatMul(W·s) ─ y
                   └─ Add (residual)    ⇒                   └─ Add (residual)

It costs one pass over v in float. The Mul is marked with PATTERN_KEY, so that nobody makes it integer: v would be
rounded in front of it, which it is there to prevent.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.follow import F64, Read, Reader, Site, why_not_read
from fewbit.graph.model import Model, is_const, is_float, op_name
from fewbit.graph.rewrite import Edit, tag
from fewbit.graph.rules import linear
from fewbit.graph.rules.values import arg

MATRICES = ("MatMul", "Gemm")
"""Operators in front of which a Mul costs little beside what they do."""


def places(model: Model, taken: set[str], ops: tuple[str, ...] = MATRICES) -> list[Site]:
    """Values in front of layers with weights that a Mul may be put behind; `maker` of such a site is empty.

    Args:
        model: a fused network. taken: layers that other sites multiply already. ops: of the readers.
    """
    found = []
    for value in [*model.graph.inputs, *(v for n in model.nodes for v in n.outputs)]:
        readers = direct_readers(value)
        if readers and not any(r.node.name in taken or op_name(r.node) not in ops for r in readers):
            axis, index = -1 - linear.channel_from_right(readers[0].node), tuple(readers[0].index.tolist())
            reads = tuple(Read(str(r.node.name), str(value.name), axis, index) for r in readers)
            found.append(Site(str(value.name), len(index), axis, "", reads))
    return found


def direct_readers(value: ir.Value) -> list[Reader]:
    """Layers with weights of their own that read a value along the same axis: the first one's."""
    found: list[Reader] = []
    for use in value.uses():
        node = use.node
        if op_name(node) not in linear.OPS or use.idx != 0 or not is_const(arg(node, 1)) or not is_float(value):
            continue
        if node.graph is not value.graph or why_not_read(node) or linear.inputs(node) < 2:
            continue
        if not found or _along(node) == _along(found[0].node):
            found.append(Reader(node, value, np.arange(linear.inputs(node))))
    return found


def _along(node: ir.Node) -> tuple[int, int]:
    """The axis a layer sums over, from the right, and its length."""
    return linear.channel_from_right(node), linear.inputs(node)


def put_between(edit: Edit, value: ir.Value, readers: list[Reader], s: F64) -> None:
    """Let these readers see the value divided by s; the caller multiplies their weights."""
    right, name = linear.channel_from_right(readers[0].node), str(value.name)
    factor = edit.constant(f"{name}.factor", (1 / s).astype(np.float32).reshape(-1, *[1] * right))
    node = ir.node("Mul", [value, factor], name=f"{name}.rescale")
    out = node.outputs[0]
    out.name, out.shape, out.type = f"{name}.rescaled", value.shape, value.type
    tag("Rescale", [node])
    edit.model.graph.insert_before(readers[0].node, node)
    for reader in readers:
        reader.node.replace_input_with(0, out)
    edit.model.graph.sort()
