"""Check a quantized network against its float original, on this machine, and report: error, speed, who is to blame.

Layers are compared only if the output is off, and profiled only if it is not faster: naming names costs time. None is
named where the float network itself answers with NaN on this engine.

An engine may compute the float network wrongly, and then the integer one in the same way, which no comparison of the
two would show. So the float network is run in another one as well, once; what that answers counts, should they part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.data.base import Batch
from fewbit.errors import EmptyData, EngineError, ModelError
from fewbit.graph.model import Model
from fewbit.report.benchmark import benchmark
from fewbit.report.compare import Open, compare
from fewbit.report.comparison import Comparison
from fewbit.report.profile import profile_pair
from fewbit.report.summary import LEAST_FLOAT, NAMED, QuantReport, summarize, suspects

SECONDS = 0.3
"""To time each of the two networks for, at least."""


def verify_quantized(
    float_model: Model,
    quant_model: Model,
    plan: Plan,
    batches: Sequence[Batch],
    open: Open,
    *,
    fused: Model | None = None,
    seconds: float = SECONDS,
    stand_in: str = "",
    trusted: Open | None = None,
) -> QuantReport:
    """Run both networks, compare their outputs and their speed.

    Args:
        float_model: the original; what is fast or right is told against this one.
        batches: a few, best of data that was not calibrated on; the first is what is timed.
        open: loads a model into an engine.
        fused: the network that the plan was made for, to name layers; default: the original.
        stand_in: the engine, if it is not the one that the plan is for: nothing is timed then, and the report says so.
        trusted: loads a model into ONNX Runtime, if `open` does not.
        seconds: see `SECONDS`.

    Raises:
        EmptyData: no batch. EngineError: an engine refuses a network or the data, or answers in another shape.
    """
    if not batches:
        raise EmptyData("there is no batch to check the quantized network on")
    opened: dict[int, tuple[Model, Runner]] = {}  # with the model, so that its id stays its own

    def once(model: Model) -> Runner:
        if id(model) not in opened:
            opened[id(model)] = model, open(model)
        return opened[id(model)][1]

    agree = agreement(float_model, batches, once, trusted) if trusted is not None else None
    reference = trusted if agree is not None and agree < LEAST_FLOAT else None
    comparison = _outputs(float_model, quant_model, batches, once, reference, plan.target)
    runners = {"float": once(float_model), "quantized": once(quant_model)}
    first = batches[0]
    latency = None
    if not stand_in:
        latency = benchmark(runners, {len(first.names): first.feeds}, min_time=seconds).timing("quantized")
    report = summarize(plan, float_model, quant_model, comparison=comparison, latency=latency)
    if reference is not None:
        report = replace(report, float_sqnr=agree)
    if stand_in:
        text = f"compared in {stand_in}, which computes what stands in the file; {plan.target} itself was not run here"
        report = replace(report, warnings=(*report.warnings, text))
    if report.cosine is not None and math.isnan(report.cosine) and not _finite(runners["float"], batches):
        text = f"the float network itself answers with NaN or inf on {plan.target}; no layer is to blame for that"
        report = replace(report, warnings=(*report.warnings, text))
    elif report.off:
        inner = compare(fused or float_model, quant_model, batches, open, reference=reference)
        report = replace(report, worst=tuple(inner.worst(NAMED)), suspects=suspects(plan, inner))
    if report.slower:
        rows = profile_pair(runners["float"], runners["quantized"], first.feeds, model=fused or float_model).rows
        report = replace(report, slowest=rows)
    return report


def agreement(model: Model, batches: Sequence[Batch], open: Open, trusted: Open) -> float | None:
    """SQNR in dB of the float network's worst output, against `trusted`; None if that cannot run it."""
    try:
        return compare(model, model, batches[:1], open, reference=trusted, layers=False).sqnr
    except ModelError:
        return -math.inf  # not even the shapes are the same
    except EngineError:
        return None


def _outputs(
    float_model: Model, quant_model: Model, batches: Sequence[Batch], open: Open, reference: Open | None, target: str
) -> Comparison:
    try:
        return compare(float_model, quant_model, batches, open, reference=reference, layers=False)
    except ModelError as e:
        where = "onnxruntime" if reference else target
        raise EngineError(
            f"{target} computes the quantized network wrongly: {str(e).split(';')[0]}. The float one ran in {where}. "
            "Take another target, or keep layers in front of that output float (exclude_layers); verify = False gives "
            "the network unchecked"
        ) from e


def _finite(runner: Runner, batches: Sequence[Batch]) -> bool:
    """Whether every answer is a number."""
    found = (x for batch in batches for x in runner.run(batch.feeds).values())
    return all(bool(np.isfinite(x).all()) for x in found if x.dtype.kind == "f")
