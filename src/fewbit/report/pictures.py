"""What all static pictures share: matplotlib, its style, files that come out the same each time.

Colours are those of Okabe and Ito, which the colour-blind can tell; what a colour says, a style, hatch or word says as
well. The same numbers give the same bytes: no date, no random names. Names are text, never formulas.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fewbit.core.writing import writing
from fewbit.errors import EngineMissing, UsageError

PICTURES = (".png", ".svg")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
FLOAT, INTEGER = COLOURS[1], COLOURS[0]
"""Both sides of everything that is compared, as in pages and drawings."""

STYLE = {
    "svg.hashsalt": "fewbit", "svg.fonttype": "none", "text.parse_math": False,
    "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False,
    "axes.spines.right": False, "figure.titlesize": 9, "hatch.linewidth": 0.6,
}  # fmt: skip


def check_plot(path: Path) -> None:
    """Refuse before the work starts what could not be drawn after it.

    Raises:
        UsageError: neither .png nor .svg. EngineMissing: matplotlib is not installed.
    """
    if path.suffix not in PICTURES:
        raise UsageError(f"the plot {path} must end in {' or '.join(PICTURES)}; give it such a name")
    if not can_plot():
        raise EngineMissing("matplotlib", "plot")


def can_plot() -> bool:
    """Whether matplotlib is there."""
    return find_spec("matplotlib") is not None


@contextlib.contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Any]:
    """A figure, which is written when all was drawn: PNG or SVG, by the suffix.

    Args:
        width, height: in inches.

    Raises:
        UsageError, EngineMissing: see `check_plot`. OutputError: it cannot be written.
    """
    check_plot(path)
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        yield figure
        with writing(path) as part:
            figure.savefig(part, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)
