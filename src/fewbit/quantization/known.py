"""Fill a plan with the ranges that the network's file holds: an old calibration needs no data again.

    group   its observed values      known → what holds all of them
            else any of its values   known → the same
            none of them             missing

A value without a range of its own has that of the value which it is moved or chosen from, by Reshape, MaxPool and the
like. What a group shares one range for holds the same numbers, moved: a known range of any of them is one of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fewbit.core.plan import Plan
from fewbit.errors import NotCalibrated
from fewbit.graph.model import Model, op_name

Range = tuple[float, float]

MOVING = frozenset({"Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity", "MaxPool", "AveragePool",
                    "GlobalMaxPool", "GlobalAveragePool"})  # fmt: skip
"""Operators whose output lies within the range of their first input."""

WHY = "range from the checkpoint"
NAMED = 5
"""Values and layers named in the error."""


def with_known_ranges(model: Model, plan: Plan, ranges: Mapping[str, Range]) -> Plan:
    """The plan, calibrated by ranges of old.

    Args:
        model: the fused float network. plan: made for it. ranges: by value name; those of other values do not matter.

    Raises:
        NotCalibrated: some values have none; says how many, which, and the layers that need them.
    """
    found, missing, ranges = dict[str, Range](), list[str](), _moved(model, ranges)
    for group, observed in _groups(plan).items():
        known = [ranges[name] for name in observed if name in ranges]
        known = known or [ranges[k] for k, v in plan.values.items() if v.group == group and k in ranges]
        if known:
            found[group] = min(lo for lo, _ in known), max(hi for _, hi in known)
        else:
            missing += observed
    if missing:
        raise NotCalibrated(_lacking(model, plan, missing, len(plan.observed())))
    filled = plan.with_ranges(found)
    told = {
        name: replace(v, reason=f"{v.reason}; {WHY}") if v.role == "act" and v.group in found else v
        for name, v in filled.values.items()
    }
    return replace(filled, values=told)


def _moved(model: Model, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges, and those of the values that follow."""
    found = dict(ranges)
    for node in model.nodes:
        if op_name(node) in MOVING and node.inputs[0] is not None and node.inputs[0].name in found:
            found.setdefault(str(node.outputs[0].name), found[node.inputs[0].name])
    return found


def _groups(plan: Plan) -> dict[str, list[str]]:
    """Group → its observed values."""
    groups: dict[str, list[str]] = {}
    for name, group in plan.observed().items():
        groups.setdefault(group, []).append(name)
    return groups


def _lacking(model: Model, plan: Plan, missing: list[str], total: int) -> str:
    """What cannot be done, and the two ways out."""
    groups = {plan.values[name].group for name in missing}
    names = {k for k, v in plan.values.items() if v.group in groups}
    layers = [
        str(node.name)
        for node in model.nodes
        if plan.nodes[str(node.name)].roles
        and any(v is not None and v.name in names for v in (*node.inputs, *node.outputs))
    ]
    return (
        f"the checkpoint holds no range for {len(missing)} of the {total} values that become integer: {_few(missing)}. "
        f"Give data to measure them all, or keep the layers that need them float: exclude_layers = {_few(layers)}"
    )


def _few(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
