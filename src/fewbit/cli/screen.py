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
Say = Callable[[str, int, int], None]

RULE = re.compile(r"-+(  -+)*")
LOUD = re.compile(r"!+$|! .* !$")
REMARK = re.compile(r"(warning|note): ")

LONGEST = 44
"""Letters of what a bar says."""

PERIOD = 3600.0
"""Seconds that the time left is estimated from: steps may take minutes."""


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
    from fewbit.core.tables import dumps

    sys.stdout.write(dumps(found))


def answer(text: Callable[[], str], found: Callable[[], Any], *, json: bool, quiet: bool = False) -> None:
    """Print a result in the form that was asked for."""
    if json:
        show_json(found())
    elif not quiet:
        show(text())


def list_networks(json: bool) -> None:
    """Print the reference networks."""
    from fewbit.api.simulating import reference_networks

    found = reference_networks()
    wide = max(map(len, found))
    lines = [f"{name:<{wide}}  {count:>9,} parameters" for name, count in found.items()]
    answer(lambda: "\n".join(lines), lambda: found, json=json)


def say(text: str) -> None:
    """A remark that is no part of the result."""
    print(text, file=sys.stderr, flush=True)


class Bar:
    """One line: what is done, how much of it, elapsed time and time left; for stage after stage of one piece of work.

    A stage is known by its number of steps, so that going back to one goes on with its clock.
    """

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.stages: dict[int | None, tuple[Any, int]] = {}

    def tick(self, done: int, samples: int) -> None:
        """Batches and samples done, while data is worked through."""
        (task,) = self.bar.tasks[:1]
        seconds = task.elapsed or 0.0
        rate = f"{samples / seconds:,.1f} samples/s" if seconds and samples else ""
        self.bar.update(task.id, completed=done, rate=rate)

    def say(self, what: str, done: int, of: int) -> None:
        """Steps done of so many, 0 if nobody knows; hides all other stages."""
        key, task = of or None, None
        if key in self.stages and self.stages[key][1] <= done:
            task = self.stages[key][0]
        for other in self.bar.tasks:
            self.bar.update(other.id, visible=other.id == task)
        if task is None:
            task = self.bar.add_task(what, total=key, rate="", unit="steps")
        self.stages[key] = (task, done)
        self.bar.update(task, description=what, completed=done)


@contextlib.contextmanager
def work(
    what: str, total: int | None, *, unit: str = "batches", quiet: bool = False
) -> Iterator[tuple[Tick | None, Say | None]]:
    """A bar for work in stages: functions that take what is done in the first one, and in all others.

    Only on a terminal; else both are None.

    Args:
        what: the first stage. total: how many there will be in it, None if unknown. unit: of what.
    """
    if quiet or not sys.stderr.isatty():
        yield None, None
        return
    from rich import progress as parts
    from rich.console import Console
    from rich.table import Column

    name = Column(no_wrap=True, overflow="ellipsis", max_width=LONGEST)  # layers may have long names
    columns = (
        parts.TextColumn("{task.description}", markup=False, table_column=name), parts.BarColumn(),
        parts.MofNCompleteColumn(), parts.TextColumn("{task.fields[unit]} {task.fields[rate]}"),
        parts.TimeElapsedColumn(), parts.TimeRemainingColumn(),
    )  # fmt: skip
    screen = Console(stderr=True)
    with parts.Progress(*columns, console=screen, transient=True, speed_estimate_period=PERIOD) as live:
        live.add_task(what, total=total, rate="", unit=unit)
        bar = Bar(live)
        yield bar.tick, bar.say


@contextlib.contextmanager
def progress(what: str, total: int | None, *, unit: str = "batches", quiet: bool = False) -> Iterator[Tick | None]:
    """As `work`, of one stage."""
    with work(what, total, unit=unit, quiet=quiet) as (tick, _):
        yield tick
