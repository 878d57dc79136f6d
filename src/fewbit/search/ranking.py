"""Sensitivity: which layers cost accuracy, and what to do about it; to read, to sort and to save.

Made by `fewbit.search.sensitivity`.
"""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fewbit.core.blocks import Aside, Block, Code, Shown, Table, Title, error_bars, one_line, to_text
from fewbit.core.tables import Name, number, percent, plain, short


@dataclass(frozen=True, repr=False)
class LayerSensitivity:
    """What one integer layer does to the outputs.

    Args:
        node: its name. op: its operator. macs: its multiplications for one sample; 0 if it has none.
        alone: SQNR in dB of the worst output if this layer (with what it absorbs) is integer and all else float;
            inf: no error; -inf: NaN or inf came out.
        left: the same if this layer is float and all others integer as planned; None: not measured.
    """

    node: str
    op: str
    macs: int
    alone: float
    left: float | None = None

    def __repr__(self) -> str:
        left = f", {number(self.left, 1)} dB left" if self.left is not None else ""
        return one_line(f"<LayerSensitivity {short(self.node)}, {self.op}: {number(self.alone, 1)} dB alone{left}>")


@dataclass(frozen=True)
class Proposal:
    """A set of layers that should not be 8-bit integers.

    Args:
        floats: layers to keep in float. wide: layers to give 16 bits.
        expected: SQNR in dB of the worst output, if noise powers add. measured: found by running it; None: not run.
        macs_float: share of all multiplications that are done in float then. No engine here has integer kernels of
            16 bits, so `wide` counts as well.
    """

    floats: tuple[str, ...]
    wide: tuple[str, ...]
    expected: float
    measured: float | None
    macs_float: float

    @property
    def words(self) -> str:
        """What to add to the command line."""
        parts = ["--exclude-layers " + shlex.quote(",".join(map(_plain_name, self.floats)))] if self.floats else []
        parts += ["--override " + shlex.quote(f"{name}=bit_num:16") for name in self.wide]
        return " ".join(parts)


def _plain_name(name: str) -> str:
    """A name as `exclude_layers` reads it: a comma would end it, `?` stands for any letter."""
    return name.replace(",", "?")


@dataclass(frozen=True, repr=False)
class Sensitivity(Shown):
    """The layers of a network, most harmful first.

    Args:
        layers: lowest `alone` first. sqnr: in dB, of the worst output of the integer network as planned.
        samples: measured on this many. proposals: smallest first. notes: what was left out, and why.
    """

    layers: tuple[LayerSensitivity, ...]
    sqnr: float
    samples: int
    proposals: tuple[Proposal, ...] = ()
    notes: tuple[str, ...] = ()

    def worst(self, n: int = 5) -> list[LayerSensitivity]:
        """The `n` most harmful layers."""
        return list(self.layers[:n])

    def text(self, n: int = 10) -> str:
        """The `n` most harmful layers and the proposals."""
        return to_text(self._blocks(n))

    def _blocks(self, n: int = 10) -> list[Block]:
        shown, whole = self.layers[:n], sum(x.macs for x in self.layers) or 1
        columns: list[tuple[str, Sequence[str]]] = [
            ("<layer", [Name(x.node) for x in shown]),
            ("<op", [Name(x.op) for x in shown]),
            ("?>MACs", [percent(x.macs / whole) for x in shown]),
            (">alone dB", [number(x.alone, 1) for x in shown]),
        ]
        said = "alone: SQNR if only this layer is integer"
        if any(x.left is not None for x in self.layers):
            columns.append((">left dB", [number(x.left, 1) for x in shown]))
            said += "; left: if only this layer is float"
        bars = {3: error_bars([x.alone for x in shown])}
        parts: list[Block] = [
            f"as planned: SQNR {number(self.sqnr, 1)} dB, {self.samples} samples",
            "",
            Title(f"most harmful layers, {len(shown)} of {len(self.layers)}"),
            Table([c[0] for c in columns], list(zip(*(c[1] for c in columns), strict=True)), bars),
            said,
            Aside("bars: error of the layer alone; none at 60 dB, full at 0 dB"),
        ]
        if len(self.layers) > n:
            parts += [Aside("more: worst(n) as a list, text(n) as text, layers for all of them")]
        if self.proposals:
            parts += ["", Title("proposals"), *(b for p in self.proposals for b in _told(p))]
        return [*parts, *(f"note: {t}" for t in self.notes)]

    def _brief(self) -> str:
        least = self.layers[0] if self.layers else None
        worst = f"; worst {short(least.node)}, {number(least.alone, 1)} dB alone" if least is not None else ""
        return f"{len(self.layers)} layers, SQNR {number(self.sqnr, 1)} dB as planned{worst}"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts; see `tables` for infinities."""
        found: dict[str, Any] = plain(self)
        for told, proposal in zip(found["proposals"], self.proposals, strict=True):
            told["words"] = proposal.words
        return found

    def to_csv(self) -> str:
        """The layers, one line each; numbers by repr, empty if not measured."""
        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\n")
        names = [f.name for f in fields(LayerSensitivity)]
        rows.writerow(names)
        rows.writerows([["" if (v := getattr(x, k)) is None else v for k in names] for x in self.layers])
        return out.getvalue()


def _told(p: Proposal) -> list[Block]:
    measured = f", measured {number(p.measured, 1)} dB" if p.measured is not None else ""
    count = len(p.floats) + len(p.wide)
    what = f"{count} layer{'s' if count > 1 else ''} {'in float' if p.floats else 'of 16 bits, computed in float'}"
    told = f"  {what}: expected {number(p.expected, 1)} dB{measured}; {percent(p.macs_float)} of MACs float"
    return [told, Code(f"    {p.words}")]


def ranked(layers: Iterable[LayerSensitivity]) -> tuple[LayerSensitivity, ...]:
    """Lowest `alone` first; of equals the one without which most is left, then the order of the graph."""
    return tuple(sorted(layers, key=lambda x: (x.alone, 0.0 if x.left is None else -x.left)))
