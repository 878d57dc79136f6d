"""Places of a network in another framework, found again in the ONNX graph that was exported from it.

    x → Mark(label) → y        ⇒        x, and the place `label` is x

An exporter that keeps an operator of the domain `fewbit` carries the labels through whatever else it does. What lies
between marks belongs to the place behind it: a layer that becomes several nodes is still one layer. Nodes and values
are named after their places, since the numbers in an exporter's names change with the weights:

    place conv1      →   node conv1, value conv1
    place fc         →   nodes fc/Transpose, fc/MatMul, fc (the Add), values of the same names
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from fewbit.graph.files import from_proto
from fewbit.graph.model import Model, attr, free_name

DOMAIN, MARK = "fewbit", "Mark"


@dataclass(frozen=True)
class Marked:
    """A network without its marks.

    Args:
        model: the network.
        values: label → name of the value that it marked.
        owners: node → label of the place that it computes; nodes in front of several places belong to the first.
    """

    model: Model
    values: Mapping[str, str]
    owners: Mapping[str, str]


def marked(proto: onnx.ModelProto) -> Marked:
    """Take the marks out of an exported network.

    Args:
        proto: it holds `fewbit::Mark` nodes with one input, one output and a text `label`, each label once.
    """
    irm = ir.serde.deserialize_model(proto)
    graph = irm.graph
    marks = [n for n in graph if n.domain == DOMAIN and n.op_type == MARK]
    owners = _owners(marks)
    values: dict[str, ir.Value] = {}
    for mark in marks:
        x, y = mark.inputs[0], mark.outputs[0]
        assert x is not None
        for user, index in list(y.uses()):
            user.replace_input_with(index, x)
        name = str(y.name)
        if y.is_graph_output():
            x = _takes_over(graph, mark, x, name)
        values[str(attr(mark, "label", ""))] = x
        graph.remove(mark, safe=False)
    irm.opset_imports.pop(DOMAIN, None)
    owners = _rename(graph, owners)
    names = {label: str(v.name) for label, v in values.items()}
    return Marked(from_proto(ir.serde.serialize_model(irm)), names, owners)


def _takes_over(graph: ir.Graph, mark: ir.Node, x: ir.Value, name: str) -> ir.Value:
    """Make x the graph output that the mark was; an input, a constant or another output passes through an Identity."""
    y = mark.outputs[0]
    new = x
    if x.producer() is None or x.is_graph_output():
        node = ir.node("Identity", [x], name=f"{mark.name}_passes")
        new = node.outputs[0]
        new.type, new.shape = x.type, x.shape
        graph.insert_before(mark, node)
    y.name = f"{name}_marked"
    new.name = name
    for i, out in enumerate(graph.outputs):
        if out is y:
            graph.outputs[i] = new
    return new


def _owners(marks: list[ir.Node]) -> dict[str, str]:
    """Which place each node works for."""
    owners: dict[str, str] = {}
    for mark in marks:
        label, found = str(attr(mark, "label", "")), [mark.inputs[0]]
        while found:
            value = found.pop()
            node = value.producer() if value is not None else None
            if node is None or (node.domain == DOMAIN and node.op_type == MARK) or str(node.name) in owners:
                continue
            owners[str(node.name)] = label
            found.extend(node.inputs)
    return owners


def _rename(graph: ir.Graph, owners: dict[str, str]) -> dict[str, str]:
    """Name nodes and values after their places; returns the owners by their new names."""
    taken = {str(v.name) for v in (*graph.inputs, *graph.outputs, *graph.initializers.values())}
    names: set[str] = set()
    renamed: dict[str, str] = {}
    last = {owners[str(n.name)]: n for n in graph if str(n.name) in owners}
    for node in graph:
        label = owners.get(str(node.name))
        single = label is not None and last[label] is node
        name = free_name(str(label) if single else f"{label or 'behind'}/{node.op_type}", names)
        if label is not None:
            renamed[name] = label
        node.name = name
        for i, out in enumerate(node.outputs):
            if out.name and not out.is_graph_output():
                out.name = free_name(name if i == 0 else f"{name}:{i}", taken)
    return renamed


def pass_through(model: Model, node: str, index: int, name: str) -> str:
    """Let one input of a node come through an Identity of this name; returns the name that its value got."""
    reader = model.node(node)
    value = reader.inputs[index]
    assert value is not None
    new = ir.node("Identity", [value], name=model.fresh(name, model.names()))
    out = new.outputs[0]
    out.name, out.type, out.shape = new.name, value.type, value.shape
    model.graph.insert_before(reader, new)
    reader.replace_input_with(index, out)
    return str(out.name)
