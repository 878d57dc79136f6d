"""Where the bias of a layer sits, and what a correction adds to it.

Conv, ConvTranspose, Gemm    input 2; added if there is none. Of Gemm it is β times that
MatMul                       the constant of the Add that fusing marked as its bias; none → no place

No place either where input 2 is computed, differs from row to row, or does not count since β is 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from fewbit.core.plan import NodePlan
from fewbit.errors import PlanError
from fewbit.graph.facts import weight_axis
from fewbit.graph.model import Array, Model, attr, const, dims, is_const
from fewbit.graph.rewrite import BIAS_KEY


def bias_place(node: ir.Node) -> tuple[ir.Node, int] | None:
    """The node and the index of its input that hold a layer's bias, or would hold it; None: there is no place."""
    if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        there = node.inputs[2] if len(node.inputs) > 2 else None
        return (node, 2) if beta(node) and (there is None or _per_channel(node, there)) else None
    if node.op_type != "MatMul":
        return None
    for use in node.outputs[0].uses():
        if use.node.metadata_props.get(BIAS_KEY) == node.name:
            index = 1 - use.idx
            return (use.node, index) if is_const(use.node.inputs[index]) else None
    return None


def beta(node: ir.Node) -> float:
    """What input 2 is multiplied by."""
    return float(attr(node, "beta", 1.0)) if node.op_type == "Gemm" else 1.0


def _per_channel(node: ir.Node, bias: ir.Value) -> bool:
    """Whether a bias is constant, with one number for each channel or for all; Gemm takes one a row as well."""
    shape = dims(bias)
    if not is_const(bias) or shape is None:
        return False
    return node.op_type != "Gemm" or (set(shape[:-1]) <= {1} and shape[-1:] in ((), (1,), (_channels(node),)))


def sum_of(node: ir.Node) -> ir.Value:
    """The value that holds the layer's sum with its bias, before any activation."""
    place = bias_place(node)
    return place[0].outputs[0] if place is not None else node.outputs[0]


def bias_of(node: ir.Node) -> Array | None:
    """What is added to the sum, zeros if there is no bias yet; None if there is no place for one."""
    place = bias_place(node)
    if place is None:
        return None
    holder, index = place
    data = const(holder.inputs[index]) if len(holder.inputs) > index else None
    if data is None:
        return np.zeros(_channels(node), np.float32)
    return data if beta(node) == 1 else data.astype(np.float64) * beta(node)


def _channels(node: ir.Node) -> int:
    shape, axis = dims(node.inputs[1]), weight_axis(node)
    assert shape is not None and axis is not None
    count = int(shape[axis] or 0)
    return (
        count * int(node.attributes["group"].value)
        if node.op_type == "ConvTranspose" and "group" in node.attributes
        else count
    )


def add_bias(model: Model, node: ir.Node, verdict: NodePlan, taken: set[str], role: str = "bias") -> NodePlan:
    """Add `verdict.bias` to a layer's bias in place; returns the verdict with the role for a bias that is new.

    Raises:
        PlanError: the layer has no place for a bias, or another number of channels.
    """
    if not verdict.bias:
        return verdict
    old, place = bias_of(node), bias_place(node)
    if old is None or place is None:
        raise PlanError(f"the plan corrects the bias of layer {node.name!r}, which has no place for one")
    shift = np.asarray(verdict.bias, np.float64)
    if shift.size != _channels(node):
        raise PlanError(f"layer {node.name!r} has {_channels(node)} channels; the plan holds {shift.size} for its bias")
    with np.errstate(over="ignore"):
        total = ((old.astype(np.float64) + shift) / beta(node)).astype(np.float32)
    if not np.isfinite(total).all():
        raise PlanError(f"layer {node.name!r}: the plan holds a bias that float32 cannot hold")
    holder, index = place
    new = len(holder.inputs) <= index or holder.inputs[index] is None
    name = model.fresh(f"{node.name}_bias" if new else str(holder.inputs[index].name), taken)  # type: ignore[union-attr]
    value = model.add_initializer(name, total)
    if len(holder.inputs) <= index:
        holder.resize_inputs(index + 1)
    holder.replace_input_with(index, value)
    if not new or holder is not node:
        return verdict
    return replace(verdict, roles=(*verdict.roles[:2], role))


def bias_apart(model: Model, name: str) -> None:
    """Add the bias of a layer behind it, where engines leave it alone; as an input they may round it to integers.

    x → Conv(W, b) → y   ⇒   x → Conv(W) → Add(b) → y
    """
    node = model.node(name)
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or len(node.inputs) < 3 or node.inputs[2] is None:
        return
    bias, y, taken = const(node.inputs[2]), node.outputs[0], model.names()
    if bias is None or beta(node) != 1:
        return
    rank = len(dims(y) or dims(node.inputs[1]) or ())
    shaped = bias if node.op_type == "Gemm" else bias.reshape(1, -1, *[1] * (rank - 2))
    value = model.add_initializer(model.fresh(f"{name}.bias", taken), shaped)
    add = ir.node("Add", [y, value], name=model.fresh(f"{name}/Add", taken))
    out = add.outputs[0]
    for user, index in list(y.uses()):
        if user is not add:
            user.replace_input_with(index, out)
    out.type, out.shape = y.type, y.shape
    final, y.name = str(y.name), model.fresh(f"{y.name}/sum", taken)
    out.name = final
    for i, v in enumerate(model.graph.outputs):
        if v is y:
            model.graph.outputs[i] = out
    node.resize_inputs(2)
    model.graph.insert_after(node, add)
