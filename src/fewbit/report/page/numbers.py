"""Numbers of a report's JSON, to read: "nan" and "inf" are texts there, what was not measured is null."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fewbit.core.tables import number, percent

NONE = "–"
SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def part(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """A part that may be missing; then an empty one."""
    return of.get(key) or {}


def number_of(x: Any) -> float | None:
    """A number, nan and the infinities included; None if it is missing or no number."""
    if isinstance(x, str):
        return SPECIAL.get(x)
    return float(x) if isinstance(x, int | float) else None


def fixed(x: Any, digits: int) -> str:
    """Fixed decimals."""
    found = number_of(x)
    if found is not None and math.isinf(found):
        return "∞" if found > 0 else "−∞"
    return NONE if found is None else number(found, digits).replace("-", "−")


def share(x: Any, digits: int) -> str:
    """A share, in percent."""
    found = number_of(x)
    return NONE if found is None else percent(found, digits).replace("-", "−")


def figure(x: Any) -> str:
    """Three significant digits at least, all of a whole number's; for values of any magnitude."""
    found = number_of(x)
    if found is None or not math.isfinite(found):
        return fixed(found, 0)
    if found and abs(found) < 1e-3:
        return f"{found:.2e}".replace("-", "−")
    digits = 0 if not found or abs(found) >= 100 else 2 - math.floor(math.log10(abs(found)))
    return fixed(found, digits)


def key(x: Any) -> str:
    """What a cell is sorted by: "" if missing, else a number that a script can read."""
    found = number_of(x)
    return "" if found is None else repr(found)
