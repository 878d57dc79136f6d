"""`fewbit sizes`: size, memory, latency and error of a network in every form, side by side."""

from __future__ import annotations

import itertools
from typing import Annotated, Any

import typer

from fewbit.cli.bar import work
from fewbit.cli.flags import with_flags
from fewbit.cli.given import Config, Data, FloatModel, InputShapes, Json, Params, Quiet, read_shapes
from fewbit.cli.screen import answer
from fewbit.config import DataConfig, QuantConfig

Forms = Annotated[
    list[str] | None,
    typer.Option(
        metavar="A,B,…",
        help="Which ones: float, weight-8, weight-6, weight-4, mixed, mixed-coded, dynamic, full [default: all].",
        show_default=False,
    ),
]


@with_flags(QuantConfig, DataConfig, without=("quant_type", "bit_num", "debug_info_save_path"))
def run(
    *,
    model: FloatModel,
    data: Data = None,
    forms: Forms = None,
    config: Config = None,
    input_shapes: InputShapes = None,
    params: Params = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Show what each form of a network gives and costs.

    Forms: float, weights alone, dynamic, full. Nothing is written. Memory and loading are measured in processes
    that have the engine and nothing of fewbit.
    """
    from fewbit import api
    from fewbit.mindspore import read_tables

    given = api.load(model, input_shapes=read_shapes(input_shapes), params=params)
    if config is not None:
        tables = read_tables(config)
        words = {**tables["quantize"], **tables["data"], **words}
    asked = [name.strip() for text in forms or () for name in text.split(",") if name.strip()]
    count, done = len(asked or api.FORMS), itertools.count()
    with work("reading", None, quiet=quiet) as (_, step):
        # each form is made and measured; what is done last is timing them
        say = (lambda what: step(what, next(done), 2 * count)) if step else (lambda what: None)
        found = api.sizes(given, data, say=say, **({"forms": asked} if asked else {}), **words)
    answer(found.text, found.to_json, json=json, quiet=quiet)
