"""Judge plans: run float and integer network on held-out samples, and count what a budget can be about.

    float answers, kept ─┐
    plan → emit → run ───┴→ SQNR, cosine of the worst output; same class, counted and expected; top-1 lost;
                            share of multiplications in integers; latency

Float answers are computed once. Latency is a ratio measured in turns (float, integer, float, …): rounds go on until the
notch of the median, 1.57 · IQR / √rounds (McGill, Tukey, Larsen: Variations of Box Plots, 1978), is below 1 % of it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.metrics import ErrorSums, class_like, top_k_hits
from fewbit.core.plan import Plan
from fewbit.core.runner import Feeds, Runner
from fewbit.core.timing import Clock, in_turns, ratio, runs_in_a_slice
from fewbit.data.base import Batch
from fewbit.errors import EmptyData, ModelError
from fewbit.graph.model import Model
from fewbit.search.expected import expected_agreement
from fewbit.search.figures import Figures
from fewbit.search.macs import counted_macs, integer_share

Array = NDArray[Any]
Open = Callable[[Model], Runner]
Judge = Callable[[Plan], Figures]

ROUNDS, MOST = 8, 64
"""Rounds timed before looking again, and most of all."""

SURE = 0.01
"""Timing ends when the ratio is known to this share of itself."""


@dataclass
class _Tally:
    """Samples, and of these: same class; expected to be so; with labels; top-1 of both."""

    samples: int = 0
    same: int = 0
    expected: float = 0.0
    labelled: int = 0
    right: int = 0
    right_before: int = 0


def make_judge(
    float_model: Model,
    batches: Sequence[Batch],
    open: Open,
    emit: Callable[[Plan], Model],
    *,
    latency: Open | None = None,
) -> Judge:
    """A function that gives the figures of a plan.

    Args:
        float_model: the fused float network that plans are made for.
        batches: held out from calibration; the first is what is timed. The float answers to all of them are kept.
        open: loads a model into an engine. emit: plan → integer network.
        latency: loads a model for timing; None leaves latency out of the figures.

    Raises:
        EmptyData: no batch. EngineError: the engine refuses the float network or the data.
    """
    if not batches:
        raise EmptyData("there is no held-out batch to judge quantized networks on; hand more samples")
    before = _answers(open(float_model), batches)
    classes = all(b.labels is None or _class_numbers(b.labels) for b in batches)  # a detector's are objects
    scores = next((name for name, x in before[0].items() if class_like(x)), None) if classes else None
    macs = counted_macs(float_model, batches[0], open)
    timed = latency(float_model) if latency is not None else None

    def judge(plan: Plan) -> Figures:
        model = emit(plan)
        after = _answers(open(model), batches)
        sqnr, cosine = _worst(before, after)
        tally = _count(batches, before, after, scores) if scores is not None else None
        share = latency_ratio(timed, latency(model), batches[0].feeds) if timed and latency else None
        return Figures(
            sqnr=sqnr,
            cosine=cosine,
            agreement=tally.same / tally.samples if tally else None,
            drop=(tally.right_before - tally.right) / tally.labelled if tally and tally.labelled else None,
            latency=share,
            macs=integer_share(plan, macs),
            expected=tally.expected if tally else None,
            samples=sum(len(b.names) for b in batches),
        )

    return judge


def _class_numbers(labels: Array) -> bool:
    return labels.ndim == 1 and labels.dtype.kind in "iu"


def _answers(runner: Runner, batches: Sequence[Batch]) -> list[dict[str, Array]]:
    return [runner.run(batch.feeds) for batch in batches]


def _worst(before: Sequence[Mapping[str, Array]], after: Sequence[Mapping[str, Array]]) -> tuple[float, float]:
    """SQNR and cosine of the output that is furthest off; NaN in any makes them NaN. Whole numbers count if alone."""
    floats = [name for name, x in before[0].items() if x.dtype.kind == "f"]
    sums = {name: ErrorSums() for name in floats or before[0]}
    for a, b in zip(before, after, strict=True):
        for name, s in sums.items():
            if name not in b or a[name].shape != b[name].shape:
                raise ModelError(
                    f"output {name!r} of the integer network is missing or has another shape than in float; "
                    "hand two forms of one network"
                )
            with np.errstate(invalid="ignore", over="ignore"):  # NaN and inf are answers, too
                s.update(a[name], b[name])
    sqnr, cosine = ([getattr(s, key) for s in sums.values()] for key in ("sqnr_db", "cosine"))
    return (math.nan if any(map(math.isnan, sqnr)) else min(sqnr)), (
        math.nan if any(map(math.isnan, cosine)) else min(cosine)
    )


def _count(
    batches: Sequence[Batch], before: Sequence[Mapping[str, Array]], after: Sequence[Mapping[str, Array]], scores: str
) -> _Tally:
    """Count answers; NaN or inf stands for no class: never right, never the same."""
    t = _Tally()
    pairs = [
        tuple(np.asarray(found[scores]).reshape(found[scores].shape[:2]) for found in ab)
        for ab in zip(before, after, strict=True)
    ]
    for batch, (x, y) in zip(batches, pairs, strict=True):
        finite = np.isfinite(y).all(1)
        t.samples += len(y)
        t.same += int(np.count_nonzero((x.argmax(1) == y.argmax(1)) & finite))
        if batch.labels is not None:
            labels = np.asarray(batch.labels)
            t.labelled += len(labels)
            t.right_before += top_k_hits(x, labels, 1)
            t.right += top_k_hits(y[finite], labels[finite], 1)
    t.expected = expected_agreement(np.concatenate([x for x, _ in pairs]), np.concatenate([y for _, y in pairs]))
    return t


def latency_ratio(base: Runner, other: Runner, feeds: Feeds, *, clock: Clock = time.perf_counter) -> float:
    """Latency of `other` ÷ that of `base`: median over rounds in turns, as many as it takes, see above."""
    runs = [partial(base.run, feeds), partial(other.run, feeds)]
    count = runs_in_a_slice(runs, clock)
    seconds: list[list[float]] = [[], []]
    while True:
        for all_of, more in zip(seconds, in_turns(runs, count, ROUNDS, clock), strict=True):
            all_of.extend(more)
        found, rounds = ratio(seconds[1], seconds[0]), len(seconds[0])
        if rounds >= MOST or 1.57 * (found.high - found.low) / math.sqrt(rounds) <= SURE * found.mid:
            return found.mid
