"""Noise ÷ signal, in power, that integer layers put on the outputs of a network.

    noise  Σ (r - x)² / Σ r²  of each floating-point output over all batches, r float, x integer; SQNR = -10·log10 noise

Reference is the network that the plan makes with nothing integer: its float rewrites are no error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fewbit.core.metrics import ErrorSums
from fewbit.core.plan import Plan
from fewbit.data.base import Batch
from fewbit.errors import ModelError
from fewbit.graph.model import Model
from fewbit.search.alone import Arrays, March, Open, all_float, only
from fewbit.search.macs import counted_macs

MEMORY = 256 << 20
"""Bytes of float values that may be kept between two layers."""

Noise = tuple[float, ...]


class Bench:
    """What measures plans of one network on a few batches; the answers of the float network are kept.

    Args:
        model: the fused float network. plan: calibrated. batches: the data.
        open: loads a model into an engine. emit: plan → integer network. limit: see `March`.

    Raises:
        ModelError: no output is floating-point.
    """

    def __init__(
        self,
        model: Model,
        plan: Plan,
        batches: Sequence[Batch],
        open: Open,
        emit: Callable[[Plan], Model],
        limit: int = MEMORY,
    ) -> None:
        self.model, self.plan, self.batches, self.open, self.emit = model, plan, batches, open, emit
        base = emit(all_float(plan))
        runner = open(base)
        answers = [runner.run(b.feeds) for b in batches]
        self.outputs = [name for name, x in answers[0].items() if x.dtype.kind == "f"]
        if not self.outputs:
            raise ModelError(f"the outputs {', '.join(answers[0])} hold whole numbers; SQNR needs floating-point ones")
        self.answers = [{k: a[k] for k in self.outputs} for a in answers]
        self.march = March(base, batches, open, limit)
        self.macs = counted_macs(model, batches[0], open)

    def noise(self, plan: Plan) -> Noise:
        """Of each output, if the network follows a plan."""
        runner = self.open(self.emit(plan))
        return self._noise(runner.run(b.feeds) for b in self.batches)

    def alone(self, layer: str) -> Noise:
        """Of each output, if only one layer is integer. Layers come in the order of `sorted_layers`."""
        self.march.to(layer)
        return self._noise(self.march.behind(self.emit(only(self.model, self.plan, layer))))

    def sorted_layers(self, layers: Iterable[str]) -> list[str]:
        """In the order in which the float network runs."""
        return sorted(layers, key=self.march.place.__getitem__)

    def _noise(self, found: Iterable[Arrays]) -> Noise:
        """An output that did not have to be run is as it was; NaN and inf are noise without end."""
        sums = {name: ErrorSums() for name in self.outputs}
        with np.errstate(invalid="ignore", over="ignore"):
            for before, after in zip(self.answers, found, strict=True):
                for name, s in sums.items():
                    s.update(before[name], after.get(name, before[name]))
        return tuple(_ratio(s) for s in sums.values())


def _ratio(s: ErrorSums) -> float:
    if not math.isfinite(s.ee):
        return math.inf
    return 0.0 if s.ee == 0 else s.ee / s.rr if s.rr else math.inf


def sqnr_of(noise: Iterable[float]) -> float:
    """SQNR in dB of the worst output."""
    worst = max(noise)
    return math.inf if worst == 0 else -10 * math.log10(worst)
