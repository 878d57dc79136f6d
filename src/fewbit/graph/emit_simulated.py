"""Write a plan into the graph as rounding in float: any width, and what is written is what every engine computes.

    before   x ─ Conv(W, b) ─ y
    after    x ─ Div(s) ─ Round ─ Clip(qmin, qmax) ─ Mul(s) ─ Conv(W', b) ─ y        W' = round(W / s_W) · s_W

Weights are rounded here, once. An input is rounded for those layers alone that the plan makes integer; whoever else
reads it gets it as it was, and outputs and biases stay float. Where the plan leaves a range to run time, the graph
measures it, batch by batch:

    x ─ Abs ─ Flatten ─ ReduceMax ─ ReduceMean ─ m        s = m / qmax, m the mean over samples of their largest |x|

1 bit signed has no 0: x ─ Less(0) ─ Where(−s, s).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.params import TINY, QuantParams
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.graph.emit import check_fits, stored_weight
from fewbit.graph.facts import check_finite
from fewbit.graph.model import Model, const, is_const

AXES_ARE_INPUTS = 18
"""From this opset on ReduceMax takes its axes as an input."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Simulated:
    """The network with rounding in it. `ranges`: value → the output that holds its m, if these were asked for."""

    model: Model
    ranges: Mapping[str, str]


@dataclass
class _Writer:
    model: Model
    plan: Plan
    taken: set[str]
    made: dict[str, ir.Value] = field(default_factory=dict)
    ranges: dict[str, ir.Value] = field(default_factory=dict)

    def constant(self, name: str, data: Any) -> ir.Value:
        return self.model.add_initializer(self.model.fresh(name, self.taken), data)

    def node(self, op: str, inputs: list[ir.Value], name: str, like: ir.Value | None = None, **attrs: Any) -> ir.Value:
        """Append a node; its output has the type and shape of `like`, or is a float without known shape."""
        node = ir.node(op, inputs, attributes=attrs)
        node.name = self.model.fresh(name, self.taken)
        out = node.outputs[0]
        out.name, out.type = node.name, ir.TensorType(ir.DataType.FLOAT)
        out.shape = like.shape if like is not None else None
        self.model.graph.append(node)
        return out


def emit_simulated(
    model: Model,
    plan: Plan,
    weights: Mapping[str, Array] | None = None,
    *,
    round_inputs: bool = True,
    tell_ranges: bool = False,
) -> Simulated:
    """Make the simulated network.

    Args:
        model: the float network that the plan was made for; it is not changed.
        plan: its roles `act` and `weight` are rounded; activations are calibrated, or `dynamic`.
        weights: entries of the plan whose rounded weights are known already → these.
        round_inputs: round what layers read, and not their weights alone.
        tell_ranges: make the measured ranges outputs of the network, behind its own.

    Raises:
        PlanError: the plan is for another network. NotCalibrated: an activation has no range.
    """
    check_fits(model, plan)
    out = model.clone()
    w = _Writer(out, plan, out.names())
    rounded: dict[str, ir.Value] = {}
    for node, i, value, role in _roles(out, plan):
        key = plan.weight_key(str(value.name), str(node.name)) if role == "weight" else None
        if key is not None and is_const(value):
            if key not in rounded:
                rounded[key] = w.constant(f"{key}_rounded", _rounded(plan, key, value, node, weights or {}))
            node.replace_input_with(i, rounded[key])
        elif role == "act" and round_inputs:
            node.replace_input_with(i, _fake(w, value))
    told = {}
    for name, m in w.ranges.items() if tell_ranges else ():
        out.graph.outputs.append(m)
        told[name] = str(m.name)
    out.drop_unused()
    out.graph.sort()
    return Simulated(out, told)


def _roles(model: Model, plan: Plan) -> Iterator[tuple[ir.Node, int, ir.Value, str]]:
    """Inputs of the integer nodes, each with its role."""
    for node in model.nodes:
        verdict = plan.nodes.get(str(node.name))
        if verdict is not None and verdict.quantized and not verdict.absorbed_by:
            for i, (value, role) in enumerate(zip(list(node.inputs), verdict.roles, strict=False)):
                if value is not None:
                    yield node, i, value, role


def _rounded(plan: Plan, key: str, value: ir.Value, node: ir.Node, known: Mapping[str, Array]) -> Array:
    if key in known:
        return known[key]
    data = const(value)
    assert data is not None
    check_finite(data, str(value.name), str(node.name))
    return stored_weight(plan, key, data).real()


def _fake(w: _Writer, x: ir.Value) -> ir.Value:
    """The rounded value, made once for all that read it."""
    name = str(x.name)
    if name not in w.made:
        spec = w.plan.values[name].spec
        if spec.dynamic:
            scale = _measured(w, x, spec)
        else:
            params = w.plan.params(name)
            _check_plain(params)
            spec, scale = params.spec, w.constant(f"{name}_scale", params.scale)
        w.made[name] = _round(w, x, scale, spec)
    return w.made[name]


def _check_plain(params: QuantParams) -> None:
    assert params.spec.granularity == "tensor" and not params.zero_point.any(), params.spec


def _measured(w: _Writer, x: ir.Value, spec: QuantSpec) -> ir.Value:
    """The scale of a batch."""
    name = str(x.name)
    flat = w.node("Flatten", [w.node("Abs", [x], f"{name}_abs", like=x)], f"{name}_rows", axis=1)
    if w.model.opset >= AXES_ARE_INPUTS:
        most = w.node("ReduceMax", [flat, w.constant(f"{name}_axes", np.array([1]))], f"{name}_largest", keepdims=0)
    else:
        most = w.node("ReduceMax", [flat], f"{name}_largest", axes=[1], keepdims=0)
    mean = w.node("ReduceMean", [most], f"{name}_range", keepdims=0)
    mean.shape = ir.Shape(())
    w.ranges[name] = mean
    step = w.node("Div", [mean, w.constant(f"{name}_levels", np.float32(spec.qmax))], f"{name}_step")
    return w.node("Max", [step, w.constant(f"{name}_least", np.float32(TINY))], f"{name}_scale")


def _round(w: _Writer, x: ir.Value, scale: ir.Value, spec: QuantSpec) -> ir.Value:
    name = str(x.name)
    if spec.bits == 1 and spec.signed:
        below = w.node("Less", [x, w.constant(f"{name}_zero", np.float32(0))], f"{name}_below", like=x)
        below.type = ir.TensorType(ir.DataType.BOOL)
        return w.node("Where", [below, w.node("Neg", [scale], f"{name}_minus"), scale], f"{name}_sign", like=x)
    q = w.node("Round", [w.node("Div", [x, scale], f"{name}_steps", like=x)], f"{name}_whole", like=x)
    ends = [w.constant(f"{name}_{tail}", np.float32(end)) for tail, end in (("qmin", spec.qmin), ("qmax", spec.qmax))]
    return w.node("Mul", [w.node("Clip", [q, *ends], f"{name}_q", like=x), scale], f"{name}_rounded", like=x)
