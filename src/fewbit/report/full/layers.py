"""The layers of a report: everything that is known of each, in the order of the network.

    Conv ─ Relu ─ v ─ Q/DQ        one layer: the engine merges the Relu into the Conv; told of is v

What a layer's values became is read from the quantized network, so that networks of other tools are told of as well;
why they did, from the plan, if there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewbit.core.plan import Plan
from fewbit.graph.model import Model, const, is_float, op_name
from fewbit.report.comparison import Comparison, LayerError
from fewbit.report.full.histograms import Distributions, Histogram
from fewbit.report.full.weights import WeightFacts, weight_facts
from fewbit.report.pairs import integer_format, integer_range, value_pairs
from fewbit.report.profile import Profile

MERGED = frozenset({"Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh"})
"""Activations that engines merge into what they follow."""

UNKNOWN = "there is no plan beside the network that tells why"


@dataclass(frozen=True)
class LayerFacts:
    """One layer.

    Args:
        id: place in the network. name: of the value that it makes. node: its name. op: with what is merged into it.
        sqnr, own, cosine, max_abs, clip: see `fewbit.report.comparison.LayerError`.
        sparsity: share of its float values that are 0.
        integer: whether the engine computes it in integers; None if that does not show. verdict: why, or why not.
        format: of its values, such as uint8; None if they stay float. scale, zero_point: of one number for all, or
            None. range: what the integers can hold. range_reason: why these values are rounded, and how.
        macs: multiplications for one sample. us_float, us_quantized: microseconds, everything that belongs to it.
    """

    id: int
    name: str
    node: str
    op: str
    sqnr: float
    own: float | None
    cosine: float
    max_abs: float
    clip: float | None
    sparsity: float | None
    integer: bool | None
    verdict: str
    format: str | None
    scale: float | None
    zero_point: int | None
    range: tuple[float, float] | None
    range_reason: str | None
    macs: int | None
    us_float: float | None
    us_quantized: float | None
    histogram: Histogram | None
    weights: WeightFacts | None


@dataclass(frozen=True)
class Seen:
    """What was measured, to be told by layer.

    Args:
        comparison: with inner values. distributions: of the same values. profile: None if the engine tells no times.
        macs: node → multiplications. executed: node → whether the engine computes it in integers, as far as it shows.
    """

    comparison: Comparison
    distributions: Distributions
    profile: Profile | None
    macs: Mapping[str, int]
    executed: Mapping[str, bool]


def layer_facts(
    model: Model, quantized: Model, plan: Plan | None, seen: Seen
) -> tuple[tuple[LayerFacts, ...], tuple[str, ...]]:
    """All layers that were compared, and those of which nothing could be compared.

    Args:
        model: the float network that was compared with. quantized: the other one. plan: what it follows, if known.
    """
    behind, values = dict(value_pairs(model, quantized)), quantized.values()
    verdicts = plan.nodes if plan is not None else {}
    planned = {name: v.absorbed_by for name, v in verdicts.items()}
    merged = _merged(model, planned or _seen(model, seen.executed))
    errors = {e.node: e for e in seen.comparison.layers}
    nodes = {str(n.name): n for n in model.nodes}
    times = {r.layer: (r.us_float, r.us_int) for r in seen.profile.rows} if seen.profile is not None else {}
    found: list[LayerFacts] = []
    lost: list[str] = []
    for e in (e for e in seen.comparison.layers if e.op == "Input"):
        found.append(_facts(len(found), e, e.name, ["Input"], behind, values, plan, seen, times, None))
    for name, parts in merged.items():
        last = next((errors[p] for p in reversed(parts) if p in errors), None)
        if last is not None:
            ops = [op_name(nodes[p]) for p in parts]
            found.append(_facts(len(found), last, name, ops, behind, values, plan, seen, times, nodes[name]))
        elif any(is_float(v) for p in parts for v in nodes[p].outputs) and seen.comparison.layers:
            lost.append(name)
    return tuple(found), tuple(lost)


def _merged(model: Model, into: Mapping[str, str]) -> dict[str, list[str]]:
    """Layer → its node and those that the engine merges into it, in order. into: node → the one it is merged into."""
    found: dict[str, list[str]] = {}
    for node in model.nodes:
        name = carrier = str(node.name)
        for _ in into:  # no longer chain than there are nodes
            if not into.get(carrier):
                break
            carrier = into[carrier]
        found.setdefault(carrier, []).append(name)
    known = {str(n.name) for n in model.nodes}
    return {k: v for k, v in found.items() if k in known}


def _seen(model: Model, executed: Mapping[str, bool]) -> dict[str, str]:
    """Where there is no plan: activations that the engine does not run by themselves belong to what they follow."""
    found: dict[str, str] = {}
    for node in model.nodes:
        maker = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if node.op_type not in MERGED or str(node.name) in executed or maker is None:
            continue
        before = str(maker.name)
        if len(maker.outputs[0].uses()) == 1 and (before in executed or before in found):
            found[str(node.name)] = before
    return found


def _facts(
    id: int,
    e: LayerError,
    layer: str,
    ops: list[str],
    behind: Mapping[str, str],
    values: Mapping[str, Any],
    plan: Plan | None,
    seen: Seen,
    times: Mapping[str, tuple[float | None, float | None]],
    node: Any | None,
) -> LayerFacts:
    """One layer. node: in the float network; None for an input."""
    value = values[behind.get(e.name, e.name)]
    limits, format, scale, zero = integer_range(value), *_format(value)
    us = times.get(layer, (None, None))
    integer = _integer(layer, plan, seen) if node is not None else False
    planned = plan.values.get(e.name) if plan is not None else None
    return LayerFacts(
        id=id, name=e.name, node=layer, op="+".join(ops), sqnr=e.sqnr, own=e.own, cosine=e.cosine, max_abs=e.max_abs,
        clip=e.clip, sparsity=seen.distributions.sparsity(e.name), integer=integer,
        verdict=_verdict(layer, plan, integer) if node is not None else "fed to the network",
        format=format, scale=scale, zero_point=zero, range=limits,
        range_reason="; ".join(filter(None, (planned.calib_mode, planned.reason))) if planned is not None else None,
        macs=seen.macs.get(layer) or None, us_float=us[0], us_quantized=us[1],
        histogram=seen.distributions.result(e.name, limits, scale),
        weights=weight_facts(values, plan, node, e.name) if node is not None else None,
    )  # fmt: skip


def _integer(layer: str, plan: Plan | None, seen: Seen) -> bool | None:
    """Whether it is computed in integers, as the engine shows; where it does not, as the plan has it, if it is sure."""
    if layer in seen.executed:
        return seen.executed[layer]
    verdict = plan.nodes.get(layer) if plan is not None else None
    if plan is None or verdict is None:
        return None
    if verdict.absorbed_by:
        return _integer(verdict.absorbed_by, plan, seen)
    return verdict.quantized and not in_float(plan)


def in_float(plan: Plan) -> bool:
    """Whether a plan stores integers and computes in float."""
    return plan.config.get("quant_type") == "weight"


HOW = {None: "how it is computed does not show", True: "computed in integers", False: "computed in float"}


def _verdict(layer: str, plan: Plan | None, integer: bool | None) -> str:
    """Why, in the plan's words; with what the engine made of it, if that is something else."""
    verdict = plan.nodes.get(layer) if plan is not None else None
    if plan is None or verdict is None:
        return f"{HOW[integer]}; {UNKNOWN}"
    if verdict.quantized and integer is False and "computed in float" not in verdict.reason:
        return f"planned in integers ({verdict.reason}), computed in float by the engine"
    return verdict.reason


def _format(value: Any) -> tuple[str | None, float | None, int | None]:
    """Integer type, scale and zero point of a DQ output; None each where there is none, or no single one."""
    found = integer_format(value)
    if found is not None:
        return found.name, found.scale, found.zero_point
    dq = value.producer()
    if dq is None or dq.op_type != "DequantizeLinear":
        return None, None, None
    zero = const(dq.inputs[2]) if len(dq.inputs) > 2 and dq.inputs[2] is not None else None
    return zero.dtype.name if zero is not None else "uint8", None, None
