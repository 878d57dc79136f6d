"""Checks of the HTML that results show in notebooks."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

NASTY = "<script>alert('x')</script>&\" onload=\"y $a$"
"""A name of a layer, as a model file may have it."""

VOID = {"br", "hr", "img"}
FORBIDDEN = {"script", "style", "iframe", "object", "link", "img", "form", "input"}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.words: list[str] = []
        self.cells: list[int] = []
        self.problems: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in FORBIDDEN:
            self.problems.append(f"there is a <{tag}>")
        self.problems += [f"<{tag} {k}>" for k, v in attrs if k.startswith("on") or (v or "").startswith("javascript:")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append(0)
        if tag in ("td", "th"):
            self.cells[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def checked(html: str) -> str:
    """The words of a piece of HTML, after checking that it is whole and holds nothing that acts."""
    page = _Page()
    page.feed(html)
    page.close()
    assert not page.problems and not page.open, (page.problems, page.open)
    return " ".join(page.words)


def shows_itself(result: Any) -> str:
    """Check repr and HTML of a result; the words of its HTML."""
    line, html = repr(result), result._repr_html_()
    assert "\n" not in line and len(line) < 400, line
    assert line.startswith("<fewbit.") and line.endswith(">")
    assert len(html) < 150_000 and html.startswith('<div class="fewbit')
    return checked(html)
