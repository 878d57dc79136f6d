"""A sweep as a picture: top-1 over bits, one line for each way of quantizing, float as a level.

Networks with BatchNorm merged have a panel of their own. The same sweep gives the same bytes: no date, no random names.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

from fewbit.core.writing import writing
from fewbit.errors import EngineMissing, UsageError
from fewbit.report.sweep import Sweep, SweepRow

PICTURES = (".png", ".svg")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by the colour-blind, too
STYLES = ("-", "--", ":")


def check_plot(path: Path) -> None:
    """Refuse before the work starts what could not be drawn after it.

    Raises:
        UsageError: neither .png nor .svg. EngineMissing: matplotlib is not installed.
    """
    if path.suffix not in PICTURES:
        raise UsageError(f"the plot {path} must end in {' or '.join(PICTURES)}")
    if not can_plot():
        raise EngineMissing("matplotlib", "plot")


def can_plot() -> bool:
    """Whether matplotlib is there."""
    return find_spec("matplotlib") is not None


def save_plot(sweep: Sweep, path: str | Path) -> None:
    """Draw a sweep; PNG or SVG, by the suffix.

    Raises:
        UsageError, EngineMissing: see `check_plot`. OutputError: it cannot be written.
    """
    path = Path(path)
    check_plot(path)
    import matplotlib
    from matplotlib.figure import Figure

    merged = sorted({r.merge_bn for r in sweep.rows})
    with matplotlib.rc_context({"svg.hashsalt": "fewbit", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(1 + 4.2 * len(merged), 4.2), dpi=150, layout="constrained")
        panels = figure.subplots(1, len(merged), sharey=True, squeeze=False)[0]
        for axes, which in zip(panels, merged, strict=True):
            _draw(axes, sweep, which)
        panels[0].set_ylabel(f"{_measure(sweep)[0]}, %")
        figure.suptitle(sweep.about, fontsize=9)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        with writing(path) as part:
            figure.savefig(part, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw(axes: Any, sweep: Sweep, merged: bool) -> None:
    """One panel. Colour: what shares a scale. Style: where ranges come from."""
    colour = dict(zip(dict.fromkeys(r.quant_type for r in sweep.rows), cycle(COLOURS), strict=False))
    style = dict(zip(dict.fromkeys(r.ranges for r in sweep.rows), cycle(STYLES), strict=False))
    _, height = _measure(sweep)
    lines: dict[tuple[str, str], list[SweepRow]] = {}
    for r in sorted(sweep.rows, key=lambda r: r.bits):
        if r.merge_bn == merged:
            lines.setdefault((r.quant_type, r.ranges), []).append(r)
    for kind, ranges in dict.fromkeys((r.quant_type, r.ranges) for r in sweep.rows):
        rows = lines.get((kind, ranges), [])
        axes.plot(
            [r.bits for r in rows], [height(r) for r in rows], label=f"per {kind}, {ranges}", color=colour[kind],
            linestyle=style[ranges], marker="o", markersize=3.5, linewidth=1.4,
        )  # fmt: skip
    if sweep.top1 is not None:
        axes.axhline(100 * sweep.top1, color="0.35", linewidth=1, label="float")
    axes.set_xticks(sorted({r.bits for r in sweep.rows}))
    axes.set_xlabel("bits of inputs and weights")
    axes.set_title(f"BatchNorm {'merged' if merged else 'beside the weights'}", fontsize=9)
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def _measure(sweep: Sweep) -> tuple[str, Any]:
    """What the height of a point is: top-1, or without labels agreement with float."""
    if all(r.top1 is not None for r in sweep.rows):
        return "top-1", lambda r: 100 * r.top1
    return "agreement with float", lambda r: 100 * (r.agreement or 0)
