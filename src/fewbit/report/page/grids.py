"""The tables of a report's page: what stands in each cell, and what it is sorted by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fewbit.core.tables import short, size
from fewbit.report.page.numbers import NONE, figure, fixed, key, number_of, part, share

Json = Mapping[str, Any]

WIDE = 44
"""Letters of a layer's name in a table; the whole name is its tooltip."""


@dataclass(frozen=True)
class Cell:
    """What is read, what is sorted by (a number, or "" = missing; None = the text itself), the whole text if cut."""

    text: str
    sort: str | None = None
    whole: str = ""


@dataclass(frozen=True)
class Column:
    """One column: title, what it means, whether it holds text (left) or numbers (right)."""

    title: str
    hint: str = ""
    words: bool = False


@dataclass(frozen=True)
class Row:
    """Cells, and what a script needs to know of the row."""

    cells: tuple[Cell, ...]
    id: int | None = None
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """A table. `order`: index of the column it is sorted by at first, with "ascending" or "descending"."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    order: tuple[int, str] | None = None


Field = tuple[Column, Callable[[Json], Cell]]


def _grid(name: str, caption: str, fields: Sequence[Field], rows: Sequence[Row], order: Any = None) -> Grid:
    return Grid(name, caption, tuple(c for c, _ in fields), tuple(rows), order)


def _cells(fields: Sequence[Field], row: Json) -> tuple[Cell, ...]:
    return tuple(make(row) for _, make in fields)


# -- kinds of columns -------------------------------------------------------------------------------------------------


def _words(title: str, name: str, hint: str = "") -> Field:
    return Column(title, hint, words=True), lambda r: _named(r.get(name))


def _named(x: Any, empty: str = NONE) -> Cell:
    whole = "" if x is None else str(x)
    cut = short(whole, WIDE)
    return Cell(cut or empty, whole.lower(), whole if cut != whole else "")


def _fixed(title: str, name: str, digits: int, hint: str = "") -> Field:
    return Column(title, hint), lambda r: Cell(fixed(r.get(name), digits), key(r.get(name)))


def _share(title: str, name: str, digits: int, hint: str = "") -> Field:
    return Column(title, hint), lambda r: Cell(share(r.get(name), digits), key(r.get(name)))


def _figure(title: str, name: str, hint: str = "") -> Field:
    return Column(title, hint), lambda r: Cell(figure(r.get(name)), key(r.get(name)))


SQNR = "signal to quantization noise, in decibels; 20 dB: the noise is a tenth of the signal, 40 dB: a hundredth"
OWN = "estimated SQNR of the layer alone, without the noise of those in front of it"
ERROR: tuple[Field, ...] = (
    _fixed("SQNR dB", "sqnr", 1, SQNR),
    _fixed("Cosine", "cosine", 5, "of the angle between both values; 1 is the same direction"),
    _figure("Max error", "max_abs", "largest absolute difference"),
)


# -- the tables -------------------------------------------------------------------------------------------------------


def outputs(rows: Sequence[Json]) -> Grid:
    """The network's outputs, in its own order."""
    name: Field = (Column("Output", words=True), lambda r: _named(r.get("name"), "(no name)"))
    fields = (name, _words("Operator", "op"), *ERROR)
    return _grid("outputs", "Error of each output against float", fields, [Row(_cells(fields, r)) for r in rows])


def layers(rows: Sequence[Json]) -> Grid:
    """All layers, lowest SQNR first, nan before all, unknown last."""
    fields: tuple[Field, ...] = (
        (Column("Layer", words=True), lambda r: _named(r.get("node") or r.get("name"), "(no name)")),
        _fixed("No.", "id", 0, "place in the network"),
        _words("Operator", "op"),
        (Column("Computed in", words=True), lambda r: Cell(_form(r))),
        ERROR[0],
        _fixed("Own dB", "own", 1, OWN),
        *ERROR[1:],
        _share("Clipped", "clip", 3, "share of the float values outside of the integer range"),
        _share("Zeros", "sparsity", 1, "share of the float values that are zero"),
        _figure("Float μs", "us_float", "time in the float network"),
        _figure("Int. μs", "us_quantized", "time in the quantized network"),
        _figure("MACs, M", "mmacs", "multiplications, in millions"),
    )
    found = [
        Row(
            _cells(fields, {**r, "mmacs": _millions(r.get("macs"))}),
            r.get("id"),
            {
                "op": str(r.get("op") or ""),
                "form": _form(r),
                "name": _searched(r),
            },
        )
        for r in sorted(rows, key=_rank)
    ]
    return _grid("layers", "Error of each layer, the worst first", fields, found, (4, "ascending"))


def _searched(r: Json) -> str:
    """What a name is looked for in."""
    return " ".join(str(r.get(k) or "") for k in ("node", "name")).strip().lower()


def _millions(x: Any) -> float | None:
    found = number_of(x)
    return None if found is None else found / 1e6


def _form(r: Json) -> str:
    return NONE if r.get("integer") is None else "integer" if r["integer"] else "float"


def _rank(r: Json) -> tuple[bool, float]:
    sqnr = number_of(r.get("sqnr"))
    return sqnr is None, -math.inf if sqnr is None or math.isnan(sqnr) else sqnr


def profile(rows: Sequence[Json]) -> Grid:
    """Layers that lose most time first, those on one side last."""
    fields = (
        _words("Layer", "layer"), _words("Float operator", "op_float"), _figure("Float μs", "us_float"),
        _words("Integer operator", "op_int"), _words("Types", "types", "what the integer operator is fed"),
        _figure("Int. μs", "us_int"), _fixed("Ratio", "ratio", 2, "integer ÷ float: below 1 is faster"),
        _figure("Lost μs", "lost", "integer − float: below 0 is time won"),
    )  # fmt: skip
    found = [Row(_cells(fields, r)) for r in rows]
    return _grid("profile", "Time of each layer, most time lost first", fields, found, (7, "descending"))


def operators(of: Json) -> Grid:
    """Time by operator, slowest first, on both sides."""
    sides = (("float", part(of, "float_operators")), ("integer", part(of, "int_operators")))
    rows = []
    for side, ops in sides:
        whole = sum(number_of(us) or 0.0 for _, us in ops.values())
        for op, (count, us) in ops.items():
            told = number_of(us)
            share = None if told is None else told / (whole or 1.0)
            rows.append({"side": side, "op": op, "count": count, "us": us, "share": share})
    fields = (
        _words("Network", "side"), _words("Operator", "op"), _fixed("Count", "count", 0), _figure("μs", "us"),
        _share("Share", "share", 1, "of that network's time"),
    )  # fmt: skip
    return _grid("operators", "Time by operator", fields, [Row(_cells(fields, r)) for r in rows])


def ranking(rows: Sequence[Json]) -> Grid:
    """Layers by what quantizing them costs, most first."""
    fields = (
        _words("Layer", "layer"), _words("Operator", "op"),
        _fixed("Alone dB", "alone", 1, "SQNR of the output when this layer alone is integer: low is sensitive"),
        _fixed("Left dB", "left", 1, "SQNR of the output when this layer alone is left in float"),
    )  # fmt: skip
    found = [Row(_cells(fields, r)) for r in rows]
    return _grid("sensitivity", "Layers by sensitivity, most sensitive first", fields, found, (2, "ascending"))


def sizes(rows: Sequence[Json]) -> Grid:
    """Forms of the network, float first."""
    fields = (
        _words("Form", "form"),
        (Column("File"), lambda r: Cell(_bytes(r.get("file")), key(r.get("file")))),
        _fixed("Times smaller", "compression", 2), _fixed("Load s", "load_s", 2, "seconds to load it"),
        _fixed("Load MiB", "load_mib", 0, "highest memory while loading"),
        _fixed("Peak MiB", "peak_mib", 0, "highest memory with running it"),
        _fixed("Latency ÷ float", "latency", 2, "below 1 is faster"), _fixed("Cosine", "cosine", 5),
        _fixed("SQNR dB", "sqnr", 1, SQNR), _words("Note", "note"),
    )  # fmt: skip
    return _grid("sizes", "What each form takes and gives", fields, [Row(_cells(fields, r)) for r in rows])


def _bytes(x: Any) -> str:
    found = number_of(x)
    return size(int(found)) if found is not None and math.isfinite(found) else fixed(x, 0)


def sweep(index: int, rows: Sequence[Json]) -> Grid:
    """One grid of simulations."""
    fields: tuple[Field, ...] = (
        _fixed("Bits", "bits", 0), _words("Scales per", "quant_type"), _words("Ranges", "ranges"),
        (Column("BatchNorm", words=True), lambda r: Cell("merged" if r.get("merge_bn") else "beside")),
        _share("Top-1", "top1", 2), _share("Lost", "drop", 2, "of top-1, against float"),
        _share("Agrees", "agreement", 2, "same answer as float"),
        _fixed("Fixed", "fixed", 0), _fixed("Broken", "broken", 0),
    )  # fmt: skip
    return _grid(f"sweep-{index}", "Each simulation of the sweep", fields, [Row(_cells(fields, r)) for r in rows])
