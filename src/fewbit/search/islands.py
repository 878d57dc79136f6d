"""Layers that can be integer, what hangs together with them, and where an engine's time goes among them.

    x ─ Q ─ conv1 ─ relu1 ─ conv2 ─ DQ ─ softmax        units conv1 (with relu1, merged into it) and conv2;
        └────── one island ──────────┘                  Q and DQ count for the unit inside that they belong to

A unit is an integer node of the full plan together with what it absorbs; an island is a connected set of them.
An engine's operator belongs to the longest name of a layer or value that its own name starts with, whatever fits
nowhere (reorders, conversions) to the one that ran before it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fewbit.core.names import longest
from fewbit.core.plan import Plan
from fewbit.core.runner import NodeTime
from fewbit.core.target import Target
from fewbit.graph.facts import facts
from fewbit.graph.model import Model, is_const

CONVERTS = ("QuantizeLinear", "DequantizeLinear", "FakeQuantize")


@dataclass(frozen=True)
class Units:
    """What may be integer.

    Args:
        members: unit → the nodes that it is made of. owner: node → its unit.
        rows: unit → its row of the target in words, such as "Conv (depthwise)". core: units whose row is core.
        reads: unit → computed values that it takes as integers. makes: unit → values that come out of its nodes.
        makers: value → the unit that makes it.
        layers: any name of a layer or a value → the node it stands for.
    """

    members: Mapping[str, tuple[str, ...]]
    owner: Mapping[str, str]
    rows: Mapping[str, str]
    core: frozenset[str]
    reads: Mapping[str, tuple[str, ...]]
    makes: Mapping[str, tuple[str, ...]]
    makers: Mapping[str, str]
    layers: Mapping[str, str]

    @property
    def all(self) -> frozenset[str]:
        """Every unit."""
        return frozenset(self.members)

    def readers(self, of: Collection[str]) -> dict[str, list[str]]:
        """Value → units among `of` that read it as integers."""
        found: dict[str, list[str]] = {}
        for unit in of:
            for value in self.reads[unit]:
                found.setdefault(value, []).append(unit)
        return found

    def islands(self, of: Collection[str]) -> list[frozenset[str]]:
        """Connected sets, in graph order."""
        chosen, parent = set(of), {u: u for u in of}

        def root(u: str) -> str:
            while parent[u] != u:
                parent[u] = parent[parent[u]]
                u = parent[u]
            return u

        for unit in chosen:
            for value in self.reads[unit]:
                if self.makers.get(value) in chosen:
                    parent[root(unit)] = root(self.makers[value])
        found: dict[str, set[str]] = {}
        for unit in self.members:
            if unit in chosen:
                found.setdefault(root(unit), set()).add(unit)
        return [frozenset(s) for s in found.values()]

    def settled(self, of: Iterable[str]) -> frozenset[str]:
        """Without support layers that do not stand between integer ones, repeated until none is left."""
        chosen = set(of)
        while True:
            readers = self.readers(chosen)
            fed = {v for u in chosen for v in self.makes[u]}
            lone = {
                u
                for u in chosen - self.core
                if not any(v in readers for v in self.makes[u])
                or any(v not in fed and not self.core.intersection(readers[v]) for v in self.reads[u])
            }
            if not lone:
                return frozenset(chosen)
            chosen -= lone


def units_of(model: Model, plan: Plan, target: Target) -> Units:
    """Look at a full plan.

    Args:
        model: the fused float network. plan: with all layers integer that may be. target: it was made for.
    """
    owner = {k: n.absorbed_by or k for k, n in plan.nodes.items() if n.quantized}
    members: dict[str, list[str]] = {}
    for name, unit in owner.items():
        members.setdefault(unit, []).append(name)
    rows: dict[str, str] = {}
    reads: dict[str, tuple[str, ...]] = {}
    makes: dict[str, list[str]] = {unit: [] for unit in members}
    core, layers = set[str](), dict(model.aliases)
    for node in model.nodes:
        name = str(node.name)
        layers[name] = name
        outputs = [str(v.name) for v in node.outputs if v.name]
        layers |= dict.fromkeys(outputs, name)
        if name in owner:
            makes[owner[name]] += outputs
        if owner.get(name) != name:
            continue
        rule = target.rule(facts(node))
        rows[name] = node.op_type + (f" ({rule.when})" if rule and rule.when != "always" else "")
        core |= {name} if rule and rule.core else set()
        reads[name] = tuple(_read(node, plan.nodes[name].roles))
    return Units(
        members={u: tuple(names) for u, names in members.items()},
        owner=owner,
        rows=rows,
        core=frozenset(core),
        reads=reads,
        makes={u: tuple(values) for u, values in makes.items()},
        makers={v: u for u, values in makes.items() for v in values},
        layers=layers,
    )


def _read(node: Any, roles: tuple[str, ...]) -> Iterable[str]:
    for value, role in zip(node.inputs, roles, strict=False):
        if value is not None and role == "act" and not is_const(value):
            yield str(value.name)


def time_of_units(found: Iterable[NodeTime], units: Units, integer: Collection[str]) -> dict[str, float]:
    """Microseconds of each unit, Q and DQ at the border of `integer` included; float layers are left out."""
    readers, us, before = units.readers(integer), dict[str, float](), ""
    known, borders = units.layers.keys(), units.layers.keys() | readers.keys()
    for t in found:
        name = longest(t.node, borders if t.op in CONVERTS else known)
        unit = before
        if name is not None:
            unit = units.owner.get(units.layers.get(name, ""), "")
            if t.op in CONVERTS and unit not in integer:  # made by a float layer, or a graph input: for who reads it
                unit = next(iter(readers.get(name, ())), "")
            before = unit
        if unit:
            us[unit] = us.get(unit, 0.0) + t.us
    return us
