"""What the Tab key is told, and that bash hears it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fewbit.api import FORMS
from fewbit.cli.app import VERBS
from fewbit.cli.completion import DATASETS, ENGINES, NAMES, SCRIPTS, following
from fewbit.core.target import TARGETS
from fewbit.data.datasets.registry import DATASETS as SETS
from fewbit.deployment import DEPLOYERS
from fewbit.engines import ENGINES as RUNNERS
from tests.cli.conftest import Cli


def words(*typed: str) -> list[str]:
    return [word for word, _ in following(list(typed))]


def test_the_names_are_those_of_the_registries() -> None:
    assert set(NAMES["target"]) == set(TARGETS) and set(NAMES["deploy target"]) == set(DEPLOYERS)
    assert set(ENGINES) == set(RUNNERS) and set(NAMES["forms"]) == set(FORMS) and set(DATASETS) == set(SETS)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (("",), list(VERBS)),
        (("qu",), ["quantize"]),
        (("--v",), ["--version"]),
        (("quantize", "--calib-m"), ["--calib-mode"]),
        (("quantize", "net.onnx", "--calib-mode", "en"), ["entropy"]),
        (("quantize", "--calib-mode", "=", "en"), ["entropy"]),
        (("quantize", "--effort", "="), ["fast", "default", "best"]),
        (("quantize", "--calib-mode=en"), ["--calib-mode=entropy"]),
        (("quantize", "--effort", ""), ["fast", "default", "best"]),
        (("deploy", "net.onnx", "--target", "n"), ["ncnn"]),
        (("targets", "tens"), ["tensorrt"]),
        (("sizes", "--forms", "float,dy"), ["float,dynamic"]),
        (("records", "p"), ["pack"]),
        (("records", "pack", ""), []),
        (("quantize", ""), []),
        (("quantize", "--data", ""), []),
        (("nothing", ""), []),
    ],
    ids=" ".join,
)
def test_what_may_follow(typed: tuple[str, ...], found: list[str]) -> None:
    assert words(*typed) == found


def test_flags_and_verbs_come_with_a_remark_where_it_can_be_shown(cli: Cli) -> None:
    out = cli("completion", "zsh", "--next", "--", "quantize", "--eff").out
    assert (
        out.startswith("--effort:")
        and cli("completion", "bash", "--next", "--", "quantize", "--eff").out == "--effort\n"
    )
    assert "quantize\tTurn a float network" in cli("completion", "fish", "--next", "--", "").out


@pytest.mark.parametrize("shell", SCRIPTS)
def test_a_script_is_printed(cli: Cli, shell: str) -> None:
    done = cli("completion", shell)
    assert done.code == 0 and f"fewbit completion {shell} --next -- " in done.out


def test_another_shell_is_refused(cli: Cli) -> None:
    done = cli("completion", "fsh")
    assert done.code == 2 and "did you mean 'fish' or 'zsh'" in done.err


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes(tmp_path: Path) -> None:
    (tmp_path / "fewbit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fewbit "$@"\n')
    (tmp_path / "fewbit").chmod(0o755)
    (tmp_path / "net.onnx").touch()
    script = """
    . <(fewbit completion bash)
    tab() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _fewbit; echo "${COMPREPLY[*]}"; }
    tab fewbit quan
    tab fewbit quantize net.onnx --calib-mode = en
    tab fewbit quantize n
    """
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert (done.stdout, done.stderr) == ("quantize\nentropy\n\n", "")  # of the last one bash itself makes net.onnx


@pytest.mark.parametrize(("shell", "check"), [("zsh", "-n"), ("fish", "--no-execute"), ("bash", "-n")])
def test_a_script_is_one_of_its_shell(shell: str, check: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    done = subprocess.run([shell, check, "/dev/stdin"], input=SCRIPTS[shell], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
