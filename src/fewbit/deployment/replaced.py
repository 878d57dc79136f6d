"""What to tell if a folder is written anew that held the folder of another network."""

from __future__ import annotations

from pathlib import Path

from fewbit.core.plan import Plan
from fewbit.core.writing_folder import was_written
from fewbit.errors import PlanError

WIDTH = 80
"""Letters of a title that are shown at most."""


def replaced(place: Path, plan: Plan | None) -> tuple[str, ...]:
    """A note, unless there is nothing to replace but an older state of the same network.

    Args:
        place: where the folder goes. plan: of the network that goes there.
    """
    if not was_written(place):
        return ()
    before = _model(place / "plan.json")
    if plan is not None and plan.model and before == plan.model:
        return ()
    what = "another network" if before and plan is not None and plan.model else "what was deployed before"
    return (f"{place} held {what} until now: {_title(place / 'README.md')}; it was replaced",)


def _model(file: Path) -> str:
    """Which network a plan is about."""
    try:
        return Plan.load(file).model
    except PlanError:
        return ""


def _title(file: Path) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.readline(WIDTH).lstrip("# ").strip() or file.parent.name
    except OSError:
        return file.parent.name
