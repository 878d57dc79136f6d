"""MXNet's symbol as data: nodes in an order in which inputs come first, and the entries that are its outputs.

    variable   op "null"        x                              argument, or auxiliary state if an operator changes it
    operator   inputs: entries (node, which of its outputs)    outputs named <node>_output; see signature.py

Names of arguments and outputs come in MXNet's order: depth first from the outputs, inputs before what reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from fewbit.errors import ModelFormatError, unknown
from fewbit.frontends.mxnet.signature import ALIASES, MUTABLE, output_names

OLDEST = 800
"""The version of files that name none: 0.8.0."""

MOST_OUTPUTS = 1 << 20
"""Outputs of all nodes together; a short file can speak of any number."""


class Entry(NamedTuple):
    """One output of a node. `version` counts how often operators changed the value before it is read here."""

    node: int
    output: int
    version: int = 0


@dataclass(frozen=True)
class SymbolNode:
    """A variable (`op` is "null") or an operator."""

    op: str
    name: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[Entry, ...] = ()
    subgraphs: tuple[SymbolGraph, ...] = ()


@dataclass(frozen=True)
class SymbolGraph:
    """A network as MXNet stores it.

    Args:
        nodes: inputs come before what reads them. Names need not be unique.
        heads: the outputs.
        arg_nodes: the variables among the nodes.
        attrs: what is said of the whole, such as `mxnet_version`, as stored: `["int", 10901]`.
    """

    nodes: tuple[SymbolNode, ...]
    heads: tuple[Entry, ...]
    arg_nodes: tuple[int, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """The MXNet that wrote it, 10901 for 1.9.1.

        Raises:
            ModelFormatError: it is no number.
        """
        stored = self.attrs.get("mxnet_version", ["int", OLDEST])
        number = stored[-1] if isinstance(stored, list | tuple) and stored else stored
        if not isinstance(number, int) or isinstance(number, bool):
            raise ModelFormatError(f"mxnet_version of the symbol is {stored!r}; it must look like ['int', 10901]")
        return number

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The nodes that the outputs need, in MXNet's order."""
        found: dict[int, None] = {}
        waiting = [(head.node, False) for head in reversed(self.heads)]
        while waiting:
            node, ready = waiting.pop()
            if node in found:
                continue
            if ready:
                found[node] = None
            else:
                waiting.append((node, True))
                waiting += [
                    (entry.node, False) for entry in reversed(self.nodes[node].inputs) if entry.node not in found
                ]
        return tuple(found)

    @cached_property
    def states(self) -> frozenset[int]:
        """The variables that an operator changes: by version where it is stored, by operator in old files."""
        nodes = [self.nodes[i] for i in self.order]
        changed = {e.node for n in nodes for e in n.inputs if e.version > 0}
        for n in nodes:
            changed |= {n.inputs[i].node for i in MUTABLE.get(ALIASES.get(n.op, n.op), ()) if i < len(n.inputs)}
        return frozenset(i for i in changed if self.nodes[i].op == "null")

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of all variables: data, weights, auxiliary states."""
        return tuple(self.nodes[i].name for i in self.order if self.nodes[i].op == "null")

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of variables that no operator changes: data and weights."""
        return tuple(self.nodes[i].name for i in self.order if self.nodes[i].op == "null" and i not in self.states)

    @property
    def auxiliaries(self) -> tuple[str, ...]:
        """The names of variables that operators change when they are trained: running means and variances."""
        return tuple(self.nodes[i].name for i in self.order if i in self.states)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, as MXNet lists them."""
        return tuple(self._names[head.node][head.output] for head in self.heads)

    def internals(self) -> dict[str, Entry]:
        """Every output of every node by name, in MXNet's order. Of equal names the first counts."""
        found: dict[str, Entry] = {}
        for name, entry in self._internals():
            found.setdefault(name, entry)
        return found

    def cut(self, names: Iterable[str]) -> SymbolGraph:
        """The part that these outputs need; they become the outputs.

        Raises:
            UnknownName: no output has this name.
            ModelFormatError: several have it.
        """
        found: dict[str, list[Entry]] = {}
        for name, entry in self._internals():
            found.setdefault(name, []).append(entry)
        heads = []
        for name in names:
            if name not in found:
                raise unknown("output", name, found, hint=f"The output of layer {name!r} is {name + '_output'!r}")
            if len(found[name]) > 1:
                raise ModelFormatError(f"{len(found[name])} outputs of the symbol are called {name!r}; rename them")
            heads += found[name]
        return replace(self, heads=tuple(heads)).pruned()

    def pruned(self) -> SymbolGraph:
        """Without the nodes that no output needs."""
        keep = sorted(self.order)
        new = {old: i for i, old in enumerate(keep)}

        def moved(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
            return tuple(e._replace(node=new[e.node]) for e in entries)

        nodes = tuple(replace(self.nodes[i], inputs=moved(self.nodes[i].inputs)) for i in keep)
        return replace(self, nodes=nodes, heads=moved(self.heads), arg_nodes=variables_of(nodes))

    def _internals(self) -> Iterable[tuple[str, Entry]]:
        for i in self.order:
            yield from ((name, Entry(i, k)) for k, name in enumerate(self._names[i]))

    @cached_property
    def _used(self) -> dict[int, int]:
        """Node → how many of its outputs are used at least."""
        used: dict[int, int] = {}
        for e in (*self.heads, *(e for n in self.nodes for e in n.inputs)):
            used[e.node] = max(used.get(e.node, 0), e.output + 1)
        return used

    @cached_property
    def _names(self) -> tuple[tuple[str, ...], ...]:
        """What the outputs of each node are called."""
        names, left = [], MOST_OUTPUTS
        for i, node in enumerate(self.nodes):
            names.append(_names(node, self._used.get(i, 0)))
            left -= len(names[-1])
            if left < 0:
                raise ModelFormatError(f"the nodes of the symbol have more than {MOST_OUTPUTS} outputs; is it damaged?")
        return tuple(names)


def _names(node: SymbolNode, used: int) -> tuple[str, ...]:
    if node.op == "null":
        return (node.name,)
    names = output_names(node.op, node.attrs, used)
    return tuple(f"{node.name}_{name}" if node.name else name for name in names)


def variables_of(nodes: Iterable[SymbolNode]) -> tuple[int, ...]:
    """Where the variables are."""
    return tuple(i for i, node in enumerate(nodes) if node.op == "null")
