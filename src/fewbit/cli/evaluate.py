"""`fewbit evaluate`: how often a classifier is right, how well a detector finds, and how the float network does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.bar import counted, work
from fewbit.cli.flags import with_flags
from fewbit.cli.given import AnyModel, Config, Data, Engine, Json, Quiet, Threads, data_words, needed_data
from fewbit.cli.screen import answer
from fewbit.config import DataConfig


@with_flags(DataConfig)
def run(
    *,
    model: AnyModel,
    data: Data = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FLOAT", help="The float network; adds agreement and flips, or its mAP.", show_default=False
        ),
    ] = None,
    config: Config = None,
    num_skipped_batches: Annotated[int, typer.Option(min=0, metavar="INT", help="Leave out the first batches.")] = 0,
    num_inference_batches: Annotated[
        int | None, typer.Option(min=1, metavar="INT", help="Stop after this many [default: all].", show_default=False)
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Output with the class scores or detections [default: found by shape].",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="accuracy|map", help="What to count [default: as the labels are].", show_default=False),
    ] = None,
    engine: Engine = "onnxruntime",
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Count how often a network is right.

    Shows top-1 and top-5 with 95 % intervals, and agreement and paired flips with the float network if it is given.
    Labels are the key `labels` of an .npz file, the folders that the images lie in, or those of a .rec file; if they
    are objects, mean average precision is shown.
    """
    from fewbit import api

    asked = data_words(config, words)
    where = needed_data(data, "evaluating needs data")
    with work("reading", None, quiet=quiet) as (_, step):
        found = api.evaluate(
            model,
            where,
            reference=reference,
            engine=engine,
            threads=threads,
            num_skipped_batches=num_skipped_batches,
            num_inference_batches=num_inference_batches,
            output=scores,
            metric=metric,
            progress=counted(step, "evaluating"),
            **asked,
        )
    answer(found.text, found.to_json, json=json, quiet=quiet)
