"""What a verb says: its result on stdout, as text or as one JSON document, and progress on stderr.

Reports are laid out as plain text, the same in a pipe, in a file and on a terminal; a terminal gets heads in bold,
rules as lines and alarms in red on top of it.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

Tick = Callable[[int, int], None]

RULE = re.compile(r"-+(  -+)*")
LOUD = re.compile(r"!+$|! .* !$")
REMARK = re.compile(r"(warning|note): ")


def show(text: str) -> None:
    """Print a result; decorated if a person reads it on a terminal."""
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    lines = text.split("\n")
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        console.print(line.replace("-", "─") if RULE.fullmatch(line) else line, style=_style(line, after))


def _style(line: str, after: str) -> str:
    if RULE.fullmatch(after):
        return "bold"
    if RULE.fullmatch(line):
        return "dim"
    if LOUD.match(line):
        return "bold red"
    return "yellow" if REMARK.match(line) else ""


def show_json(found: Any) -> None:
    """Print one JSON document."""
    from fewbit.report.tables import dumps

    sys.stdout.write(dumps(found))


def answer(text: Callable[[], str], found: Callable[[], Any], *, json: bool, quiet: bool = False) -> None:
    """Print a result in the form that was asked for."""
    if json:
        show_json(found())
    elif not quiet:
        show(text())


def say(text: str) -> None:
    """A remark that is no part of the result."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(what: str, batches: int | None, *, quiet: bool = False) -> Iterator[Tick | None]:
    """A bar with rate and time left while data is worked through; only on a terminal, else None.

    Args:
        what: is being done. batches: how many there will be, None if unknown.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich import progress as parts
    from rich.console import Console

    columns = (
        parts.TextColumn("{task.description}"), parts.BarColumn(), parts.MofNCompleteColumn(),
        parts.TextColumn("batches {task.fields[rate]}"), parts.TimeElapsedColumn(), parts.TimeRemainingColumn(),
    )  # fmt: skip
    with parts.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=batches, rate="")

        def tick(done: int, samples: int) -> None:
            seconds = bar.tasks[0].elapsed or 0.0
            rate = f"{samples / seconds:,.1f} samples/s" if seconds and samples else ""
            bar.update(task, completed=done, rate=rate)

        yield tick
