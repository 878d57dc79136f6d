"""Rules: small, checked changes of a float graph, and the loop that applies them.

    pattern(node)        → match    does the graph look like the rule's picture, seen from `node`, its last node?
    check(edit, match)   → reason   why it must stay as it is; "" if it may change
    replace(edit, match) → detail   change it, and say what was done

`apply` sweeps over the main graph in topological order until nothing changes, so a rule need not look further than its
own picture. Bodies of `If`, `Loop` and `Scan` are not touched; a value that a body uses counts as used.

What keeps its name: the node that does the work, and the value that others read (the last one of the picture). A value
whose content changes gets a new name: of two networks, the same name means the same numbers, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import onnx_ir as ir

from fewbit.graph.model import Array, Model, op_name

PATTERN_KEY = "fewbit.pattern"
"""Metadata key of nodes that are one operator together, not to be quantized apart: `Gelu:<name of its last node>`."""

BIAS_KEY = "fewbit.bias"
"""Metadata key of an Add that is the bias of a MatMul: the MatMul's name."""

M = TypeVar("M")


@dataclass(frozen=True)
class Rule(Generic[M]):
    """One rewrite; see the module's docstring for what its three functions do.

    Args:
        name: the word for it in reports. ops: operators of the last node of its picture.
    """

    name: str
    ops: tuple[str, ...]
    pattern: Callable[[ir.Node], M | None]
    check: Callable[[Edit, M], str]
    replace: Callable[[Edit, M], str]


@dataclass(frozen=True)
class Change:
    """A rule changed the graph at a node (its name before the change)."""

    rule: str
    node: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.node}: {self.detail}"


@dataclass(frozen=True)
class Refusal:
    """A rule recognised its picture at a node and left it alone."""

    rule: str
    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.node} stays: {self.reason}"


@dataclass(frozen=True)
class Report:
    """What was changed, in order, and what was refused in the final graph."""

    changes: tuple[Change, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.changes)

    def lines(self) -> list[str]:
        """The report as text, changes first."""
        return [*map(str, self.changes), *map(str, self.refusals)]


def apply(model: Model, rules: Sequence[Rule[Any]]) -> Report:
    """Apply rules to a model in place until none changes anything; earlier rules come first at a node."""
    edit = Edit(model)
    table: dict[str, list[Rule[Any]]] = {}
    for rule in rules:
        for op in rule.ops:
            table.setdefault(op, []).append(rule)
    changes: list[Change] = []
    while True:
        before, refusals = len(changes), []
        for node in model.nodes:
            for rule in table.get(op_name(node), ()):
                if node.graph is None:  # an earlier change took it away
                    break
                match = rule.pattern(node)
                if match is None:
                    continue
                name, reason = str(node.name), rule.check(edit, match)
                if reason:
                    refusals.append(Refusal(rule.name, name, reason))
                else:
                    changes.append(Change(rule.name, name, rule.replace(edit, match)))
        if len(changes) == before:
            edit.finish()
            return Report(tuple(changes), tuple(refusals))


def why_not_private(value: ir.Value, user: ir.Node) -> str:
    """Why `value` may not disappear into `user`; "" if it has no other use."""
    if value.is_graph_output():
        return f"{value.name!r} is an output of the network"
    if any(use.node is not user for use in value.uses()):
        return f"{value.name!r} is used elsewhere too"
    return ""


def why_not_inside(nodes: Sequence[ir.Node]) -> str:
    """Why the nodes of a picture, the last one at the end, cannot become one: a value inside is needed outside."""
    inside = set(nodes)
    for node in nodes[:-1]:
        for value in node.outputs:
            if value.is_graph_output():
                return f"{value.name!r} inside of it is an output of the network"
            if any(use.node not in inside for use in value.uses()):
                return f"{value.name!r} inside of it is used elsewhere too"
    return ""


class Edit:
    """Safe edits: names stay unique, outputs keep their names, what nobody uses goes away.

    Args:
        model: changed in place; names of nodes that vanish are entered in its `aliases`, by `finish`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        graphs = (model.graph, *model.graph.subgraphs())
        self._taken = {str(v.name) for g in graphs for v in (*g.inputs, *g.initializers.values())}
        self._taken |= {str(v.name) for g in graphs for n in g for v in n.outputs}
        self._heirs: dict[str, str] = {}

    def finish(self) -> None:
        """Note in the model which node does the work of each one that is gone; "" if none needs to."""
        aliases = self.model.aliases
        aliases.update(self._heirs)
        for old, heir in aliases.items():
            while heir in self._heirs:
                heir = self._heirs[heir]
            aliases[old] = heir

    def constant(self, name: str, array: Array) -> ir.Value:
        """A new initializer; its name starts with `name`."""
        return self.model.add_initializer(self.model.fresh(name, self._taken), array)

    def freeze(self, value: ir.Value, array: Array) -> None:
        """Replace a computed value by a constant of the same name; its node goes once all its outputs are unused."""
        frozen = self.model.add_initializer(str(value.name), array)
        value.name = self.model.fresh(f"{value.name}_computed", self._taken)
        value.replace_all_uses_with(frozen)
        node = value.producer()
        if node is not None and not any(v.uses() or v.is_graph_output() for v in node.outputs):
            self.drop(node)

    def rename(self, value: ir.Value, word: str) -> None:
        """Give a value whose content changes another name: `<name>_<word>`."""
        assert not value.is_graph_output()
        value.name = self.model.fresh(f"{value.name}_{word}", self._taken)

    def set_input(self, node: ir.Node, index: int, value: ir.Value | None) -> None:
        """Replace an input, adding optional ones; what nobody else uses goes away, and counts as merged into `node`."""
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        old = node.inputs[index]
        node.replace_input_with(index, value)
        if old is not None:
            self._sweep([old], str(node.name))

    def swallow(self, keep: ir.Node, last: ir.Node) -> None:
        """Let the output of `keep` take the place and the name of the output of `last`, which goes away."""
        self._take_over(keep.outputs[0], last.outputs[0])
        self.drop(last, into=keep)

    def bypass(self, node: ir.Node, index: int = 0, *, into: ir.Node | None = None) -> None:
        """Remove a node that does nothing (any more, since `into` does it).

        Where its output is one of the network's, the input takes over the name.
        """
        x, y = node.inputs[index], node.outputs[0]
        assert x is not None and not self.why_not_bypass(node, index)
        if y.is_graph_output():
            self._take_over(x, y)
        else:
            if x.shape is None:
                x.shape = y.shape
            y.replace_all_uses_with(x)
        self.drop(node, into=into)

    def why_not_bypass(self, node: ir.Node, index: int = 0) -> str:
        """Why a node that does nothing must stay: its input cannot take over the name of a network output."""
        x = node.inputs[index]
        if x is None:
            return "it has no input"
        if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
            return f"its other output {node.outputs[1].name!r} is in use"
        if node.outputs[0].is_graph_output() and (x.producer() is None or x.is_graph_output()):
            return f"it gives the output {node.outputs[0].name!r} of the network its name"
        return ""

    def replace(
        self,
        last: ir.Node,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
    ) -> ir.Node:
        """Put one node in the place of a picture that ends in `last`.

        Args:
            last: the new node has its name, and its output's; it goes away, and with it all that only it needed.
            op, inputs, attributes: of the new node.
        """
        node = ir.node(op, inputs, attributes or {}, name=last.name)
        self.model.graph.insert_before(last, node)
        self._take_over(node.outputs[0], last.outputs[0])
        self.drop(last, into=node)
        return node

    def drop(self, node: ir.Node, *, into: ir.Node | None = None) -> None:
        """Remove an unused node, and nodes and constants that only it used; `into` does their work from now on."""
        heir = "" if into is None else str(into.name)
        self._sweep(self._remove(node, heir), heir)

    def _remove(self, node: ir.Node, heir: str) -> list[ir.Value]:
        """Take a node out of the graph; returns what it read."""
        if node.name != heir:
            self._heirs[str(node.name)] = heir
        inputs = [v for v in node.inputs if v is not None]
        self.model.graph.remove(node, safe=True)
        return inputs

    def _sweep(self, values: Iterable[ir.Value], heir: str) -> None:
        """Remove what made these values, where nobody reads them any more."""
        stack = list(values)
        while stack:
            value = stack.pop()
            if value.uses() or value.is_graph_output() or value.is_graph_input():
                continue
            node = value.producer()
            if node is None:
                if value.is_initializer() and value.graph is self.model.graph:
                    del self.model.graph.initializers[str(value.name)]
            elif node.graph is self.model.graph and not _is_needed(node):
                stack += self._remove(node, heir)

    def _take_over(self, new: ir.Value, old: ir.Value) -> None:
        """Give `new` the uses, the name and what is known of `old`."""
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        name, old.name = old.name, None
        new.name = name
        new.shape = old.shape if old.shape is not None else new.shape
        new.type = old.type if old.type is not None else new.type
        new.doc_string = old.doc_string or new.doc_string
        new.metadata_props.update(old.metadata_props)


def _is_needed(node: ir.Node) -> bool:
    """Whether somebody reads an output; nodes with bodies always count, since bodies hold on to what they read."""
    bodies = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    read = any(v.uses() or v.is_graph_output() for v in node.outputs)
    return read or any(a.type in bodies for a in node.attributes.values())


def tag(kind: str, nodes: Sequence[ir.Node]) -> str:
    """Mark the nodes of a picture, the last one at the end, as one operator that is not to be quantized in pieces."""
    for node in nodes:
        node.metadata_props[PATTERN_KEY] = f"{kind}:{nodes[-1].name}"
    return f"{len(nodes)} nodes are one {kind}"


def is_tagged(node: ir.Node) -> bool:
    """Whether a node is part of a marked picture."""
    return PATTERN_KEY in node.metadata_props


def tag_pattern(made: Iterable[ir.Value], inputs: Iterable[ir.Value], tag: str) -> None:
    """Say of all nodes between these values that they are one operator: none of them becomes integer alone."""
    seen, reach = set(inputs), list(made)
    while reach:
        value = reach.pop()
        node = value.producer()
        if value in seen or node is None:
            continue
        seen.add(value)
        node.metadata_props[PATTERN_KEY] = tag
        reach += [v for v in node.inputs if v is not None]
