"""Looking at networks: compare, evaluate, inspect, rank layers, attach a collector."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

from fewbit.api.common import (
    Data,
    Progress,
    Source,
    as_model,
    as_read,
    as_source,
    cores,
    counted,
    opener,
    settings,
    simulator,
    target_named,
)
from fewbit.api.making import calibrate, emit, make_plan
from fewbit.api.samples import Remember
from fewbit.calib import CalibrationCollector
from fewbit.config import QuantConfig, configure
from fewbit.core.plan import Plan, Rescale
from fewbit.core.runner import Feeds
from fewbit.core.target import TARGETS
from fewbit.engines import open_runner
from fewbit.errors import PlanError, UsageError
from fewbit.graph.files import QUANTIZED_OPS
from fewbit.graph.fuse import fuse
from fewbit.graph.model import PACKED, Model
from fewbit.graph.rescale import rescaled
from fewbit.quantization.static import feeder
from fewbit.report.compare import compare as _compare
from fewbit.report.comparison import Comparison
from fewbit.report.detections import DetectionEvaluation, evaluate_detector, metric_of
from fewbit.report.evaluate import Evaluation
from fewbit.report.evaluate import evaluate as _evaluate
from fewbit.report.inspect import Inspection
from fewbit.report.inspect import inspect as _inspect
from fewbit.report.quantized import Quantized
from fewbit.search.sensitivity import Sensitivity
from fewbit.search.sensitivity import sensitivity as _sensitivity


def attach(model: Source, collector: CalibrationCollector, *, threads: int = 1) -> Callable[[Feeds], dict[str, Any]]:
    """Attach a collector to a running float network, to be filled by hand.

    Returns:
        a function: feeds → every value by name; each call shows the collector what it asked for (`include_layers`),
        or every value. Ranges then come from `collector.post_collect()`.
    """
    given = as_model(model)
    names = [n for n, v in given.values().items() if v.const_value is None and n]
    runner = open_runner("onnxruntime", given.with_outputs(n for n in names if n not in set(map(_name, given.inputs))))
    return feeder(given, runner, collector, names)


def _name(info: Any) -> str:
    return str(info.name)


def compare(
    model: Source,
    quantized: Source,
    data: Data,
    *,
    limit: int | None = None,
    engine: str = "onnxruntime",
    threads: int | None = None,
    progress: Progress | None = None,
    **words: Any,
) -> Comparison:
    """Layer by layer and at the outputs, how far the integer network is from the float one.

    Where a correction rescaled values, they are compared with the float values rescaled likewise.

    Args:
        model, quantized: float and integer form. data: see `fewbit.data`; words: fields of `DataConfig`, on top of how
            the integer network was calibrated. limit: use this many batches. engine, threads: what runs both.
        progress: called with (batches done, all of them or 0), anew for each pass over the data.

    Raises:
        PlanError: the integer network's rescales are damaged, or those of another network.
    """
    ours, theirs = as_model(model), as_model(quantized, allow_quantized=True)
    source, fused = as_read(data, ours, words, theirs.metadata), fuse(ours)
    inner = rescaled(fused, rescales_of(theirs))
    source = counted(source, progress, limit)
    return _compare(fused, theirs, source, opener(engine, threads or cores()), inner=inner, limit=limit)


def rescales_of(model: Model) -> tuple[Rescale, ...]:
    """Float rewrites that an integer network was made with: from its plan, else from its metadata.

    Raises:
        PlanError: the metadata is damaged.
    """
    if isinstance(model, Quantized):
        return model.plan.rescales
    text = model.metadata.get("fewbit.rescales", "[]")
    try:
        return Plan.from_json({"fewbit_plan": 1, "values": {}, "nodes": {}, "rescales": json.loads(text)}).rescales
    except (ValueError, RecursionError, PlanError) as e:
        raise PlanError(f"the metadata 'fewbit.rescales' of the integer network is damaged: {e}; quantize again") from e


def evaluate(
    model: Source,
    data: Data,
    *,
    reference: Source | None = None,
    engine: str = "onnxruntime",
    threads: int | None = None,
    num_skipped_batches: int = 0,
    num_inference_batches: int | None = None,
    output: str | None = None,
    metric: str | None = None,
    progress: Progress | None = None,
    **words: Any,
) -> Evaluation | DetectionEvaluation:
    """Top-1 and top-5 on labelled data, or mAP where labels are objects; and how a reference network does.

    Args:
        model: float or integer. data: see `fewbit.data`; words: fields of `DataConfig`, on top of how an integer
            network was calibrated. reference: usually the float network; adds agreement and paired flips, or its mAP.
        engine, threads: what runs them.
        output: name of the class scores (default: the first matrix), or of the detections.
        num_skipped_batches: leave out that many at the start. num_inference_batches: use at most that many.
        metric: "accuracy" or "map"; default: as the labels are.
        progress: called with (batches done, all of them or 0).
    """
    given = as_model(model, allow_quantized=True)
    open_ = opener(engine, threads or cores())
    whole = as_model(reference, allow_quantized=True) if reference is not None else None
    other = open_(whole) if whole is not None else None
    known = [m.metadata for m in (given, whole) if m is not None]
    stop = None if num_inference_batches is None else num_skipped_batches + num_inference_batches
    batches = iter(counted(as_read(data, given, words, *known), progress, stop))
    first = next(batches, None)
    count = evaluate_detector if metric_of(first, metric) == "map" else _evaluate
    return count(
        open_(given),
        batches if first is None else chain([first], batches),
        reference=other,
        output=output,
        num_skipped_batches=num_skipped_batches,
        num_inference_batches=num_inference_batches,
    )


def inspect(model: Source) -> Inspection:
    """Inputs, outputs, operators, sizes; what each target could do in integers, and why not.

    Args:
        model: float or quantized, weights in few bits included; of these there is nothing to tell about targets.
    """
    given = as_model(model, allow_quantized=True)
    quantized = PACKED in given.metadata or any(n.op_type in QUANTIZED_OPS for n in given.nodes)
    return _inspect(given, given if quantized else fuse(given), TARGETS)


def sensitivity(
    model: Source,
    data: Data,
    config: QuantConfig | str | Path | Mapping[str, Any] | None = None,
    *,
    plan: Plan | str | Path | None = None,
    samples: int = 16,
    left: bool = True,
    store: str | Path | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    **words: Any,
) -> Sensitivity:
    """Which layers cost accuracy: each one integer alone, each one float alone; and sets of layers to keep from 8 bits.

    Args:
        model: float. data: to calibrate on; its first `samples` are measured on.
        config, words: as for `quantize`. Corrections and budgets have no part in this: hand the plan that they made.
        plan: calibrated, or its file; instead of settings of how to quantize. `time_limit` is for measuring.
        left: measure the network without each layer, too, which takes longest.
        store: file to keep measurements in and to go on from. threads: cores that a run uses (default: all).
        progress: called with (measurements done, all of them).
    """
    if samples < 1:
        raise UsageError(f"samples is {samples!r}; it must be 1 or more")
    chosen, reading = settings(config, words)
    fused = fuse(as_model(model))
    seen = Remember(as_source(data, fused, reading), samples)
    if plan is None:
        ready = calibrate(fused, make_plan(fused, chosen), seen, workers=threads, **asdict(reading))
    elif replace(chosen, time_limit=None) != QuantConfig():
        raise UsageError("the plan holds the settings that it was made with; leave out either these or the plan")
    else:
        ready = plan if isinstance(plan, Plan) else Plan.load(plan)
    base = rescaled(fused, ready.rescales)
    return _sensitivity(
        base,
        replace(ready, rescales=()),
        configure(QuantConfig, None, **ready.config),
        target_named(ready.target),
        seen.kept(),
        simulator(ready.target, threads or cores()),
        emit=lambda p: emit(base, p, {}),
        left=left,
        store=Path(store) if store else None,
        progress=progress,
        deadline=time.monotonic() + chosen.time_limit if chosen.time_limit else None,
    )
