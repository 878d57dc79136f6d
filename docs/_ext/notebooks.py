"""A notebook is a page, with the outputs that are stored in it; nothing is executed.

A notebook file is JSON: cells of markdown, and cells of code with outputs in several forms. Of these the richest one
that a page can show is taken: SVG, PNG, HTML, text. This needs no package; the usual ones bring a kernel, a debugger
and a database along, for executing, which the tests do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from docutils.nodes import document
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def page(text: str) -> str:
    """Markdown for a notebook."""
    parts: list[str] = []
    for cell in json.loads(text)["cells"]:
        source = joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(fenced("python", source))
            parts += [shown for out in cell.get("outputs", ()) if (shown := output(out))]
    return "\n\n".join(parts) + "\n"


def output(out: Mapping[str, Any]) -> str:
    """One output of a cell."""
    if out["output_type"] == "stream":
        return fenced("text", joined(out["text"]), "output")
    if out["output_type"] == "error":
        return fenced("text", "\n".join(out["traceback"]), "output")
    data = out.get("data", {})
    if "image/svg+xml" in data:
        return raw(joined(data["image/svg+xml"]))
    if "image/png" in data:
        said = re.sub(r"[\"<>&]", "", joined(data.get("text/plain", "a picture")))
        return raw(f'<img alt="{said}" src="data:image/png;base64,{"".join(joined(data["image/png"]).split())}">')
    if "text/markdown" in data:
        return joined(data["text/markdown"])
    if "text/html" in data:
        return raw(joined(data["text/html"]))
    return fenced("text", joined(data["text/plain"]), "output") if "text/plain" in data else ""


def joined(text: str | Sequence[str]) -> str:
    """Text in a notebook is a string or a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def fenced(kind: str, text: str, style: str = "") -> str:
    """A block of code or text; a fence longer than any in it."""
    text = COLOUR.sub("", text).rstrip("\n")
    fence = "`" * max(3, 1 + max((len(m) for m in re.findall(r"`+", text)), default=0))
    head = f"{{code-block}} {kind}\n:class: {style}\n" if style else kind
    return f"{fence}{head}\n{text}\n{fence}"


def raw(html: str) -> str:
    """HTML as it stands, in a frame that scrolls."""
    return f'``````{{raw}} html\n<div class="output">{html}</div>\n``````'


class NotebookParser(MystParser):
    """Notebooks → MyST."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: document) -> None:
        """Called by Sphinx."""
        super().parse(page(inputstring), document)


def setup(app: Sphinx) -> Mapping[str, Any]:
    """Called by Sphinx."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
