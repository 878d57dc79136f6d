"""`fewbit compare`: where an integer network departs from its float original, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.bar import counted, work
from fewbit.cli.flags import with_flags
from fewbit.cli.given import Config, Data, Engine, FloatModel, Json, Limit, Quiet, data_words, needed_data
from fewbit.cli.outputs import output_folder
from fewbit.cli.screen import answer
from fewbit.config import DataConfig

WRITTEN = ("layers.csv", "outputs.csv", "summary.json")
"""Into the folder of --save."""


@with_flags(DataConfig)
def run(
    *,
    model: FloatModel,
    quantized: Annotated[Path, typer.Argument(metavar="QUANTIZED", help="Its quantized form.", show_default=False)],
    data: Data = None,
    config: Config = None,
    worst: Annotated[int, typer.Option(min=0, metavar="INT", help="Show this many layers, worst first.")] = 10,
    limit: Limit = None,
    engine: Engine = "onnxruntime",
    save: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write all layers there, as CSV and JSON.", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Measure the error of every layer and of the outputs."""
    from fewbit import api
    from fewbit.report.quantized import plan_path

    asked = data_words(config, words)
    where = needed_data(data, "comparing needs data to run on")
    if save is not None:
        output_folder(save, WRITTEN, model, quantized, plan_path(quantized), config, data=data)
    with work("reading", None, quiet=quiet) as (_, step):
        found = api.compare(
            model, quantized, where, limit=limit, engine=engine, progress=counted(step, "comparing"), **asked
        )
    if save is not None:
        found.save(save)
    answer(lambda: found.text(worst), found.to_json, json=json, quiet=quiet)
