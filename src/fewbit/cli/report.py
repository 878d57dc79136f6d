"""`fewbit report`: everything that is known of a quantized network on one page, measured here and now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.flags import with_flags
from fewbit.cli.given import Config, Data, FloatModel, Json, Limit, Quiet, data_words, needed_data
from fewbit.cli.outputs import apart, output_file, output_folder
from fewbit.cli.screen import answer, work
from fewbit.cli.typed import command_line
from fewbit.config import DataConfig
from fewbit.errors import UsageError

Page = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The page: .html; or .json.", show_default=False),
]
SaveData = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Write the numbers behind every picture there, as CSV and JSON."),
]

NUMBERS = (
    "report.json", "layers.csv", "outputs.csv", "histograms.csv", "channels.csv", "sensitivity.csv", "sizes.csv",
    "sweeps.csv", "profile.csv", "operators.csv",
)  # fmt: skip
"""Into the folder of --save-data."""


@with_flags(DataConfig)
def run(
    *,
    model: FloatModel,
    quantized: Annotated[Path, typer.Argument(metavar="QUANTIZED", help="Its quantized form.", show_default=False)],
    output: Page = None,
    data: Data = None,
    config: Config = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What it follows [default: the plan beside it].", show_default=False),
    ] = None,
    include: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Measure these too, in minutes: sensitivity, sizes.", show_default=False),
    ] = None,
    add: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Show this too: JSON of sensitivity, sizes or simulate --sweep. May be repeated.",
            show_default=False,
        ),
    ] = None,
    save_data: SaveData = None,
    save_pictures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Draw it there, for documents, as SVG; needs fewbit[plot]."),
    ] = None,
    limit: Limit = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What runs both [default: the plan's target].", show_default=False),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, metavar="INT", help="Cores to time both with.")] = 1,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Show what quantizing cost and gained, on one page.

    Error by layer, histograms, speed, accuracy, what is integer and why.

    The page is one file that needs no network. Where the error is, click: the layer's values and weights, float and
    quantized.
    """
    from fewbit import api
    from fewbit.report.full.report import check_page
    from fewbit.report.pictures import check_plot
    from fewbit.report.quantized import plan_path

    reading = data_words(config, words)
    where = needed_data(data, "a report needs data to run on")
    if output is None and save_data is None and save_pictures is None and not json:
        raise UsageError("there is no output; give one with -o report.html")
    if save_pictures is not None:
        check_plot(save_pictures / "x.svg")
    read = (quantized, plan or plan_path(quantized), config, *(add or ()))
    if output is not None:
        check_page(output_file(output, model, *read, data=data))
    if save_data is not None:
        output_folder(save_data, NUMBERS, model, *read, data=data)
        apart({"the numbers of --save-data": save_data / "report.json", "the output": output})
    if save_pictures is not None:
        output_folder(save_pictures, _pictures(len(add or ())), model, *read, data=data)
    with work("comparing", None, quiet=quiet or json) as (_, step):
        found = api.make_report(
            model, quantized, where, plan=plan, include=_parts(include), add=add or (), limit=limit, engine=engine,
            threads=threads, command=command_line(), say=step, **reading,
        )  # fmt: skip
    if save_data is not None:
        found.save_data(save_data)
    if save_pictures is not None:
        found.save_pictures(save_pictures)
    if output is not None:
        found.save(output)
    wrote = " and ".join(str(p) for p in (output, save_data, save_pictures) if p is not None)
    answer(lambda: f"{found.text()}\n\nwrote {wrote}", found.to_json, json=json, quiet=quiet)


def _pictures(added: int) -> list[str]:
    """What may be drawn, of as many documents that are shown as well."""
    from fewbit.report.full.draw import WORST

    parts = [f"{kind}-{i}" for kind in ("histogram", "channels") for i in range(1, WORST + 1)]
    sweeps = [f"sweep-{i}" for i in range(1, added + 1)]
    return [f"{name}.svg" for name in ("errors", "operators", "sensitivity", *parts, *sweeps)]


def _parts(include: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (include or "").split(",") if part.strip())
