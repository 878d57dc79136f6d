"""Values that become integers by a range measured at run time, in standard operators.

    unsigned   x_q, s, z = DynamicQuantizeLinear(x)                          u8, one range for all of x
    signed     s = max|x| / 127          x_q = QuantizeLinear(x, s)          s8, z = 0; for the right side of products
    by row     m = max|x| over the last axis     x_q = QuantizeLinear(x · 127 / m, 1, 128)     u8, one range a row;
               real = (x_q − 128) · m · 1/127

Layers that read the same value in the same way share what is made here, and those that share a weight its integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from fewbit.core.params import TINY, IntArray, QuantParams
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.errors import PlanError
from fewbit.graph.model import dims
from fewbit.graph.places import weight_places

FLOAT, U8_MIDDLE, TOP = ir.DataType.FLOAT, np.uint8(128), np.float32(127)
AXES_ARE_INPUTS = 18
"""From this opset on ReduceMax takes its axes as an input."""

Append = Callable[[ir.Node, str, ir.DataType, ir.Shape | None], ir.Value]


@dataclass(frozen=True)
class Measured:
    """A value in integers: real = (q − zero) · scale · unit; no zero means 0; `rows`: one scale a row."""

    q: ir.Value
    scale: ir.Value
    zero: ir.Value | None = None
    unit: float = 1.0
    rows: bool = False

    def but(self, q: ir.Value) -> Measured:
        """The same, its integers arranged in another way."""
        return replace(self, q=q)


@dataclass
class DynamicWriter:
    """What layers with run-time ranges are written with; one for a network.

    Args:
        plan: the plan that is written.
        domains: operator sets of the model, to which those in use are added.
        append: adds a node, names it and its outputs. constant: adds an initializer.
        weight: of a node's input, its name in the plan, its integers, their parameters.
    """

    plan: Plan
    domains: dict[str, int]
    append: Append
    constant: Callable[[str, Any], ir.Value]
    weight: Callable[[ir.Node, int], tuple[str, IntArray, QuantParams]]
    measured: dict[tuple[str, str], Measured] = field(default_factory=dict)
    constants: dict[str, ir.Value] = field(default_factory=dict)

    def shared(self, name: str, data: Any) -> ir.Value:
        """An initializer that is written once for all that ask for this name."""
        if name not in self.constants:
            self.constants[name] = self.constant(name, data)
        return self.constants[name]


def check_weight(node: ir.Node, index: int, key: str, spec: QuantSpec) -> None:
    """Raise PlanError unless integers of this format can be multiplied: a plan may have been edited by hand."""
    channel = next((p.channel for p in weight_places(node) if p.index == index), None)
    rank = len(dims(node.inputs[index]) or ())
    along = spec.granularity == "tensor" or (
        spec.granularity == "channel" and spec.axis is not None and rank > 0 and spec.axis % rank == channel
    )
    most = 16 if node.op_type == "Gather" else 8
    if not (along and spec.signed and spec.symmetric and spec.bits <= most):
        raise PlanError(
            f"layer {node.name!r} multiplies or gathers integers; its weight {key!r} must be signed, symmetric, of "
            f"{most} bits or less, with one scale or one along axis {channel}; the plan says {spec.to_json()}"
        )


def unsigned(w: DynamicWriter, x: ir.Value) -> Measured:
    """u8, one range for all of it."""
    key = str(x.name), "u8"
    if key not in w.measured:
        node = ir.node("DynamicQuantizeLinear", [x], num_outputs=3)
        q = w.append(node, f"{x.name}_q", ir.DataType.UINT8, x.shape)
        scale, zero = node.outputs[1], node.outputs[2]
        scale.type, scale.shape = ir.TensorType(FLOAT), ir.Shape([])
        zero.type, zero.shape = ir.TensorType(ir.DataType.UINT8), ir.Shape([])
        w.measured[key] = Measured(q, scale, zero)
    return w.measured[key]


def signed(w: DynamicWriter, x: ir.Value) -> Measured:
    """s8, one symmetric range for all of it."""
    key = str(x.name), "s8"
    if key not in w.measured:
        top = _largest(w, x, {"keepdims": 0}, [])
        scale = w.append(ir.node("Div", [top, w.shared("top", TOP)]), f"{x.name}_s", FLOAT, ir.Shape([]))
        made = ir.node("QuantizeLinear", [x, scale, w.shared("s8_middle", np.int8(0))])
        w.measured[key] = Measured(w.append(made, f"{x.name}_s8", ir.DataType.INT8, x.shape), scale)
    return w.measured[key]


def by_row(w: DynamicWriter, x: ir.Value) -> Measured:
    """u8 around 128, one symmetric range for each row along the last axis."""
    key = str(x.name), "row"
    if key not in w.measured:
        if w.domains[""] >= AXES_ARE_INPUTS:
            top = _largest(w, x, {}, [w.shared("last_axis", np.array([-1], np.int64))])
        else:
            top = _largest(w, x, {"axes": [-1]}, [])
        factor = w.append(ir.node("Div", [w.shared("top", TOP), top]), f"{x.name}_inverse", FLOAT, None)
        spread = w.append(ir.node("Mul", [x, factor]), f"{x.name}_rows", FLOAT, x.shape)
        zero = w.shared("u8_middle", U8_MIDDLE)
        made = ir.node("QuantizeLinear", [spread, w.shared("one", np.float32(1)), zero])
        q = w.append(made, f"{x.name}_rq", ir.DataType.UINT8, x.shape)
        w.measured[key] = Measured(q, top, zero, unit=1 / float(TOP), rows=True)
    return w.measured[key]


def _largest(w: DynamicWriter, x: ir.Value, attrs: dict[str, Any], axes: list[ir.Value]) -> ir.Value:
    """max|x|, kept so far from 0 that it can divide and be divided."""
    size = w.append(ir.node("Abs", [x]), f"{x.name}_abs", FLOAT, x.shape)
    most = w.append(ir.node("ReduceMax", [size, *axes], attributes=attrs), f"{x.name}_most", FLOAT, None)
    least = w.shared("least", np.float32(TINY * float(TOP)))
    return w.append(ir.node("Max", [most, least]), f"{x.name}_top", FLOAT, None)


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Let `new` stand where `old` stood, under its name."""
    graph = old.graph
    assert graph is not None
    for user, index in list(old.uses()):
        user.replace_input_with(index, new)
    name, old.name = old.name, f"{old.name}_unused"
    new.name = name
    for i, v in enumerate(graph.outputs):
        if v is old:
            graph.outputs[i] = new
