"""What a result shows, said once: text for a terminal, HTML for a notebook.

blocks = [Title("worst layers, 3 of 58"), Table(("<layer", ">SQNR dB"), rows), "note: …"]

to_text(blocks)     columns below each other, problems in a frame of `!`, last: where the eye stops
to_html(blocks)     in html.py: tables in the colours of the page around them, problems first: where the eye begins
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fewbit.core.tables import frame, pairs, table, wrapped

QUIET = 60.0
"""SQNR in dB from which the bar of an error has no length."""


class Shown(ABC):
    """A result that shows itself: `print` gives its text, a notebook the same as HTML, its bare name one line."""

    @abstractmethod
    def text(self) -> str:
        """For people."""

    @abstractmethod
    def _blocks(self) -> Sequence[Block]: ...

    @abstractmethod
    def _brief(self) -> str: ...

    def blocks(self) -> Sequence[Block]:
        """What a notebook shows, to be put together with more."""
        return self._blocks()

    def brief(self) -> str:
        """What matters most, in a few words."""
        return self._brief()

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<fewbit.{type(self).__name__}: {one_line(self.brief())}>"

    def _repr_html_(self) -> str:
        from fewbit.core.html import to_html

        return to_html(self.blocks())


@dataclass(frozen=True)
class Bar:
    """How long the bar behind a number is, 0 to 1. `mark`: where a line stands. `worse`: in the colour of harm."""

    share: float
    mark: float | None = None
    worse: bool = False


@dataclass(frozen=True)
class Title:
    """What the next block is."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Lines of what and how much."""

    lines: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """A table. head, rows: as of `tables.table`. bars: column → a bar for each row, seen in notebooks only."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Mapping[int, Sequence[Bar | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Code:
    """A line to be copied."""

    text: str


@dataclass(frozen=True)
class Wrapped:
    """A sentence that may be longer than a line."""

    text: str


@dataclass(frozen=True)
class Loud:
    """Problems that nobody overlooks, and what to try. said: the text has them elsewhere."""

    problems: Sequence[str]
    steps: Sequence[str] = ()
    said: bool = False


@dataclass(frozen=True)
class Aside:
    """A hint for notebooks; no text."""

    text: str


@dataclass(frozen=True)
class Fold:
    """What a notebook shows if it is clicked on; no text."""

    title: str
    blocks: Sequence[Block]


Block = str | Title | Facts | Table | Items | Code | Wrapped | Loud | Aside | Fold
"""A bare string is a line as it stands; an empty one is a gap."""


def one_line(text: str) -> str:
    """Without line breaks: names in model files may hold some."""
    return " ".join(text.split())


# -- bars ---------------------------------------------------------------------------------------------------------


def error_bars(sqnr: Iterable[float | None]) -> list[Bar | None]:
    """The longer, the worse: 60 dB and more have none, 0 dB and NaN fill the cell."""
    return [None if x is None else Bar(1 - min(max(_known(x), 0.0), QUIET) / QUIET, worse=True) for x in sqnr]


def ratio_bars(ratios: Sequence[float | None]) -> list[Bar | None]:
    """Ratios to float, with a line at 1; those that pass it have the colour of harm."""
    far = max([1.0, *(r for r in ratios if r is not None and math.isfinite(r))])
    scale = 1.1 * min(far, 4.0)  # one that is off the scale must not hide the others
    return [None if r is None or math.isnan(r) else Bar(min(r / scale, 1.0), 1 / scale, r > 1) for r in ratios]


def share_bars(amounts: Sequence[float | None], *, worse: bool = False) -> list[Bar | None]:
    """Amounts, as parts of the largest one."""
    most = max((a for a in amounts if a is not None and math.isfinite(a)), default=0.0)
    return [Bar(max(a / most, 0.0), worse=worse) if a is not None and a <= most and most > 0 else None for a in amounts]


def _known(sqnr: float) -> float:
    return 0.0 if math.isnan(sqnr) else sqnr


# -- text ---------------------------------------------------------------------------------------------------------


def to_text(blocks: Iterable[Block]) -> str:
    """All blocks below each other; what is for notebooks only is left out."""
    return "\n".join(line for block in blocks for line in _lines(block))


def _lines(block: Block) -> list[str]:
    match block:
        case str():
            return [block]
        case Title() | Code():
            return [block.text]
        case Facts():
            return [pairs(block.lines)]
        case Table():
            return [table(block.head, block.rows)]
        case Items():
            return [line for text in block.lines for line in wrapped(f"  {text}")]
        case Wrapped():
            return wrapped(block.text)
        case Loud() if not block.said:
            steps = [f"  {i}. {s}" for i, s in enumerate(block.steps, 1)]
            return [frame([*block.problems, *(["", "What to try:", *steps] if steps else [])])]
        case Loud() | Aside() | Fold():
            return []
