"""`fewbit plot`: a network drawn, as float, fused and quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.bar import work
from fewbit.cli.flags import with_flags
from fewbit.cli.given import AnyModel, Config, InputShapes, Json, Params, Quiet, read_shapes
from fewbit.cli.outputs import output_file
from fewbit.cli.screen import answer
from fewbit.config import BUDGETS, QuantConfig
from fewbit.errors import UsageError

Picture = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The drawing: .html .svg .png .dot .json", show_default=False),
]


@with_flags(QuantConfig, without=(*BUDGETS, "time_limit", "debug_info_save_path"))
def run(
    *,
    model: AnyModel,
    quantized: Annotated[
        Path | None, typer.Argument(metavar="QUANTIZED", help="Its quantized form.", show_default=False)
    ] = None,
    output: Picture = None,
    stage: Annotated[
        str | None,
        typer.Option(
            metavar="WORD",
            help="float, fused, quantized, or all side by side [default: what is there].",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="INT", help="Levels of groups to open [default: what stays legible].", show_default=False
        ),
    ] = None,
    fold: Annotated[bool, typer.Option("--fold/--no-fold", help="Fold name scopes and repeated blocks.")] = True,
    every_node: Annotated[bool, typer.Option("--every-node", help="Draw Q and DQ nodes as they stand.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="Draw constants as boxes of their own.")] = False,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What QUANTIZED follows [default: the plan beside it].", show_default=False),
    ] = None,
    config: Config = None,
    input_shapes: InputShapes = None,
    params: Params = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Draw a network: shapes, formats, scales, what is integer.

    In an .html page groups open by click, and float, fused and quantized stand side by side. A float network at
    --stage quantized shows what its plan would make of it; the flags below say how to quantize.
    """
    from fewbit import api
    from fewbit.report.drawing.drawing import check_form

    if output is None and not json:
        raise UsageError("there is no output; give one with -o net.html")
    if output is not None:
        check_form(output_file(output, model, quantized, plan, config))
    with work("drawing", None, quiet=quiet or json):
        given = api.load(model, allow_quantized=True, input_shapes=read_shapes(input_shapes), params=params)
        drawn = api.plot(
            given, quantized, stage=stage, plan=plan, config=config, depth=depth, fold=fold, every_node=every_node,
            weights=weights, **words,
        )  # fmt: skip
        if output is not None:
            drawn.save(output)
    answer(lambda: f"{drawn.text()}\n\nwrote {output}", drawn.to_json, json=json, quiet=quiet)
