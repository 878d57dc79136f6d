"""`fewbit quantize`: float network in, integer network and its plan out, with the report of what that cost."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
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
from fewbit.cli.screen import answer, progress, say
from fewbit.config import DataConfig, QuantConfig
from fewbit.errors import FewbitWarning


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
        bool, typer.Option("--resume", help="Keep progress in OUTPUT.calib and go on from there; removed when done.")
    ] = False,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Measure error and speed against float.")] = True,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, Any],
) -> None:
    """Turn a float network into an integer one.

    Writes OUTPUT and beside it the plan: what became integer, in which format and range, and why.
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
    kept = checkpoint_of(out) if resume else None
    total = batch_count(source, chosen.num_calib_batches) if source is not None else None
    with warnings_at_the_end() as said, going_on(kept):
        with progress("calibrating", total, quiet=quiet) as tick:
            made = api.quantize(given, source, chosen, verify=verify, checkpoint=kept, workers=threads, progress=tick)
        if made.report is not None and not (json or quiet):
            said.update(made.report.problems())  # the report frames them
        made.save(out)
    report, plan = made.report, plan_path(out)

    def text() -> str:
        lines = [f"wrote {out} and {plan}"]
        return "\n".join([*([report.text(), ""] if report is not None else []), *lines])

    found = {"output": str(out), "plan": str(plan), "report": report.to_json() if report is not None else None}
    answer(text, lambda: found, json=json, quiet=quiet)


def checkpoint_of(out: Path) -> Path:
    """Where the progress of calibration is kept."""
    return out.with_name(f"{out.name}.calib")


@contextlib.contextmanager
def going_on(checkpoint: Path | None) -> Iterator[None]:
    """Say how to go on, if work is interrupted and there is something to go on from; an error needs mending first."""
    try:
        yield
    except BaseException as e:
        if checkpoint is not None and not isinstance(e, Exception) and checkpoint.exists():
            say(f"progress is kept in {checkpoint}; the same command goes on from there")
        raise


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
