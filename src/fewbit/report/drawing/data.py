"""What is drawn, as data: boxes, the values between them, groups. DOT, pictures and the page are made of it.

Drawing data ─ stages (float, fused, quantized) ─ boxes, wires, edges, groups
an edge      tail box ─ wire (a value in a format) → head box
a group      a name scope or a repeated block; it is drawn open, as a frame, or folded, as one box
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STAGES = ("float", "fused", "quantized")


@dataclass(frozen=True)
class Box:
    """A layer, an end of the network, or a step that changes a format.

    Args:
        id: unique in the drawing. kind: layer, body (If, Loop, Scan), input, output, weight, quantize, dequantize,
            requantize.
        name: of the node in the graph. op: its operator.
        key: what boxes of other stages that do the same have, too. group: id of the group that it is in, or "".
        verdict, reason, into: see `verdicts`. types: formats that an integer layer computes with, such as u8×s8.
        detail: attributes that matter. weight: its largest constant, as (shape, format, kind of format).
        facts: everything, for the panel of a page: title → rows.
    """

    id: str
    kind: str
    name: str
    op: str
    key: str = ""
    group: str = ""
    verdict: str = ""
    reason: str = ""
    into: str = ""
    types: str = ""
    detail: str = ""
    weight: tuple[str, str, str] | None = None
    facts: Mapping[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Wire:
    """A value in one format.

    Args:
        name: of the value. shape: for people. format: word. kind: of the format. steps: scale and zero point.
        inside: within one integer operator, where an engine never makes the value.
    """

    name: str
    shape: str
    format: str
    kind: str
    steps: str = ""
    inside: bool = False


@dataclass(frozen=True)
class Edge:
    """`tail`, `head`: ids of boxes. `wire`: number of the wire in its stage."""

    tail: str
    head: str
    wire: int


@dataclass(frozen=True)
class Group:
    """A name scope or a repeated block.

    Args:
        id: unique in the drawing. title: for people. key: the same in all stages. parent: id, or "".
        depth: 1 for the outermost. alike: groups with the same text here look the same inside.
        count: layers inside. what: their operators, and what became of them, one line each.
        blocks: how many alike blocks it is made of; 0 if it is no such row. sizes: it only computes sizes of others.
        verdict: what becomes of all of it; "mixed" if that differs.
    """

    id: str
    title: str
    key: str
    parent: str
    depth: int
    alike: str
    count: int
    what: tuple[str, ...]
    blocks: int = 0
    sizes: bool = False
    verdict: str = ""


@dataclass(frozen=True)
class Stage:
    """One network. `about`: a line for people. `open`: groups that are open at first, if that is left to us."""

    name: str
    title: str
    about: str
    boxes: tuple[Box, ...]
    wires: tuple[Wire, ...]
    edges: tuple[Edge, ...]
    groups: tuple[Group, ...]
    open: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrawingData:
    """All stages of a drawing. `notes`: what cannot be seen in it."""

    title: str
    stages: tuple[Stage, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        from fewbit.core.tables import plain

        found: dict[str, Any] = plain(self)
        return found
