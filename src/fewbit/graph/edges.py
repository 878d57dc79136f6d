"""Inputs and outputs of another type or layout than the network's: one node at each edge, which keeps its name.

    before   x float ─ …                      after   x float16 ─ Cast ─ x_inner float ─ …
             x float ─ Q(s, z) ─ DQ ─ …               x uint8 ─ DQ ─ …                       the Q has nothing to do
                                                      x int8 ─ DQ(s, z - 128) ─ Q(s, z) ─ DQ ─ …      the same numbers
             … ─ Q(s, z) ─ DQ ─ y float               … ─ Q ─ y uint8      or   … ─ Q ─ DQ ─ Q(s, z - 128) ─ y int8

Models are changed in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.graph.finalize import cancel_pairs
from fewbit.graph.model import Model, const

FLOATS = ("float32", "float16", "float64")
WHOLE = ("int32", "int64")
EIGHT = ("int8", "uint8")


def new_input(
    model: Model, value: ir.Value, op: str, *, dtype: ir.DataType, shape: ir.Shape | None,
    rest: Sequence[ir.Value] = (), attributes: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Put a node between a graph input and all that reads it; the new input has the name, type and shape given.

    Args:
        value: the input as it is. op, rest, attributes: of the node, whose first input is the new one.
    """
    name, taken = str(value.name), model.names()
    outer = ir.Value(name=name, shape=shape, type=ir.TensorType(dtype))
    node = ir.node(op, [outer, *rest], attributes or {}, name=model.fresh(f"{name}_{op.lower()}", taken))
    inner = node.outputs[0]
    inner.name, inner.type, inner.shape = model.fresh(f"{name}_inner", taken), value.type, value.shape
    value.replace_all_uses_with(inner)
    value.name = None
    model.graph.inputs[list(model.graph.inputs).index(value)] = outer
    first = next(iter(model.graph))
    model.graph.insert_before(first, node)


def new_output(
    model: Model, value: ir.Value, op: str, *, dtype: ir.DataType, shape: ir.Shape | None,
    rest: Sequence[ir.Value] = (), attributes: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Put a node behind a graph output, which takes over its name."""
    name, taken = str(value.name), model.names()
    value.name = model.fresh(f"{name}_inner", taken)
    node = ir.node(op, [value, *rest], attributes or {}, name=model.fresh(f"{name}_{op.lower()}", taken))
    outer = node.outputs[0]
    outer.name, outer.type, outer.shape = name, ir.TensorType(dtype), shape
    model.graph.append(node)
    _replace_output(model, value, outer)


def _replace_output(model: Model, old: ir.Value, new: ir.Value) -> None:
    """Wherever it is listed: that may be twice."""
    for i, v in enumerate(list(model.graph.outputs)):
        if v is old:
            model.graph.outputs[i] = new


def cast_ends(model: Model, dtype: str, *, inputs: bool) -> list[str]:
    """Let inputs, or outputs, be of a type: float ones float32 or float16, whole-numbered ones int32 or int64.

    Returns:
        the ends that are of that type now; those of the other kind stay what they are.
    """
    kind = FLOATS if dtype in FLOATS else WHOLE
    wanted, found = ir.DataType[{"float32": "FLOAT", "float64": "DOUBLE"}.get(dtype, dtype.upper())], []
    for value in _ends(model, inputs):
        have = value.dtype
        if have is None or have.numpy().name not in kind:
            continue
        found.append(str(value.name))
        if have == wanted:
            continue
        if inputs:
            new_input(model, value, "Cast", dtype=wanted, shape=value.shape, attributes={"to": int(have)})
        else:
            new_output(model, value, "Cast", dtype=wanted, shape=value.shape, attributes={"to": int(wanted)})
    return found


def _ends(model: Model, inputs: bool) -> list[ir.Value]:
    if inputs:
        return [v for v in model.graph.inputs if v.name not in model.graph.initializers and not v.is_graph_output()]
    return [v for v in dict.fromkeys(model.graph.outputs) if not v.is_graph_input()]


def integer_inputs(model: Model, dtype: str) -> dict[str, str]:
    """Let float inputs be the integers that the network makes of them, as int8 or uint8.

    Returns:
        input → why not; "" if it is so now.
    """
    found, wanted = {}, ir.DataType[dtype.upper()]
    for value in _ends(model, inputs=True):
        if value.dtype != ir.DataType.FLOAT:
            continue
        name = str(value.name)
        q = next((n for n, i in value.uses() if n.op_type == "QuantizeLinear" and i == 0 and _grid(n)), None)
        found[name] = "the layers that read it compute in float" if q is None else ""
        if q is not None:
            grid = _like(model, q, dtype)
            new_input(model, value, "DequantizeLinear", dtype=wanted, shape=value.shape, rest=grid)
    cancel_pairs(model)
    model.drop_unused()
    return found


def integer_outputs(model: Model, dtype: str) -> dict[str, str]:
    """Let float outputs be the integers that the network computes, as int8 or uint8.

    Returns:
        output → why not; "" if it is so now.
    """
    found, wanted = {}, ir.DataType[dtype.upper()]
    for value in _ends(model, inputs=False):
        if value.dtype != ir.DataType.FLOAT:
            continue
        name, dq = str(value.name), value.producer()
        if dq is None or dq.op_type != "DequantizeLinear" or not _grid(dq):
            found[name] = "the layer that makes it answers in float"
            continue
        found[name] = ""
        inner = dq.inputs[0]
        assert inner is not None
        if inner.dtype == wanted and inner.producer() is not None and not inner.is_graph_output():
            value.name = model.fresh(f"{name}_inner", model.names())
            inner.name, inner.shape = name, inner.shape if inner.shape is not None else value.shape
            _replace_output(model, value, inner)
        else:
            grid = _like(model, dq, dtype)
            new_output(model, value, "QuantizeLinear", dtype=wanted, shape=value.shape, rest=grid)
    model.drop_unused()
    return found


def _grid(node: ir.Node) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
    """Scale and zero point of a Q or DQ, if both are constants, one for all values, and of 8 bits."""
    scale, zero = (const(v) for v in (*node.inputs, None)[1:3])
    if scale is None or zero is None or scale.size != 1 or zero.dtype.name not in EIGHT:
        return None
    return scale, zero


def _like(model: Model, node: ir.Node, dtype: str) -> tuple[ir.Value, ir.Value]:
    """Scale and zero point of a Q or DQ for the same grid in int8 or uint8."""
    grid = _grid(node)
    assert grid is not None
    scale, zero = grid
    moved = int(zero.reshape(())) + 128 * ((dtype == "uint8") - (zero.dtype == np.uint8))
    taken = model.names()
    name = str(node.name)
    return (
        model.add_initializer(model.fresh(f"{name}_edge_scale", taken), np.asarray(scale, np.float32).reshape(())),
        model.add_initializer(model.fresh(f"{name}_edge_zero", taken), np.asarray(moved, dtype).reshape(())),
    )
