"""Text in columns: as wide as it comes out, or for a page that has a width – a terminal.

    with page(80): print(report.text())

Where there is too little room names lose their middle, words are folded, the columns that matter least are left out,
with a word on it, and what is still too wide goes on in a table below. Paragraphs have 100 columns at most in any case.
"""

from __future__ import annotations

import contextlib
import dataclasses
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar

WIDTH = 100
"""Columns that frames and paragraphs fill at most."""

NAME = 44
"""Columns of a layer's name; longer ones lose their middle."""

PART = 6
"""Columns that each part of a path keeps."""

GAP = "  "
FAIR, LEAST = {"name": 20, "words": 24}, {"name": 14, "words": 10, "word": 10}
"""Columns that cells keep: as long as there are others to leave out, and in the end."""

_page: ContextVar[int | None] = ContextVar("page", default=None)


@contextlib.contextmanager
def page(width: int | None) -> Iterator[None]:
    """Lay text out for so many columns; None: as for a file."""
    before = _page.set(width)
    try:
        yield
    finally:
        _page.reset(before)


def width_of_page() -> int | None:
    """Columns of the page; None if there is no end to them."""
    return _page.get()


class Name(str):
    """A name in a table: loses its middle where it is too long, since both ends tell layers apart."""


@dataclasses.dataclass(frozen=True)
class Heading:
    """The title of a column. side: `<` or `>`. extra: left out first."""

    title: str
    side: str
    extra: bool = False


def heading(text: str) -> Heading:
    """`?>clipped` → Heading("clipped", ">", extra=True)."""
    extra = text[0] == "?"
    side, title = text[extra], text[extra + 1 :]
    assert side in "<>", text
    return Heading(title, side, extra)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Align cells in columns two spaces apart; no line ends in a space.

    Args:
        head: column titles, each with its alignment in front: `<left`, `>right`; and `?` before that if the column
            matters least.
        rows: as many cells each; those that are a `Name` may lose their middle.
    """
    heads, body = [heading(h) for h in head], [list(r) for r in rows]
    assert all(len(r) == len(head) for r in body), body
    columns = [_Column(h, [r[i] for r in body]) for i, h in enumerate(heads)]
    room = width_of_page()
    if room is None:
        return "\n".join(_drawn(columns, [c.width(NAME) for c in columns]))
    key, told = _key(columns), list[str]()
    shown, widths, later = _fitted(columns, room, len(key))
    out = [c.head.title for c in columns if c not in shown and c not in later]
    told += _drawn(shown, widths)
    while later:
        shown, widths, later = _fitted([*key, *later], room, len(key))
        told += ["", *_drawn(shown, widths)]
    if out:
        told += wrapped(f"no room for: {', '.join(out)}; a wider terminal or --json shows them")
    return "\n".join(told)


@dataclasses.dataclass(frozen=True, eq=False)
class _Column:
    head: Heading
    cells: Sequence[str]

    @property
    def kind(self) -> str:
        """What may be done to it: a name is cut, words are folded, a word is cut if need be; a number stays."""
        if any(isinstance(c, Name) for c in self.cells):
            return "name"
        return "number" if self.head.side == ">" else "words" if any(" " in c for c in self.cells) else "word"

    def width(self, most: int | None = None) -> int:
        """Columns that it takes if names are no longer than `most`."""
        found = [min(len(c), most) if most and isinstance(c, Name) else len(c) for c in self.cells]
        return max([len(self.head.title), *found])

    def least(self, floors: Mapping[str, int]) -> int:
        """Columns that it cannot do without."""
        longest = max((len(w) for c in self.cells for w in c.split()), default=0) if self.kind == "words" else 0
        return max(len(self.head.title), longest, min(self.width(), floors.get(self.kind, self.width())))

    def cell(self, i: int, width: int) -> list[str]:
        """The lines of one cell."""
        text = self.cells[i]
        if len(text) > width and self.kind == "words":
            return textwrap.wrap(text, width, break_on_hyphens=False)
        return [telling(text, width) if width_of_page() is not None else short(text, width)]


def _drawn(columns: Sequence[_Column], widths: Sequence[int]) -> list[str]:
    """The lines of a table."""
    sides = [c.head.side for c in columns]
    lines = [[c.head.title for c in columns], ["-" * w for w in widths]]
    for i in range(len(columns[0].cells) if columns else 0):
        lines += _folded([c.cell(i, w) for c, w in zip(columns, widths, strict=True)])
    return [GAP.join(f"{c:{s}{w}}" for c, s, w in zip(r, sides, widths, strict=True)).rstrip() for r in lines]


def _widths(columns: Sequence[_Column], floors: Mapping[str, int], room: int) -> tuple[list[int], bool]:
    """Widths, the widest columns giving first, down to what they need; and whether that is enough."""
    widths, least = [c.width() for c in columns], [c.least(floors) for c in columns]
    over = sum(widths) + len(GAP) * (len(columns) - 1) - room
    while over > 0 and any(w > m for w, m in zip(widths, least, strict=True)):
        widest = max((i for i, w in enumerate(widths) if w > least[i]), key=lambda i: widths[i])
        widths[widest] -= 1
        over -= 1
    return widths, over <= 0


def _key(columns: Sequence[_Column]) -> list[_Column]:
    """The columns in front that say what a line is about: all up to the first number, but not all there are."""
    numbers = [i for i, c in enumerate(columns) if c.kind == "number"]
    return list(columns[: max(1, numbers[0] if numbers else 1)])


def _fitted(columns: Sequence[_Column], room: int, keys: int) -> tuple[list[_Column], list[int], list[_Column]]:
    """The columns that there is room for, their widths, and the columns that need a table of their own.

    Args:
        keys: so many in front say what a line is about.
    """
    for floors in (FAIR, LEAST):
        left = list(columns)
        while True:
            widths, enough = _widths(left, floors, room)
            if enough:
                return left, widths, []
            extra = [c for c in left if c.head.extra]
            if not extra:
                break
            left.remove(extra[-1])
    later = list[_Column]()
    while len(left) > keys + 1 and not enough:
        later.insert(0, left.pop())
        widths, enough = _widths(left, LEAST, room)
    return left, widths, later


def _folded(cells: Sequence[Sequence[str]]) -> list[list[str]]:
    """A row of cells of several lines → several lines."""
    high = max((len(c) for c in cells), default=1)
    return [[c[i] if i < len(c) else "" for c in cells] for i in range(high)]


def wrapped(text: str, width: int | None = None, *, hang: int = 0) -> list[str]:
    """Lines of at most `width` columns (default: a paragraph's); an indent at the start is kept by all of them.

    Args:
        hang: columns that all lines but the first are indented by; default: two more than an indented first one.
    """
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text, width or min(WIDTH, width_of_page() or WIDTH), initial_indent="",
        subsequent_indent=" " * hang or indent + "  " * bool(indent), break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def short(name: str, width: int = NAME) -> str:
    """A name without its middle, if it is too long: both ends tell layers apart."""
    if len(name) <= width:
        return name
    back = (width - 1) * 2 // 3
    return f"{name[: width - 1 - back]}…{name[-back:]}"


def telling(name: str, width: int) -> str:
    """A name that is too long without the middle of its longest parts: `/layer3/project/bn/Batch…ut_0`."""
    mark = "/" if "/" in name else "."
    parts = name.split(mark)
    left = [len(p) for p in parts]
    while sum(left) + len(parts) - 1 > width:
        longest = left.index(max(left))
        left[longest] -= 1
        if left[longest] < PART:
            return short(name, width)
    return mark.join(
        p if len(p) == n else f"{p[: n // 2]}…{p[len(p) - (n - 1 - n // 2) :]}"
        for p, n in zip(parts, left, strict=True)
    )
