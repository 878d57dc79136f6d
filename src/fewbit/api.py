"""The Python interface: thin wiring of load → fuse → plan → calibrate → emit → verify."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from fewbit import __version__
from fewbit.calib import CalibrationCollector
from fewbit.config import DataConfig, QuantConfig, configure, read_config
from fewbit.core.plan import Plan
from fewbit.core.runner import Feeds, Runner
from fewbit.core.target import TARGETS, Target
from fewbit.data import Batch, DataSource, open_data
from fewbit.engines import open_runner, random_feeds
from fewbit.engines.onnxruntime_stream import open_stream
from fewbit.errors import FewbitWarning, UsageError, one_of, unknown
from fewbit.frontends import load
from fewbit.graph.emit import emit_qdq
from fewbit.graph.files import QUANTIZED_OPS
from fewbit.graph.finalize import finalize
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan as _make_plan
from fewbit.quantization.static import calibrate as _calibrate
from fewbit.quantization.static import feeder
from fewbit.report.benchmark import Benchmark
from fewbit.report.benchmark import benchmark as _benchmark
from fewbit.report.compare import compare as _compare
from fewbit.report.comparison import Comparison
from fewbit.report.evaluate import Evaluation
from fewbit.report.evaluate import evaluate as _evaluate
from fewbit.report.inspect import Inspection
from fewbit.report.inspect import inspect as _inspect
from fewbit.report.profile import Profile, profile_pair
from fewbit.report.quantized import Quantized
from fewbit.report.summary import summarize
from fewbit.report.verify import verify_quantized

Data = Any
Progress = Callable[[int, int], None]
Source = Model | str | os.PathLike[str]

__all__ = [
    "apply",
    "attach",
    "benchmark",
    "calibrate",
    "compare",
    "evaluate",
    "fuse",
    "inspect",
    "load",
    "make_plan",
    "profile",
    "quantize",
]

VERIFY_SAMPLES = 16
"""Calibration samples that a quantized network is checked on, if nothing else is at hand."""


def target_named(name: str) -> Target:
    """The target of that name; an unknown one offers the nearest."""
    return TARGETS[one_of("target", name, TARGETS)]


def settings(
    config: QuantConfig | str | Path | Mapping[str, Any] | None, words: Mapping[str, Any]
) -> tuple[QuantConfig, DataConfig]:
    """Both configs out of a config object, a TOML file or a mapping, with keywords on top.

    Raises:
        UnknownName: a keyword that is a field of neither; the nearest one is offered.
    """
    tables: dict[str, dict[str, Any]] = {"quantize": {}, "data": {}}
    base = config if isinstance(config, QuantConfig) else None
    if isinstance(config, (str, Path)):
        tables = read_config(config)
    elif isinstance(config, Mapping):
        words = {**config, **words}
    ours = {f.name for f in fields(DataConfig)}
    names = ours | {f.name for f in fields(QuantConfig)}
    for word, value in words.items():
        if word not in names:
            raise unknown("setting", word, names)
        tables["data" if word in ours else "quantize"][word] = value
    return configure(QuantConfig, base, **tables["quantize"]), configure(DataConfig, None, **tables["data"])


def _model(model: Source, *, allow_quantized: bool = False) -> Model:
    return model if isinstance(model, Model) else load(model, allow_quantized=allow_quantized)


def _source(data: Data, model: Model, config: DataConfig) -> DataSource:
    return cast(DataSource, data) if hasattr(data, "iterate") else open_data(data, model.inputs, config)


def _opener(target: str, threads: int, *, timing: bool = False) -> Callable[[Model], Runner]:
    """A function that loads a model; for timing, with the engine's own habit of waiting actively."""
    spin: dict[str, Any] = {"spin": True} if timing and target.startswith("onnxruntime") else {}
    return partial(open_runner, target, threads=threads, **spin)


def make_plan(model: Model, config: QuantConfig | str | Path | None = None, **words: Any) -> Plan:
    """Decide what becomes integer, in which format, and why.

    Args:
        model: a fused float network. config, words: see `QuantConfig`.
    """
    chosen, _ = settings(config, words)
    target = target_named(chosen.target)
    factor = target.slow.get(chosen.quantized_dtype)
    if factor is not None:
        warnings.warn(
            f"{chosen.quantized_dtype} activations run at {factor:.2f} of float time on {target.name} (measured); "
            "quantized_dtype='auto' takes the fast type",
            FewbitWarning,
            stacklevel=2,
        )
    plan = _make_plan(model, chosen, target)
    _tell_of_groups(plan, chosen)
    return plan


def _tell_of_groups(plan: Plan, config: QuantConfig) -> None:
    """Warn if group-wise was asked for and most weights could not have it."""
    weights = [v.spec for v in plan.values.values() if v.role == "weight"]
    rest = sum(s.granularity != "group" for s in weights)
    if config.quantize_granularity == "group-wise" and rest:
        warnings.warn(
            f"{rest} of {len(weights)} weights are quantized per channel: groups are for MatMul and Gemm only",
            FewbitWarning,
            stacklevel=3,
        )


def calibrate(
    model: Model,
    plan: Plan,
    data: Data,
    *,
    collector: CalibrationCollector | None = None,
    checkpoint: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    **words: Any,
) -> Plan:
    """Measure the ranges of a plan on data; the result is the calibration table (`plan.save("table.json")`).

    Args:
        model: the fused float network of the plan. data: see `fewbit.data`.
        collector: for calib_mode custom. checkpoint: file to keep progress in and to go on from.
        workers: batches in work at once (default: one a core, at most 8).
        progress: called with (batches done, samples done).
        words: fields of `DataConfig`.
    """
    config = configure(DataConfig, None, **words)
    source = _source(data, model, config)
    done = _calibrate(
        model,
        plan,
        source,
        open_stream,
        configure(QuantConfig, None, **plan.config),
        workers=workers or min(8, os.cpu_count() or 1),
        collector=collector,
        checkpoint=Path(checkpoint) if checkpoint else None,
        data_key=f"{source.digest()} {config}" if checkpoint else "",
        progress=progress,
    )
    return replace(done, data=source.digest() or "") if plan.observed() else done


def apply(model: Model, plan: Plan | str | Path, *, info: Mapping[str, str] | None = None) -> Quantized:
    """Make the integer network that a calibrated plan describes; no data is needed.

    Args:
        model: the fused float network that the plan was made for.
        plan: or the path of its JSON file. info: more metadata for the file.

    Raises:
        PlanError: the plan is for another network. NotCalibrated: a range is missing.
    """
    plan = plan if isinstance(plan, Plan) else Plan.load(plan)
    out = _emit(model, plan, info or {})
    if plan.model and plan.model != model.digest():
        warnings.warn(
            "the plan was made for another network, or for other weights; its ranges may not fit. Calibrate again",
            FewbitWarning,
            stacklevel=2,
        )
    return out


def _emit(model: Model, plan: Plan, info: Mapping[str, str]) -> Quantized:
    target = target_named(plan.target)
    config = json.dumps(dict(plan.config), sort_keys=True)
    about = {"fewbit.version": __version__, "fewbit.target": plan.target, "fewbit.config": config}
    about |= {"fewbit.model": plan.model, "fewbit.data": plan.data or "unknown", **info}
    return Quantized(finalize(emit_qdq(model, plan), target.opset, about, target.grabs, plan.kept_float()), plan)


def quantize(
    model: Source,
    data: Data = None,
    config: QuantConfig | str | Path | Mapping[str, Any] | None = None,
    *,
    collector: CalibrationCollector | None = None,
    verify: bool = True,
    checkpoint: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    **words: Any,
) -> Quantized:
    """Turn a float network into an integer one, and measure what that cost.

    Args:
        model: a Model or the path of one; it is not changed.
        data: to calibrate on: see `fewbit.data`.
        config, words: `QuantConfig` (or a TOML file), and any of its fields and those of `DataConfig` as keywords.
        collector: measures the ranges, for calib_mode custom.
        verify: run float and integer network side by side on some of the data; without it the report has sizes and
            verdicts only.
        checkpoint: file to keep calibration progress in and to go on from.
        workers: batches in work at once. progress: called with (batches done, samples done).

    Returns:
        the integer network, with `.plan` and `.report`. If it is slower than float, or far from it, the report says so,
        and a FewbitWarning is given.

    Raises:
        FewbitError: see `fewbit.errors`.
    """
    chosen, data_config = settings(config, words)
    if data is None and chosen.calib_mode != "none":
        raise UsageError(
            "ranges are measured on data; give data=, or calib_mode='none' to measure them at run time instead"
        )
    given = _model(model)
    fused = fuse(given)
    _check_operators(given, fused, chosen)
    plan = make_plan(fused, chosen)
    source = _source(random_feeds(given) if data is None else data, given, data_config)
    seen = _Remember(source, VERIFY_SAMPLES if verify else 0)
    plan = calibrate(
        fused,
        plan,
        seen,
        collector=collector,
        checkpoint=checkpoint,
        workers=workers,
        progress=progress,
        **asdict(data_config),
    )
    out = _emit(fused, plan, {})
    if verify:
        out.report = verify_quantized(given, out, plan, seen.kept(), _opener(chosen.target, 1), fused=fused)
    else:
        out.report = summarize(plan, fused, out, size_float=given.nbytes)
    for problem in out.report.problems():
        warnings.warn(problem, FewbitWarning, stacklevel=2)
    return out


def _check_operators(given: Model, fused: Model, config: QuantConfig) -> None:
    """Warn of excluded operators that fusing left none of: what they did is part of other layers now."""
    before, after = given.op_counts(), fused.op_counts()
    for op in config.exclude_operators:
        if before[op] and not after[op]:
            warnings.warn(
                f"exclude_operators {op!r} has no effect: all {before[op]} were merged into other layers before "
                "quantizing; exclude these by name",
                FewbitWarning,
                stacklevel=3,
            )


class _Remember:
    """A data source that keeps its first samples, so that the result can be checked without reading them again."""

    def __init__(self, source: DataSource, samples: int) -> None:
        self.source, self.room = source, samples
        self.batches: list[Batch] = []

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """The source's batches; the first ones are remembered."""
        for batch in self.source.iterate(start):
            if self.room > 0:
                self.batches.append(batch)
                self.room -= len(batch.names)
            yield batch

    def digest(self) -> str | None:
        """That of the source."""
        return self.source.digest()

    def kept(self) -> list[Batch]:
        """What was remembered; read now if nobody asked for the data before."""
        if not self.batches:
            for _ in self.iterate():
                if self.room <= 0:
                    break
        return self.batches


# -- looking at networks ----------------------------------------------------------------------------------------------


def attach(model: Source, collector: CalibrationCollector, *, threads: int = 1) -> Callable[[Feeds], dict[str, Any]]:
    """Attach a collector to a running float network, to be filled by hand.

    Returns:
        a function: feeds → every value by name; each call shows the collector what it asked for (`include_layers`),
        or every value. Ranges then come from `collector.post_collect()`.
    """
    given = _model(model)
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
    **words: Any,
) -> Comparison:
    """Layer by layer and at the outputs, how far the integer network is from the float one.

    Args:
        model, quantized: float and integer form. data: see `fewbit.data`; words: fields of `DataConfig`.
        limit: use this many batches. engine, threads: what runs both.
    """
    ours, theirs = _model(model), _model(quantized, allow_quantized=True)
    source = _source(data, ours, configure(DataConfig, None, **words))
    return _compare(fuse(ours), theirs, source, _opener(engine, threads or os.cpu_count() or 1), limit=limit)


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
    **words: Any,
) -> Evaluation:
    """Top-1 and top-5 on labelled data, and agreement with a reference network.

    Args:
        model: float or integer. data: see `fewbit.data`; words: fields of `DataConfig`.
        reference: usually the float network; adds agreement and paired flips.
        engine, threads: what runs them. output: name of the class scores (default: the first matrix).
        num_skipped_batches: leave out that many at the start. num_inference_batches: use at most that many.
    """
    given = _model(model, allow_quantized=True)
    open_ = _opener(engine, threads or os.cpu_count() or 1)
    other = open_(_model(reference, allow_quantized=True)) if reference is not None else None
    return _evaluate(
        open_(given),
        _source(data, given, configure(DataConfig, None, **words)),
        reference=other,
        output=output,
        num_skipped_batches=num_skipped_batches,
        num_inference_batches=num_inference_batches,
    )


def benchmark(
    model: Source,
    against: Source | None = None,
    *,
    data: Data = None,
    batch_sizes: Sequence[int] = (1,),
    threads: int = 1,
    engine: str = "onnxruntime",
    warmup: int = 5,
    min_time: float = 1.0,
    **words: Any,
) -> Benchmark:
    """Time a network, in turns with another one if given: medians, quartiles, ratios, throughput.

    Args:
        model: usually integer. against: usually float; ratios refer to it.
        data: what to feed (default: random numbers); words: fields of `DataConfig`.
        batch_sizes: each is timed; a network with a fixed batch takes only its own.
        threads, engine: what runs them. warmup: runs that do not count. min_time: seconds for each network and size.
    """
    networks = {"model": _model(model, allow_quantized=True)}
    if against is not None:
        networks = {"against": _model(against, allow_quantized=True), **networks}
    feeds = feeds_for(networks["model"], batch_sizes, data, words)
    open_ = _opener(engine, threads, timing=True)
    about = f"{engine}, {threads} thread{'s' if threads > 1 else ''}"
    runners = {name: open_(m) for name, m in networks.items()}
    return _benchmark(runners, feeds, warmup=warmup, min_time=min_time, about=about)


def profile(
    model: Source,
    against: Source,
    *,
    data: Data = None,
    batch_size: int = 1,
    threads: int = 1,
    engine: str = "onnxruntime",
    **words: Any,
) -> Profile:
    """Time each operator of a float network (`against`) and of its integer form, side by side, worst first.

    Args:
        model: integer. against: its float form. data: what to feed (default: random numbers).
        batch_size: samples in a run; a network with a fixed batch takes its own. threads, engine: what runs them.
    """
    fused = fuse(_model(against))
    given = _model(model, allow_quantized=True)
    open_ = _opener(engine, threads, timing=True)
    (feeds,) = feeds_for(given, (batch_size,), data, words).values()
    return profile_pair(open_(fused), open_(given), feeds, model=fused)


def feeds_for(
    model: Model, batch_sizes: Sequence[int], data: Data, words: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """Feeds for each batch size: real samples, repeated as needed, or random numbers."""
    fixed = next((i.shape[0] for i in model.inputs[:1] if i.shape and isinstance(i.shape[0], int)), None)
    if data is None:
        return {n: random_feeds(model, batch=n) for n in ((fixed,) if fixed else batch_sizes)}
    batch = next(iter(_source(data, model, configure(DataConfig, None, **words)).iterate()))
    if fixed:
        return {fixed: dict(batch.feeds)}
    free = {i.name for i in model.inputs if i.shape and not isinstance(i.shape[0], int)}
    return {
        n: {k: np.resize(x, (n, *x.shape[1:])) if k in free else x for k, x in batch.feeds.items()} for n in batch_sizes
    }


def inspect(model: Source) -> Inspection:
    """Inputs, outputs, operators, sizes; what each target could do in integers, and why not.

    Args:
        model: float or quantized; of a quantized one there is nothing to tell about targets.
    """
    given = _model(model, allow_quantized=True)
    quantized = any(n.op_type in QUANTIZED_OPS for n in given.nodes)
    return _inspect(given, given if quantized else fuse(given), TARGETS)
