"""What holds for every verb: `--json`, `--quiet`, a bar on a terminal and nothing of it elsewhere."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path

import pytest

from fewbit.cli.app import GROUPS, VERBS, verb_command

WORKING = [v for v in VERBS if v != "completion"]  # which prints a script
BARLESS = {"targets"}  # prints a table that is there already


@pytest.mark.parametrize("verb", WORKING)
def test_a_verb_has_json_and_quiet(verb: str) -> None:
    flags = {name for p in verb_command(verb).params for name in p.opts}
    assert {"--json", "--quiet", "-q"} <= flags


@pytest.mark.parametrize("verb", [v for v in WORKING if v not in BARLESS])
def test_a_verb_shows_what_it_does(verb: str) -> None:
    source = inspect.getsource(import_module(f"fewbit.cli.{verb}"))
    assert "with work(" in source or "work(" in source or "progress(" in source
    assert "quiet=quiet" in source


def test_each_verb_stands_in_one_group() -> None:
    assert len(VERBS) == len(set(VERBS)) == sum(map(len, GROUPS.values()))
    folder = Path(import_module("fewbit.cli").__file__ or "").parent
    made = {p.stem for p in folder.glob("*.py") if "\ndef run(" in p.read_text("utf-8")}
    assert made - {"boundary"} == set(VERBS)
