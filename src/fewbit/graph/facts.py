"""What a target's rows may know about a node: see `fewbit.core.target.NodeFacts`."""

from __future__ import annotations

import onnx_ir as ir

from fewbit.core.target import NodeFacts
from fewbit.graph.model import attr, dims, is_const, op_name


def facts(node: ir.Node) -> NodeFacts:
    """Collect the facts of one node."""
    shapes = tuple(dims(v) for v in node.inputs)
    axis = weight_axis(node)
    weight = shapes[1] if len(shapes) > 1 else None
    channels = weight[axis] if weight is not None and axis is not None and axis < len(weight) else None
    if node.op_type == "ConvTranspose" and channels is not None:
        channels *= int(attr(node, "group", 1))
    return NodeFacts(
        op=op_name(node),
        ranks=tuple(len(s) if s is not None else None for s in shapes),
        shapes=shapes,
        constant=tuple(is_const(v) for v in node.inputs),
        groups=int(attr(node, "group", 1)),
        channels=channels,
        attrs={
            k: attr(node, k)
            for k, a in node.attributes.items()
            if a.type in (ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING, ir.AttributeType.INTS)
        },
    )


def weight_axis(node: ir.Node) -> int | None:
    """Axis of the output channels in the weight (input 1), counted in the weight's own axes.

    Conv (out, in/group, k…) → 0; ConvTranspose (in, out/group, k…) → 1; Gemm (in, out) → 1, transposed → 0;
    MatMul (…, in, out) → last.
    """
    shape = dims(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attr(node, "transB", 0) else 1
    if node.op_type == "MatMul" and shape is not None:
        return len(shape) - 1
    return None


def reduce_axis(node: ir.Node) -> int | None:
    """Axis of the weight that is summed over: where groups of a group-wise format lie."""
    axis = weight_axis(node)
    if node.op_type == "Gemm":
        return 1 - axis if axis is not None else None
    return axis - 1 if node.op_type == "MatMul" and axis else None
