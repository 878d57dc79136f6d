"""How reports write numbers: as aligned text for people, as JSON for machines.

    table(("<layer", ">SQNR dB"), [["conv1", "31.2"]])      layer  SQNR dB
                                                            -----  -------
                                                            conv1     31.2

JSON has no infinity: it is written "inf" or "-inf", not-a-number "nan" – `float()` reads all three back.
A number that was not measured is null in JSON, "-" in text.
"""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

WIDTH = 100
"""Columns that frames and paragraphs fill at most."""

NAME = 44
"""Columns of a layer's name; longer ones lose their middle."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Align cells in columns two spaces apart; no line ends in a space.

    Args:
        head: column titles, each with its alignment in front: `<left`, `>right`.
        rows: as many cells each.
    """
    sides = [h[0] for h in head]
    assert set(sides) <= set("<>"), head
    titles = [h[1:] for h in head]
    body = [list(r) for r in rows]
    assert all(len(r) == len(head) for r in body), body
    widths = [max(len(r[i]) for r in [titles, *body]) for i in range(len(head))]
    lines = [titles, ["-" * w for w in widths], *body]
    return "\n".join(
        "  ".join(f"{c:{s}{w}}" for c, s, w in zip(line, sides, widths, strict=True)).rstrip() for line in lines
    )


def pairs(found: Iterable[tuple[str, str]]) -> str:
    """Lines of `what   value`, the values below each other."""
    lines = list(found)
    wide = max((len(k) for k, _ in lines), default=0)
    return "\n".join(f"{k:<{wide}}  {v}".rstrip() for k, v in lines)


def frame(paragraphs: Iterable[str]) -> str:
    """Text that nobody overlooks: wrapped, in a box of `!`."""
    lines = [line for p in paragraphs for line in (wrapped(p, WIDTH - 4) or [""])]
    wide = max((len(line) for line in lines), default=0)
    edge = "!" * (wide + 4)
    return "\n".join([edge, *(f"! {line:<{wide}} !" for line in lines), edge])


def wrapped(text: str, width: int = WIDTH) -> list[str]:
    """Lines of at most `width` columns; an indent at the start is kept by all of them."""
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text, width, initial_indent="", subsequent_indent=indent + "  " * bool(indent),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def short(name: str, width: int = NAME) -> str:
    """A name without its middle, if it is too long: both ends tell layers apart."""
    if len(name) <= width:
        return name
    back = (width - 1) * 2 // 3
    return f"{name[: width - 1 - back]}…{name[-back:]}"


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    found = list(names)
    more = len(found) - most
    return ", ".join(short(n) for n in found[:most]) + (f" and {more} more" if more > 0 else "")


# -- numbers --------------------------------------------------------------------------------------------------------


def number(x: float | None, digits: int = 2) -> str:
    """Fixed decimals; `-` if not measured; never `-0.00`."""
    if x is None:
        return "-"
    if not math.isfinite(x):
        return str(float(x))
    return f"{round(x, digits) + 0.0:,.{digits}f}"


def percent(x: float | None, digits: int = 1) -> str:
    """A share, in percent."""
    return "-" if x is None else f"{number(x * 100, digits)} %"


def small(x: float | None) -> str:
    """Three significant digits, for errors that span magnitudes."""
    return "-" if x is None else f"{float(x):.3g}"


def size(count: int | None) -> str:
    """Bytes, in decimal units."""
    if count is None:
        return "-"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:,.{2 if count < 10 * factor else 1}f} {unit}"
    return f"{count} B"


def times(ratio: float | None) -> str:
    """A ratio that is read as "so many times"."""
    return "-" if ratio is None else f"{number(ratio)}x"


# -- JSON -----------------------------------------------------------------------------------------------------------


def plain(x: Any) -> Any:
    """Turn dataclasses, mappings, sequences and numpy numbers into what JSON can hold; keys become text."""
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return {f.name: plain(getattr(x, f.name)) for f in dataclasses.fields(x)}
    if isinstance(x, Mapping):
        return {str(k): plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    if isinstance(x, (np.generic, np.ndarray)):
        return plain(x.tolist())
    if isinstance(x, float) and not math.isfinite(x):
        return str(x)
    assert x is None or isinstance(x, (str, bool, int, float)), f"{type(x).__name__} has no JSON form"
    return x


def dumps(x: Any) -> str:
    """The JSON text of `plain(x)`, with a line break at the end; the same text every time."""
    return json.dumps(plain(x), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
