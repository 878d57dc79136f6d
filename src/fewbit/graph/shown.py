"""How a model shows itself in a notebook: what goes in and out, operators, sizes; its nodes behind a click."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewbit.core.blocks import Aside, Block, Facts, Fold, Table
from fewbit.core.tables import Name, short, size

if TYPE_CHECKING:
    from fewbit.graph.model import Model

OPERATORS, NODES, PORTS, WIDE = 12, 30, 8, 100
"""How many operator types, nodes, and inputs or outputs are shown; and letters of one of these."""


def blocks(model: Model) -> list[Block]:
    """All of it."""
    lines = [("network", model.path.name)] if model.path else []
    for what, ports in (("input", model.inputs), ("output", model.outputs)):
        lines += [(what if i == 0 else "", short(str(x), WIDE)) for i, x in enumerate(ports[:PORTS])]
        lines += [("", f"and {len(ports) - PORTS} more")] if len(ports) > PORTS else []
    counts = model.op_counts().most_common()
    more = f", {len(counts) - OPERATORS} other types" if len(counts) > OPERATORS else ""
    nodes = model.nodes
    lines += [
        ("operators", ", ".join(f"{n} {short(op)}" for op, n in counts[:OPERATORS]) + more or "none"),
        ("nodes", f"{len(nodes):,}"),
        ("weights", f"{model.parameters:,} numbers, {size(model.nbytes)}"),
        ("opset", str(model.opset)),
    ]
    found: list[Block] = [Facts(lines), *(f"note: {note}" for note in model.notes)]
    return [*found, Fold("nodes", _nodes(model))] if nodes else found


def _nodes(model: Model) -> list[Block]:
    from fewbit.graph.model import op_name, tensor_info

    nodes = model.nodes
    rows = []
    for node in nodes[:NODES]:
        outputs = [tensor_info(v) for v in node.outputs if v.name]
        shapes = ", ".join(str(x).removeprefix(f"{x.name}: ") for x in outputs[:3]) + ("…" if len(outputs) > 3 else "")
        rows.append((Name(str(node.name)), Name(op_name(node)), Name(shapes)))
    found: list[Block] = [Table(("<node", "<operator", "<output"), rows)]
    more = f"{NODES} of {len(nodes)} nodes; all: model.nodes" if len(nodes) > NODES else ""
    return [*found, Aside(more)]
