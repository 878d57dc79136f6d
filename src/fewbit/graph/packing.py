"""What nodes unpack from integers: how many weights there are, in how many bits, and which nodes do it.

    bytes ─ Cast ─ Gather(table) ─ Add … ─ Mul s ─ W ─ Conv        W: of its own shape; bits: those of its planes, added

A file tells that it holds such weights (`PACKED` in its metadata) and not which; the graph does. See `graph.unpack`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import onnx_ir as ir

from fewbit.graph.model import PACKED, Model, dims, is_const

WHOLE = {ir.DataType.INT8: 8, ir.DataType.UINT8: 8, ir.DataType.INT16: 16}
"""Types of integers that are stored as they are."""


@dataclass(frozen=True)
class Packing:
    """The packed weights of a network.

    Args:
        weights: float value → how many numbers it has. bits: bits of a number → weights that have so many.
        nodes: that unpack them. parameters: of the whole network, a packed weight counted as its numbers.
    """

    weights: Mapping[str, int] = field(default_factory=dict)
    bits: Mapping[int, int] = field(default_factory=dict)
    nodes: int = 0
    parameters: int = 0


def packing(model: Model) -> Packing:
    """Find the packed weights; none in a network that holds none."""
    if PACKED not in model.metadata:
        return Packing(parameters=model.parameters)
    made: set[ir.Node] = set()
    for node in model.nodes:
        if node.inputs and all(is_const(v) or (v is not None and v.producer() in made) for v in node.inputs):
            made.add(node)
    weights, bits, nodes = dict[str, int](), Counter[int](), set[ir.Node]()
    for node in model.nodes:
        value = node.outputs[0]
        inner = node not in made or (value.uses() and all(u.node in made for u in value.uses()))
        behind = set() if inner else _behind(node)
        width = sum(_width(n) for n in behind)
        if width:
            weights[str(value.name)] = prod(d or 0 for d in dims(value) or ())
            bits[width] += 1
            nodes |= behind
    rest = sum(
        int(v.const_value.size)
        for v in model.weights()
        if v.const_value is not None and not (v.uses() and all(u.node in nodes for u in v.uses()))
    )
    return Packing(weights, dict(sorted(bits.items())), len(nodes), rest + sum(weights.values()))


def _behind(node: ir.Node) -> set[ir.Node]:
    """A node and all that it is computed from."""
    found, open_ = set[ir.Node](), [node]
    while open_:
        n = open_.pop()
        found.add(n)
        makers = (v.producer() for v in n.inputs if v is not None)
        open_ += [m for m in makers if m is not None and m not in found]
    return found


def _width(node: ir.Node) -> int:
    """Bits that a node takes out of stored bytes: a look into a table, or a Cast of whole integers."""
    first = node.inputs[0]
    if node.op_type == "Gather":
        fields = dims(first) or ()
        return 8 // prod(d or 0 for d in fields[1:]) if fields[0] == 256 and set(fields[1:]) == {2} else 0
    if node.op_type != "Cast" or first is None or not is_const(first):
        return 0
    other = {
        u.node.op_type if u.node.op_type == "Gather" else f"{u.node.op_type} {u.idx}" for u in node.outputs[0].uses()
    }
    return 0 if other <= {"Gather", "Sub 1"} else WHOLE.get(first.dtype or ir.DataType.UNDEFINED, 0)
