"""Values below zero that unsigned inputs cut off: whether there are any, and what they cost.

If a simulation loses much, some samples are run twice, with unsigned and with signed inputs of the same width, each
batch with ranges of its own: what the signs win back is what was cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fewbit.api.simulated_data import Sets
from fewbit.config.simulate import SimulateConfig
from fewbit.core.metrics import class_like
from fewbit.core.runner import Feeds, Runner
from fewbit.report.evaluate import Evaluation

if TYPE_CHECKING:
    from fewbit.api.simulating import Network, Simulating

LARGE = 0.01
"""Loss of top-1 (without labels: of agreement) from which on it is looked at what signs would win."""

WON = 0.02
"""Share of classes that signs win back, from which on it is a warning."""

LOOKED_AT = 512
"""Samples that this is counted on, about."""


def cut_off(
    network: Network, now: Simulating, sets: Sets, config: SimulateConfig, result: Evaluation,
    say: Callable[[str, int, int], None],
) -> tuple[str, bool]:  # fmt: skip
    """What is to be said of it, "" = nothing, and whether it is the cause of a large loss."""
    first = next(iter(sets.test), None)
    below = now.below_zero(first.feeds) if first is not None and not config.input_signed else 0
    if not below:
        return "", False
    told = f"{below} of the simulated layers read values below zero, which unsigned inputs cut off"
    if _loss(result) < LARGE:
        return f"{told}; if that costs too much, say input_signed", False
    say("comparing with signed inputs", 0, 1)
    kept, signed, seen = _kept(network, sets, config)
    if signed - kept < WON:
        return f"{told}; that is not what the loss comes from: with input_signed it is about the same", False
    return (
        f"{told}, and that is what most of the loss comes from: of {seen} samples {100 * kept:.1f} % keep their class, "
        f"and {100 * signed:.1f} % with input_signed"
    ), True


def _loss(found: Evaluation) -> float:
    if found.drop is not None:
        return found.drop
    return 1 - found.agreement.rate if found.agreement is not None else 0.0


def _kept(network: Network, sets: Sets, config: SimulateConfig) -> tuple[float, float, int]:
    """Shares of samples with the class that float gives them, unsigned and signed, and how many were looked at."""
    plain = SimulateConfig()
    online = {k: getattr(plain, k) for k in ("quantize_input_offline", "calib_mode", "calib_epoch", "num_sample")}
    settings = (replace(config, input_signed=s, eval_per_calib=False, **online) for s in (False, True))
    runners = [network.reference(), *(network.simulating(c).runner() for c in settings)]
    same, seen = np.zeros(2, np.int64), 0
    for batch in islice(sets.test, max(1, LOOKED_AT // config.batch_size)):
        float_, *others = [_classes(r, batch.feeds) for r in runners]
        same += [int((c == float_).sum()) for c in others]
        seen += len(float_)
    return float(same[0] / seen), float(same[1] / seen), seen


def _classes(runner: Runner, feeds: Feeds) -> NDArray[np.int64]:
    """Of each sample, by the first output that holds scores."""
    scores = next(x for x in runner.run(feeds).values() if class_like(x))
    found: NDArray[np.int64] = scores.argmax(1)
    return found
