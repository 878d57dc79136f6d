"""`fewbit quantize`: float network in, integer network and its plan out, with the report of what that cost."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
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
from fewbit.cli.resuming import checkpoint_of, going_on, start_of, state_of
from fewbit.cli.screen import answer, say, work
from fewbit.config import DataConfig, QuantConfig, budgets
from fewbit.errors import FewbitError, FewbitWarning


@with_flags(QuantConfig, DataConfig)
def run(
    *,
    model: FloatModel,
    output: Output = None,
    data: Data = None,
    config: Config = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the verdict on every layer and the size; write nothing.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Keep progress beside OUTPUT (.calib, .search), go on from it; removed when done."
        ),
    ] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Measure error and speed against float.")] = True,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Turn a float network into an integer one.

    Writes OUTPUT and beside it the plan: what became integer, in which format and range, and why. With a budget OUTPUT
    holds the best network found so far from early on, and exit code 1 says that the budget could not be met.
    """
    from fewbit import api
    from fewbit.data import open_data
    from fewbit.report.quantized import plan_path

    chosen, reading = both_configs(config, words)
    if dry_run:
        from fewbit.cli.rehearsal import rehearse

        seen = rehearse(api.load(model), chosen)
        answer(seen.text, seen.to_json, json=json)
        return
    out = output_file(output, model, config, data=data, network=True)
    given = api.load(model)
    source = None
    if data is not None or chosen.calib_mode != "none":
        why = "ranges are measured on data, unless --calib-mode none leaves them to run time"
        source = open_data(needed_data(data, why), given.inputs, reading)
    searching = bool(budgets(chosen))
    kept, state, best = checkpoint_of(out), state_of(out), out if searching else None
    total = batch_count(source, chosen.num_calib_batches) if source is not None else None
    with warnings_at_the_end() as said, going_on(state, start_of(state), kept, resume=resume, best=best):
        with work("calibrating", total, quiet=quiet) as (tick, step):
            made = api.quantize(
                given,
                source,
                chosen,
                verify=verify,
                checkpoint=kept if resume else None,
                best=best,
                state=state if resume and searching else None,
                workers=threads,
                progress=tick,
                say=step,
            )
        assert made.report is not None
        if not (json or quiet):
            said.update(made.report.problems())  # the report frames them
        made.save(out)
    report, plan = made.report, plan_path(out)
    wrote = f"wrote {out} and {plan}{'' if report.quantized else ALL_FLOAT}"
    found = {"output": str(out), "plan": str(plan), "report": report.to_json()}
    answer(lambda: f"{report.text()}\n\n{wrote}", lambda: found, json=json, quiet=quiet)
    if searching and resume and state.exists():
        say(f"the search is kept in {state}; the same command with a longer --time-limit goes on from there")
    if report.budget_met is False:
        raise FewbitError(f"over budget; {out} holds the best network that was found")


ALL_FLOAT = ": the float network, its layers fused; nothing in it is integer"


@contextlib.contextmanager
def warnings_at_the_end() -> Iterator[set[str]]:
    """Hold warnings back until the work is done or has failed, without those put into the set that is given."""
    said: set[str] = set()
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", FewbitWarning)
            yield said
    finally:
        for w in caught:
            if str(w.message) not in said:
                warnings.showwarning(w.message, w.category, w.filename, w.lineno)
