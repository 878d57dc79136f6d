"""`fewbit apply`: float network and plan in, integer network out; no data, no measuring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewbit.cli.bar import work
from fewbit.cli.given import FloatModel, Json, Output, Quiet
from fewbit.cli.outputs import output_file
from fewbit.cli.screen import answer


def run(
    *,
    model: FloatModel,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="Its plan with ranges, in JSON.", show_default=False)],
    output: Output = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make the integer network that a plan describes, without data.

    Writes OUTPUT and beside it the plan. Ranges edited by hand are honoured.
    """
    from fewbit import api
    from fewbit.core.tables import size
    from fewbit.report.quantized import plan_path

    out = output_file(output, model, plan, network=True)
    with work("applying", None, quiet=quiet):
        given = api.load(model)
        made = api.apply(api.fuse(given), plan)
        made.save(out)
    beside = plan_path(out)
    found = {"output": str(out), "plan": str(beside), "size_float": given.nbytes, "size_quantized": made.nbytes}
    answer(
        lambda: f"wrote {out} and {beside}: weights {size(given.nbytes)} -> {size(made.nbytes)}",
        lambda: found,
        json=json,
        quiet=quiet,
    )
