"""A box, a folded group, a wire → one line of DOT each. Names are untrusted: all text goes through `html` or `quoted`.

┌───────────────────────┐
│ Conv            u8×s8 │   operator, formats or verdict
│ layer1.0/conv1        │   name
│ 3×3, stride 2, pad 1  │   attributes
│ 64×64×3×3          s8 │   largest weight, its format
└───────────────────────┘
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewbit.errors import one_of
from fewbit.report.drawing.data import Box, Group, Stage, Wire
from fewbit.report.drawing.formats import LOOKS

FONT = "DejaVu Sans"
"""Graphviz has its widths built in, and matplotlib brings the font itself for PNG."""

NAME, TEXT = 30, 44
"""Characters of a name and of another line in a box."""

TABLE = '<table border="0" cellborder="0" cellspacing="0" cellpadding="0">'
INK, SOFT = "#1c2127", "#57606a"


@dataclass(frozen=True)
class Paint:
    """How a box is painted. `chip`: colour behind the text in the corner."""

    fill: str
    line: str
    chip: str = ""
    style: str = "filled,rounded"


PAINTS = {
    "": Paint("#f3f4f6", "#8b949e"),
    "integer": Paint("#dceaf6", "#0072b2", "#0072b2"),
    "merged": Paint("#eef5fb", "#0072b2", "", "filled,rounded,dashed"),
    "dynamic": Paint("#dceaf6", "#0072b2", "#0072b2"),
    "weights": Paint("#ddf2ea", "#00805d", ""),
    "float": Paint("#fde9dc", "#c75200", "#a84500"),
    "mixed": Paint("#f6f1e4", "#8a7440"),
}
"""Verdict → paint."""

STEPS = {
    "quantize": ("▼", "#fff3b8", "#7a6200"), "dequantize": ("▲", "#fff3b8", "#7a6200"),
    "requantize": ("◆", "#f7dcea", "#a44b7e"),
}  # fmt: skip
"""Step → sign, fill, line."""

ENDS = "#3d4550"

VERDICTS = {
    "integer": "computes in integers", "merged": "merged into the layer in front", "float": "stays float",
    "dynamic": "integer, range measured at run time", "weights": "weights in few bits, computed in float",
}  # fmt: skip

CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def quoted(text: str) -> str:
    """As a string of DOT in which nothing is an escape."""
    clean = CONTROL.sub("�", text).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{clean}"'


def node_attributes(given: Mapping[str, Any]) -> str:
    """Attributes of Graphviz for all boxes, as a list of DOT.

    Raises:
        UnknownName: one that boxes do not have.
    """
    for name in given:
        one_of("attribute of nodes", name, ATTRIBUTES)
    return " ".join(f"{name}={quoted(str(value))}" for name, value in given.items())


ATTRIBUTES = tuple(
    "color fillcolor fixedsize fontcolor fontname fontsize height margin penwidth peripheries shape style width".split()
)


def html(text: str) -> str:
    """For an HTML-like label.

    Graphviz takes × for narrower than it is; spaces at the end make up for it.
    """
    clean = CONTROL.sub("�", text) + " " * round(text.count("×") / 2)
    return clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def cut(text: str, most: int) -> str:
    """A text without its middle, if it is too long."""
    if len(text) <= most:
        return text
    tail = (most - 1) * 2 // 3
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def own_name(name: str, scope: str, op: str) -> str:
    """A name as it is called inside of a scope, without the operator at its end."""
    plain = name.strip("/").removesuffix(f"/{op}")
    inside = scope and f"{plain}/".replace(".", "/").startswith(scope.replace(".", "/") + "/")
    return plain[len(scope) + 1 :] if inside else plain


# -- boxes ------------------------------------------------------------------------------------------------------------


def box_line(box: Box, scope: str = "") -> str:
    """A box. `scope`: what its group is called, which its name need not say again."""
    if box.kind in STEPS:
        sign, fill, line = STEPS[box.kind]
        said = html(cut(box.detail or "range at run time", TEXT))
        label = f'<font point-size="9">{sign} <b>{box.kind}</b>  {said}</font>'
        return _node(box.id, f"step {box.kind}", label, fill=fill, line=line, style="filled", margin="0.06,0.03")
    if box.kind in ("input", "output"):
        text = f'<b>{html(cut(box.name, NAME))}</b><br/><font point-size="9">{box.kind} {html(box.detail)}</font>'
        return _node(box.id, f"end {box.kind}", f'<font color="#ffffff">{text}</font>', fill=ENDS, line=ENDS)
    if box.kind == "weight":
        text = f'{html(cut(box.name, NAME))}<br/><font point-size="9">{html(box.detail)}</font>'
        return _node(box.id, "weight", text, shape="oval", fill="#ffffff", line="#00805d", style="filled")
    paint = PAINTS[box.verdict]
    rows = [_row(f"<b>{html(cut(box.op, NAME))}</b>  ", _chip(_corner(box), paint.chip), 12)]
    name = own_name(box.name, scope, box.op)
    if name and name != box.op:
        rows.append(_row(f'<font color="{SOFT}">{html(cut(name, NAME))}</font>', "", 9))
    if box.detail:
        rows.append(_row(html(cut(box.detail, TEXT)), "", 9))
    if box.weight is not None:
        shape, word, kind = box.weight
        text, *share = word.split(" ", 1)
        more = f' <font color="{SOFT}"> {html(share[0])}  </font>' if share else ""
        chip = _chip(text, LOOKS[kind].fill, LOOKS[kind].ink) if kind != "float" else ""
        rows.append(_row(html(cut(shape, TEXT)) + more, chip, 9))
    table = f"{TABLE}{''.join(rows)}</table>"
    double = " peripheries=2" if box.kind == "body" else ""
    kind = f"{box.kind} {box.verdict or 'plain'}"
    return _node(box.id, kind, table, fill=paint.fill, line=paint.line, style=paint.style, more=double)


def _corner(box: Box) -> str:
    """What stands in the corner."""
    if box.verdict in ("integer", "dynamic"):
        return (box.types or "integer") + (" dynamic" if box.verdict == "dynamic" else "")
    return box.verdict if box.verdict in ("float", "merged") else "weights only" if box.verdict == "weights" else ""


def _row(left: str, right: str, size: int) -> str:
    """Two cells, or one over both columns."""
    text = f'<font point-size="{size}">{left}</font>'
    if not right:
        return f'<tr><td align="left" colspan="2">{text}</td></tr>'
    return f'<tr><td align="left">{text}</td>{right}</tr>'


def _chip(text: str, fill: str, ink: str = "#ffffff") -> str:
    """A cell with a colour of its own, at the right."""
    if not text:
        return ""
    said = f'<font point-size="9" color="{ink if fill else SOFT}"> {html(text)} </font>'
    if not fill:
        return f'<td align="right">{said}</td>'
    frame = f'border="0" cellborder="0" cellspacing="0" cellpadding="1" bgcolor="{fill}" style="rounded"'
    return f'<td align="right"><table {frame}><tr><td>{said}</td></tr></table></td>'


def _node(
    id: str, kind: str, label: str, *, shape: str = "box", fill: str, line: str, style: str = "filled,rounded",
    margin: str = "0.08,0.05", more: str = "",
) -> str:  # fmt: skip
    return (
        f'{id} [id="{id}" class="{kind}" shape={shape} style="{style}" fillcolor="{fill}" color="{line}" '
        f'margin="{margin}"{more} label=<{label}>]'
    )


# -- groups and wires -------------------------------------------------------------------------------------------------


def folded_line(group: Group, signs: bool = False) -> str:
    """A group that is folded. `signs`: one that a click opens it."""
    paint = PAINTS[group.verdict]
    title = f"<b>{'⊞ ' * signs}{html(cut(group.title, NAME))}</b>"
    times = f"<b>{group.blocks} ×</b>" if group.blocks else ""
    layers = f"{group.count} layers" if group.count != 1 else "1 layer"
    rows = [_row(title, f'<td align="right"><font point-size="12"> {times}</font></td>' if times else "", 12)]
    rows.append(_row(f'<font color="{SOFT}">{layers}: {html(cut(group.what[0], TEXT + 10))}</font>', "", 9))
    rows += [_row(html(cut(line, TEXT + 14)), "", 9) for line in group.what[1:]]
    table = f"{TABLE}{''.join(rows)}</table>"
    more = f" peripheries={3 if group.blocks else 2}"
    return _node(
        group.id,
        f"folded {group.verdict or 'plain'}",
        table,
        fill=paint.fill,
        line=paint.line,
        style="filled",
        more=more,
    )


def frame_line(group: Group, signs: bool = False) -> str:
    """Attributes of the frame around a group that is open. `signs`: one that a click folds it."""
    fill = "#fafbfc" if group.depth % 2 else "#f1f3f5"
    text = "⊟ " * signs + html(cut(group.title, NAME)) + (f"  ({group.blocks} ×)" if group.blocks else "")
    return (
        f'id="{group.id}" class="frame" style="filled,rounded" fillcolor="{fill}" color="#c4cad1" '
        f'label=<<font point-size="11" color="{SOFT}">{text}</font>> labeljust=l margin=10'
    )


def wire_lines(wire: Wire, words: bool) -> tuple[str, str]:
    """Attributes of the first edge of a value, which says what it is, and of its others. `words`: name f32, too."""
    look = LOOKS[wire.kind]
    if wire.inside:
        return ('class="inside" style=dotted color="#0072b2" arrowsize=0.5 weight=4',) * 2
    bare = f'class="wire {wire.kind}" style={look.style} color="{look.line}" penwidth={look.width:g}'
    shown = [wire.shape] if wire.shape and wire.kind != "count" else []
    if wire.kind != "count" and (words or wire.kind != "float"):
        shown.append(f"{wire.format} {wire.steps}".strip())
    if not shown:
        return bare, bare
    colour = SOFT if wire.kind in ("float", "count") else look.fill if look.ink == "#ffffff" else INK
    text = "  ".join(html(cut(s, TEXT)) for s in shown)
    return f'{bare} label=<<font color="{colour}"> {text}</font>>', bare


def names_words(stage: Stage) -> bool:
    """Whether float has to be named on edges, since there is something else."""
    return any(w.kind not in ("float", "count") for w in stage.wires)


# -- in words ---------------------------------------------------------------------------------------------------------


def tip(box: Box) -> str:
    """A few lines on a box, for the pointer and for who cannot see it."""
    lines = [f"{box.name} ({box.op})" if box.kind in ("layer", "body") else f"{box.kind} {box.name}", box.detail]
    if box.verdict:
        lines.append(f"{box.verdict}: {box.reason}" if box.reason else box.verdict)
    return "\n".join(line for line in lines if line)


def group_tip(group: Group) -> str:
    """A few lines on a group."""
    return "\n".join([f"{group.title}: {group.count} layers", *group.what])
