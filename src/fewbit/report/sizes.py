"""What each way of quantizing a network gives and costs, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fewbit.core.tables import number, plain, size, table, times


@dataclass(frozen=True)
class SizeRow:
    """One form of a network.

    Args:
        form: float, weight 8, mixed … file: bytes. compression: of the float file's bytes, how many times smaller.
        load_s, load_mib: seconds and highest memory of loading it in a process with nothing but the engine.
        peak_mib: highest memory with running it. latency: ÷ float. cosine, sqnr: of the worst output against float.
        note: why figures are missing.
    """

    form: str
    file: int | None = None
    compression: float | None = None
    load_s: float | None = None
    load_mib: float | None = None
    peak_mib: float | None = None
    latency: float | None = None
    cosine: float | None = None
    sqnr: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Sizes:
    """All forms, float first. `about`: engine, threads, what it was measured on."""

    rows: tuple[SizeRow, ...]
    about: str = ""

    def row(self, form: str) -> SizeRow:
        """One form."""
        return next(r for r in self.rows if r.form == form)

    def text(self) -> str:
        """A table, one line a form, and notes."""
        head = ("<form", ">file", ">smaller", ">load s", ">load MiB", ">peak MiB", ">latency", ">cosine", ">SQNR dB")
        lines = [
            (
                r.form, size(r.file) if r.file is not None else "-", times(r.compression), number(r.load_s, 2),
                number(r.load_mib, 0), number(r.peak_mib, 0), times(r.latency), number(r.cosine, 5), number(r.sqnr, 1),
            )
            for r in self.rows
        ]  # fmt: skip
        notes = [f"{r.form}: {r.note}" for r in self.rows if r.note]
        told = "latency: against float, in turns, medians; load, peak: a process with the engine alone, over its start"
        return "\n".join([*([self.about] if self.about else []), table(head, lines), told, *notes])

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        found: dict[str, Any] = plain(self)
        return found
