"""A grid of simulations as one table: for people, for spreadsheets, for machines."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbit.config.simulate import SimulateConfig
from fewbit.core.blocks import Block, Shown, Table, share_bars, to_text
from fewbit.core.tables import dumps, number, plain
from fewbit.core.writing import writing
from fewbit.errors import UsageError
from fewbit.report.evaluate import Evaluation

if TYPE_CHECKING:
    from fewbit.data.preparation import Preparation

SUFFIXES = (".md", ".csv", ".json")
HEAD = (
    ">bits", "<weights", "<ranges", "<BatchNorm", ">top-1 %", ">lost", ">agrees %", ">fixed", ">broken"
)  # fmt: skip


@dataclass(frozen=True)
class SweepRow:
    """One simulation.

    Args:
        bits: of inputs and weights. quant_type, merge_bn: as in `SimulateConfig`. ranges: naive, kl or online.
        top1, drop, agreement: shares; top1 and drop are None without labels. fixed, broken: flips against float.
    """

    bits: int
    quant_type: str
    ranges: str
    merge_bn: bool
    top1: float | None
    drop: float | None
    agreement: float | None
    fixed: int | None
    broken: int | None

    @classmethod
    def of(cls, config: SimulateConfig, found: Evaluation) -> SweepRow:
        """The row of a setting, and of what it gave."""
        return cls(
            bits=config.weight_bits_width,
            quant_type=config.quant_type,
            ranges=config.calib_mode if config.quantize_input_offline else "online",
            merge_bn=config.merge_bn,
            top1=found.accuracy[1].rate if 1 in found.accuracy else None,
            drop=found.drop,
            agreement=found.agreement.rate if found.agreement is not None else None,
            fixed=found.fixed,
            broken=found.broken,
        )


@dataclass(frozen=True, repr=False)
class Sweep(Shown):
    """All simulations of a grid.

    Args:
        top1: of the float network, None without labels. notes: what the reader should know.
        images: what was done to images; None: arrays, as they were given.
    """

    network: str
    data: str
    top1: float | None
    rows: tuple[SweepRow, ...]
    notes: tuple[str, ...] = ()
    images: Preparation | None = None

    def text(self) -> str:
        """A table, one line a simulation."""
        return to_text(self._blocks())

    def _blocks(self) -> list[Block]:
        bars = {HEAD.index(">lost"): share_bars([r.drop for r in self.rows], worse=True)}
        return [*self._head(), Table(HEAD, [_cells(r) for r in self.rows], bars), *(f"note: {n}" for n in self.notes)]

    def _brief(self) -> str:
        best = max((r for r in self.rows if r.top1 is not None), key=lambda r: r.top1 or 0.0, default=None)
        said = f"; best {number(100 * (best.top1 or 0.0))} % at {best.bits} bits" if best is not None else ""
        return f"{self.about}; {len(self.rows)} simulations{said}"

    @property
    def about(self) -> str:
        """Network, data and float accuracy."""
        known = f", float top-1 {number(100 * self.top1)} %" if self.top1 is not None else ""
        return f"{self.network} on {self.data}{known}"

    def _head(self) -> list[str]:
        return [self.about] if self.images is None else [self.about, f"images: {self.images}"]

    def to_markdown(self) -> str:
        """The table for a text."""
        titles = [h[1:] for h in HEAD]
        rule = ["---:" if h[0] == ">" else "---" for h in HEAD]
        lines = [titles, rule, *map(_cells, self.rows)]
        notes = "".join(f"\nNote: {n}\n" for n in self.notes)
        return (
            "".join(f"{line}\n\n" for line in self._head())
            + "".join(f"| {' | '.join(line)} |\n" for line in lines)
            + notes
        )

    def to_csv(self) -> str:
        """The table for a spreadsheet; shares as they are."""
        names = [f.name for f in fields(SweepRow)]
        out = io.StringIO()
        rows = csv.DictWriter(out, names, lineterminator="\n")
        rows.writeheader()
        rows.writerows(asdict(r) for r in self.rows)
        return out.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        found: dict[str, Any] = plain(self)
        return found

    def save(self, path: str | Path) -> None:
        """Write the table, whole or not at all: .md, .csv or .json.

        Raises:
            UsageError: another suffix. OutputError: it cannot be written.
        """
        path = Path(path)
        check_table(path)
        text = {".md": self.to_markdown, ".csv": self.to_csv, ".json": lambda: dumps(self.to_json())}[path.suffix]()
        with writing(path) as part:
            part.write_text(text, "utf-8")


def check_table(path: Path) -> None:
    """Raise UsageError unless a table can be written under this name."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"the output {path} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def _cells(r: SweepRow) -> Sequence[str]:
    def share(x: float | None) -> str:
        return number(100 * x) if x is not None else "-"

    flips = ["-" if n is None else str(n) for n in (r.fixed, r.broken)]
    merged = "merged" if r.merge_bn else "beside"
    return [str(r.bits), r.quant_type, r.ranges, merged, share(r.top1), share(r.drop), share(r.agreement), *flips]
