"""Plans for quant_type weight: weights stored in 1 to 16 bits, everything computed in float.

    node with a weight → (keep, weight, keep …), outputs float; the weight's entry has storage "packed"

There is nothing that an engine must have for this, so no rows of a target are asked. A weight that several layers read
is stored once, in the format of the first of them.
"""

from __future__ import annotations

from math import prod
from typing import Any

from fewbit.config import GROUP, QuantConfig, said
from fewbit.core.plan import NodePlan, Plan, ValuePlan
from fewbit.core.spec import QuantSpec
from fewbit.core.target import Target
from fewbit.graph.facts import check_finite_weights
from fewbit.graph.model import Model, dims
from fewbit.graph.places import WeightPlace, weight_places
from fewbit.quantization.select import CONTROL_FLOW, check_names, excluded, gated, settings_for

Node = Any
Wish = dict[str, Any]

OVERHEAD = 480
"""Bytes that unpacking a weight adds to the file: nodes and names."""

ZEROS = range(2, 16)
"""Widths with a zero point: it uses all levels where channels are not symmetric, which won 1 to 2.5 dB on MiniLM and
3 dB on EfficientNet-Lite0, for 8 bits a channel; from 9 to 15 bits the weights themselves win 1 and 1.6 dB."""

MIXED_BITS = 16
"""Width that a plan for mixed bit starts with; the search gives each weight its own."""


def make_weight_plan(model: Model, config: QuantConfig, target: Target) -> Plan:
    """Decide which weights are stored in few bits.

    Args:
        model: a fused float network. config: with quant_type weight. target: the engine that it is for.

    Returns:
        a complete plan; with bit_num 0 one that the search for steps starts from.

    Raises:
        UnknownName: a layer or operator in the config that the network does not have.
        ModelError: a weight holds NaN or infinity.
    """
    check_names(model, config)
    values: dict[str, ValuePlan] = {}
    nodes: dict[str, NodePlan] = {}
    for node in model.nodes:
        nodes[str(node.name)] = _node_plan(model, node, config, values)
    check_finite_weights(model, list(values))
    return Plan(values=values, nodes=nodes, target=target.name, config=said(config), model=model.digest())


def _node_plan(model: Model, node: Node, config: QuantConfig, values: dict[str, ValuePlan]) -> NodePlan:
    """The verdict on one node; its weights are added to `values`."""
    places = weight_places(node)
    if not places:
        return NodePlan(False, "control flow; what is inside of it stays float" if node.op_type in CONTROL_FLOW
                        else "it has no weight that is a constant matrix of float32")  # fmt: skip
    reason = excluded(model, node, config)
    if reason:
        return NodePlan(False, reason)
    wish = settings_for(model, node, config)
    roles, told = ["keep"] * len(node.inputs), []
    for place in places:
        value = node.inputs[place.index]
        spec = weight_only_spec(dims(value) or (), place, config, wish)
        small = _too_small(dims(value) or (), place, spec, config) if value.name not in values else ""
        small = small or _read_in_float(model, value, config)
        if small:
            told.append(small)
            continue
        reason = f"weight of {node.name}"
        values.setdefault(value.name, ValuePlan(spec, "weight", value.name, reason, observe=False, storage="packed"))
        roles[place.index] = "weight"
    if "weight" not in roles:
        return NodePlan(False, told[0])
    return NodePlan(True, "weights stored in few bits, computed in float", tuple(roles), ("float",) * len(node.outputs))


def _read_in_float(model: Model, value: Any, config: QuantConfig) -> str:
    """Why a weight would have to be there twice; empty if all that read it take it packed."""
    for use in value.uses():
        packs = use.node.graph is model.graph and use.idx in {p.index for p in weight_places(use.node)}
        if not packs or excluded(model, use.node, config):
            return f"its weight is read by {use.node.name!r} in float as well, and would be stored twice"
    return "its weight is an output of the network" if value.is_graph_output() else ""


def weight_only_spec(shape: tuple[int | None, ...], place: WeightPlace, config: QuantConfig, wish: Wish) -> QuantSpec:
    """Format of one weight: signed, on both sides of 0 alike, or in few bits with a zero point."""
    bits = wish.get("weight_bit_num") or wish.get("bit_num") or config.weight_bit_num or config.bit_num or MIXED_BITS
    grain = wish.get("granularity") or config.quantize_granularity.split("-")[0]
    mixed = config.bit_num == 0
    symmetric = bool(wish.get("symmetric", mixed or bits not in ZEROS))
    common: Wish = {"bits": bits, "signed": True, "symmetric": symmetric, "narrow": symmetric and bits > 1}
    summed = int(shape[place.summed] or 0)
    size = int(wish.get("group_size") or config.group_size or GROUP)
    if mixed and grain != "tensor" and config.mixed_bit_search != "output":
        grain = "tensor"
    if grain == "group" and summed >= size:
        return QuantSpec(**common, granularity="group", axis=place.summed, group_size=size)
    if grain != "tensor" and place.rows:
        return QuantSpec(**common, granularity="group", axis=place.summed, group_size=summed)
    if grain != "tensor":
        return QuantSpec(**common, granularity="channel", axis=place.channel)
    return QuantSpec(**common)


def _too_small(shape: tuple[int | None, ...], place: WeightPlace, spec: QuantSpec, config: QuantConfig) -> str:
    """Why a weight is not worth storing in few bits; empty if it is."""
    size, channels = prod(int(d or 0) for d in shape), int(shape[place.channel] or 0)
    if kept := gated(size, channels, config):
        return kept
    bits = spec.bits if config.bit_num else 8
    if size * bits // 8 + 4 * scales_of(shape, spec) + OVERHEAD >= 4 * size:
        return f"its weight has {size} elements; unpacking would take more room than it saves"
    return ""


def scales_of(shape: tuple[int | None, ...], spec: QuantSpec) -> int:
    """How many scales a weight has."""
    if spec.granularity == "tensor":
        return 1
    assert spec.axis is not None
    along = int(shape[spec.axis] or 0)
    if spec.granularity == "channel":
        return along
    assert spec.group_size is not None
    return prod(int(d or 0) for d in shape) // max(along, 1) * -(-along // spec.group_size)
