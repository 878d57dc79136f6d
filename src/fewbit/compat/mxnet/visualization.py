"""`mx.viz`: plot_network and print_summary in MXNet's words.

    mx.viz.plot_network(sym, title="net", shape={"data": (1, 3, 224, 224)}).render("net")
    mx.viz.print_summary(sym, shape={"data": (1, 3, 224, 224)})

A float symbol is drawn with MXNet's operators and attributes, an integer network as `fewbit.plot` draws it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from fewbit.api.plotting import plot
from fewbit.compat.mxnet.missing import telling
from fewbit.compat.mxnet.network import PlannedSymbol, Symbol
from fewbit.compat.mxnet.stand_in import Shape, stand_in
from fewbit.core.writing import writing
from fewbit.errors import UsageError, one_of
from fewbit.frontends.mxnet.convert import LEARNT, used_inputs
from fewbit.frontends.mxnet.graph import SymbolGraph, SymbolNode
from fewbit.graph.model import Model
from fewbit.report.drawing.boxes import node_attributes
from fewbit.report.drawing.compose import drawn_alone
from fewbit.report.drawing.data import Box, Edge, Wire
from fewbit.report.drawing.drawing import Drawing, check_form
from fewbit.report.drawing.labels import shape_text
from fewbit.report.drawing.stage import Sketch

FORMATS = ("svg", "png", "html", "dot")
HIDDEN = frozenset(
    "workspace cudnn_tune cudnn_off layout num_args no_bias fix_gamma eps momentum use_global_stats pooling_convention "
    "count_include_pad num_weights axis".split()
)
"""Attributes that the panel shows and a box does not."""

BARE = ("kernel", "act_type", "pool_type")
"""Attributes whose value tells what it is."""

Shapes = Mapping[str, Sequence[int]]


class Plot:
    """A drawing, to be used as the Digraph of MXNet's plot_network.

    Args:
        drawing: what is drawn. title, save_format: as given.
    """

    def __init__(self, drawing: Drawing, title: str, save_format: str) -> None:
        self.drawing, self.title, self.format = drawing, title, save_format

    @property
    def source(self) -> str:
        """The drawing in Graphviz's language."""
        return self.drawing.dot()

    def render(
        self, filename: str | os.PathLike[str] | None = None, directory: str | os.PathLike[str] | None = None, *,
        format: str | None = None, view: bool = False, cleanup: bool = False,
    ) -> str:  # fmt: skip
        """Write the picture as `filename.format`, and its source as `filename` unless `cleanup`; returns the path."""
        if view:
            raise UsageError("view opens a window, which fewbit does not; open the file that render() returns")
        suffix = one_of("format", format or self.format, FORMATS)
        source = Path(directory or ".") / (filename or f"{self.title}.gv")
        picture = source.with_name(f"{source.name}.{suffix}")
        check_form(picture)
        self.drawing.save(picture)
        if not cleanup:
            with writing(source) as part:
                part.write_text(self.source, "utf-8")
        return str(picture)

    def _repr_svg_(self) -> str:
        return self.drawing.svg()

    def __getattr__(self, name: str) -> Any:
        raise telling("Digraph", "render() writes the picture, source is its text")(name)


def plot_network(
    symbol: Symbol | PlannedSymbol | Model, title: str = "plot", save_format: str = "svg",
    shape: Shapes | None = None, dtype: Any = None, node_attrs: Mapping[str, Any] | None = None,
    hide_weights: bool = True,
) -> Plot:  # fmt: skip
    """Draw a network.

    Args:
        symbol: a Symbol, an integer one, or a fewbit Model. title: over the picture, and the default name of its file.
        save_format: svg, png, html or dot.
        shape: of inputs, the batch included; then values are drawn with their shapes.
        dtype: has no effect in a drawing, and is refused. node_attrs: Graphviz's attributes for all nodes.
        hide_weights: False draws parameters as nodes, too.

    Raises:
        UsageError: an argument that would have no effect. UnknownName: another format, attribute, or input.
    """
    if dtype is not None:
        raise UsageError("dtype has no effect on a drawing; formats are told by the network itself, leave it out")
    one_of("save_format", save_format, FORMATS)
    attributes = node_attributes(node_attrs or {})
    if isinstance(symbol, Symbol):
        sketch = _sketch(symbol.graph, shape, hide_weights)
        drawing = drawn_alone(title, sketch, "symbol", f"{_layers(symbol.graph)} layers of MXNet")
    else:
        if shape is not None:
            raise UsageError("shape is for symbols that have no parameters yet; this network knows its shapes")
        network = symbol.network if isinstance(symbol, PlannedSymbol) else symbol
        plan = symbol.plan if isinstance(symbol, PlannedSymbol) else None
        drawing = plot(network, title=title, weights=not hide_weights, plan=plan)
    return Plot(replace(drawing, attributes=attributes), title, save_format)


def _layers(graph: SymbolGraph) -> int:
    return sum(graph.nodes[i].op != "null" for i in graph.order)


def _used(graph: SymbolGraph) -> set[int]:
    """What some layer reads at inference: no labels."""
    return {e.node for i in graph.order for e in graph.nodes[i].inputs[: used_inputs(graph.nodes[i])]}


def _sketch(graph: SymbolGraph, shape: Shapes | None, hide_weights: bool) -> Sketch:
    """A symbol, in MXNet's words."""
    known = stand_in(graph, shape) if shape is not None else None
    learnt = {e.node for n in graph.nodes for e in n.inputs[LEARNT.get(n.op, slice(0, 0))]}
    names = {entry: name for name, entry in graph.internals().items()}
    found, ids, used = Sketch(), dict[int, str](), _used(graph)
    for i in graph.order:
        node = graph.nodes[i]
        if node.op == "null" and (i not in used or (i in learnt and hide_weights)):
            continue
        ids[i] = f"a{len(found.boxes)}"
        found.boxes.append(_box(ids[i], node, i in learnt, known.params if known else {}, shape or {}))
    wires: dict[Wire, int] = {}

    def connect(tail: str, head: str, name: str) -> None:
        sizes = known.values.get(name, known.params.get(name)) if known else None
        wire = Wire(name, shape_text(sizes), "f32", "float")
        edge = Edge(tail, head, wires.setdefault(wire, len(wires)))
        if edge not in found.edges:
            found.edges.append(edge)

    for i in graph.order:
        node = graph.nodes[i]
        for e in node.inputs[: used_inputs(node)]:
            if e.node in ids and i in ids:
                if e.node in learnt:
                    found.near[ids[e.node]] = (node.name, node.name)
                connect(ids[e.node], ids[i], names.get(e._replace(version=0), ""))
    for head, name in zip(graph.heads, graph.outputs, strict=True):
        sizes = shape_text(known.values.get(name)) if known else ""
        box = Box(f"a{len(found.boxes)}", "output", name, "output", key=f"output {name}", detail=sizes)
        found.boxes.append(box)
        connect(ids[head.node], box.id, name)
    found.wires.extend(wires)
    return found


def _box(id: str, node: SymbolNode, weight: bool, params: Mapping[str, Shape], given: Shapes) -> Box:
    if node.op == "null":
        kind = "weight" if weight else "input"
        sizes = params.get(node.name) or tuple(given.get(node.name, ()))
        return Box(id, kind, node.name, kind, key=f"{kind} {node.name}", detail=shape_text(sizes) if sizes else "")
    attrs = {k: v for k, v in node.attrs.items() if not k.startswith("__")}
    facts = {"Layer": (("operator", node.op),), "Attributes": tuple(attrs.items())}
    said = [
        f"{k} {v}" if k not in ("kernel", "act_type", "pool_type") else v for k, v in attrs.items() if k not in HIDDEN
    ]
    detail = ", ".join(said[:4])
    return Box(
        id, "layer", node.name, node.op, key=node.name, detail=detail, facts={k: v for k, v in facts.items() if v}
    )


# -- print_summary ----------------------------------------------------------------------------------------------------

HEADS = ("Layer (type)", "Output Shape", "Param #", "Previous Layer")


def print_summary(
    symbol: Symbol, shape: Shapes | None = None, line_length: int = 120,
    positions: Sequence[float] = (0.44, 0.64, 0.74, 1.0),
) -> None:  # fmt: skip
    """Print a table of the layers of a symbol, with the shapes that they give and how many parameters they have.

    Args:
        shape: of inputs, the batch included; without it shapes and numbers of parameters are not known.
        line_length: of a line, in letters. positions: where columns end, as shares of a line or in letters.
    """
    if not isinstance(symbol, Symbol):
        raise UsageError(f"symbol is a {type(symbol).__name__}; print_summary is for float symbols, see fewbit.inspect")
    if len(positions) != len(HEADS):
        raise UsageError(f"positions holds {len(positions)} numbers; it must be one for each of {len(HEADS)} columns")
    ends = [int(line_length * p) if positions[-1] <= 1 else int(p) for p in positions]
    graph = symbol.graph
    known = stand_in(graph, shape) if shape is not None else None
    learnt = {e.node for n in graph.nodes for e in n.inputs[LEARNT.get(n.op, slice(0, 0))]}
    names = {entry.node: name for name, entry in reversed(graph.internals().items())}
    total = 0
    print("_" * line_length, _row(HEADS, ends), "=" * line_length, sep="\n")
    used = _used(graph)
    shown = [i for i in graph.order if i not in learnt and (i in used or graph.nodes[i].op != "null")]
    for i in shown:
        node = graph.nodes[i]
        sizes = known.values.get(names[i]) if known else None
        params = [graph.nodes[e.node].name for e in node.inputs[LEARNT.get(node.op, slice(0, 0))]]
        params = [n for n in params if n in graph.arguments]  # running means are no parameters
        count = sum(prod(d or 0 for d in known.params[n]) for n in params if n in known.params) if known else 0
        total += count
        data = [e.node for e in node.inputs[: used_inputs(node)] if e.node not in learnt]
        before = [graph.nodes[k].name for k in data] or [""]
        said = "x".join(str(d) for d in (sizes or ())[1:])
        print(_row((f"{node.name}({node.op})", said, str(count), before[0]), ends))
        for name in before[1:]:
            print(_row(("", "", "", name), ends))
        print(("=" if i == shown[-1] else "_") * line_length)
    print(f"Total params: {total}", "_" * line_length, sep="\n")


def _row(cells: Sequence[str], ends: Sequence[int]) -> str:
    line = ""
    for cell, end in zip(cells, ends, strict=True):
        line = (line + cell)[:end].ljust(end)
    return line.rstrip()


__getattr__ = telling("mx.viz", "plot_network and print_summary are")
