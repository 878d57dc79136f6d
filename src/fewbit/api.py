"""The Python interface: thin wiring of load → fuse → plan → calibrate → emit → verify."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from fewbit import __version__
from fewbit.calib import CalibrationCollector
from fewbit.config import DataConfig, QuantConfig, configure, read_config
from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.core.target import TARGETS, Target
from fewbit.data import DataSource, open_data
from fewbit.engines import open_runner
from fewbit.errors import ConfigError, FewbitWarning, one_of
from fewbit.frontends import load
from fewbit.graph.emit import emit_qdq
from fewbit.graph.finalize import finalize
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.quantize.plan import make_plan as _make_plan
from fewbit.quantize.plan import said
from fewbit.quantize.static import calibrate as _calibrate
from fewbit.quantize.static import feeder
from fewbit.report.quantized import Quantized

Data = Any
Progress = Callable[[int, int], None]

__all__ = ["apply", "attach", "benchmark", "calibrate", "compare", "evaluate", "fuse", "inspect", "load", "make_plan", "quantize"]


def target_named(name: str) -> Target:
    """The target of that name; an unknown one offers the nearest."""
    return TARGETS[one_of("target", name, TARGETS)]


def settings(config: QuantConfig | str | Path | Mapping[str, Any] | None, words: Mapping[str, Any]) -> QuantConfig:
    """One QuantConfig from a config object, a TOML file or a mapping, with keywords on top."""
    if isinstance(config, QuantConfig):
        return configure(QuantConfig, config, **words)
    found = read_config(config)["quantize"] if isinstance(config, (str, Path)) else dict(config or {})
    return configure(QuantConfig, None, **{**found, **words})


def data_settings(data_config: DataConfig | Mapping[str, Any] | None, config: Any) -> DataConfig:
    """One DataConfig; without one, the [data] table of a TOML config file counts."""
    if isinstance(data_config, DataConfig):
        return data_config
    found = read_config(config)["data"] if isinstance(config, (str, Path)) else {}
    return configure(DataConfig, None, **{**found, **(data_config or {})})


def _float(model: Model | str | os.PathLike[str]) -> Model:
    return model if isinstance(model, Model) else load(model)


def make_plan(model: Model, config: QuantConfig | str | Path | None = None, **words: Any) -> Plan:
    """Decide what becomes integer, in which format, and why.

    Args:
        model: a fused float network. config, words: see `QuantConfig`.
    """
    chosen = settings(config, words)
    target = target_named(chosen.target)
    factor = target.slow.get(chosen.quantized_dtype)
    if factor is not None:
        warnings.warn(
            f"{chosen.quantized_dtype} activations run at {factor:.2f} of float time on {target.name} (measured); "
            "quantized_dtype='auto' takes the fast type",
            FewbitWarning,
            stacklevel=2,
        )
    return _make_plan(model, chosen, target)


def calibrate(
    model: Model,
    plan: Plan,
    data: Data,
    data_config: DataConfig | Mapping[str, Any] | None = None,
    *,
    collector: CalibrationCollector | None = None,
    checkpoint: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Measure the ranges of a plan on data; the result is the calibration table (`plan.save("table.json")`).

    Args:
        model: the fused float network of the plan. data: see `fewbit.data`.
        collector: for calib_mode custom. checkpoint: file to keep progress in and to go on from.
        workers: batches in work at once (default: one a core, at most 8).
        progress: called with (batches done, samples done).
    """
    config = QuantConfig(**plan.config)
    source = data if isinstance(data, DataSource) else open_data(data, model.inputs, data_settings(data_config, None))
    return _calibrate(
        model,
        plan,
        source,
        partial(open_runner, "onnxruntime"),
        config,
        workers=workers or min(8, os.cpu_count() or 1),
        collector=collector,
        checkpoint=Path(checkpoint) if checkpoint else None,
        progress=progress,
    )


def apply(model: Model, plan: Plan, *, info: Mapping[str, str] | None = None) -> Quantized:
    """Make the integer network that a calibrated plan describes; no data is needed.

    Args:
        model: the fused float network, or one that fuses to it. info: more metadata for the file.
    """
    target = target_named(plan.target)
    about = {"fewbit.version": __version__, "fewbit.target": plan.target, "fewbit.config": repr(dict(plan.config))}
    out = finalize(emit_qdq(model, plan), target.opset, {**about, **(info or {})})
    return Quantized(out, plan, float_model=model)
