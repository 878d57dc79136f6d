"""A drawing as one HTML file that needs nothing else: data, Graphviz as WebAssembly, and what opens and closes groups.

    page(data)  →  <html> … <script type="application/json">lines of DOT, facts</script> <script>Graphviz</script> …

The page runs only the scripts that were written here (their sha256 stand in its policy) and fetches nothing. Names
arrive as text of JSON and leave as text of elements, or as labels that were escaped in `boxes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fewbit import __version__
from fewbit.report.drawing.boxes import PAINTS, STEPS, VERDICTS, group_tip, tip
from fewbit.report.drawing.data import Box, DrawingData, Stage
from fewbit.report.drawing.dot import HEAD, meanings, parts
from fewbit.report.drawing.formats import LOOKS
from fewbit.report.page.html import json_in_page, policy, vendored

HERE = Path(__file__).parent / "page"
SCRIPTS = ("assemble.js", "state.js", "pane.js", "panel.js", "search.js", "main.js")
"""In this order: they share one scope."""

WEB_ASSEMBLY = "script-src 'wasm-unsafe-eval'"


def page(data: DrawingData, shown: Sequence[str], opened: Mapping[str, Sequence[str]]) -> str:
    """Render a drawing; the same data give the same text.

    Args:
        shown: stages that are in sight at first. opened: stage → ids of groups that are open at first.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    scripts = {"first": _own("first.js"), "viz": vendored("viz-global.js"), "page": _scripts()}
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    held = {
        "shown": list(shown),
        "head": [*HEAD, 'graph [bgcolor="transparent" pad=0.2]'],
        "stages": [_stage(s, opened[s.name]) for s in data.stages],
    }
    return environment.get_template("drawing.html.j2").render(
        title=data.title,
        notes=data.notes,
        fewbit=__version__,
        stages=data.stages,
        legend=_legend(data.stages),
        policy=policy(*scripts.values()).replace("script-src", WEB_ASSEMBLY, 1),
        style=Markup(_own("drawing.css") + _own("dark.css")),
        data=Markup(json_in_page(held)),
        scripts={name: Markup(text) for name, text in scripts.items()},
    )


def _stage(stage: Stage, opened: Sequence[str]) -> dict[str, Any]:
    """What the page holds of a stage."""
    found = parts(stage, signs=True)
    return {
        "name": stage.name,
        "title": stage.title,
        "about": stage.about,
        "open": list(opened),
        "items": found.items,
        "frames": found.frames,
        "wires": found.wires,
        "edges": found.edges,
        "boxes": {b.id: _box(b) for b in stage.boxes},
        "groups": {g.id: {"title": g.title, "key": g.key, "tip": group_tip(g)} for g in stage.groups},
    }


def _box(box: Box) -> dict[str, Any]:
    words = ("kind", "name", "op", "key", "verdict", "reason", "facts")
    return {**{w: getattr(box, w) for w in words}, "tip": tip(box)}


def _legend(stages: Sequence[Stage]) -> list[dict[str, str]]:
    """What the colours mean that occur: boxes, then lines, which have no fill."""
    verdicts, steps, kinds = meanings(stages)
    boxes = [(PAINTS[v].fill, PAINTS[v].line, VERDICTS[v], "3 2" if v == "merged" else "none") for v in verdicts]
    boxes += [(STEPS[k][1], STEPS[k][2], text, "none") for k, text in steps.items()]
    found = [{"fill": fill, "line": line, "text": text, "dash": dash, "width": "1"} for fill, line, text, dash in boxes]
    looks = [LOOKS[k] for k in kinds] if found or len(kinds) > 1 else []
    return found + [
        {"fill": "", "line": k.line, "text": k.about, "dash": DASHES[k.style], "width": f"{k.width:g}"} for k in looks
    ]


DASHES = {"solid": "none", "dashed": "5 3", "dotted": "1.5 3"}


@cache
def _scripts() -> str:
    own = "\n".join(_own(name) for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{own}\n}})();\n'


@cache
def _own(name: str) -> str:
    return (HERE / name).read_text("utf-8")
