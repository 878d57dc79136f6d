"""`fewbit calibrate`: float network and data in, the plan with its ranges out: a table to read, edit and apply."""

from __future__ import annotations

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
from fewbit.cli.quantize import checkpoint_of, going_on
from fewbit.cli.screen import answer, progress
from fewbit.config import DataConfig, QuantConfig


@with_flags(QuantConfig, DataConfig)
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
    """Measure ranges on data and write them as a plan, in JSON.

    The plan can be read, edited, and applied with `fewbit apply`, without data.
    """
    from fewbit import api
    from fewbit.data import open_data

    chosen, reading = both_configs(config, words)
    out = output_file(output, model, config, data=data)
    given = api.load(model)
    source = open_data(needed_data(data, "calibrating needs data"), given.inputs, reading)
    fused = api.fuse(given)
    plan = api.make_plan(fused, chosen)
    kept = checkpoint_of(out) if resume else None
    with going_on(kept):
        with progress("calibrating", batch_count(source, chosen.num_calib_batches), quiet=quiet) as tick:
            plan = api.calibrate(fused, plan, source, checkpoint=kept, workers=threads, progress=tick)
        plan.save(out)
    layers = sum(n.quantized for n in plan.nodes.values())
    ranges = len(set(plan.observed().values()))
    found = {"output": str(out), "layers": len(plan.nodes), "integer": layers, "ranges": ranges}
    answer(
        lambda: f"wrote {out}: {ranges} ranges, {layers} of {len(plan.nodes)} layers integer",
        lambda: found,
        json=json,
        quiet=quiet,
    )
