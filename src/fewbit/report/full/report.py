"""FullReport: all that is known of a quantized network, as one page, as one JSON document, as tables.

summary      size, speed, accuracy, what runs in integers, on which machine, by which command
layers       error, histograms, weights, verdict of each          profile      time by layer and by operator
sensitivity  which layers hurt           sizes  other forms of the network           sweeps  other widths
"""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fewbit.core.tables import dumps, number, pairs, percent, plain
from fewbit.core.writing import writing
from fewbit.errors import OutputError, UsageError
from fewbit.report.comparison import LayerError
from fewbit.report.full.layers import LayerFacts
from fewbit.report.profile import Profile
from fewbit.report.sizes import Sizes
from fewbit.report.summary import QuantReport

SUFFIXES = (".html", ".htm", ".json")
FRAME = 900
"""Pixels of height in a notebook."""


@dataclass(frozen=True)
class Ranking:
    """Layers by what they do to the outputs.

    Args:
        kind: "measured", one layer in integers at a time; or "estimated" from the comparison.
        about: how, for people. rows: layer, op, alone (dB), left (dB or None), most harmful first.
    """

    kind: str
    about: str
    rows: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Setting:
    """What was measured with what.

    Args:
        model, quantized: files. target: of the plan, or "" without one. engine: with its version. machine: in words.
        threads: of the timings. versions: package → version. command: that makes the report again; "" if unknown.
        made: the date, in words. samples: compared.
    """

    model: str
    quantized: str
    target: str
    engine: str
    machine: str
    threads: int
    versions: Mapping[str, str]
    command: str
    made: str
    samples: int


@dataclass(frozen=True)
class FullReport:
    """All that is known of a quantized network.

    Args:
        fewbit: version. title: name of the network.
        setting: what was measured with what. verdict: the short report, with problems and advice.
        bytes: "float" and "quantized", of the files or of the weights. accuracy: rates, None without labels.
        macs: "total", "integer", "share"; None if nothing multiplies. notes: what could not be told, and why.
        outputs: errors at the end. layers: in the order of the network. sweeps: as `Sweep.to_json()` has them.
    """

    fewbit: str
    title: str
    setting: Setting
    verdict: QuantReport
    bytes: Mapping[str, int]
    accuracy: Mapping[str, Any] | None
    macs: Mapping[str, Any] | None
    notes: tuple[str, ...]
    outputs: tuple[LayerError, ...]
    layers: tuple[LayerFacts, ...]
    profile: Profile | None
    sensitivity: Ranking | None
    sizes: Sizes | None
    sweeps: tuple[Mapping[str, Any], ...] = ()

    def __repr__(self) -> str:
        return (
            f"<fewbit.FullReport: {self.title!r}, {len(self.layers)} layers, {len(self.verdict.problems())} problems>"
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts: what the page is made from."""
        layers = [plain(x) for x in self.layers]
        for layer in layers:
            if layer["histogram"]:
                layer["histogram"]["float"] = layer["histogram"].pop("original")
        profile = None
        if self.profile is not None:
            sides = (self.profile.float_operators, self.profile.int_operators)
            us = [sum(t for _, t in side.values()) for side in sides]
            profile = {"us_float": us[0], "us_quantized": us[1], **self.profile.to_json()}
            for row, made in zip(profile["rows"], self.profile.rows, strict=True):
                row["lost"] = plain(made.lost)
        return {
            "fewbit": self.fewbit, "title": self.title, "made": self.setting.made, "summary": self._summary(),
            "outputs": plain(self.outputs), "layers": layers, "profile": profile,
            "sensitivity": plain(self.sensitivity), "sizes": plain(self.sizes), "sweeps": plain(self.sweeps),
        }  # fmt: skip

    def _summary(self) -> dict[str, Any]:
        """What stands on top."""
        v, t = self.verdict, self.verdict.latency
        latency = None
        if t is not None:
            latency = {
                "float_ms": t.ms / t.ratio, "quantized_ms": t.ms, "ratio": t.ratio, "ratio_low": t.ratio_low,
                "ratio_high": t.ratio_high, "batch": t.batch,
            }  # fmt: skip
        setting = {f.name: plain(getattr(self.setting, f.name)) for f in fields(Setting) if f.name != "made"}
        found: dict[str, Any] = plain({
            "size": self.bytes, "latency": latency, "accuracy": self.accuracy, "cosine": v.cosine, "sqnr": v.sqnr,
            "macs": self.macs, "layers": self._counted(), "problems": v.problems(),
            "advice": v.advice() if not v.ok else [], "notes": self.notes, "warnings": v.warnings,
            "corrections": [str(c) for c in v.corrections],
        })  # fmt: skip
        return setting | found

    def _counted(self) -> dict[str, int]:
        """Layers by how the engine computes them; what is merged into another layer counts with that one."""
        kinds = [x.integer for x in self.layers if x.op != "Input"]
        return {"total": len(kinds), "integer": kinds.count(True), "unknown": kinds.count(None)}

    def text(self) -> str:
        """The short report."""
        lines = [("network", self.title), ("engine", f"{self.setting.engine}, {self.setting.machine}")]
        if self.macs is not None:
            lines.append(("integer", f"{percent(self.macs['share'])} of the multiplications"))
        worst = min(self.layers, key=lambda x: x.sqnr if x.sqnr == x.sqnr else float("-inf"), default=None)
        if worst is not None:
            lines.append(("worst layer", f"{worst.node} ({worst.op}), {number(worst.sqnr, 1)} dB"))
        return "\n".join([pairs(lines), *(f"note: {n}" for n in self.notes), "", self.verdict.text()])

    def html(self) -> str:
        """One page that needs nothing else, no network either."""
        from fewbit.report.page.html import page

        return page(self.to_json())

    def _repr_html_(self) -> str:
        """For notebooks: the page in a frame."""
        style = f"width:100%;height:{FRAME}px;border:1px solid #8888;border-radius:6px"
        title, inside = html.escape(self.title), html.escape(self.html())
        return f'<iframe title="{title}" style="{style}" srcdoc="{inside}"></iframe>'

    def save(self, path: str | Path) -> None:
        """Write the report, whole or not at all: .html, or .json with the same numbers.

        Raises:
            UsageError: another suffix. OutputError: it cannot be written.
        """
        path = Path(path)
        check_page(path)
        text = dumps(self.to_json()) if path.suffix.lower() == ".json" else self.html()
        with writing(path) as part:
            part.write_text(text, "utf-8")

    def save_pictures(self, folder: str | Path, suffix: str = ".svg") -> list[Path]:
        """Draw it for documents and papers, with matplotlib: see `fewbit.report.full.draw`."""
        from fewbit.report.full.draw import save_pictures

        return save_pictures(self, folder, suffix)

    def save_data(self, folder: str | Path) -> None:
        """Write the numbers behind every picture: a CSV table each, and all of them in report.json.

        Raises:
            OutputError: the folder or a file in it cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(f"cannot make the folder {folder}: {e.strerror or e}; give another one") from e
        found = self.to_json()
        with writing(folder / "report.json") as file:
            for name, rows in tables(found).items():
                (file.parent / f"{name}.csv").write_text(_csv(rows), "utf-8")
            file.write_text(dumps(found), "utf-8")


def check_page(path: Path) -> None:
    """Raise UsageError unless a report can be written under this name."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"the report {path} must end in .html or .json; give it such a name")


def tables(found: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """A report's numbers, a table for each picture."""
    inner = ("histogram", "weights", "range")
    layers = found["layers"]
    made = {
        "layers": [
            {k: v for k, v in x.items() if k not in inner}
            | dict(zip(("low", "high"), x["range"] or (None, None), strict=True))
            for x in layers
        ],
        "outputs": found["outputs"],
        "histograms": [row for x in layers if x["histogram"] for row in _bins(x)],
        "channels": [row for x in layers if x["weights"] for row in _channels(x)],
        "sensitivity": found["sensitivity"]["rows"] if found["sensitivity"] else [],
        "sizes": found["sizes"]["rows"] if found["sizes"] else [],
        "sweeps": [{"network": s["network"], "data": s["data"], **row} for s in found["sweeps"] for row in s["rows"]],
    }  # fmt: skip
    profile = found["profile"]
    made["profile"] = profile["rows"] if profile else []
    made["operators"] = [
        {"network": side, "operator": op, "count": count, "us": us}
        for side in (("float", "int") if profile else ())
        for op, (count, us) in profile[f"{side}_operators"].items()
    ]
    return made


def _bins(layer: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    h = layer["histogram"]
    for i, (a, b) in enumerate(zip(h["float"], h["quantized"], strict=True)):
        yield {"layer": layer["node"], "low": h["low"] + i * h["step"], "step": h["step"], "float": a, "quantized": b}


def _channels(layer: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    w = layer["weights"]
    columns = ("low", "high", "limit_low", "limit_high", "sqnr")
    for i, row in enumerate(zip(*(w[c] for c in columns), strict=True)):
        yield {
            "layer": layer["node"],
            "weights": w["name"],
            "channel": i * w["together"],
            **dict(zip(columns, row, strict=True)),
        }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row; empty where nothing was measured."""
    out = io.StringIO()
    names = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
