"""`fewbit quantize`: float network in, integer network and its plan out, with the report of what that cost."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.flags import with_flags
from fewbit.cli.given import (
    Config,
    Data,
    InputShapes,
    Json,
    Output,
    Params,
    Quiet,
    Threads,
    batch_count,
    needed_data,
)
from fewbit.cli.outputs import apart, network_file, network_files, output_file
from fewbit.cli.paging import check_report, write_report
from fewbit.cli.resuming import checkpoint_of, going_on, start_of, state_of
from fewbit.cli.screen import answer, say, work
from fewbit.cli.zoo import Asked, FirstConv, Zoo, ZooFolder, asked
from fewbit.config import DataConfig, QuantConfig, budgets, needs_ranges
from fewbit.errors import FewbitError, FewbitWarning

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the verdict on every layer and the size; write nothing.")
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Keep progress beside OUTPUT (.calib, .search), go on from it; removed when done."),
]
Page = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Show the result on one page, as fewbit report does: .html.",
        show_default=False,
    ),
]
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help="Measure error and speed against float.")]


@with_flags(QuantConfig, DataConfig)
def run(
    *,
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="The float network.", show_default=False)
    ] = None,
    output: Output = None,
    data: Data = None,
    config: Config = None,
    input_shapes: InputShapes = None,
    params: Params = None,
    zoo: Zoo = None,
    zoo_folder: ZooFolder = None,
    exclude_first_conv: FirstConv = False,
    dry_run: DryRun = False,
    resume: Resume = False,
    verify: Verify = True,
    report: Page = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Turn a float network into an integer one.

    Writes OUTPUT and beside it the plan: what became integer, in which format and range, and why. An OUTPUT that ends
    in -symbol.json, as MXNet has it, points to the .onnx file beside it. With a budget OUTPUT holds the best network
    found so far from early on, and exit code 1 says that the budget could not be met.
    """
    ask = asked(
        model=model, zoo=zoo, zoo_folder=zoo_folder, first_conv=exclude_first_conv, shapes=input_shapes, params=params,
        data=data, output=output, config=config, words=words, dry_run=dry_run,
    )  # fmt: skip
    if dry_run:
        from fewbit.cli.rehearsal import rehearse

        with work("reading", None, quiet=quiet):
            given = ask.load()
            seen = rehearse(given, ask.settings(given))
        answer(seen.text, seen.to_json, json=json, quiet=quiet)
        return
    network = network_file(ask.output) if ask.output is not None else None
    for file in dict.fromkeys((ask.output, network)):
        output_file(file, ask.model, config, ask.params, data=ask.data, network=file == network)
    assert ask.output is not None and network is not None
    if report is not None:
        check_report(report, ask, config)
    from fewbit.report.debug_tables import PLAN_FILE

    debug = ask.chosen.debug_info_save_path
    apart({
        "the output": ask.output if ask.output != network else None, **network_files(network),
        "the plan beside the debug tables": Path(debug, PLAN_FILE) if debug is not None else None,
        "the plan that a search starts with": start_of(state_of(ask.output)), "the report": report,
    })  # fmt: skip
    _make(ask, ask.output, network, page=report, resume=resume, verify=verify, threads=threads, json=json, quiet=quiet)


def _make(
    ask: Asked,
    out: Path,
    network: Path,
    *,
    page: Path | None,
    resume: bool,
    verify: bool,
    threads: int | None,
    json: bool,
    quiet: bool,
) -> None:
    """Quantize, write and tell.

    Args:
        out: what the user called the result. network: its ONNX file; another one if `out` only points to it.
        page: where a report goes.
    """
    from fewbit import api
    from fewbit.data import open_data
    from fewbit.report.quantized import plan_path

    given = ask.load()
    chosen = ask.settings(given)
    source = None
    if ask.data is not None or (needs_ranges(chosen) and not given.ranges):
        why = "ranges are measured on data, unless --calib-mode none leaves them to run time"
        source = open_data(needed_data(ask.data, why), given.inputs, ask.reading)
    searching = bool(budgets(chosen))
    kept, state, best = checkpoint_of(out), state_of(out), network if searching else None
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
                **asdict(ask.reading),
            )
        assert made.report is not None
        if not (json or quiet):
            said.update(made.report.problems())  # the report frames them
        made.save(network)
        if network != out:
            from fewbit.frontends.mxnet.checkpoint import point

            point(out, network)
        if page is not None:
            with work("comparing", None, quiet=quiet or json) as (_, step):
                write_report(page, given, network, source, made.report, step)
    report, plan = made.report, plan_path(network)
    shown = f"; {page} shows it" if page is not None else ""
    files = f"{network} and {plan}" if network == out else f"{out}, which points to {network}, and {plan}"
    wrote = f"wrote {files}{'' if report.quantized else ALL_FLOAT}{shown}"
    found = {"output": str(out), "network": str(network), "plan": str(plan), "report": report.to_json()}
    found |= {"page": str(page)} if page is not None else {}
    answer(lambda: f"{report.text()}\n\n{wrote}", lambda: found, json=json, quiet=quiet)
    if searching and resume and state.exists():
        say(f"the search is kept in {state}; the same command with a longer --time-limit goes on from there")
    if report.budget_met is False:
        raise FewbitError(f"over budget; {network} holds the best network that was found")


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
