"""Weights that a plan stores packed: where they are, what they become, and how small a coder makes them.

float network  +  plan  →  float network with the numbers that the stored integers stand for
size of a weight = n · entropy of its integers + table of the coder + scales
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from fewbit.core.fse import counts_of, entropy_of
from fewbit.core.plan import NodePlan, Plan
from fewbit.graph.emit import stored_weight
from fewbit.graph.emit_packed import packed_uses
from fewbit.graph.model import Model, const
from fewbit.graph.places import weight_places

Array = NDArray[Any]
Node = Any

SYMBOL, NUMBER = 64, 32
"""Bits that a coder's table takes for each integer that occurs, and bits of a scale, gain or offset."""


def weights_of(model: Model, plan: Plan) -> dict[str, Array]:
    """Weights that a plan stores packed, by their entries in the plan."""
    values, found = model.values(), {}
    for key, v in plan.values.items():
        data = const(values.get(key) or values.get(key.rsplit("@", 1)[0])) if v.storage == "packed" else None
        if data is not None and data.size:
            found[key] = data
    return found


def readers(model: Model, plan: Plan) -> dict[str, list[str]]:
    """Entries of the plan's packed weights → the nodes that read them."""
    return {key: [str(node.name) for node, _ in uses] for key, uses in packed_uses(plan, model.nodes).items()}


def channels(model: Model, plan: Plan) -> dict[str, int]:
    """Axis of the output channels of each packed weight, as the first node that reads it has it."""
    found: dict[str, int] = {}
    for node in model.nodes:
        for place in weight_places(node):
            value = node.inputs[place.index]
            key = plan.weight_key(str(value.name), str(node.name)) if value is not None else None
            if key is not None:
                found.setdefault(key, place.channel)
    return found


def own_weights(model: Model, plan: Plan) -> tuple[Model, dict[str, str]]:
    """A copy in which each packed weight is an initializer that the layers it is packed for read, and nobody else.

    Whatever reads the same constant in float, or in the format of another entry, reads what it did.

    Returns:
        the copy; entries of the plan → names of their initializers.
    """
    out = model.clone()
    names, taken, values, uses = dict[str, str](), out.names(), out.values(), packed_uses(plan, out.nodes)
    for key, data in weights_of(model, plan).items():
        value = values.get(key)
        if value is not None and len(value.uses()) == len(uses.get(key, ())) and not value.is_graph_output():
            names[key] = key
            continue
        names[key] = out.fresh(key, taken)
        own = out.add_initializer(names[key], data)
        for node, at in uses.get(key, ()):
            node.replace_input_with(at, own)
    return out, names


def with_weights(model: Model, plan: Plan) -> Model:
    """The float network with what its packed weights become: what every engine will answer, without any packing."""
    out, names = own_weights(model, plan)
    for key, w in weights_of(model, plan).items():
        out.set_weight(names[key], stored_weight(plan, key, w).real())
    out.drop_unused()
    return out


def explained(model: Model, plan: Plan, told: Mapping[str, str], floats: Mapping[str, str]) -> Plan:
    """The plan with a word on each weight in the reasons of its layers; layers with a weight in `floats` are float."""
    nodes, read = dict(plan.nodes), readers(model, plan)
    for key, names in read.items():
        for name in names:
            n = nodes[name]
            if key in floats:
                nodes[name] = NodePlan(False, floats[key])
            elif key in told and n.quantized:
                nodes[name] = replace(n, reason=f"{n.reason}; {told[key]}" if n.reason else told[key])
    used = readers(model, replace(plan, nodes=nodes))
    values = {k: v for k, v in plan.values.items() if v.storage != "packed" or k in used}
    return replace(plan, nodes=nodes, values=values)


# -- size ------------------------------------------------------------------------------------------------------------


def width(lo: int, hi: int) -> int:
    """Smallest width of signed integers that holds both: at least 2, since 1 bit has no 0."""
    return next(b for b in range(2, 65) if -(1 << b - 1) <= lo and hi < 1 << b - 1)


def bits_of(q: Array, numbers: int) -> float:
    """Bits that the integers of one weight take after coding, with their table and `numbers` scales, gains, offsets."""
    counts = counts_of(q)
    return q.size * entropy_of(counts) + counts.size * SYMBOL + numbers * NUMBER


def coded_bits(model: Model, plan: Plan) -> float:
    """Bits that the packed weights of a plan take after coding, one table a weight."""
    total = 0.0
    for key, w in weights_of(model, plan).items():
        v = plan.values[key]
        total += bits_of(stored_weight(plan, key, w).q, len(v.scale) + len(v.gain) + len(v.offset))
    return total
