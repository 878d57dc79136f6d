"""`fewbit sensitivity`: which layers cost accuracy, and what to keep from 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.flags import with_flags
from fewbit.cli.given import Config, Data, FloatModel, Json, Output, Quiet, Threads, batch_count, needed_data
from fewbit.cli.outputs import apart, output_file
from fewbit.cli.resuming import going_on
from fewbit.cli.screen import answer, progress
from fewbit.config import BUDGETS, CORRECTIONS, DataConfig, QuantConfig
from fewbit.errors import UsageError


@with_flags(QuantConfig, DataConfig, without=("effort", *CORRECTIONS, "measure", *BUDGETS))
def run(
    *,
    model: FloatModel,
    output: Output = None,
    data: Data = None,
    config: Config = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="PLAN", help="Measure this calibrated plan, and calibrate none.", show_default=False),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, metavar="INT", help="Measure on the first samples of the data.")] = 16,
    left: Annotated[
        bool, typer.Option("--left/--no-left", help="Also measure what is left without each layer; takes longest.")
    ] = True,
    store: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep measurements there, and go on from there.", show_default=False),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, metavar="INT", help="Show this many layers, worst first.")] = 10,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Rank layers by what they cost in accuracy.

    OUTPUT takes all layers: as JSON with the proposals, or as CSV.
    """
    from dataclasses import asdict

    from fewbit import api
    from fewbit.core.plan import Plan
    from fewbit.data import open_data
    from fewbit.search.alone import carriers

    where = needed_data(data, "layers are measured on data")
    chosen, reading = api.settings(config, words)
    for file in (output, store):
        if file is not None:
            output_file(file, model, config, plan, *({output, store} - {file}), data=data)
    apart({"the output": output, "the store": store})
    if output is not None and output.suffix not in (".json", ".csv"):
        raise UsageError(f"the output {output} must end in .json or .csv")
    fused = api.fuse(api.load(model))
    source = open_data(where, fused.inputs, reading)
    limit: dict[str, Any] = {"time_limit": chosen.time_limit} if chosen.time_limit else {}
    if plan is not None:
        ready, limit = Plan.load(plan), asdict(chosen)  # others than the time limit are refused beside a plan
    else:
        with progress("calibrating", batch_count(source, chosen.num_calib_batches), quiet=quiet) as tick:
            ready = api.calibrate(fused, api.make_plan(fused, chosen), source, workers=threads, progress=tick)
    measured = len(carriers(ready)) * (1 + left)
    with going_on(store), progress("measuring layers", measured, unit="networks", quiet=quiet) as tick:
        step = (lambda done, whole: tick(done, 0)) if tick is not None else None
        found = api.sensitivity(
            fused, source, plan=ready, samples=samples, left=left, store=store, threads=threads, progress=step, **limit
        )
    if output is not None:
        _write(found, output)
    answer(lambda: found.text(worst), found.to_json, json=json, quiet=quiet)


def _write(found: Any, output: Path) -> None:
    from fewbit.core.tables import dumps
    from fewbit.core.writing import writing

    with writing(output) as part:
        part.write_text(found.to_csv() if output.suffix == ".csv" else dumps(found.to_json()), "utf-8")
