"""`fewbit explain`: what debug tables say is wrong, which layers to keep float, and what that gains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.bar import work
from fewbit.cli.flags import with_flags
from fewbit.cli.given import Config, Data, Json, Quiet, Threads
from fewbit.cli.screen import answer
from fewbit.config import BUDGETS, DataConfig, QuantConfig


@with_flags(QuantConfig, DataConfig, without=(*BUDGETS, "debug_info_save_path"))
def run(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What debug_info_save_path named.", show_default=False)],
    model: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="The float network, to measure the gain.", show_default=False)
    ] = None,
    data: Data = None,
    config: Config = None,
    worst: Annotated[int, typer.Option(min=0, metavar="INT", help="Show this many findings, worst first.")] = 10,
    samples: Annotated[int, typer.Option(min=1, metavar="INT", help="Measure on about this many samples.")] = 16,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Say which layers debug tables blame.

    Few are proposed to keep float. DIR may be one of fewbit or of MindSpore Lite. With MODEL and DATA the gain
    is measured: the network is quantized
    with and without the proposal, as it was (the plan in DIR says how), or as the flags below say.
    """
    from fewbit.api.explaining import explain

    with work("reading tables", None, quiet=quiet) as (_, step):
        found = explain(folder, model, data, config, samples=samples, threads=threads, say=step, **words)
    answer(lambda: found.text(worst), found.to_json, json=json, quiet=quiet)
