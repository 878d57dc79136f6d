"""How reports write numbers: as aligned text for people, as JSON for machines.

    table(("<layer", ">SQNR dB"), [["conv1", "31.2"]])      layer  SQNR dB
                                                            -----  -------
                                                            conv1     31.2

How text fits into its page is told in layout.py.

JSON has no infinity: it is written "inf" or "-inf", not-a-number "nan" – `float()` reads all three back.
A number that was not measured is null in JSON, "-" in text.
"""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from fewbit.core.layout import GAP, NAME, WIDTH, Heading, Name, heading, page, short, table, width_of_page, wrapped

__all__ = [
    "NAME", "WIDTH", "Heading", "Name", "dumps", "frame", "heading", "listed", "number", "page", "pairs", "percent",
    "plain", "short", "size", "small", "table", "times", "wrapped",
]  # fmt: skip


def pairs(found: Iterable[tuple[str, str]]) -> str:
    """Lines of `what   value`, the values below each other."""
    lines, room = list(found), width_of_page()
    wide = max((len(k) for k, _ in lines), default=0)
    told = []
    for k, v in lines:
        parts = [v]
        if room is not None and wide + len(GAP) + len(v) > room:
            parts = textwrap.wrap(v, max(room - wide - len(GAP), 20), break_long_words=False, break_on_hyphens=False)
        told += [f"{k if i == 0 else '':<{wide}}{GAP}{part}".rstrip() for i, part in enumerate(parts or [v])]
    return "\n".join(told)


def frame(paragraphs: Iterable[str]) -> str:
    """Text that nobody overlooks: wrapped, in a box of `!`."""
    most = min(WIDTH, width_of_page() or WIDTH) - 4
    lines = [line for p in paragraphs for line in (wrapped(p, most) or [""])]
    wide = min(most, max((len(line) for line in lines), default=0))
    edge = "!" * (wide + 4)
    return "\n".join([edge, *(f"! {line:<{wide}} !" for line in lines), edge])


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
    if hasattr(x, "tolist"):  # of numpy, which is not imported for this
        return plain(x.tolist())
    if isinstance(x, float) and not math.isfinite(x):
        return str(x)
    assert x is None or isinstance(x, (str, bool, int, float)), f"{type(x).__name__} has no JSON form"
    return x


def dumps(x: Any) -> str:
    """The JSON text of `plain(x)`, with a line break at the end; the same text every time."""
    return json.dumps(plain(x), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
