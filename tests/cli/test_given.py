"""Each verb's own flags: every one of them is used in a test."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from fewbit.cli.app import VERBS, command, verb_command
from fewbit.cli.flags import flag
from fewbit.cli.given import batch_count
from fewbit.config import DataConfig, QuantConfig
from fewbit.config.simulate import SimulateConfig, SweepConfig
from fewbit.config.train import TrainConfig
from fewbit.deployment import DEPLOYERS

SETTINGS = (QuantConfig, DataConfig, SimulateConfig, SweepConfig, TrainConfig)
GENERATED = {flag(f.name) for kind in SETTINGS for f in fields(kind)}
GENERATED |= {flag(name) for deployer in DEPLOYERS.values() for name in deployer.options}
SOURCE = "".join(p.read_text("utf-8") for p in Path(__file__).parent.glob("test_*.py"))
PAIRS = [
    (verb, param.opts[0], (*param.opts, *param.secondary_opts))
    for verb in VERBS
    for param in verb_command(verb).params
    if param.param_type_name == "option" and param.opts[0] not in GENERATED
]


@pytest.mark.parametrize(("verb", "name", "forms"), PAIRS, ids=[f"{v} {n}" for v, n, _ in PAIRS])
def test_every_flag_of_a_verb_is_used_in_a_test(verb: str, name: str, forms: tuple[str, ...]) -> None:
    assert f'"{verb}"' in SOURCE
    assert any(re.search(rf"(?<![\w-]){form}(?![\w-])", SOURCE) for form in forms)


def test_the_list_of_flags_is_not_empty() -> None:
    assert {"--output", "--dry-run", "--reference", "--profile", "--layers"} <= {n for _, n, _ in PAIRS}


@pytest.mark.parametrize("verb", VERBS)
def test_a_flag_is_the_word_of_its_parameter(verb: str) -> None:
    for param in verb_command(verb).params:
        if param.param_type_name == "option" and param.name not in ("help", "overrides", "named"):
            assert "--" + param.name.replace("_", "-") in param.opts


class Source:
    """Data with this many batches."""

    def __init__(self, batches: int | None) -> None:
        self.batches = batches


@pytest.mark.parametrize(
    ("batches", "limit", "seen"), [(10, None, 10), (10, 4, 4), (3, 4, 3), (None, 4, 4), (None, None, None)]
)
def test_batches_to_come_are_counted(batches: int | None, limit: int | None, seen: int | None) -> None:
    assert batch_count(Source(batches), limit) == seen


def test_typer_makes_no_flags_of_its_own() -> None:
    assert not {"--install-completion", "--show-completion"} & {o for p in command().params for o in p.opts}
