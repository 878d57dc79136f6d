"""Tables: columns of numbers are set to the right, short cells and short code stay on one line.

And links to folders lead to the page that stands for them; a link that is called like its file, `[data.md](data.md)`,
is called like its page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

NUMBER = re.compile(r"[-+±]?\d[\d,.]*(e-?\d+)?( ?%|x| dB| s| ms| MB)?( ?[±(–].*)?|–|inf|nan|")
FOLDERS = {"bench/results": "docs/benchmarks.md", "examples": "docs/examples.md", "notebooks": "docs/notebooks.md"}
"""Folder of the repository → page about what lies there."""


SHORT = 24
"""Characters that stay on one line."""


class Align(SphinxTransform):
    """Mark the cells of columns that hold numbers, head included, and what needs no second line."""

    default_priority = 700

    def apply(self, **kwargs: Any) -> None:
        """Called by Sphinx."""
        for group in self.document.findall(nodes.tgroup):
            rows = [list(row.children) for row in group.findall(nodes.row)]
            body = [list(row.children) for part in group.findall(nodes.tbody) for row in part.children]
            for i in range(min((len(row) for row in rows), default=0)):
                cells = [row[i].astext().strip() for row in body]
                for row, text in zip(body, cells, strict=True):
                    row[i]["classes"] += ["short"] if len(text) <= SHORT else []
                if any(c and c != "–" for c in cells) and all(NUMBER.fullmatch(c) for c in cells):
                    for row in rows:
                        row[i]["classes"].append("number")
        for code in self.document.findall(nodes.literal):
            if len(code.astext()) <= SHORT:
                code["classes"].append("whole")


NAMED_AS_FILE = re.compile(r"\[(?:[\w-]+/)*([\w-]+\.(?:md|py|ipynb))\](\((?:[^()\s]*/)?\1(?:#[^()\s]*)?\))")


def links(app: Sphinx, docname: str, source: list[str]) -> None:
    """source-read: `](../bench/results)` → `](benchmarks.md)`, `[data.md](data.md)` → `[](data.md)`."""
    up = "../" * docname.count("/")
    for folder, page in FOLDERS.items():
        source[0] = re.sub(rf"\]\((\.\./)*{folder}/?\)", f"]({up}{page})", source[0])
    source[0] = NAMED_AS_FILE.sub(r"[]\2", source[0])


def setup(app: Sphinx) -> Mapping[str, Any]:
    """Called by Sphinx."""
    app.add_transform(Align)
    app.connect("source-read", links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
