"""The facts of a report as one HTML file that needs nothing else: style, scripts, drawing library and data are in it.

    page(facts)  →  <html> … server-made text and tables … <script type="application/json">facts</script> <script>…

The page may run only the scripts that were written here (their sha256 stand in its content security policy) and may
fetch nothing at all, so that a layer with an odd name stays a name. Without scripts it still reads and prints: verdict,
figures and all tables are text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbit.core.tables import plain
from fewbit.report.page.view import View, view

if TYPE_CHECKING:
    from jinja2 import Environment

ASSETS = Path(__file__).parent / "assets"
VENDOR = Path(__file__).parents[1] / "vendor"

STYLES = ("page.css", "parts.css", "print.css")
FIRST = ("js/first.js",)
"""Runs before anything is drawn."""

LIBRARIES = ("d3.min.js", "plot.min.js")
SCRIPTS = (
    "js/data.js", "js/save.js", "js/marks.js", "js/figure.js", "js/errors.js", "js/histogram.js", "js/weights.js",
    "js/measures.js", "js/sweeps.js", "js/table.js", "js/layer.js", "js/main.js",
)  # fmt: skip
"""In this order: they share one scope."""

DIGITS = 5
"""Significant digits of the numbers that only pictures show."""

LONG = 16
"""Lists of more numbers than this are what pictures show."""


def page(facts: Mapping[str, Any]) -> str:
    """Render a report; the same facts give the same text.

    Args:
        facts: as `Facts.to_json()` gives them; what is missing or None is said to be missing.
    """
    from markupsafe import Markup

    data = plain(facts)
    scripts = _scripts()
    found: View = view(data)
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            view=found,
            policy=policy(*scripts.values()),
            style=Markup("\n".join(_own(name) for name in STYLES)),
            data=Markup(json_in_page(_light(data))),
            scripts={name: Markup(text) for name, text in scripts.items()},
        )
    )


def policy(*scripts: str) -> str:
    """The content security policy of a page with just these scripts: no network, no frames, no forms."""
    allowed = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def json_in_page(data: Any) -> str:
    """JSON that can stand in a <script> element: nothing in it can end the element or begin another."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def vendored(name: str) -> str:
    """The text of a library that comes along, see `vendor/README.md`."""
    return (VENDOR / name).read_text("utf-8")


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _scripts() -> dict[str, str]:
    own = "\n".join(_own(name) for name in SCRIPTS)
    found = {
        "first": "\n".join(_own(name) for name in FIRST),
        **{name.split(".")[0]: vendored(name) for name in LIBRARIES},
        "page": f'"use strict";\n(() => {{\n{own}\n}})();\n',
    }
    assert all("</script" not in text for text in found.values())
    return found


@cache
def _own(name: str) -> str:
    return (ASSETS / name).read_text("utf-8")


def _light(x: Any) -> Any:
    """The same data, long lists of numbers rounded to what a picture can show."""
    if isinstance(x, dict):
        return {k: _light(v) for k, v in x.items()}
    if isinstance(x, list):
        return [_rounded(v) for v in x] if len(x) > LONG else [_light(v) for v in x]
    return x


def _rounded(x: Any) -> Any:
    return float(f"{x:.{DIGITS}g}") if isinstance(x, float) else _light(x)
