"""Inputs to check a deployed network with: some of the user's data, or numbers made up in the range that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewbit.deployment.base import Job

if TYPE_CHECKING:
    from fewbit.core.plan import Plan
    from fewbit.graph.model import Model

Array = NDArray[Any]

DEVIATIONS = 3
"""Standard deviations from the middle of a range to its ends, where data is made up."""


def sample_feeds(job: Job, most: int) -> list[dict[str, Array]]:
    """Feeds for some runs, each of as many samples as the network takes at once."""
    from fewbit.data.signature import read_signature

    if job.samples is None:
        return [made_up(job.model, job.plan, seed) for seed in range(most)]
    signature = read_signature(job.model.inputs)
    size = signature.batch or 1
    count = min(most, len(job.samples[signature.names[0]]) // size)
    spans = [(i * size, i * size + size) for i in range(count)]
    return [
        {s.name: job.samples[s.name][a:b] if s.stacked else np.asarray(job.samples[s.name][a]) for s in signature.slots}
        for a, b in spans
    ]


def made_up(model: Model, plan: Plan | None, seed: int) -> dict[str, Array]:
    """Random numbers for every input, as far apart as its range in the plan is wide."""
    from fewbit.engines import random_feeds

    feeds = random_feeds(model, seed)
    for name, x in feeds.items():
        value = plan.values.get(name) if plan is not None else None
        if x.dtype.kind == "f" and value is not None and value.lo is not None and value.hi is not None:
            middle, half = (value.hi + value.lo) / 2, (value.hi - value.lo) / 2
            feeds[name] = np.clip(middle + x * (half / DEVIATIONS), value.lo, value.hi).astype(x.dtype)
    return feeds
