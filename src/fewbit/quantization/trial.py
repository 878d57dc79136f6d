"""Does a change help? Judged by the output of the whole network on samples that nothing was fitted to.

    sqnr      of the worst floating-point output, float network against integer network, on the engine, in dB
    noise     the same sample by sample: Σ over outputs of error energy ÷ mean signal energy

A change helped if the SQNR rose by a margin, and the samples agree on that: the mean of log(noise before ÷ after) is
more than a standard error over 0. On a few samples a gain of some tenths of a dB is chance more often than not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.metrics import ErrorSums
from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.graph.model import Model
from fewbit.quantization.linear import size_of

Array = NDArray[Any]

CEILING = 200.0
"""dB that stand for "no difference"."""

MARGIN = 0.1
"""dB that a change must win at least."""

TINY = 1e-20


@dataclass(frozen=True, eq=False)
class Score:
    """What was measured of a plan. `sqnr`: in dB, -inf if an output holds NaN or infinity. `noise`: of each sample."""

    sqnr: float
    noise: Array = field(default_factory=lambda: np.zeros(0))

    def beats(self, other: Score) -> bool:
        """Whether this one is better than chance would have it."""
        if not self.sqnr > other.sqnr + MARGIN:
            return False
        if len(self.noise) < 2 or len(self.noise) != len(other.noise):
            return True
        gains = np.log((other.noise + TINY) / (self.noise + TINY))
        return bool(gains.mean() > gains.std(ddof=1) / math.sqrt(len(gains)))


class Trial:
    """Held-out samples and what the float network answers on them.

    Args:
        model: the float network, with all its outputs. held: batches. open: loads a model into the engine.
        emit: plan → integer network.
    """

    def __init__(
        self, model: Model, held: Sequence[Any], open: Callable[[Model], Runner], emit: Callable[[Plan], Model]
    ) -> None:
        self.held, self.open, self.emit = held, open, emit
        runner = open(model)
        self.truth = [_floats(runner.run(b.feeds)) for b in held]
        outputs = self.truth[0] if self.truth else {}
        self.signal = {k: float(np.mean([np.square(t[k]).mean() for t in self.truth])) for k in outputs}

    @property
    def possible(self) -> bool:
        """Whether there is anything to judge by: an output that is floating-point and finite."""
        return bool(self.truth and self.truth[0]) and all(np.isfinite(x).all() for t in self.truth for x in t.values())

    def judge(self, plan: Plan) -> Score:
        """Run the integer network of a plan."""
        runner = self.open(self.emit(plan))
        sums = {name: ErrorSums() for name in self.truth[0]}
        noise: list[Array] = []
        for batch, truth in zip(self.held, self.truth, strict=True):
            found, count = runner.run(batch.feeds), size_of(batch)
            each = np.zeros(1)
            for name, total in sums.items():
                r, x = truth[name], found[name]
                if x.shape != r.shape or not np.isfinite(x).all():
                    return Score(-math.inf)
                total.update(r, x)
                rows = np.square(x - r, dtype=np.float64).reshape(count if r.ndim and len(r) == count else 1, -1)
                each = each + rows.mean(1) / max(self.signal[name], TINY)
            noise.append(each)
        return Score(min(min(s.sqnr_db, CEILING) for s in sums.values()), np.concatenate(noise))


def _floats(outputs: dict[str, Array]) -> dict[str, Array]:
    return {name: np.array(x) for name, x in outputs.items() if x.dtype.kind == "f"}
