"""What a target's rows may know about a node: see `fewbit.core.target.NodeFacts`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from fewbit.core.target import NodeFacts
from fewbit.errors import ModelError
from fewbit.graph.model import Array, Model, attr, const, dims, is_const, op_name


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
        joined=_joined(node),
    )


def _joined(node: ir.Node) -> bool:
    """Whether a node reads the output of a Concat along another axis than the last, or a Relu behind one."""
    value = node.inputs[0] if node.inputs else None
    while value is not None and (maker := value.producer()) is not None:
        if maker.op_type == "Concat":
            axis, rank = int(attr(maker, "axis", 0)), len(dims(maker.outputs[0]) or ())
            return axis != -1 and axis != rank - 1
        if maker.op_type != "Relu":
            return False
        value = maker.inputs[0]
    return False


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


def check_finite_weights(model: Model, names: Iterable[str]) -> None:
    """Look at constants by name, each with a layer that reads it; `w@layer` means `w`, computed values are passed over.

    Raises:
        ModelError: one holds NaN or infinity; names it and its layer.
    """
    values = model.values()
    for name in names:
        value = values.get(name) or values.get(name.rsplit("@", 1)[0])
        data = const(value)
        if value is not None and data is not None:
            users = [str(node.name) for node, _ in value.uses()]
            check_finite(data, str(value.name), users[0] if users else "(none)")


def check_finite(data: Array, name: str, layer: str) -> None:
    """Raise ModelError if a weight or bias of a layer holds NaN or infinity, which no range covers."""
    if not data.size or data.dtype.kind != "f":
        return
    with np.errstate(invalid="ignore"):
        ends = data.min(), data.max()  # NaN comes through; no copy, as isfinite(data) would make one
    if not np.isfinite(ends).all():
        raise ModelError(
            f"weight {name!r} of layer {layer!r} holds NaN or infinity; "
            "repair the model: the training diverged, or the export went wrong"
        )
