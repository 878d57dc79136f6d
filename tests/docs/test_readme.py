"""What the README shows of simulation, training and deploying runs as it stands, on little data."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fewbit.cli import main
from fewbit.data.demo import DEMO_MODEL, demo_test
from tests.datasets import write_fashion

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
SECTION = README.split("## Simulate any width, and retrain\n")[1].split("\n## ")[0]
COMMANDS, SNIPPET = (m[2] for m in re.finditer(r"```(python)?\n(.*?)```", SECTION, re.S))
LINES = [shlex.split(line, comments=True)[1:] for line in COMMANDS.splitlines()]
GRAY = ["--image-to-format", "GRAY"]
ENGINES = README.split("## In from other formats")[1].split("```")[1]
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


@pytest.mark.filterwarnings("default::fewbit.errors.FewbitWarning")
def test_from_a_format_to_the_engines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TFLite in; the folder for a phone; the same integers on every engine."""
    (folder / "photos").mkdir()
    with np.load(DEMO_MODEL.parent / "calib.npz") as held:
        for i, image in enumerate(held["images"][:24]):
            Image.fromarray(image).save(folder / "photos" / f"{i}.png")
    shutil.copy(Path(__file__).parents[2] / "examples" / "tflite" / "demo-int8.tflite", folder / "net.tflite")
    lines = [[*shlex.split(line, comments=True)[1:], *GRAY] for line in ENGINES.strip().splitlines()]
    quantize, deploy, verify = lines
    assert [quantize[0], deploy[0], verify[0]] == ["quantize", "deploy", "verify"]
    assert main([*quantize, "--quiet"]) == 0, capsys.readouterr().err
    assert main(deploy) == 0, capsys.readouterr().err
    assert {"model.param", "model.bin", "README.md"} <= {p.name for p in (folder / "phone").iterdir()}
    assert main(["quantize", "net.onnx", "-o", "net-int8.onnx", "--data", "photos/", *GRAY, "--quiet"]) == 0
    assert main(verify) == 0, capsys.readouterr().err
    assert "they part at" in capsys.readouterr().out
