"""Whether a plan is the one that a quantized network was made by.

Nothing ties a plan to its file: one of another run, with other widths or other layers in integers, lies beside it as
well. What both tell is compared: formats of values, widths of weights, which layers read integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fewbit.core.plan import NodePlan, Plan
from fewbit.core.spec import QuantSpec
from fewbit.errors import PlanError
from fewbit.graph.model import PACKED, Model, const, is_const, is_float
from fewbit.report.pairs import LIMITS, behind, held_width, integer_format

SAID = 3
"""Contradictions that a remark names."""


def check_belongs(plan: Plan, network: Model) -> None:
    """Refuse a plan of another network.

    Args:
        network: the float network, fused, with the plan's rescales done, whose layers a plan speaks of.

    Raises:
        PlanError: the plan tells of a layer that the network does not have.
    """
    known = {str(n.name) for n in network.nodes}
    strange = next((name for name in plan.nodes if name not in known), None)
    if strange is not None:
        raise PlanError(
            f"the plan tells of layer {strange!r}, which the float network does not have; they do not belong "
            "together: give the network that was quantized, or another plan"
        )


def contradictions(plan: Plan, quantized: Model) -> list[str]:
    """What a quantized network has otherwise than its plan says; empty if the plan can be the one it was made by.

    Only what is certain counts: where a file has another form than Q and DQ, or other names, it contradicts nothing.

    Returns:
        one line each: layers, values, weights.
    """
    values = quantized.values()
    nodes = [(n, plan.nodes[str(n.name)]) for n in quantized.nodes if str(n.name) in plan.nodes]
    packed = PACKED in quantized.metadata
    layers = [line for node, verdict in nodes for line in _layer(plan, node, verdict)]
    weights = [line for node, verdict in nodes for line in _weights(plan, node, verdict)] if not packed else []
    return list(dict.fromkeys([*layers, *_values(plan, values), *weights]))


def remark(found: Iterable[str]) -> str:
    """Contradictions as a sentence or two; empty if there are none."""
    lines = list(found)
    more = f"; and {len(lines) - SAID} more" if len(lines) > SAID else ""
    told = "; ".join(lines[:SAID])
    return f"the plan is not the one that this file was made by, and is left out: {told}{more}" if lines else ""


def _layer(plan: Plan, node: Any, verdict: NodePlan) -> Iterator[str]:
    """Whether a layer reads integers where its plan says so."""
    if not verdict.quantized or verdict.absorbed_by:
        return
    for value, role in zip(node.inputs, verdict.roles, strict=False):
        if value is None or not is_float(value):
            continue
        if is_const(value):
            if role == "weight" and plan.weight_key(str(value.name), str(node.name)) is not None:
                yield f"layer {str(node.name)!r} is integer in the plan, and has float weights in the file"
                return
            continue
        if role != "act":
            continue
        entry = plan.values.get(str(value.name))
        if entry is not None and not entry.spec.dynamic and not _reads_integers(value):
            yield f"layer {str(node.name)!r} is integer in the plan, and reads {str(value.name)!r} in float"
            return


def _reads_integers(value: Any) -> bool:
    maker = value.producer()
    return maker is not None and maker.op_type == "DequantizeLinear"


def _values(plan: Plan, values: Mapping[str, Any]) -> Iterator[str]:
    """Formats of activations."""
    known = set(plan.nodes)
    for name, value in values.items():
        if is_const(value) or not is_float(value) or (name not in plan.values and not _of_layer(value, known)):
            continue
        seen = value if _reads_integers(value) else behind(value, known)
        found = integer_format(seen)
        if found is None:
            continue
        entry = plan.values.get(name)
        if entry is None or entry.role != "act":
            yield f"value {name!r} is float in the plan, and {found.name} in the file"
        elif entry.spec.dynamic:
            yield f"value {name!r} has a range at run time in the plan, and a fixed one in the file"
        else:
            spec = plan.params(name).spec if entry.calibrated else entry.spec
            if _word(spec) != found.name and not (spec.signed is None and found.name.endswith(f"int{spec.bits}")):
                yield f"value {name!r} is {_word(spec)} in the plan, and {found.name} in the file"


def _of_layer(value: Any, known: set[str]) -> bool:
    """Whether a layer of the float network makes a value, under its own name, or it is fed."""
    if value.is_graph_input():
        return True
    maker = value.producer()
    return maker is not None and str(maker.name) in known and not str(value.name).endswith("_float")


def _weights(plan: Plan, node: Any, verdict: NodePlan) -> Iterator[str]:
    """Widths of weights."""
    for value in node.inputs:
        dq = value.producer() if value is not None and is_float(value) else None
        q = const(dq.inputs[0]) if dq is not None and dq.op_type == "DequantizeLinear" else None
        if dq is None or q is None or q.ndim < 2 or q.dtype.name not in LIMITS or not q.any():
            continue
        name = str(value.name).removesuffix("_dq")
        key = plan.weight_key(name, str(node.name)) or (name if name in plan.values else None)
        zero = const(dq.inputs[2]) if len(dq.inputs) > 2 else None
        bits = held_width(q, zero)[1]
        if not verdict.quantized:
            yield f"layer {str(node.name)!r} is float in the plan, and has {q.dtype.name} weights in the file"
        elif key is not None and plan.values[key].role == "weight":
            spec = plan.values[key].spec
            by_chance = (bits, spec.bits) == (1, 2)  # ±1, and no 0 among them
            if bits > spec.bits or (bits < spec.bits <= 8 and not by_chance):
                yield f"weights {key!r} have {spec.bits} bits in the plan, and {bits} in the file"


def _word(spec: QuantSpec) -> str:
    return f"{'' if spec.signed else 'u'}int{spec.bits}"
