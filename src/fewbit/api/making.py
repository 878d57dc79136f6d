"""The steps of quantizing, each of which can be called on its own: plan, calibrate, correct, apply."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewbit import __version__
from fewbit.api.common import Data, Progress, as_source, cores, judging, opener, settings, simulator, target_named
from fewbit.api.samples import HELD, LEAST, Remember, samples_in, slices, thinned, too_few
from fewbit.api.weights import mixed, unfitted
from fewbit.calib import CalibrationCollector
from fewbit.config import GROUP, DataConfig, QuantConfig, configure
from fewbit.core.plan import Plan
from fewbit.core.tables import listed
from fewbit.core.target import Target
from fewbit.data import Batch, DataSource
from fewbit.engines import random_feeds
from fewbit.engines.onnxruntime_stream import open_stream
from fewbit.errors import FewbitWarning, NotCalibrated, UsageError
from fewbit.graph.emit import emit_qdq
from fewbit.graph.finalize import finalize
from fewbit.graph.model import Model
from fewbit.graph.rescale import rescaled
from fewbit.quantization.correct import Correction, Say, Setting, any_wanted
from fewbit.quantization.correct import correct as _correct
from fewbit.quantization.correct_weights import correct_weights
from fewbit.quantization.known import left_float, with_known_ranges
from fewbit.quantization.plan import make_plan as _make_plan
from fewbit.quantization.plan import slow_at_run_time
from fewbit.quantization.static import calibrate as _calibrate
from fewbit.quantization.static import free_batch
from fewbit.quantization.trial import Trial
from fewbit.report.quantized import Quantized

FIT = {"fast": 16, "default": 16, "best": 96}
"""Samples that corrections are fitted to, at each effort."""


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
    if chosen.calib_mode == "none":
        _tell_of_slow(model, plan, chosen, target)
    return plan


def _tell_of_slow(model: Model, plan: Plan, config: QuantConfig, target: Target) -> None:
    """Warn of layers that cost time when their ranges are measured at run time."""
    for op, (count, factor) in slow_at_run_time(model, plan, config, target).items():
        warnings.warn(
            f"{count} {op} layer{'s run' if count > 1 else ' runs'} at up to {factor:.2f} of float time on "
            f"{target.name} when ranges are measured at run time (measured); quantize_mode='smart' keeps them float",
            FewbitWarning,
            stacklevel=3,
        )


def _tell_of_groups(plan: Plan, config: QuantConfig) -> None:
    """Warn if group-wise was asked for and some weights could not have it."""
    weights = {name: v.spec for name, v in plan.values.items() if v.role == "weight"}
    rest = [name for name, spec in weights.items() if spec.granularity != "group"]
    if config.quantize_granularity == "group-wise" and rest:
        why = "groups are for MatMul and Gemm only"
        if config.quant_type == "weight":
            own = any(o.keys() & {"granularity", "group_size"} for o in config.overrides.values())
            size = "a group has, or an override says so" if own else f"the {config.group_size or GROUP} of a group"
            why = f"they sum over fewer inputs than {size}"
        warnings.warn(
            f"{len(rest)} of {len(weights)} weights {'are' if len(rest) > 1 else 'is'} quantized per channel: {why} "
            f"({listed(rest)})",
            FewbitWarning,
            stacklevel=3,
        )


def calibrate(
    model: Model,
    plan: Plan,
    data: Data = None,
    *,
    collector: CalibrationCollector | None = None,
    checkpoint: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    **words: Any,
) -> Plan:
    """Measure the ranges of a plan on data; the result is the calibration table (`plan.save("table.json")`).

    Args:
        model: the fused float network of the plan.
        data: see `fewbit.data`. None: the ranges that the model's file holds are taken, see `Model.ranges`; layers
            that lack some stay float, and a FewbitWarning names them.
        collector: for calib_mode custom. checkpoint: file to keep progress in and to go on from.
        workers: batches in work at once (default: one a core, at most 8).
        progress: called with (batches done, samples done).
        words: fields of `DataConfig`.

    Raises:
        NotCalibrated: there is no data, and no layer has all its ranges in the file.
    """
    config = configure(DataConfig, None, **words)
    if data is None:
        if not plan.observed():
            return plan
        chosen = configure(QuantConfig, None, **plan.config)
        check_known(model, chosen, *(["a collector"] if collector is not None else []))
        filled = with_known_ranges(model, plan, model.ranges, chosen, target_named(plan.target))
        if lack := left_float(filled):
            warnings.warn(lack, FewbitWarning, stacklevel=2)
        return filled
    source = as_source(data, model, config)
    done = _calibrate(
        rescaled(model, plan.rescales),
        plan,
        source,
        open_stream,
        configure(QuantConfig, None, **plan.config),
        workers=workers or min(8, cores()),
        collector=collector,
        checkpoint=Path(checkpoint) if checkpoint else None,
        data_key=f"{source.digest()} {config}" if checkpoint else "",
        progress=progress,
    )
    return replace(done, data=source.digest() or "") if plan.observed() else done


def check_known(model: Model, config: QuantConfig, *asked: str) -> None:
    """Refuse to do without data what needs some.

    Args:
        asked: what was asked for that is measured on data, other than what the config says of calibration.

    Raises:
        UsageError: something was, or the model's file holds no ranges.
    """
    if not model.ranges:
        raise UsageError(
            "ranges are measured on data; give data=, or calib_mode='none' to measure them at run time instead"
        )
    modes = [config.calib_mode, *(o["calib_mode"] for o in config.overrides.values() if "calib_mode" in o)]
    asked += tuple(f"calib_mode {m!r}" for m in modes if m != QuantConfig.calib_mode)
    if asked:
        raise UsageError(f"{asked[0]} needs data to measure on, and none was given; the checkpoint holds ranges only")


def uncorrected() -> tuple[Correction, ...]:
    """What is told of corrections where there is no data."""
    return (Correction("corrections", False, 0.0, 0.0, 0.0, "not tried: they are fitted to data, and none was given"),)


def remember(source: DataSource, config: QuantConfig) -> Remember:
    """Data that keeps the samples which corrections need, so that they need not be read again after calibration."""
    return Remember(source, room(config), config.num_calib_batches)


def room(config: QuantConfig) -> int:
    """Samples that corrections need, or the search for steps."""
    return max(FIT[config.effort], HELD) + HELD if any_wanted(config) or config.quant_type == "weight" else 0


def correct(
    model: Model,
    plan: Plan,
    data: Data = None,
    *,
    workers: int | None = None,
    deadline: float | None = None,
    say: Say | None = None,
    **words: Any,
) -> tuple[Plan, tuple[Correction, ...]]:
    """Try what makes rounding hurt less, and keep what helps on samples held out from it.

    What is tried follows from `effort` and the corrections' own words in the plan's settings.

    Args:
        model: the fused float network of the plan. plan: calibrated.
        data: see `fewbit.data`; some of it is used. None: nothing is tried.
        workers: cores to use (default: all). deadline: moment of time.monotonic() (default: `time_limit` from now).
        say: called with (what is done, steps done, steps). words: fields of `DataConfig`.

    Returns:
        the plan with the corrections in it, and what came of each.
    """
    chosen = configure(QuantConfig, None, **plan.config)
    weights = chosen.quant_type == "weight"
    if not weights and (not any_wanted(chosen) or chosen.calib_mode == "none"):
        return plan, ()
    if data is None and weights:
        return corrected(model, plan, chosen, [], HELD, say=say, workers=workers)
    if data is None:
        return plan, uncorrected()
    config = configure(DataConfig, None, **words)
    seen = data if isinstance(data, Remember) else remember(as_source(data, model, config), chosen)
    if deadline is None and chosen.time_limit:
        deadline = time.monotonic() + chosen.time_limit
    return corrected(model, plan, chosen, seen.kept(), HELD, deadline=deadline, say=say, workers=workers)


def corrected(
    model: Model,
    plan: Plan,
    config: QuantConfig,
    batches: Sequence[Batch],
    held: int,
    *,
    deadline: float | None = None,
    say: Say | None = None,
    workers: int | None = None,
) -> tuple[Plan, tuple[Correction, ...]]:
    """`correct` with kept samples instead of data; none for plans of weights alone, if there are none."""
    parts = slices(batches, held, free_batch(model))
    say = say or (lambda what, done, of: None)
    if config.bit_num == 0:
        runs = simulator(plan.target, workers or cores())
        return mixed(model, plan, config, parts, lambda: random_feeds(model), runs, say), ()
    if config.quant_strategy == "GPTQ" and not batches:
        raise UsageError("quant_strategy 'GPTQ' fits integers to data, and none was given; give some, or say 'auto'")
    if too_few(batches, parts):
        why = f"{LEAST} samples or more are needed to fit and to judge, in two batches or more"
        why += f"; there are {samples_in(batches)}"
        if config.quant_type == "weight":
            return unfitted(model, plan, config, why)
        return plan, (Correction("corrections", False, 0.0, 0.0, 0.0, f"not tried: {why}"),)
    target = target_named(plan.target)

    def emit(p: Plan) -> Model:
        return emitted(model, p, target, {})

    setting = Setting(
        model=model,
        config=config,
        target=target,
        fit=thinned(parts.fit, FIT[config.effort]),
        trial=Trial(model, parts.held, judging(model, simulator(plan.target, workers or cores())), emit),
        open=opener("onnxruntime", workers or cores()),
        emit=emit,
        calibrate=lambda network, p: calibrated(network, p, config, batches, workers),
        deadline=deadline,
        say=say,
    )
    return correct_weights(plan, setting) if config.quant_type == "weight" else _correct(plan, setting)


def calibrated(
    model: Model, plan: Plan, config: QuantConfig, batches: Sequence[Batch], workers: int | None = None
) -> Plan:
    """The plan with ranges measured on all samples at hand; model: the float network that its ranges are about."""
    whole = replace(config, num_calib_batches=None)
    return _calibrate(model, plan, Kept(batches), open_stream, whole, workers=workers or min(8, cores()))


class Kept:
    """Batches at hand, as calibration takes them."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """Those from `start` on."""
        yield from self.batches[start:]


def apply(model: Model, plan: Plan | str | Path, *, info: Mapping[str, str] | None = None) -> Quantized:
    """Make the integer network that a calibrated plan describes; no data is needed.

    Args:
        model: the fused float network that the plan was made for.
        plan: or the path of its JSON file. info: more metadata for the file.

    Raises:
        PlanError: the plan is for another network. NotCalibrated: a range is missing, or a step of mixed bit.
    """
    plan = plan if isinstance(plan, Plan) else Plan.load(plan)
    if plan.config.get("bit_num") == 0 and not any(v.scale for v in plan.values.values()):
        raise NotCalibrated("the plan is for mixed bit and its weights have no steps yet; fewbit.correct chooses them")
    out = emit(model, plan, info or {})
    if plan.model and plan.model != model.digest():
        warnings.warn(
            "the plan was made for another network, or for other weights; its ranges may not fit. Calibrate again",
            FewbitWarning,
            stacklevel=2,
        )
    return out


def emit(model: Model, plan: Plan, info: Mapping[str, str]) -> Quantized:
    """The integer network of a plan, with how it was made in its metadata."""
    config = json.dumps(dict(plan.config), sort_keys=True)
    about = {"fewbit.version": __version__, "fewbit.target": plan.target, "fewbit.config": config}
    about |= {"fewbit.model": plan.model, "fewbit.data": plan.data or "unknown", **info}
    if plan.rescales:
        about["fewbit.rescales"] = json.dumps(plan.to_json()["rescales"])
    return Quantized(emitted(model, plan, target_named(plan.target), about), plan)


def emitted(model: Model, plan: Plan, target: Target, about: Mapping[str, str]) -> Model:
    """Q and DQ written into the network as the plan's rescales leave it."""
    integer = emit_qdq(rescaled(model, plan.rescales), plan, float_bias=target.float_bias)
    forms = {"sampled": target.sampled, "summed": target.summed}
    return finalize(integer, target.opset, about, target.grabs, plan.kept_float(), laws=target.laws, **forms)
