"""Long work that is interrupted: where its progress lies, what is on disk then, and how to go on.

OUT.calib     calibration                  OUT.search, OUT.search.*     the search for a budget
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from fewbit.cli.screen import say


def checkpoint_of(out: Path) -> Path:
    """Where the progress of calibration is kept."""
    return out.with_name(f"{out.name}.calib")


def state_of(out: Path) -> Path:
    """Where the progress of a search is kept."""
    return out.with_name(f"{out.name}.search")


def start_of(state: Path) -> Path:
    """Where the plan lies that a search begins with, before there is anything else."""
    return state.with_name(f"{state.name}.plan.json")


@contextlib.contextmanager
def going_on(*kept: Path | None, resume: bool = True, best: Path | None = None) -> Iterator[None]:
    """Say what there is and how to go on, if work is interrupted; an error needs mending first.

    Args:
        kept: files of progress, in the order of importance. resume: whether they are written.
        best: file that a search writes its best result to.
    """
    before = _stamp(best)
    try:
        yield
    except BaseException as e:
        if not isinstance(e, Exception):
            if best is not None and _stamp(best) != before:
                more = "" if resume else "; with --resume a search could go on after this"
                say(f"{best} holds the best network that was found so far{more}")
            there = [k for k in kept if k is not None and resume and k.exists()]
            if there:
                say(f"progress is kept in {there[0]}; the same command goes on from there")
        raise


def _stamp(file: Path | None) -> tuple[int, int] | None:
    """What is different after a file was replaced."""
    if file is None or not file.exists():
        return None
    found = file.stat()
    return found.st_ino, found.st_mtime_ns
