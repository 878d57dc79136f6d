"""Plans with some layers float, always with every range known.

base plan, float layers → restrict ─ all ranges known ──────────────→ the candidate
                                   └ a range is missing → measure it, if there is a way to
                                                        → else the layers that need it turn float as well, again
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.target import Target
from fewbit.graph.model import Model
from fewbit.quantization.restrict import restrict

Calibrate = Callable[[Plan], Plan]


def candidate(
    model: Model,
    plan: Plan,
    config: QuantConfig,
    target: Target,
    floats: Mapping[str, str],
    calibrate: Calibrate | None = None,
) -> Plan:
    """The plan with these layers float, and with as many more as ranges are missing for.

    Args:
        model, plan, config, target, floats: see `restrict`; what is float in the base plan stays so.
        calibrate: measures the ranges of a plan.
    """
    if not floats:
        return plan
    wanted = plan.kept_float() | dict(floats)
    while True:
        found = restrict(model, plan, config, target, wanted)
        if not found.calibrated and calibrate is not None:
            found = filled(found, calibrate(found))
        more = users_of_missing(model, found) - wanted.keys()
        if not more:
            return found
        wanted |= dict.fromkeys(sorted(more), "a value that it needs was not calibrated, since others turned float")


def filled(plan: Plan, measured: Plan) -> Plan:
    """The plan, with the ranges that it lacks taken from another one; those it has stay."""
    values = {
        name: replace(v, lo=m.lo, hi=m.hi, spec=m.spec)
        if v.role == "act" and not v.calibrated and not v.spec.dynamic and (m := measured.values[name]).calibrated
        else v
        for name, v in plan.values.items()
    }
    return replace(plan, values=values)


def users_of_missing(model: Model, plan: Plan) -> set[str]:
    """Integer layers that make or read a value without a range."""
    lost = {k for k, v in plan.values.items() if v.role == "act" and not v.calibrated and not v.spec.dynamic}
    found = set()
    for node in model.nodes:
        verdict = plan.nodes.get(str(node.name))
        touched = {str(v.name) for v in (*node.inputs, *node.outputs) if v is not None}
        if lost and verdict is not None and verdict.quantized and touched & lost:
            found.add(verdict.absorbed_by or str(node.name))
    return found
