"""Progress: one line on stderr, on a terminal only, that is gone when the work is done or stopped.

calibrating ━━━━━━━━━━╸━━━━━━━━━ 12/64 batches 103.1 samples/s 0:00:04 0:00:16
stage       bar                  done          rate            so far  left

with work("calibrating", 64, quiet=quiet) as (tick, step):
    tick(12, 384)                       batches and samples done in the first stage
    step("smooth quant", 3, 40)         another stage: what it does, steps done, of how many (0: nobody knows)
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

Tick = Callable[[int, int], None]
Say = Callable[..., None]
"""Takes what is done now, how many steps of it are done, of how many (0: nobody knows), and what they are."""

LONGEST = 44
"""Letters of what a bar says; half as many on a narrow terminal."""

WIDE = 110
"""Columns that a bar takes with all its parts."""

PERIOD = 3600.0
"""Seconds that the time left is estimated from: steps may take minutes."""

PAUSE = 0.1
"""Seconds between two looks of a bar that is drawn only when something is done."""

LEAST_RATE = 0.05
"""Steps a second that are worth telling."""

THEME = {
    "bar.back": "dim", "bar.complete": "bold", "bar.finished": "bold", "bar.pulse": "bold",
    "progress.elapsed": "none", "progress.remaining": "none",
}  # fmt: skip
"""No colours: they would be pale on some terminal."""


class Bar:
    """Stage after stage of one piece of work.

    A stage is known by its number of steps, so that going back to one goes on with its clock.
    """

    def __init__(self, bar: Any, *, still: bool = False) -> None:
        self.bar, self.still, self.drawn = bar, still, 0.0
        self.stages: dict[int | None, tuple[Any, int]] = {}

    def tick(self, done: int, samples: int) -> None:
        """Batches and samples done, while data is worked through."""
        (task,) = self.bar.tasks[:1]
        rate = _rate(samples, task.elapsed, " samples") if samples else _rate(done, task.elapsed)
        self.bar.update(task.id, completed=done, rate=rate)
        self._draw()

    def say(self, what: str, done: int, of: int, unit: str = "steps", /) -> None:
        """Steps done of so many, 0 if nobody knows; hides all other stages."""
        key, task = of or None, None
        if key in self.stages and self.stages[key][1] <= done:
            task = self.stages[key][0]
        for other in self.bar.tasks:
            self.bar.update(other.id, visible=other.id == task)
        if task is None:
            task = self.bar.add_task(what, total=key, rate="", unit=unit)
        self.stages[key] = (task, done)
        elapsed = next(t.elapsed for t in self.bar.tasks if t.id == task)
        rate = _rate(done, elapsed) if unit not in ("steps", "%") else ""
        self.bar.update(task, description=what, completed=done, rate=rate)
        self._draw()

    def _draw(self) -> None:
        if self.still and time.monotonic() - self.drawn > PAUSE:
            self.bar.refresh()
            self.drawn = time.monotonic()


def _rate(count: int, seconds: float | None, of: str = "") -> str:
    return f"{count / seconds:,.1f}{of}/s" if seconds and count / seconds > LEAST_RATE else ""


def live(stream: Any) -> bool:
    """Whether a line of a stream can be drawn again and again."""
    return bool(stream.isatty()) and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


@contextlib.contextmanager
def work(
    what: str, total: int | None, *, unit: str = "batches", quiet: bool = False, still: bool = False
) -> Iterator[tuple[Tick | None, Say | None]]:
    """A bar for work in stages: functions that take what is done in the first one, and in all others.

    Only on a terminal; else both are None.

    Args:
        what: the first stage. total: how many there will be in it, None if unknown. unit: of what.
        still: draw only when something is done, so that what is timed has the machine to itself.
    """
    if quiet or not live(sys.stderr):
        yield None, None
        return
    from rich import progress as parts
    from rich.console import Console
    from rich.table import Column
    from rich.theme import Theme

    screen = Console(stderr=True, theme=Theme(THEME))
    wide = screen.width >= WIDE
    name = Column(no_wrap=True, overflow="ellipsis", max_width=LONGEST if wide else LONGEST // 2)
    columns: list[Any] = [
        parts.TextColumn("{task.description}", markup=False, table_column=name),
        parts.BarColumn(40 if wide else 10),
        parts.TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
        parts.TimeElapsedColumn(Column(no_wrap=True)),
        parts.TimeRemainingColumn(table_column=Column(no_wrap=True)),
    ]
    if not wide:
        del columns[3]

    class Drawn(parts.Progress):
        """Counts are left out where there is nothing to count."""

        def get_renderables(self) -> Any:
            for task in self.tasks:
                total = "?" if task.total is None else f"{task.total:,.0f}"
                counted = task.total is not None or task.completed
                done = f"{task.completed:,.0f}/{total} {task.fields['unit']} " if counted else ""
                task.fields["count"] = f"{done}{task.fields['rate']}"
            yield from super().get_renderables()

    with Drawn(*columns, console=screen, transient=True, speed_estimate_period=PERIOD, auto_refresh=not still) as bar:
        bar.add_task(what, total=total, rate="", unit=unit)
        made = Bar(bar, still=still)
        yield made.tick, made.say


def counted(step: Say | None, what: str, unit: str = "batches") -> Tick | None:
    """For work that says how many of how many are done: (done, of) → the bar."""
    return (lambda done, of: step(what, done, of, unit)) if step is not None else None
