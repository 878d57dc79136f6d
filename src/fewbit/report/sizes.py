"""What each way of quantizing a network gives and costs, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fewbit.core.blocks import Block, Shown, Table, ratio_bars, share_bars, to_text
from fewbit.core.tables import number, plain, size, times


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


@dataclass(frozen=True, repr=False)
class Sizes(Shown):
    """All forms, float first. `about`: engine, threads, what it was measured on."""

    rows: tuple[SizeRow, ...]
    about: str = ""

    def row(self, form: str) -> SizeRow:
        """One form."""
        return next(r for r in self.rows if r.form == form)

    def text(self) -> str:
        """A table, one line a form, and notes."""
        return to_text(self._blocks())

    def _blocks(self) -> list[Block]:
        head = ("<form", ">file", ">smaller", "?>load s", "?>load MiB", ">peak MiB", ">ratio", ">cosine", ">SQNR dB")
        lines = [
            (
                r.form, size(r.file) if r.file is not None else "-", times(r.compression), number(r.load_s, 2),
                number(r.load_mib, 0), number(r.peak_mib, 0), times(r.latency), number(r.cosine, 5), number(r.sqnr, 1),
            )
            for r in self.rows
        ]  # fmt: skip
        notes = [f"{r.form}: {r.note}" for r in self.rows if r.note]
        told = "ratio: latency against float, in turns, medians; load, peak: a process with the engine, over its start"
        bars = {1: share_bars([r.file for r in self.rows]), 6: ratio_bars([r.latency for r in self.rows])}
        return [*([self.about] if self.about else []), Table(head, lines, bars), told, *notes]

    def _brief(self) -> str:
        known = [r for r in self.rows if r.file is not None]
        least = min(known, key=lambda r: r.file or 0, default=None)
        smallest = f"; smallest: {least.form}, {size(least.file)}" if least is not None else ""
        return f"{len(self.rows)} forms{smallest}"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        found: dict[str, Any] = plain(self)
        return found
