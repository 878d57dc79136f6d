"""An exported integer network beside the simulation that it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewbit.core.plan import Plan
from fewbit.graph.model import Array

MOST_STEPS, MOST_SHARE = 1.0, 0.001
"""How far the integer network may lie from the simulation: steps of the output; share of outputs that differ."""

STRAY = 0.02
"""Share of samples that may lie further off, by a step of the narrowest format: float layers of the network are summed
in another order by the engine, and now and then a value in them is rounded to the next level. With ResNet-8 in 4 bits,
whose first layer is float, that befalls 2 images of 3,000; with all layers integer none."""


@dataclass(frozen=True)
class Check:
    """The integer network beside the simulation, on the same samples.

    Args:
        outputs: numbers compared. differ: share of them that differ by half a step or more.
        most: largest difference, in steps. agreement: share of samples with the same class, None without classes.
        engine: what ran the integer network. step: "output" if the output itself is integer, else the 255th part of
            its range.
        unusable: outputs that are NaN or infinite, the same on both sides; they count as equal. On one side only they
            are infinitely far apart.
        samples: compared. stray: of them, those with an output that differs. levels: of the narrowest activation.
    """

    outputs: int
    differ: float
    most: float
    agreement: float | None
    engine: str
    step: str
    unusable: int = 0
    samples: int = 1
    stray: int = 0
    levels: int = 255

    @property
    def equal(self) -> bool:
        """Whether this counts as equal: at most one step, in at most 0.1 % of the outputs; or a few stray samples."""
        if self.stray <= int(STRAY * self.samples):
            return self.most <= MOST_STEPS * 255 / self.levels + 1e-3
        return self.differ <= MOST_SHARE and self.most <= MOST_STEPS + 1e-3

    def __str__(self) -> str:
        classes = "" if self.agreement is None else f", same class {self.agreement:.2%}"
        unusable = f"; {self.unusable:,} are NaN or infinite on both sides" if self.unusable else ""
        stray = f", in {self.stray} of {self.samples:,} samples" if self.stray else ""
        return (
            f"{self.engine} against simulation: {self.differ:.4%} of {self.outputs:,} outputs differ, "
            f"by {self.most:.2g} steps at most{stray}{classes}{unusable}"
        )


def compared(
    names: Sequence[str], wanted: Sequence[Array], found: Mapping[str, Array], plan: Plan, engine: str
) -> Check:
    """Compare what the simulation answers with what the engine does.

    Args:
        names: of the outputs, in the order of `wanted`. found: name → what the engine answers.
    """
    count, differ, most, kind, unusable = 0, 0, 0.0, "output", 0
    samples = min((len(a) for a in wanted if a.ndim), default=1)
    stray = np.zeros(samples, bool)
    for name, a in zip(names, wanted, strict=True):
        b = found[name]
        finite = a[np.isfinite(a)]
        step = float(np.ptp(finite)) / 255 or 1.0 if finite.size and finite.dtype.kind == "f" else 1.0
        if name in plan.values:
            step = float(plan.params(name).scale)
        elif a.dtype.kind == "f":
            kind = "range/255"
        off = _steps(a, b, step)
        unusable += int((~np.isfinite(a) & (off == 0)).sum())
        count, differ, most = count + off.size, differ + int((off >= 0.5).sum()), max(most, float(off.max(initial=0)))
        wrong = off.reshape(len(off), -1).max(1, initial=0) >= 0.5 if off.ndim else off[None] >= 0.5
        stray |= wrong if len(wrong) == samples else bool(wrong.any())  # rows that are no samples tell of all
    bits = min((v.spec.bits for v in plan.values.values() if v.role == "act"), default=8)
    return Check(
        count, differ / max(1, count), most, _agreement(names, wanted, found), engine, kind, unusable, samples,
        int(stray.sum()), min(2**bits - 1, 255),
    )  # fmt: skip


def _steps(a: Array, b: Array, step: float) -> Any:
    """How many steps lie between two arrays; whole numbers differ by one, whatever they are (they may be classes)."""
    if a.shape != b.shape:
        return np.full(a.shape, np.inf)
    if a.dtype.kind != "f":
        return (a != b).astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.abs(a.astype(np.float64) - b) / step
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(off), np.inf, off))


def _agreement(names: Sequence[str], wanted: Sequence[Array], found: Mapping[str, Array]) -> float | None:
    first = wanted[0] if len(wanted) == 1 else None
    if first is None or first.dtype.kind != "f" or first.ndim != 2 or first.shape[1] < 2:
        return None
    return float(np.mean(first.argmax(1) == found[names[0]].argmax(1)))
