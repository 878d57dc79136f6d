"""Fill a plan with the ranges that the network's file holds: an old calibration needs no data again.

    ranges   of the file, cut to what an operator can put out; those that follow from them; else what it can put out
    group    all its observed values known → what holds them
             else                          → the layers that read the unknown ones stay float, then those that make
                                             them; plan again

Sigmoid, Tanh, Softmax, Clip and the like put out no more than that whatever goes in. A value without a range of its
own has that of the value which it is moved or chosen from, by Reshape, MaxPool and the like, or those of all the values
that it is joined from; one that is moved or chosen from has that of what comes out. An average over a channel is much
smaller than what goes in, so that the range of that would waste most of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.target import Target
from fewbit.errors import NotCalibrated
from fewbit.graph.model import Model, const, op_name
from fewbit.quantization.grids import on_old_steps
from fewbit.quantization.restrict import restrict

Node = Any
Range = tuple[float, float]

INF = float("inf")

MOVED = frozenset({"Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity"})
"""Operators whose output holds the values of their first input."""

CHOOSING = frozenset({"MaxPool", "GlobalMaxPool"})
"""Operators whose output holds some of the values of their only input."""

MOVING = MOVED | CHOOSING | {"AveragePool"}
"""Operators whose output lies within the range of their first input, and fills most of it."""

BOUNDS = {"Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0),
          "Softsign": (-1.0, 1.0), "Erf": (-1.0, 1.0), "Relu": (0.0, INF)}  # fmt: skip
"""What operators put out at most."""

WHY = "range from the checkpoint"
BOUND = "range of what the operator can put out"
UNKNOWN = "no range in the checkpoint, and no data"
NAMED = 5
"""Values and layers named in messages."""


def with_known_ranges(
    model: Model, plan: Plan, ranges: Mapping[str, Range], config: QuantConfig, target: Target
) -> Plan:
    """The plan, calibrated by ranges of old; layers that lack some are float in it, and `UNKNOWN` is their reason.

    Args:
        model: the fused float network. plan, config, target: made for it, with these.
        ranges: by value name; those of other values do not matter.

    Raises:
        NotCalibrated: no layer has all its ranges; says how many values have none, which, and what needs them.
    """
    found, given, floats = _followed(model, ranges), plan, dict[str, str]()
    while missing := _missing(plan, found):
        more = _without(model, plan, missing, found)
        assert set(more) - floats.keys(), missing
        floats |= dict.fromkeys(more, UNKNOWN)
        plan = restrict(model, given, config, target, floats)
    if floats and not any(n.quantized for n in plan.nodes.values()):
        raise NotCalibrated(_lacking(given, _missing(given, found), list(floats)))
    groups, bounds = _groups(plan), _followed(model, {})
    filled = plan.with_ranges({g: _union(found[name] for name in names) for g, names in groups.items()})
    why = {g: BOUND if all(_same(name, bounds, found) for name in names) else WHY for g, names in groups.items()}
    told = {
        name: replace(v, reason=f"{v.reason}; {why[v.group]}") if v.role == "act" and v.group in why else v
        for name, v in filled.values.items()
    }
    return on_old_steps(model, replace(filled, values=told))


def left_float(plan: Plan) -> str:
    """What to tell of the layers that are float for want of ranges; empty if there are none."""
    names = [name for name, n in plan.nodes.items() if n.reason == UNKNOWN]
    if not names:
        return ""
    who, they = (
        ("1 layer stays", "it reads or makes")
        if len(names) == 1
        else (f"{len(names)} layers stay", "they read or make")
    )
    return (
        f"{who} float: {_few(names)}. The checkpoint holds no range for what {they}; with data all ranges would be "
        "measured"
    )


# -- what is known --------------------------------------------------------------------------------------------------


def _followed(model: Model, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges, and those that follow."""
    found = dict(ranges)
    for node in model.nodes:
        inputs, out = [str(v.name) if v is not None else "" for v in node.inputs], str(node.outputs[0].name)
        told = found.get(out)
        if told is None and inputs and inputs[0] in found and op_name(node) in MOVING:
            told = found[inputs[0]]
        if told is None and op_name(node) == "Concat" and all(name in found for name in inputs):
            told = _union(found[name] for name in inputs)
        if (bounds := _bounds(node)) is not None:
            told = _within(told, bounds)
        if told is not None:
            found[out] = told
    for node in reversed(model.nodes):
        first, out = next(iter(node.inputs), None), str(node.outputs[0].name)
        if first is not None and out in found and _all_seen_behind(node, first):
            found.setdefault(str(first.name), found[out])
    return found


def _all_seen_behind(node: Node, first: Any) -> bool:
    """Whether all that matters of a node's first input comes out of it."""
    return op_name(node) in MOVED or (op_name(node) in CHOOSING and len(first.uses()) == 1)


def _bounds(node: Node) -> Range | None:
    """What a node can put out, whatever goes in."""
    if op_name(node) != "Clip":
        return BOUNDS.get(op_name(node))
    ends = [const(v) if v is not None else None for v in (*node.inputs[1:3], None, None)][:2]
    lo, hi = (float(e.item()) if e is not None and e.size == 1 else None for e in ends)
    return (-INF if lo is None else lo, INF if hi is None else hi)


def _within(told: Range | None, bounds: Range) -> Range | None:
    """A range cut to bounds, or these if there is none; None if they have no end."""
    if told is None:
        return bounds if -INF < bounds[0] < bounds[1] < INF else None
    cut = max(told[0], bounds[0]), min(told[1], bounds[1])
    return cut if cut[0] < cut[1] else told


def _same(name: str, bounds: Mapping[str, Range], found: Mapping[str, Range]) -> bool:
    return name in bounds and bounds[name] == found[name]


def _union(ranges: Iterable[Range]) -> Range:
    every = list(ranges)
    return min(lo for lo, _ in every), max(hi for _, hi in every)


# -- what is not ----------------------------------------------------------------------------------------------------


def _missing(plan: Plan, found: Mapping[str, Range]) -> list[str]:
    """Observed values without a range."""
    return [name for name in plan.observed() if name not in found]


def _without(model: Model, plan: Plan, missing: list[str], found: Mapping[str, Range]) -> list[str]:
    """Layers to keep float for want of ranges: those that read such values, else those that make them."""
    groups = {plan.values[name].group for name in missing}
    unknown = {k for k, v in plan.values.items() if v.role == "act" and v.group in groups and k not in found}
    readers = _layers(model, plan, lambda n: [v for i, v in enumerate(n.inputs) if _acts(plan, n, i)], unknown)
    return readers or _layers(model, plan, lambda n: n.outputs, unknown)


def _acts(plan: Plan, node: Node, index: int) -> bool:
    roles = plan.nodes[str(node.name)].roles
    return index < len(roles) and roles[index] == "act"


def _layers(model: Model, plan: Plan, values: Callable[[Node], Any], wanted: set[str]) -> list[str]:
    """Integer layers with one of these values, or what they were merged into."""
    found: dict[str, None] = {}
    for node in model.nodes:
        verdict = plan.nodes[str(node.name)]
        if verdict.quantized and any(v is not None and v.name in wanted for v in values(node)):
            found.setdefault(verdict.absorbed_by or str(node.name))
    return list(found)


def _groups(plan: Plan) -> dict[str, list[str]]:
    """Group → its observed values."""
    groups: dict[str, list[str]] = {}
    for name, group in plan.observed().items():
        groups.setdefault(group, []).append(name)
    return groups


# -- words ----------------------------------------------------------------------------------------------------------


def _lacking(plan: Plan, missing: list[str], layers: list[str]) -> str:
    """Why nothing can be done, and the way out."""
    return (
        f"the checkpoint holds no range for {len(missing)} of the {len(plan.observed())} values that become integer: "
        f"{_few(missing)}. Without them every layer would stay float: {_few(layers)}. Give data to measure them all"
    )


def _few(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
