"""A part of a network, from some inner values to others; and where a network can be cut.

    before   x ─ a ─ u ─ b ─ v ─ c ─ y        part from u to v:   u ─ b ─ v        live in front of b: u

What was computed once up to the cut is fed in there, as often as the rest is wanted with something changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from fewbit.errors import unknown
from fewbit.graph.model import Model, _inner_nodes, is_const


def live(model: Model, at: int) -> list[str]:
    """Names of the values that nodes `at` and later read, and that are fed or made by nodes in front of them.

    Bodies of control flow count as part of their node.
    """
    nodes = model.nodes
    later = nodes[at:]
    made = {v for n in (m for k in later for m in (k, *_inner_nodes(k))) for v in n.outputs}
    own = {v for n in later for m in _inner_nodes(n) if m.graph is not None for v in m.graph.inputs}
    read = [v for n in later for m in (n, *_inner_nodes(n)) for v in m.inputs]
    found = (v for v in read if v is not None and not is_const(v) and v not in made and v not in own)
    return list(dict.fromkeys(str(v.name) for v in found if v.graph is None or v.graph is model.graph))


def can_be_fed(model: Model, names: Iterable[str]) -> bool:
    """Whether these values are tensors of known type."""
    values = model.values()
    return all(isinstance(values[n].type, ir.TensorType) and values[n].dtype is not None for n in names)


def part(model: Model, ranks: Mapping[str, int], outputs: Iterable[str]) -> Model:
    """The nodes that lead from some values to others.

    Args:
        model: stays as it is. ranks: values that are fed → how many axes they have; those that are not needed are no
            inputs of the part. outputs: values that it answers with.

    Raises:
        UnknownName: the network does not have such a value.
    """
    copy = model.clone()
    values = copy.values()
    wanted = list(outputs)
    for name in (*ranks, *wanted):
        if name not in values:
            raise unknown("value", name, values)
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[n] for n in wanted)
    taken = copy.names()
    for name, rank in ranks.items():
        if not values[name].is_graph_input():
            _feed(copy, values[name], rank, taken)
    copy.drop_unused()
    needed = set(copy.graph.outputs)
    for value in list(copy.graph.inputs):
        if not value.uses() and value not in needed and value.name not in copy.graph.initializers:
            copy.graph.inputs.remove(value)
    return copy


def _feed(model: Model, value: ir.Value, rank: int, taken: set[str]) -> None:
    """Make a computed value an input of the graph."""
    shape = value.shape if value.shape is not None and len(value.shape) == rank else ir.Shape([None] * rank)
    fed = ir.Value(name=value.name, shape=shape, type=value.type)
    value.name = model.fresh(f"{value.name}_before", taken)
    for node, index in list(value.uses()):
        node.replace_input_with(index, fed)
    for i, v in enumerate(model.graph.outputs):
        if v is value:
            model.graph.outputs[i] = fed
    model.graph.inputs.append(fed)
