"""One network → one stage of a drawing: its boxes, the values between them, and the steps that change a format.

    float ─ [quantize] ─ integer layer ─ integer layer ─ [requantize] ─ integer layer ─ [dequantize] ─ float

A step is drawn where an engine computes it at run time: between layers that agree about a value there is none, whatever
Q and DQ the file holds there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fewbit.graph.model import SOURCE_OP, Model, is_const, op_name
from fewbit.report.drawing.data import Box, Edge, Wire
from fewbit.report.drawing.formats import FLOAT, Format, of_type
from fewbit.report.drawing.labels import detail, plain_attr, plain_text, shape_text, value_shape
from fewbit.report.drawing.verdicts import Verdict
from fewbit.report.drawing.wiring import Constant, Read, Step, Wiring, same

Rows = tuple[tuple[str, ...], ...]
INTEGER = ("integer", "merged", "dynamic")
"""Verdicts of layers that take integers as they are."""

NONE, INSIDE = Verdict(), Format("inside the operator")


@dataclass
class Sketch:
    """What is drawn of a network, before it is put into groups. `near`: box of a step → layers at both its ends."""

    boxes: list[Box] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    near: dict[str, tuple[str, str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sources:
    """What a sketch is made of.

    Args:
        prefix: of ids. verdicts: by node; empty where there is nothing to say. fused: layer → the layers whose work it
            does. weights: draw constants as boxes, too. shapes: of values that are better known than in the model.
    """

    model: Model
    wiring: Wiring
    verdicts: Mapping[str, Verdict]
    prefix: str
    fused: Mapping[str, Sequence[str]] = field(default_factory=dict)
    weights: bool = False
    shapes: Mapping[str, str] = field(default_factory=dict)


def sketch(given: Sources) -> Sketch:
    """Draw a network."""
    return _Sketcher(given).run()


class _Sketcher:
    def __init__(self, given: Sources) -> None:
        self.given, self.found = given, Sketch()
        self.makers: dict[Any, str] = {}  # value → id of the box that gives it
        self.wires: dict[Wire, int] = {}
        self.steps: dict[tuple[str, str, str], str] = {}
        self.seen: set[Edge] = set()

    def run(self) -> Sketch:
        graph = self.given.model.graph
        for value in graph.inputs:
            if not is_const(value):
                self.makers[value] = self.end("input", value)
        nodes = [n for n in self.given.model.nodes if not self.given.wiring.hidden(n)]
        for node in nodes:
            self.layer(node)
        for node in nodes:
            self.edges(node)
        for value in graph.outputs:
            read = self.given.wiring.follow(value)
            box = self.end("output", value)
            if isinstance(read, Read):
                self.arrive(read, box, "", value)
        return self.found

    # -- boxes --------------------------------------------------------------------------------------------------------

    def add(self, **words: Any) -> str:
        box = Box(id=f"{self.given.prefix}{len(self.found.boxes)}", **words)
        self.found.boxes.append(box)
        return box.id

    def shape(self, value: Any) -> str:
        return self.given.shapes.get(str(value.name)) or value_shape(value)

    def end(self, kind: str, value: Any) -> str:
        name, shape, word = str(value.name), self.shape(value), str(of_type(value.dtype))
        facts = {"Value": (("name", name), ("shape", shape), ("format", word))}
        return self.add(kind=kind, name=name, op=kind, key=f"{kind} {name}", detail=shape, facts=facts)

    def layer(self, node: Any) -> None:
        name = str(node.name)
        verdict = self.given.verdicts.get(name, NONE)
        bodies = _bodies(node)
        measures = node.op_type == "DynamicQuantizeLinear"
        box = self.add(
            kind="body" if bodies else "quantize" if measures else "layer",
            name=name,
            op=op_name(node).rsplit(".", 1)[-1],
            key=name,
            verdict="" if measures else verdict.word,
            reason=verdict.reason,
            into=verdict.into,
            types=self.types(node, verdict),
            detail="; ".join(f"{word}: {len(inner)} nodes" for word, inner in bodies) or detail(node),
            weight=self.weight(node),
            facts=self.facts(node, verdict),
        )
        self.found.names[name] = box
        for value in node.outputs:
            self.makers[value] = box

    def types(self, node: Any, verdict: Verdict) -> str:
        """Formats that an integer layer computes with: u8×s8."""
        if verdict.word not in ("integer", "dynamic"):
            return ""
        words = []
        for read in self.reads(node):
            last = self.last(read)
            words += [last.word] if last.integer else []
        return "×".join(words[:2] if len(set(words)) > 1 else words[:1])

    def reads(self, node: Any) -> list[Read | Constant]:
        found = (self.given.wiring.read(node, i) for i in range(len(node.inputs)))
        return [r for r in found if r is not None]

    def last(self, read: Read | Constant) -> Format:
        """The format in which something is read."""
        if isinstance(read, Constant):
            return read.format
        return read.steps[-1].format if read.steps else self.given.wiring.made(read.source)

    def weight(self, node: Any) -> tuple[str, str, str] | None:
        """The largest constant that is a matrix at least, and no list of sizes or indices."""
        found = [r for r in self.reads(node) if isinstance(r, Constant) and r.format.kind != "count"]
        known = [r for r in found if sum(d != 1 for d in r.shape) > 1]
        best = max(known, key=lambda c: c.size, default=None)
        return (shape_text(best.shape), str(best.format), best.format.kind) if best is not None else None

    def facts(self, node: Any, verdict: Verdict) -> dict[str, Rows]:
        """All that is known of a node, for the panel."""
        source = node.metadata_props.get(SOURCE_OP, "")
        layer = [("operator", op_name(node)), ("in its own tool", source if source != node.op_type else "")]
        layer += [("merged into", verdict.into)]
        reads = self.reads(node)
        data = [r for r in reads if isinstance(r, Read)]
        attrs = [(k, plain_text(plain_attr(node, k))) for k in node.attributes if plain_attr(node, k) is not None]
        found: dict[str, Sequence[tuple[str, ...]]] = {
            "Layer": [row for row in layer if row[1]],
            "Reads": [_row(str(r.source.name), self.shape(r.source), self.taken(r, verdict)) for r in data],
            "Gives": [_row(str(v.name), self.shape(v), self.gives(v, verdict)) for v in node.outputs if v.name],
            "Weights": [_row(r.name, shape_text(r.shape), r.format) for r in reads if isinstance(r, Constant)],
            "Attributes": attrs,
            "Stands for": [(name,) for name in self.given.fused.get(str(node.name), ())],
        }
        return {title: tuple(rows) for title, rows in found.items() if rows}

    def taken(self, read: Read, verdict: Verdict) -> Format:
        """The format that a layer takes: none where it is merged into the one in front."""
        last = self.last(read)
        return last if verdict.word != "merged" or read.steps or last.kind != "float" else INSIDE

    def gives(self, value: Any, verdict: Verdict) -> Format:
        """The format that a layer gives: where it is integer, that of the Q behind it."""
        made = self.given.wiring.made(value)
        if made.integer or verdict.word not in INTEGER:
            return made
        behind = self.given.wiring.rounded(value)
        merged = [self.given.verdicts.get(str(u.node.name), NONE).word == "merged" for u in value.uses()]
        return behind or (INSIDE if merged and all(merged) else made)

    # -- edges --------------------------------------------------------------------------------------------------------

    def edges(self, node: Any) -> None:
        name = str(node.name)
        box = self.found.names[name]
        for i, value in enumerate(node.inputs):
            read = self.given.wiring.read(node, i)
            if isinstance(read, Read):
                self.arrive(read, box, name, value)
            elif isinstance(read, Constant) and self.given.weights:
                self.constant(read, box, name)
        for _, inner in _bodies(node):
            for value in dict.fromkeys(v for n in inner for v in n.inputs if v is not None and v in self.makers):
                self.arrive(Read(value), box, name, value)

    def constant(self, read: Constant, box: str, name: str) -> None:
        shape = shape_text(read.shape)
        facts = {"Weights": (_row(read.name, shape, read.format),)}
        made = self.add(
            kind="weight", name=read.name, op="weight", key=f"weight {read.name}", detail=shape, facts=facts
        )
        self.found.near[made] = (name, name)
        self.connect(made, box, read.name, shape, read.format)

    def arrive(self, read: Read, box: str, name: str, value: Any) -> None:
        """Draw the way of a value to a box, with the steps that change its format. `name`: of a layer that reads it."""
        source = read.source
        tail, maker = self.makers.get(source), source.producer()
        grid = maker is not None and maker.op_type == "DynamicQuantizeLinear" and source is not maker.outputs[0]
        if tail is None or (grid and self.given.wiring.tidy):
            return
        maker_name = str(maker.name) if maker is not None else ""
        verdicts = self.given.verdicts
        makes = verdicts.get(maker_name, NONE)
        reader = verdicts.get(name, NONE)
        made = self.given.wiring.made(source)
        steps = list(read.steps)
        if steps and not made.integer and makes.word in INTEGER and steps[0].format.integer:
            made, steps = steps[0].format, steps[1:]
        last = steps[-1].format if steps else made
        if last.integer and of_type(value.dtype).kind in ("float", "half") and reader.word not in INTEGER:
            steps.append(Step(FLOAT, read.steps[-1].nodes[-1:] if read.steps else ()))
        inside = reader.word == "merged" and reader.into in (maker_name, makes.into or maker_name) and not read.steps
        shape = self.shape(source)
        for step in steps:
            if not same(made, step.format):
                tail = self.step(tail, made, step, (maker_name, name), str(source.name), shape)
                made = step.format
        self.connect(tail, box, str(source.name), shape, made, inside=inside)

    def step(self, tail: str, made: Format, step: Step, near: tuple[str, str], name: str, shape: str) -> str:
        """A box that changes the format of a value; one for all readers that want the same."""
        kind = (
            "requantize"
            if made.integer and step.format.integer
            else "quantize"
            if step.format.integer
            else "dequantize"
        )
        key = (tail, str(step.format), step.format.steps)
        box = self.steps.get(key)
        if box is None:
            rows = [("from", f"{made} {made.steps}".strip()), ("to", f"{step.format} {step.format.steps}".strip())]
            rows += [("nodes", ", ".join(step.nodes))] if step.nodes else []
            detail = f"{made.word} → {step.format.word}"
            facts = {"Step": tuple(rows), "Value": ((name, shape),)}
            box = self.add(kind=kind, name=name, op=kind, key=f"{kind} {name}", detail=detail, facts=facts)
            self.steps[key] = box
            self.found.near[box] = near
            self.connect(tail, box, name, shape, made)
        return box

    def connect(self, tail: str, head: str, name: str, shape: str, made: Format, *, inside: bool = False) -> None:
        word = "" if inside else str(made.word)
        wire = Wire(name, shape, word, "count" if inside else made.kind, "" if inside else made.steps, inside)
        number = self.wires.setdefault(wire, len(self.wires))
        if number == len(self.found.wires):
            self.found.wires.append(wire)
        edge = Edge(tail, head, number)
        if edge not in self.seen:
            self.seen.add(edge)
            self.found.edges.append(edge)


def _row(name: str, shape: str, of: Format) -> tuple[str, ...]:
    return (name, shape, str(of), of.steps)


def _bodies(node: Any) -> list[tuple[str, list[Any]]]:
    """The bodies of an If, Loop or Scan → their nodes, those of bodies in them included."""
    found = []
    for name, a in node.attributes.items():
        if str(a.type.name) == "GRAPH":
            found.append((name.removesuffix("_branch"), list(a.as_graph().all_nodes())))
    return found
