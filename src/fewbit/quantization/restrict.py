"""Turn some layers of a calibrated plan back to float, and let their neighbours follow.

    calibrated plan, {layer: reason} → plan anew with these layers float → ranges and corrections taken over

The plan is made anew, since a layer that turns float takes others along: what it absorbed, and support operators that
no longer stand between integer layers. What both plans have in the same format keeps its range, its weight scales,
its rounding and its bias; a value that the old plan did not have is left without a range (`Plan.calibrated` tells).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fewbit.config import QuantConfig
from fewbit.core.plan import NodePlan, Plan, ValuePlan
from fewbit.core.target import Target
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan


def restrict(
    model: Model,
    plan: Plan,
    config: QuantConfig,
    target: Target,
    floats: Mapping[str, str],
    measured: Mapping[str, float] | None = None,
) -> Plan:
    """The plan with some layers float.

    Args:
        model: the fused float network of the plan. plan: calibrated, perhaps corrected.
        config, target: what the plan was made with.
        floats: layers to keep float → the reason, for people.
        measured: see `make_plan`; what is integer in the plan already is not doubted because of the table.
    """
    decided = {name: 0.0 for name, n in plan.nodes.items() if n.quantized} | dict(measured or {})
    return take_over(make_plan(model, config, target, floats, decided), plan)


def take_over(new: Plan, old: Plan) -> Plan:
    """Ranges and corrections of `old` in the places of `new` that have the same format."""
    values = {name: _value(v, new, old, old.values.get(name)) for name, v in new.values.items()}
    nodes = {name: _node(n, old.nodes.get(name)) for name, n in new.nodes.items()}
    return replace(new, values=values, nodes=nodes, rescales=old.rescales, data=old.data)


def _value(v: ValuePlan, new: Plan, old: Plan, was: ValuePlan | None) -> ValuePlan:
    if v.role == "weight":
        same = was is not None and was.role == "weight" and was.spec == v.spec
        return replace(v, scale=was.scale, nudge=was.nudge) if was is not None and same else v
    if v.calibrated or v.spec.dynamic:
        return v
    ranges = [old.values[m] for m, w in new.values.items() if w.group == v.group and m in old.values]
    known = [(w.lo, w.hi, w.spec) for w in ranges if w.role == "act" and w.lo is not None and w.hi is not None]
    if not known:
        return v
    lo, hi = min(k[0] for k in known), max(k[1] for k in known)
    return replace(v, lo=lo, hi=hi, spec=v.spec.resolve(lo))


def _node(n: NodePlan, was: NodePlan | None) -> NodePlan:
    return replace(n, bias=was.bias) if was is not None and n.quantized and was.bias else n
