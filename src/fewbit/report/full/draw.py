"""A report's pictures for documents and papers: errors, histograms of the worst layers, time, sensitivity, sweeps.

    errors        bars, worst layer on top          histogram-1 …  the worst layers, both sides, limits drawn
    operators     time by operator, both networks   channels-1 …  weights of these layers against what integers can hold
    sensitivity   bars, most harmful on top         sweep-1 …     as `fewbit simulate --sweep` draws them

Each has its numbers beside it in the tables that `FullReport.save_data` writes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.core.tables import number, short
from fewbit.errors import OutputError
from fewbit.report.full.layers import LayerFacts
from fewbit.report.full.report import FullReport
from fewbit.report.pictures import FLOAT, INTEGER, check_plot, picture
from fewbit.report.sweep import Sweep, SweepRow
from fewbit.report.sweep_plot import save_plot

MOST, WORST = 40, 4
"""Bars in a picture; layers that have pictures of their own."""

BAR = 0.2
"""Inches that a bar takes."""


def save_pictures(report: FullReport, folder: str | Path, suffix: str = ".svg") -> list[Path]:
    """Draw a report into a folder, which is made if need be.

    Args:
        suffix: .svg or .png.

    Returns:
        the files.

    Raises:
        UsageError: another suffix. EngineMissing: matplotlib is not installed. OutputError: it cannot be written.
    """
    folder, made = Path(folder), list[Path]()
    check_plot(folder / f"x{suffix}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"cannot make the folder {folder}: {e.strerror or e}; give another one") from e

    def file(name: str) -> Path:
        made.append(folder / f"{name}{suffix}")
        return made[-1]

    worst = sorted((x for x in report.layers if x.sqnr != math.inf), key=_worth)
    if worst:
        rows = [(f"{short(x.node)} ({x.op})", x.sqnr, x.integer is not False) for x in worst[:MOST]]
        _bars(file("errors"), f"{report.title}: error by layer, worst first", "SQNR, dB", rows)
    for i, layer in enumerate([x for x in worst if x.histogram][:WORST], 1):
        _histogram(file(f"histogram-{i}"), layer)
        if layer.weights is not None:
            _channels(file(f"channels-{i}"), layer)
    if report.profile is not None:
        _operators(file("operators"), report)
    if report.sensitivity is not None:
        rows = [(f"{short(r['layer'])} ({r['op']})", float(r["alone"]), True) for r in report.sensitivity.rows]
        rows = [r for r in rows if math.isfinite(r[1])][:MOST]
        if rows:
            title = f"{report.title}: sensitivity, {report.sensitivity.kind}"
            _bars(file("sensitivity"), title, "SQNR alone, dB", rows)
    for i, found in enumerate(report.sweeps, 1):
        kinds = tuple(SweepRow(**row) for row in found["rows"])
        save_plot(Sweep(found["network"], found["data"], found["top1"], kinds), file(f"sweep-{i}"))
    return made


def _worth(layer: LayerFacts) -> float:
    return -math.inf if math.isnan(layer.sqnr) else layer.sqnr


def _bars(path: Path, title: str, axis: str, rows: Sequence[tuple[str, float, bool]]) -> None:
    """One bar a layer; those in float are hatched."""
    with picture(path, 6.5, 1 + BAR * len(rows)) as figure:
        axes = figure.subplots()
        for y, (_, value, integer) in enumerate(rows):
            length = value if math.isfinite(value) else 0
            axes.barh(y, length, color=INTEGER if integer else "white", edgecolor=INTEGER if integer else FLOAT,
                      hatch="" if integer else "////", height=0.7)  # fmt: skip
            place = max(length, 0), y
            axes.annotate(number(value, 1), place, (3, 0), textcoords="offset points", va="center", fontsize=7)
        axes.set_yticks(range(len(rows)), [r[0] for r in rows], fontsize=7)
        axes.tick_params(axis="y", length=0)
        axes.set_title(title)
        axes.set_xlabel(axis if all(r[2] for r in rows) else f"{axis}   (hatched: computed in float)")
        axes.set_ylim(len(rows) - 0.4, -0.6)


def _histogram(path: Path, layer: LayerFacts) -> None:
    """Counts of both sides, and where the integers end."""
    h = layer.histogram
    assert h is not None
    edges = h.low + h.step * np.arange(len(h.original) + 1)
    with picture(path, 5, 3) as figure:
        axes = figure.subplots()
        axes.stairs(h.quantized, edges, fill=True, color=INTEGER, alpha=0.35, label="quantized")
        axes.stairs(h.original, edges, color=FLOAT, linewidth=1.3, label="float")
        for end in layer.range or ():
            if edges[0] <= end <= edges[-1]:
                axes.axvline(end, color="0.2", linestyle="--", linewidth=1)
        axes.set(yscale="symlog", xlabel="value", ylabel="count")
        axes.set_title(f"{short(layer.node)}, {number(layer.sqnr, 1)} dB")
        axes.set_ylim(0)
        if layer.range is not None:
            axes.plot([], [], color="0.2", linestyle="--", linewidth=1, label="range of the integers")
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=7)


def _channels(path: Path, layer: LayerFacts) -> None:
    """Weights of each channel within what its integers can hold."""
    w = layer.weights
    assert w is not None
    at = np.arange(len(w.low)) * w.together
    with picture(path, 5, 3) as figure:
        axes = figure.subplots()
        axes.fill_between(at, w.limit_low, w.limit_high, step="mid", color="0.88", label=f"what {w.format} can hold")
        axes.vlines(at, w.low, w.high, color=FLOAT, linewidth=max(0.4, min(3.0, 250 / len(at))), label="float weights")
        what = "group" if w.granularity == "group" else "channel"
        axes.set(xlabel=what, ylabel="weight", title=f"{short(layer.node)}: weights by {what}")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=7)


def _operators(path: Path, report: FullReport) -> None:
    """Time of both networks by operator."""
    profile = report.profile
    assert profile is not None
    sides: tuple[tuple[str, dict[str, tuple[int, float]], str, str], ...] = (
        ("float", profile.float_operators, FLOAT, ""), ("quantized", profile.int_operators, INTEGER, "////"),
    )  # fmt: skip
    with picture(path, 6.5, 1.6) as figure:
        axes = figure.subplots()
        for y, (_, found, colour, hatch) in enumerate(sides):
            start = 0.0
            for name, (_, us) in found.items():
                style: Any = {"color": "white", "edgecolor": colour, "hatch": hatch, "linewidth": 0.8}
                axes.barh(y, us / 1000, left=start, **style)
                if us > 0.1 * sum(t for _, t in found.values()):
                    axes.text(start + us / 2000, y, name.rsplit(".", 1)[-1], ha="center", va="center", fontsize=7,
                              bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
                start += us / 1000
        axes.set(yticks=[0, 1], yticklabels=[s[0] for s in sides], xlabel="time of a run, ms")
        axes.set_title(f"{report.title}: time by operator")
        axes.invert_yaxis()
