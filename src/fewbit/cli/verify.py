"""`fewbit verify`: one integer network on every engine, and the layer at which they part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.bar import counted, work
from fewbit.cli.flags import with_flags
from fewbit.cli.given import Config, Data, FloatModel, Json, Limit, Quiet, Threads, data_words, needed_data
from fewbit.cli.outputs import output_folder
from fewbit.cli.screen import answer
from fewbit.config import DataConfig

WRITTEN = ("engines.json", "values.csv")
"""Into the folder of --save."""


@with_flags(DataConfig)
def run(
    *,
    model: FloatModel,
    plan: Annotated[
        Path,
        typer.Argument(
            metavar="PLAN", help="Its plan with ranges (.json), or the integer network.", show_default=False
        ),
    ],
    data: Data = None,
    engines: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Engines, separated by commas [default: all that are installed and take the network].",
            show_default=False,
        ),
    ] = None,
    config: Config = None,
    limit: Limit = None,
    outputs_only: Annotated[bool, typer.Option("--outputs-only", help="Do not look into the network.")] = False,
    threads: Threads = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write all figures there, as CSV and JSON.", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Run one integer network on several engines and compare them.

    Shows how far each engine is from the network's own arithmetic, and for two engines the first layer at which they
    part. Exit status 1 if an engine is clearly further from the float network than that arithmetic is, or if that is
    far off itself.
    """
    from fewbit import api
    from fewbit.report.quantized import plan_path

    asked = data_words(config, words)
    where = needed_data(data, "verifying needs data to run on")
    if save is not None:
        output_folder(save, WRITTEN, model, plan, plan_path(plan), config, data=data)
    with work("reading", None, quiet=quiet) as (_, step):
        found = api.verify(
            model,
            plan,
            where,
            engines=[e.strip() for e in engines.split(",") if e.strip()] if engines is not None else None,
            limit=limit,
            threads=threads,
            layers=not outputs_only,
            progress=counted(step, "running on every engine"),
            **asked,
        )
    if save is not None:
        found.save(save)
    answer(found.text, found.to_json, json=json, quiet=quiet)
    if found.wrong or found.strange:
        raise typer.Exit(1)
