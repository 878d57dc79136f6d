"""DOT → SVG → PNG. Layout is Graphviz's, compiled to WebAssembly, in an engine of JavaScript that comes as a wheel.

    DOT ─ viz-global.js in mini-racer, or the program `dot` if that is not installed ─ SVG ─ resvg ─ PNG

The same drawing gives the same bytes: no dates, no random names, and a font whose widths Graphviz has built in.
"""

from __future__ import annotations

import atexit
import json
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fewbit.errors import EngineError, EngineMissing

VENDOR = Path(__file__).parent.parent / "vendor"
FAMILY = "DejaVu Sans, Verdana, Bitstream Vera Sans, sans-serif"
"""Fonts of the same widths."""

TITLE = re.compile(r"<title>([^<]*)</title>")

WIDEST = 12_000
"""Pixels of a PNG, either way; a larger drawing is scaled down."""

BROWSERLESS = """
globalThis.location = { href: "file:///" };
globalThis.crypto = { getRandomValues: (bytes) => bytes.fill(7) };
globalThis.TextDecoder = class {
  decode(bytes) {
    let text = "";
    for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode.apply(null, bytes.subarray(i, i + 8192));
    return decodeURIComponent(escape(text));
  }
};
"""
"""What viz-global.js asks of a browser."""

START = (
    'Viz.instance().then((viz) => { globalThis.draw = (dot) => JSON.stringify(viz.render(dot, { format: "svg" })); })'
)


def svg_of(dot: str, titles: dict[str, str]) -> str:
    """Lay a graph out. `titles`: id of a box → what a browser shows when the pointer is on it.

    Raises:
        EngineMissing: neither mini-racer nor Graphviz is there. EngineError: Graphviz refuses the graph.
    """
    return tidy(_laid_out(dot), titles)


def can_draw() -> bool:
    """Whether there is something that lays graphs out."""
    return find_spec("py_mini_racer") is not None or shutil.which("dot") is not None


def check_draw(png: bool) -> None:
    """Refuse before the work starts what could not be drawn after it.

    Raises:
        EngineMissing: a package is not installed.
    """
    if not can_draw():
        raise EngineMissing("mini-racer (or Graphviz's program dot)", "plot")
    if png and (find_spec("resvg_py") is None or find_spec("matplotlib") is None):
        raise EngineMissing("resvg_py" if find_spec("resvg_py") is None else "matplotlib", "plot")


def _laid_out(dot: str) -> str:
    check_draw(False)
    if find_spec("py_mini_racer") is None:
        return _native(dot)
    found = json.loads(_thread().submit(lambda: _engine().call("draw", dot)).result())
    if found["status"] != "success":
        raise EngineError(f"Graphviz refuses the drawing: {'; '.join(e['message'] for e in found['errors'])}")
    return str(found["output"])


@cache
def _thread() -> ThreadPoolExecutor:
    """Where everything of the engine happens.

    In a thread with a running event loop, as in a notebook, it would wait for that loop, which waits for it.
    """
    return ThreadPoolExecutor(1, "fewbit-drawing")


@cache
def _engine() -> Any:
    """JavaScript with Graphviz in it; one for the whole process."""
    from py_mini_racer import MiniRacer

    engine: Any = MiniRacer()
    atexit.register(engine.close)  # else an error that nobody catches keeps the process from ending
    engine.eval(BROWSERLESS)
    engine.eval((VENDOR / "viz-global.js").read_text("utf-8"))
    engine.eval(START).get()
    return engine


def _native(dot: str) -> str:
    """By the program."""
    done = subprocess.run(["dot", "-Tsvg"], input=dot, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EngineError(f"Graphviz refuses the drawing: {done.stderr.strip()}")
    return done.stdout


def tidy(svg: str, titles: dict[str, str]) -> str:
    """Graphviz's SVG with titles for people, fonts that are there, and no remarks of the program."""
    from fewbit.report.drawing.boxes import html

    svg = re.sub(r"<!--.*?-->\n?|<!DOCTYPE[^>]*>\n?", "", svg, flags=re.DOTALL)
    svg = svg.replace(' font-family="DejaVu Sans"', "").replace(' xml:space="preserve"', "")
    svg = svg.replace('class="graph"', f'class="graph" xml:space="preserve" font-family="{FAMILY}"', 1)
    return TITLE.sub(lambda m: f"<title>{html(titles[m[1]])}</title>" if m[1] in titles else "", svg)


def png_of(svg: str, zoom: float = 2.0) -> bytes:
    """Paint an SVG. `zoom`: pixels for each of its own; less, if it would get wider or higher than `WIDEST`.

    Raises:
        EngineMissing: resvg_py or matplotlib is not there.
    """
    check_draw(True)
    import matplotlib
    import resvg_py

    sizes = [float(x) for x in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2]]
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = [str(fonts / f"DejaVuSans{kind}.ttf") for kind in ("", "-Bold")]
    zoom = min(zoom, *(WIDEST / (s * 4 / 3) for s in sizes))
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg,
            zoom=zoom,
            dpi=96,
            background="#ffffff",
            skip_system_fonts=True,
            font_files=files,
            font_family="DejaVu Sans",
            sans_serif_family="DejaVu Sans",
        )
    )
