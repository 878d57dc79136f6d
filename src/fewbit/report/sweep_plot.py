"""A sweep as a picture: top-1 over bits, one line for each way of quantizing, float as a level.

Networks with BatchNorm merged have a panel of their own. The same sweep gives the same bytes: no date, no random names.
"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

from fewbit.report.pictures import COLOURS, picture
from fewbit.report.sweep import Sweep, SweepRow

STYLES = ("-", "--", ":")


def save_plot(sweep: Sweep, path: str | Path) -> None:
    """Draw a sweep; PNG or SVG, by the suffix.

    Raises:
        UsageError, EngineMissing: see `fewbit.report.pictures`. OutputError: it cannot be written.
    """
    merged = sorted({r.merge_bn for r in sweep.rows})
    with picture(Path(path), 1 + 4.2 * len(merged), 4.2) as figure:
        panels = figure.subplots(1, len(merged), sharey=True, squeeze=False)[0]
        for axes, which in zip(panels, merged, strict=True):
            _draw(axes, sweep, which)
        panels[0].set_ylabel(f"{_measure(sweep)[0]}, %")
        figure.suptitle(sweep.about)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)


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
    axes.set_title(f"BatchNorm {'merged' if merged else 'beside the weights'}")
    axes.grid(axis="y", color="0.9")


def _measure(sweep: Sweep) -> tuple[str, Any]:
    """What the height of a point is: top-1, or without labels agreement with float."""
    if all(r.top1 is not None for r in sweep.rows):
        return "top-1", lambda r: 100 * r.top1
    return "agreement with float", lambda r: 100 * (r.agreement or 0)
