"""`fewbit calibrate`: float network and data in, the plan with ranges and corrections out: to read, edit and apply."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import Annotated, Any

import typer

from fewbit.cli.flags import with_flags
from fewbit.cli.given import (
    Config,
    Data,
    FloatModel,
    Json,
    Output,
    Quiet,
    Threads,
    batch_count,
    both_configs,
    needed_data,
)
from fewbit.cli.outputs import output_file
from fewbit.cli.resuming import checkpoint_of, going_on
from fewbit.cli.screen import answer, work
from fewbit.config import BUDGETS, DataConfig, QuantConfig
from fewbit.errors import FewbitWarning

NOT_HERE = ("measure", *BUDGETS)
"""Settings that take more than ranges and corrections."""


@with_flags(QuantConfig, DataConfig, without=NOT_HERE)
def run(
    *,
    model: FloatModel,
    output: Output = None,
    data: Data = None,
    config: Config = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep progress in OUTPUT.calib and go on from there; removed when done.")
    ] = False,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Measure ranges and corrections on data, and write a plan.

    The plan can be read, edited, and applied with `fewbit apply`, without data; that gives what `fewbit quantize` gives
    with the same settings. A quantized MXNet checkpoint holds ranges: without data they are taken.
    """
    from fewbit import api
    from fewbit.api.making import remember
    from fewbit.core.tables import plain
    from fewbit.data import open_data
    from fewbit.report.summary import correction_lines

    chosen, reading = both_configs(config, words)
    chosen = only_plans(chosen)
    deadline = time.monotonic() + chosen.time_limit if chosen.time_limit else None
    out = output_file(output, model, config, data=data)
    given = api.load(model)
    source = None
    if data is not None or not given.ranges:
        source = open_data(needed_data(data, "calibrating needs data"), given.inputs, reading)
    fused = api.fuse(given)
    plan = api.make_plan(fused, chosen)
    kept = checkpoint_of(out) if resume else None
    with going_on(kept):
        total = batch_count(source, chosen.num_calib_batches) if source is not None else None
        with work("calibrating", total, quiet=quiet) as (tick, step):
            seen = remember(source, chosen) if source is not None else None
            plan = api.calibrate(fused, plan, seen, checkpoint=kept, workers=threads, progress=tick)
            plan, told = api.correct(fused, plan, seen, workers=threads, deadline=deadline, say=step)
        plan.save(out)
    layers = sum(n.quantized for n in plan.nodes.values())
    ranges = len(set(plan.observed().values()))
    found = {"output": str(out), "layers": len(plan.nodes), "integer": layers, "ranges": ranges}
    found["corrections"] = plain(told)
    wrote = f"wrote {out}: {ranges} ranges, {layers} of {len(plan.nodes)} layers integer"
    answer(
        lambda: "\n".join([*correction_lines(told), wrote]),
        lambda: found,
        json=json,
        quiet=quiet,
    )


def only_plans(config: QuantConfig) -> QuantConfig:
    """The settings without those that are for `fewbit quantize`, which a file for both may hold."""
    said = [name for name in NOT_HERE if getattr(config, name) not in (None, False)]
    if said:
        warnings.warn(f"no effect here: {', '.join(said)}; only fewbit quantize times and searches", FewbitWarning, 2)
    none: dict[str, Any] = dict.fromkeys(BUDGETS)
    return replace(config, measure=False, **none)
