"""Comparison: the errors of a quantized network, to read, to sort and to save. Made by `compare`."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fewbit.core.blocks import Aside, Block, Shown, Table, Title, error_bars, one_line, to_text
from fewbit.core.tables import Name, dumps, number, percent, plain, short, small
from fewbit.core.writing import writing
from fewbit.errors import OutputError

SQNR, OWN = ">SQNR dB", ">own dB"


@dataclass(frozen=True, repr=False)
class LayerError:
    """Error of one value over all batches.

    Args:
        name: of the value in the float network. op, node: what computes it there ("Input" for what is fed).
        sqnr: signal to quantization noise in dB; inf: equal; nan: one side holds NaN or inf.
        cosine: of the angle between both, -1 to 1.
        max_abs: largest absolute difference.
        clip: share of the float values that lie outside of the integer range; None if there is no such range.
        own: estimated SQNR of this layer alone, in dB: inf if it adds no noise; None for outputs, and where a
            side holds NaN or inf.
    """

    name: str
    op: str
    node: str
    sqnr: float
    cosine: float
    max_abs: float
    clip: float | None = None
    own: float | None = None

    def __repr__(self) -> str:
        own = f" (own {number(self.own, 1)} dB)" if self.own is not None else ""
        told = f"SQNR {number(self.sqnr, 1)} dB{own}, cosine {number(self.cosine, 5)}, at most {small(self.max_abs)}"
        clip = f", {percent(self.clip, 2)} clipped" if self.clip is not None else ""
        return one_line(f"<LayerError {short(self.name)}, {self.op}: {told}{clip}>")


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """What quantizing did to a network. Numbers do not depend on how the data was cut into batches.

    Args:
        layers: inner values, lowest SQNR first (nan before all).
        outputs: the network's floating-point outputs, in its own order, from both networks as they are.
        batches: how many were compared.
        notes: what could not be compared, and why.
    """

    layers: tuple[LayerError, ...]
    outputs: tuple[LayerError, ...]
    batches: int
    notes: tuple[str, ...] = ()

    @property
    def cosine(self) -> float | None:
        """Of the worst output; nan if one holds NaN or inf, None if no output is floating-point."""
        return _worst([o.cosine for o in self.outputs])

    @property
    def sqnr(self) -> float | None:
        """Of the worst output, in dB; nan and None as for `cosine`."""
        return _worst([o.sqnr for o in self.outputs])

    def worst(self, n: int = 5) -> list[LayerError]:
        """The `n` values with the lowest SQNR, whatever caused it."""
        return list(self.layers[:n])

    def suspects(self, n: int = 5) -> list[LayerError]:
        """The `n` layers that add most noise themselves, as far as that can be told: candidates to keep in float."""
        found = [e for e in self.layers if e.op != "Input" and (e.own is None or e.own < math.inf)]
        return sorted(found, key=lambda e: rank(e.sqnr if e.own is None else e.own))[:n]

    def text(self, n: int = 10) -> str:
        """Outputs and the `n` worst layers, as tables."""
        return to_text(self._blocks(n))

    def _blocks(self, n: int = 10) -> list[Block]:
        parts: list[Block] = [Title(f"outputs, {so_many(self.batches)}"), _table("output", self.outputs)]
        if self.layers:
            parts += ["", Title(f"worst layers, {min(n, len(self.layers))} of {len(self.layers)}")]
            parts += [_table("layer", self.layers[:n])]
            parts += ["own: estimated SQNR of the layer alone, without the noise of those in front of it"]
            parts += [Aside("bars: error; none at 60 dB, full at 0 dB and for NaN")]
        if len(self.layers) > n:
            parts += [Aside("more: worst(n) as a list, text(n) as text, layers for all of them, save(folder) as CSV")]
        return [*parts, *(f"note: {t}" for t in self.notes)]

    def _brief(self) -> str:
        if not self.outputs:
            return f"{len(self.layers)} layers, {so_many(self.batches)}, no floating-point output"
        figures = f"SQNR {number(self.sqnr, 1)} dB, cosine {number(self.cosine, 5)} at the output"
        return f"{figures}, {len(self.layers)} layers, {so_many(self.batches)}"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts; see `tables` for infinities."""
        found = plain(self)
        return {"cosine": plain(self.cosine), "sqnr": plain(self.sqnr), **found}

    def save(self, folder: str | Path) -> None:
        """Write `layers.csv`, `outputs.csv` and `summary.json` into a folder, all or none; it is made if need be.

        `summary.json` comes last and replaces an older one: it is there only if the tables beside it belong to it.

        Raises:
            OutputError: the folder or a file in it cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(f"cannot make the folder {folder}: {e.strerror or e}; give another one") from e
        summary = {
            "batches": self.batches, "cosine": self.cosine, "sqnr": self.sqnr, "layers": len(self.layers),
            "worst": [e.name for e in self.worst()], "suspects": [e.node for e in self.suspects()],
            "outputs": list(self.outputs), "notes": list(self.notes),
        }  # fmt: skip
        with writing(folder / "summary.json") as file:
            (file.parent / "layers.csv").write_text(_csv(self.layers), "utf-8")
            (file.parent / "outputs.csv").write_text(_csv(self.outputs), "utf-8")
            file.write_text(dumps(summary), "utf-8")


def rank(sqnr: float) -> float:
    """Sort key that puts nan before the worst number."""
    return -math.inf if math.isnan(sqnr) else sqnr


def so_many(batches: int) -> str:
    """`1 batch`, `2 batches`."""
    return f"{batches} batch{'es' if batches != 1 else ''}"


def _worst(found: Sequence[float]) -> float | None:
    if any(math.isnan(x) for x in found):
        return math.nan
    return min(found, default=None)


def _table(what: str, errors: Sequence[LayerError]) -> Table:
    columns: list[tuple[str, Sequence[str]]] = [
        (f"<{what}", [Name(e.name) for e in errors]),
        ("<op", [Name(e.op) for e in errors]),
        (SQNR, [number(e.sqnr, 1) for e in errors]),
        (OWN, [number(e.own, 1) for e in errors]),
        (">cosine", [number(e.cosine, 5) for e in errors]),
        ("?>max error", [small(e.max_abs) for e in errors]),
        ("?>clipped", [percent(e.clip, 2) for e in errors]),
    ]
    told = [c for c in columns if not errors or any(cell != "-" for cell in c[1])]
    head = [c[0] for c in told]
    bars = {head.index(c): error_bars(x) for c, x in ((SQNR, [e.sqnr for e in errors]), (OWN, [e.own for e in errors]))
            if c in head}  # fmt: skip
    return Table(head, list(zip(*(c[1] for c in told), strict=True)), bars)


def _csv(errors: Sequence[LayerError]) -> str:
    """One line a value; numbers by repr, empty if not measured."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    names = [f.name for f in fields(LayerError)]
    rows.writerow(names)
    rows.writerows([["" if (v := getattr(e, k)) is None else v for k in names] for e in errors])
    return out.getvalue()
