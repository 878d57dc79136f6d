"""Packed weights of a plan: each is unpacked once, for all layers that read it so.

    before   W ─ Gather, W ─ MatMul, W ─ Add          the plan packs W for the first two
    after    bytes ─ … ─ W_2 ─ Gather, MatMul         W ─ Add

Where nobody else reads W the unpacked value takes its name, and the float weight goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_ir as ir

from fewbit.core.plan import Plan
from fewbit.core.stored import StoredWeight
from fewbit.graph.facts import check_finite
from fewbit.graph.model import Array, const
from fewbit.graph.unpack import Unpacking, unpack

Stored = Callable[[str, Array], StoredWeight]
Readers = list[tuple[ir.Node, int]]


def packed_uses(plan: Plan, nodes: Iterable[ir.Node]) -> dict[str, Readers]:
    """Entries of the packed weights that these nodes read as such → the nodes, and the index of that input."""
    found: dict[str, Readers] = {}
    for node in nodes:
        verdict = plan.nodes.get(str(node.name))
        if verdict is None or not verdict.quantized:
            continue
        for i, (value, role) in enumerate(zip(node.inputs, verdict.roles, strict=False)):
            key = plan.weight_key(str(value.name), str(node.name)) if value is not None and role == "weight" else None
            if key is not None and plan.values[key].storage == "packed":
                found.setdefault(key, []).append((node, i))
    return found


def emit_packed(w: Unpacking, plan: Plan, nodes: list[ir.Node], stored_of: Stored) -> dict[str, StoredWeight]:
    """Unpack all packed weights of these nodes; float weights that nobody reads any more are left to be dropped.

    Args:
        w: where to. nodes: that the plan makes integer. stored_of: (entry of the plan, data) → integers.

    Returns:
        what is unpacked, by the name of its value.
    """
    found = {}
    for key, uses in packed_uses(plan, nodes).items():
        value = uses[0][0].inputs[uses[0][1]]
        data = const(value)
        assert value is not None and data is not None
        check_finite(data, str(value.name), str(uses[0][0].name))
        stored = stored_of(key, data)
        new = unpack(w, stored)
        for node, i in uses:
            node.replace_input_with(i, new)
        take_name(w, new, value)
        found[str(new.name)] = stored
    return found


def take_name(w: Unpacking, new: ir.Value, old: ir.Value) -> None:
    """Give an unpacked value the name of the weight, or one like it if that is still read."""
    name = str(old.name)
    if old.uses() or old.is_graph_output():
        new.name = w.model.fresh(f"{name}_unpacked", w.taken)
        return
    old.name = w.model.fresh(f"{name}_float", w.taken)
    new.name = name
