"""Does a change help? Judged by the output of the whole network on samples that nothing was fitted to.

judge(plan) = SQNR in dB of the worst floating-point output, float network against integer network, on the engine
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.metrics import ErrorSums
from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.graph.model import Model

Array = NDArray[Any]

CEILING = 200.0
"""dB that stand for "no difference"."""


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

    @property
    def possible(self) -> bool:
        """Whether there is anything to judge by: an output that is floating-point and finite."""
        return bool(self.truth and self.truth[0]) and all(np.isfinite(x).all() for t in self.truth for x in t.values())

    def judge(self, plan: Plan) -> float:
        """SQNR of the worst output, in dB; -inf if it holds NaN or infinity."""
        runner = self.open(self.emit(plan))
        sums = {name: ErrorSums() for name in self.truth[0]}
        for batch, truth in zip(self.held, self.truth, strict=True):
            found = runner.run(batch.feeds)
            for name, total in sums.items():
                if found[name].shape != truth[name].shape or not np.isfinite(found[name]).all():
                    return -math.inf
                total.update(truth[name], found[name])
        return min(min(s.sqnr_db, CEILING) for s in sums.values())


def _floats(outputs: dict[str, Array]) -> dict[str, Array]:
    return {name: np.array(x) for name, x in outputs.items() if x.dtype.kind == "f"}
