"""A program under examples/ is a page: its docstring as text, then the code. So links to it work, as in the files."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from docutils.nodes import document
from myst_parser.parsers.sphinx_ import MystParser
from sphinx.application import Sphinx

COMMAND = re.compile(r"^ *(python \S+\.py.*)$", re.M)


def page(name: str, text: str) -> str:
    """Markdown for a program."""
    said = ast.get_docstring(ast.parse(text), clean=False) or ""
    said = COMMAND.sub(r"```text\n\1\n```", said)
    return f"# {name}\n\n{said}\n\n``````python\n{text.rstrip()}\n``````\n"


class ProgramParser(MystParser):
    """Python files → MyST."""

    supported = ("program",)

    def parse(self, inputstring: str, document: document) -> None:
        """Called by Sphinx."""
        super().parse(page(PurePath(document["source"]).name, inputstring), document)


def setup(app: Sphinx) -> Mapping[str, Any]:
    """Called by Sphinx."""
    app.add_source_suffix(".py", "program")
    app.add_source_parser(ProgramParser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
