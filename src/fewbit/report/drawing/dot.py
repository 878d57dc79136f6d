"""A drawing as DOT, the language of Graphviz: for a set of open groups, the lines of what can be seen.

    open group      subgraph "cluster_…" { its lines }
    folded group    its own line; edges of what is inside end there
    edges           one for each value between two boxes; a value says what it is at its first edge

The page assembles the same text from the same parts, in `assemble.js`: a test holds the two together.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from fewbit.report.drawing.boxes import (
    FONT,
    INK,
    PAINTS,
    SOFT,
    STEPS,
    VERDICTS,
    box_line,
    cut,
    folded_line,
    frame_line,
    html,
    names_words,
    wire_lines,
)  # fmt: skip
from fewbit.report.drawing.data import DrawingData, Stage
from fewbit.report.drawing.formats import LOOKS, Look

NOTE, LINES = 110, 4
"""Characters of a line of a note, and lines of one, in the legend; a page has all of it."""

HEAD = (
    f'graph [fontname="{FONT}" fontsize=11 nodesep=0.28 ranksep=0.26 rankdir=TB splines=spline]',
    f'node [fontname="{FONT}" fontsize=11 fontcolor="#1c2127" penwidth=1.2 height=0.2 width=0.4]',
    f'edge [fontname="{FONT}" fontsize=9 arrowsize=0.6]',
)


@dataclass(frozen=True)
class Parts:
    """The lines of a stage.

    Args:
        items: (id, group that it is in or "", line), boxes and folded groups, in the order of the network.
        frames: group → attributes of its frame. wires: attributes of the first edge, of others.
        edges: (tail, head, number of the wire).
    """

    items: tuple[tuple[str, str, str], ...]
    frames: dict[str, str]
    wires: tuple[tuple[str, str], ...]
    edges: tuple[tuple[str, str, int], ...]


def parts(stage: Stage, *, signs: bool = False) -> Parts:
    """The lines of a stage. `signs`: on groups, of what a click does."""
    groups = {g.id: g for g in stage.groups}
    scope = {g.id: g.key.removeprefix("group ") for g in stage.groups}
    items: dict[str, tuple[str, str, str]] = {}
    for b in stage.boxes:
        way, at = [], b.group
        while at and at not in items:
            way.append(groups[at])
            at = groups[at].parent
        items |= {g.id: (g.id, g.parent, folded_line(g, signs)) for g in reversed(way)}
        items[b.id] = (b.id, b.group, box_line(b, _scope(b.group, groups, scope)))
    words = names_words(stage)
    return Parts(
        tuple(items.values()),
        {g.id: frame_line(g, signs) for g in stage.groups},
        tuple(wire_lines(w, words) for w in stage.wires),
        tuple((e.tail, e.head, e.wire) for e in stage.edges),
    )


def _scope(group: str, groups: dict[str, Any], scope: dict[str, str]) -> str:
    """The innermost name scope around a group: blocks have none."""
    while group and (scope[group].startswith("\n") or "#" in scope[group]):
        group = groups[group].parent
    return scope[group] if group else ""


def assemble(found: Parts, opened: Collection[str]) -> list[str]:
    """The lines of what can be seen with these groups open."""
    inside: dict[str, list[tuple[str, str, str]]] = {}
    parent = {}
    for item in found.items:
        inside.setdefault(item[1], []).append(item)
        parent[item[0]] = item[1]
    lines: list[str] = []

    def write(group: str) -> None:
        for id, _, line in inside.get(group, ()):
            if id in found.frames and id in opened:
                lines.append(f'subgraph "cluster_{id}" {{')
                lines.append(found.frames[id])
                write(id)
                lines.append("}")
            else:
                lines.append(line)

    def seen(id: str) -> str:
        box, at = id, parent[id]
        while at:
            box = box if at in opened else at
            at = parent[at]
        return box

    write("")
    drawn: set[tuple[str, str, int]] = set()
    said: set[int] = set()
    for tail, head, wire in found.edges:
        a, b = seen(tail), seen(head)
        if a == b or (a, b, wire) in drawn:
            continue
        drawn.add((a, b, wire))
        lines.append(f"{a} -> {b} [{found.wires[wire][1 if wire in said else 0]}]")
        said.add(wire)
    return lines


def digraph(data: DrawingData, opened: Collection[str], stages: Sequence[str], attributes: str = "") -> str:
    """The whole picture: one stage, or several side by side. `attributes`: of nodes, on top of ours."""
    shown = [s for s in data.stages if s.name in stages]
    label = f"label=<{legend(data, shown)}>"
    lines = ["digraph fewbit {", *HEAD, f'graph [bgcolor="#ffffff" pad=0.2 labelloc=t labeljust=l {label}]']
    for stage in shown:
        body = assemble(parts(stage), opened)
        if attributes:  # the last of two counts
            body = [f"{line[:-1]} {attributes}]" if ' [id="' in line else line for line in body]
        if len(shown) > 1:
            frame = f'style="rounded" color="#8b949e" labeljust=l label=<<b>{html(stage.title)}</b>> margin=14'
            body = [f'subgraph "cluster_{stage.name}" {{', frame, *body, "}"]
        lines += body
    return "\n".join([*lines, "}"]) + "\n"


# -- legend -----------------------------------------------------------------------------------------------------------


def legend(data: DrawingData, stages: Sequence[Stage]) -> str:
    """Title, and what the colours mean that occur; an HTML-like label."""
    about = stages[0].about if len(stages) == 1 else " – ".join(s.title for s in stages)
    notes = [line for note in data.notes for line in textwrap.wrap(cut(note, NOTE * LINES), NOTE)]
    lines = [(f"<b>{html(data.title)}</b>", 15, INK), *((html(text), 9, SOFT) for text in (about, *notes) if text)]
    rows = [
        f'<tr><td align="left" colspan="8"><font point-size="{size}" color="{ink}">{text}</font></td></tr>'
        for text, size, ink in lines
    ]
    cells = _cells(stages)
    rows[2 if about else 1 : 0] = [f"<tr>{''.join(cells[i : i + 4])}</tr>" for i in range(0, len(cells), 4)]
    return f'<table border="0" cellborder="0" cellspacing="3" cellpadding="2">{"".join(rows)}</table>'


def meanings(stages: Sequence[Stage]) -> tuple[list[str], dict[str, str], list[str]]:
    """What occurs, of that which has a colour: verdicts, steps with what they do, kinds of formats."""
    verdicts = {b.verdict for s in stages for b in s.boxes}
    kinds = {w.kind for s in stages for w in s.wires if not w.inside}
    kinds |= {b.weight[2] for s in stages for b in s.boxes if b.weight is not None}
    steps = {b.kind for s in stages for b in s.boxes}
    return (
        [v for v in VERDICTS if v in verdicts],
        {k: f"{DOES[k]} at run time" for k in STEPS if k in steps},
        [k for k in LOOKS if k in kinds],
    )


def _cells(stages: Sequence[Stage]) -> list[str]:
    """Sign and words of what occurs, two cells each."""
    verdicts, steps, kinds = meanings(stages)
    found = [(_swatch(PAINTS[v].fill, PAINTS[v].line), VERDICTS[v]) for v in verdicts]
    found += [(_swatch(STEPS[k][1], STEPS[k][2]), text) for k, text in steps.items()]
    if len(kinds) > 1 or found:
        found += [(_stroke(LOOKS[k]), LOOKS[k].about) for k in kinds]
    return [f'{sign}<td align="left"><font point-size="9">{html(text)}  </font></td>' for sign, text in found]


DOES = {"quantize": "float → integer", "dequantize": "integer → float", "requantize": "integer → other scale"}
"""Step → what it does."""


def _swatch(fill: str, line: str) -> str:
    return f'<td bgcolor="{fill}" border="1" color="{line}" width="18" height="10" fixedsize="true"></td>'


def _stroke(look: Look) -> str:
    text = {"solid": "━━", "dashed": "╍╍", "dotted": "┈┈"}[look.style]
    return f'<td width="18"><font color="{look.line}" point-size="9">{text if look.width > 1 else "──"}</font></td>'
