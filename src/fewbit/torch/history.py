"""What a training did, epoch by epoch, and what came of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from fewbit.core.tables import number, pairs, table


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images.

    Args:
        number: from 1 on. bits: of this stage; None: as planned. rate: the learning rate at its end.
        loss: mean of its batches. accuracy: top-1 on the held-out images, None if there are none. seconds: all of it.
    """

    number: int
    rate: float
    loss: float
    accuracy: float | None
    seconds: float
    bits: int | None = None

    def line(self, of: int) -> str:
        """What came of it, in a line. of: epochs in all."""
        stage = f" with {self.bits} bits" if self.bits is not None else ""
        held = f", held-out top-1 {self.accuracy:.4f}" if self.accuracy is not None else ""
        return f"epoch {self.number} of {of}{stage}: loss {self.loss:.4f}{held}, {self.seconds:.1f} s"


@dataclass(frozen=True)
class TrainReport:
    """The epochs, and top-1 on the test images, each None if it was not measured.

    Args:
        best: number of the epoch whose weights were kept. images: in the test.
        float_top1: of the float network. before, after: of the network before and after this training; a quantized
            one quantizes already before. exported: of the exported network in its engine.
    """

    epochs: tuple[Epoch, ...]
    best: int
    images: int = 0
    float_top1: float | None = None
    before: float | None = None
    after: float | None = None
    exported: float | None = None

    @property
    def won_back(self) -> float | None:
        """The share of what quantizing lost that training won back; None if that is under 0.1 point, or 3 images."""
        if self.float_top1 is None or self.before is None or self.after is None:
            return None
        lost = self.float_top1 - self.before
        least = max(0.001, 3 / self.images if self.images else 0.0)
        return (self.after - self.before) / lost if lost >= least else None

    def text(self) -> str:
        """The table of epochs, and the figures below it."""
        head = (">epoch", ">bits", ">rate", ">loss", ">held-out top-1", ">seconds")
        staged = any(e.bits is not None for e in self.epochs)
        rows = [
            (
                f"{e.number}{'*' if e.number == self.best else ' '}", str(e.bits or "plan"), f"{e.rate:.5f}",
                number(e.loss, 4), number(e.accuracy, 4), number(e.seconds, 1),
            )
            for e in self.epochs
        ]  # fmt: skip
        keep = [i for i in range(len(head)) if staged or i != 1]
        lines = [table([head[i] for i in keep], [[r[i] for i in keep] for r in rows]), "* kept"]
        found = {
            "float": self.float_top1, "before training": self.before, "after training": self.after,
            "exported": self.exported,
        }  # fmt: skip
        told = [(name, f"{value:.4f}") for name, value in found.items() if value is not None]
        if self.won_back is not None:
            told.append(("won back", f"{self.won_back:.0%} of what quantizing lost"))
        return "\n".join([*lines, *(["", f"top-1 on {self.images} test images", pairs(told)] if told else [])])

    def __str__(self) -> str:
        return self.text()

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        return {**dataclasses.asdict(self), "won_back": self.won_back}
