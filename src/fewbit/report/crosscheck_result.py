"""Crosscheck: what one integer network answers on several engines, to read and to save. Made by `crosscheck`."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fewbit.core.blocks import Block, Loud, Shown, Table, Title, to_text
from fewbit.core.tables import dumps, number, percent, plain, short
from fewbit.core.writing import writing

SLACK = 3.0
"""dB: twice the noise. Two engines that round alike, but not the same numbers up, differ by that much."""

ENOUGH = 40.0
"""dB against the float network that is never wrong: an engine that computes float layers in bfloat16 has some 45."""

STRANGE_DB, STRANGE_SHARE = 8.0, 0.5
"""dB and share of samples with the same class, below which the integer network is hardly the float one."""


@dataclass(frozen=True)
class Side:
    """One engine.

    Args:
        engine: its name, or "simulation".
        sqnr, agreement: against the simulation: dB of the worst output, share of samples with the same class.
        float_sqnr, float_agreement: against the float network.
        outputs: dB of each output to the float network.
        ran: it answered. note: why it did not, or what could not be seen; else empty.
    """

    engine: str
    sqnr: float
    agreement: float | None
    float_sqnr: float
    float_agreement: float | None
    outputs: Mapping[str, float] = field(default_factory=dict)
    ran: bool = True
    note: str = ""


@dataclass(frozen=True)
class AtValue:
    """One rounded value on two engines.

    Args:
        name: of the value. op, node: what makes it. differ: share of its integers that are others.
        most: largest difference, in steps. squares: mean square of the difference, in steps. parts: more than rounding.
    """

    name: str
    op: str
    node: str
    differ: float
    most: int
    squares: float
    parts: bool


@dataclass(frozen=True)
class Two:
    """Two engines.

    Args:
        a, b: their names. sqnr, agreement: of the outputs. values: in the order of the network.
    """

    a: str
    b: str
    sqnr: float
    agreement: float | None
    values: tuple[AtValue, ...]

    @property
    def first(self) -> AtValue | None:
        """The first value of which any integer differs."""
        return next((v for v in self.values if v.differ), None)

    @property
    def parted(self) -> AtValue | None:
        """The first value at which they part."""
        return next((v for v in self.values if v.parts), None)


@dataclass(frozen=True, repr=False)
class Crosscheck(Shown):
    """An integer network on several engines.

    Args:
        sides: the simulation first. twos: each engine with each other. batches, samples: that were run.
        needed: an engine that cannot run the network counts as wrong. notes: more.
    """

    sides: tuple[Side, ...]
    twos: tuple[Two, ...]
    batches: int
    samples: int
    needed: bool = True
    notes: tuple[str, ...] = ()

    @property
    def noise(self) -> float:
        """SQNR in dB of the simulation against the float network: what quantizing itself costs."""
        return self.sides[0].float_sqnr

    def right(self, side: Side) -> bool:
        """Whether each output is as good as the simulation promises: `SLACK` dB more noise at most, or hardly any."""
        promised = self.sides[0].outputs
        return side.ran and all(db >= min(promised[name] - SLACK, ENOUGH) for name, db in side.outputs.items())

    @property
    def strange(self) -> str:
        """Why the integer network itself is hardly the float one, whatever runs it; empty if it is."""
        side = self.sides[0]
        classes = side.float_agreement
        if side.float_sqnr >= STRANGE_DB and (classes is None or classes >= STRANGE_SHARE):
            return ""
        same = f", {percent(classes, 2)} of samples with the same class" if classes is not None else ""
        return f"{number(side.float_sqnr)} dB to the float network{same}: other weights, or data read otherwise?"

    @property
    def wrong(self) -> tuple[Side, ...]:
        """Engines that compute something else; or could not run the network, if they were needed."""
        return tuple(s for s in self.sides if not self.right(s) and (s.ran or self.needed))

    def text(self) -> str:
        """All of it as tables."""
        return to_text(self._blocks())

    def _blocks(self) -> list[Block]:
        rows = [
            [s.engine, number(s.sqnr), percent(s.agreement, 2), number(s.float_sqnr), percent(s.float_agreement, 2),
             "" if s is self.sides[0] else "not run" if not s.ran else "ok" if self.right(s) else "! differs !"]
            for s in self.sides
        ]  # fmt: skip
        head = ["<engine", ">dB to simulation", ">same class", ">dB to float", ">same class", "<verdict"]
        parts: list[Block] = [Title(f"outputs, {self.samples} samples"), Table(head, rows)]
        twos = [
            [f"{t.a}, {t.b}", number(t.sqnr), percent(t.agreement, 2), _where(t.first), _where(t.parted)]
            for t in self.twos
        ]
        if twos:
            parts += [
                "",
                Table(["<engines", ">dB", ">same class", "<first integer that differs", "<they part at"], twos),
            ]
            parts += ["part: differences of more than one rounding (mean square over 1/12 step)"]
        loud = [f"{s.engine} {'computes something else' if s.ran else 'could not run it'}" for s in self.wrong]
        if self.strange:
            parts += ["", f"! {self.strange} !"]
            loud.append(self.strange)
        parts += [Loud(loud, said=True)] if loud else []
        told = [f"{s.engine}: {s.note}" for s in self.sides if s.note]
        return [*parts, *(f"note: {t}" for t in (*told, *self.notes))]

    def _brief(self) -> str:
        found = [f"{s.engine} {number(s.sqnr, 1)} dB" for s in self.sides[1:] if s.ran]
        wrong = f"; WRONG: {', '.join(s.engine for s in self.wrong)}" if self.wrong else ""
        return f"{', '.join(found) or 'no engine'} to the simulation, {self.samples} samples{wrong}"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        found = dict(plain(self))
        for two, t in zip(found["twos"], self.twos, strict=True):
            two["first"], two["parted"] = (v.name if v is not None else None for v in (t.first, t.parted))
        return {"wrong": [s.engine for s in self.wrong], "strange": self.strange, **found}

    def save(self, folder: str | Path) -> None:
        """Write `engines.json` and `values.csv` (one row a value and two engines) into a folder, both or neither."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / "engines.json") as file:
            (file.parent / "values.csv").write_text(_csv(self.twos), "utf-8")
            file.write_text(dumps(self.to_json()), "utf-8")


def _where(value: AtValue | None) -> str:
    if value is None:
        return "nowhere"
    return f"{short(value.node or value.name)} ({value.op}), {percent(value.differ, 2)}, {value.most} steps"


def _csv(twos: Sequence[Two]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f.name for f in fields(AtValue)]
    writer.writerow(["a", "b", *names])
    for t in twos:
        for v in t.values:
            writer.writerow([t.a, t.b, *(getattr(v, n) for n in names)])
    return out.getvalue()
