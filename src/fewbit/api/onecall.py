"""`quantize`: all steps in one call.

load → fuse → plan → calibrate → [measure] → [correct] → [budgets] → emit → verify

measure    a plan for all legal layers is calibrated, and what pays by the clock is kept of it
budgets    the cheapest plan that meets them
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fewbit.api.common import (
    Data,
    Progress,
    Source,
    as_model,
    as_source,
    cores,
    free_sizes,
    settings,
)
from fewbit.api.job import Job
from fewbit.api.making import calibrate, check_known, emit, room
from fewbit.api.samples import (
    HELD_FOR_BUDGETS,
    MadeUp,
    Remember,
)
from fewbit.calib import CalibrationCollector
from fewbit.config import QuantConfig, budgets, needs_ranges
from fewbit.config.data import reading_info
from fewbit.core.plan import Plan
from fewbit.engines import random_feeds
from fewbit.errors import FewbitWarning, UsageError
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model, op_names
from fewbit.mindspore import data_named
from fewbit.quantization.correct import Say, any_wanted
from fewbit.report.debug import check_folder
from fewbit.report.quantized import Quantized

VERIFY_SAMPLES = 16
"""Calibration samples that a quantized network is checked on, if nothing else is at hand."""

DEVIATIONS = 3
"""Standard deviations from the middle of a range to its ends, where data is made up."""


def quantize(
    model: Source,
    data: Data = None,
    config: QuantConfig | str | Path | Mapping[str, Any] | None = None,
    *,
    collector: CalibrationCollector | None = None,
    verify: bool = True,
    checkpoint: str | Path | None = None,
    best: str | Path | None = None,
    state: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
    **words: Any,
) -> Quantized:
    """Turn a float network into an integer one, and measure what that cost.

    Args:
        model: a Model or the path of one; it is not changed.
        data: to calibrate on: see `fewbit.data`. A model that was read from a calibrated checkpoint has ranges and
            needs none; with data all ranges are measured anew.
        config, words: `QuantConfig` (or a TOML file), and any of its fields and those of `DataConfig` as keywords.
        collector: measures the ranges, for calib_mode custom.
        verify: run float and integer network side by side on some of the data; without it the report has sizes and
            verdicts only.
        checkpoint: file to keep calibration progress in and to go on from.
        best: file that a search for a budget writes its best network to, again and again.
        state: file in which such a search keeps what it judged, to go on from; removed when it is done. It stays if
            `time_limit` came first: a longer one may be given to go on.
        workers: batches in work at once.
        progress: called with (batches done, samples done) while ranges are measured.
        say: called with (what is done, steps done, steps; 0: nobody knows) during all that comes after.

    Returns:
        the integer network, with `.plan` and `.report`. If it is slower than float, far from it, or over a budget, the
        report says so, and a FewbitWarning is given.

    Raises:
        FewbitError: see `fewbit.errors`.
    """
    chosen, data_config = settings(config, words)
    if chosen.debug_info_save_path is not None:
        check_folder(chosen.debug_info_save_path)
    if (best or state) and not budgets(chosen):
        raise UsageError("best= and state= are for searches; set a budget, such as min_cosine=0.98, or leave them out")
    data = data_named(config) if data is None else data
    given = as_model(model)
    known = data is None and needs_ranges(chosen)
    if known:
        check_known(given, chosen, *budgets(chosen), *(["a collector"] if collector is not None else []))
    fused = fuse(given)
    _check_budgets(given, chosen)
    _check_operators(given, fused, chosen)
    verify = verify and (data is not None or _known_sizes(given))
    source = MadeUp(feeds_within(given)) if data is None else as_source(data, given, data_config)
    seen = Remember(source, _room(chosen, verify), chosen.num_calib_batches)
    tell = say or (lambda what, done, of: None)
    job = Job(given, fused, chosen, seen, workers or cores(), tell, _end(chosen), known, made_up=data is None)

    def ranges(plan: Plan) -> Plan:
        return calibrate(
            fused, plan, None if known else seen, collector=collector, checkpoint=checkpoint, workers=workers,
            progress=progress, **asdict(data_config),
        )  # fmt: skip

    done = job.decided(ranges, Path(state) if state else None, Path(best) if best else None)
    out = emit(fused, done.plan, reading_info(data_config))
    if chosen.debug_info_save_path is not None:
        job.tables(out, done.plan, [] if data is None else seen.kept() if isinstance(data, Iterator) else source)
    out.report = job.report(out, done, verify)
    for problem in out.report.problems():
        warnings.warn(problem, FewbitWarning, stacklevel=2)
    return out


def _room(config: QuantConfig, verify: bool) -> int:
    """Samples to keep."""
    if budgets(config):
        return 2 * HELD_FOR_BUDGETS
    if any_wanted(config) or config.quant_type == "weight":
        return room(config)
    return VERIFY_SAMPLES if verify or config.measure else 0


def _known_sizes(model: Model) -> bool:
    """Whether random images can be made for a network; if not, that is told."""
    free = [i for i in free_sizes(model) if len(i.shape) > 3]
    if free:
        warnings.warn(
            f"not verified: sizes of input {free[0]} are free, and there is no data that tells them; fix them when the "
            "network is loaded: input_shapes, or --input-shapes data:0,3,224,224",
            FewbitWarning,
            stacklevel=3,
        )
    return not free


def feeds_within(model: Model) -> dict[str, Any]:
    """Random numbers for every input, as far apart as the range says that is known of it."""
    feeds = random_feeds(model)
    for name, x in feeds.items():
        if x.dtype.kind == "f" and name in model.ranges:
            lo, hi = model.ranges[name]
            feeds[name] = (lo + (hi - lo) * (x / (2 * DEVIATIONS) + 0.5).clip(0, 1)).astype(x.dtype)
    return feeds


def _end(config: QuantConfig) -> float | None:
    return time.monotonic() + config.time_limit if config.time_limit else None


def _check_budgets(model: Model, config: QuantConfig) -> None:
    """Refuse at once what no search could measure."""
    asked = [b for b in ("min_sqnr", "min_cosine") if b in budgets(config)]
    if asked and not any(o.dtype.kind == "f" for o in model.outputs):
        names = ", ".join(o.name for o in model.outputs)
        raise UsageError(
            f"{asked[0]} is about floating-point outputs; those of this network ({names}) hold whole numbers"
        )


def _check_operators(given: Model, fused: Model, config: QuantConfig) -> None:
    """Warn of excluded operators that fusing left none of: what they did is part of other layers now."""
    before, after = (Counter(op for n in m.nodes for op in op_names(n)) for m in (given, fused))
    for op in config.exclude_operators:
        if before[op] and not after[op]:
            warnings.warn(
                f"exclude_operators {op!r} has no effect: all {before[op]} were merged into other layers before "
                "quantizing; exclude these by name",
                FewbitWarning,
                stacklevel=3,
            )
