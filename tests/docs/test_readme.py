"""What the README shows of simulation and training runs as it stands, on a small data set."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fewbit.cli import main
from fewbit.data.demo import DEMO_MODEL, demo_test
from tests.datasets import write_fashion

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
SECTION = README.split("## Simulate any width, and retrain\n")[1].split("\n## ")[0]
COMMANDS, SNIPPET = (m[2] for m in re.finditer(r"```(python)?\n(.*?)```", SECTION, re.S))
LINES = [shlex.split(line, comments=True)[1:] for line in COMMANDS.splitlines()]
SMALL = {"simulate": ["--limit", "60"], "train": ["--epochs", "1", "--float-epochs", "1", "--max-batches", "1"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(DEMO_MODEL, tmp_path / "net.onnx")
    write_fashion(tmp_path / "sets" / "fashion-mnist", n_train=200, n_test=80)
    monkeypatch.setenv("FEWBIT_DATASETS", str(tmp_path / "sets"))
    monkeypatch.setenv("FEWBIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_three_commands() -> None:
    assert [line[0] for line in LINES] == ["simulate", "simulate", "train"]


def test_a_network_is_simulated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINES[0], *SMALL["simulate"]]) == 0, capsys.readouterr().err
    assert "top-1" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("default::fewbit.errors.FewbitWarning")
def test_a_network_is_trained_and_swept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, sweep = LINES[2], LINES[1]
    for words in ([*train, *SMALL["train"]], [*sweep, *SMALL["simulate"], "--sweep-bits", "8,4"]):
        small = [("resnet8" if w == "resnet20" else w) for w in words]
        assert main(small) == 0, capsys.readouterr().err
    assert (folder / "resnet20-w4a4.onnx").exists()
    assert (folder / "sweep.md").exists()


def test_a_loop_of_ones_own_ends_in_an_integer_network(folder: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.Flatten())
    names: dict[str, Any] = {"net": net, "images": torch.from_numpy(demo_test()["image"][:32])}
    exec(compile(SNIPPET, "README.md", "exec"), names)
    assert names["out"].check.equal
    assert (folder / "net-w4a4.onnx").exists()
