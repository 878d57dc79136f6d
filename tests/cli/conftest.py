"""What the tests of the command line share: a way to run it, a small classifier, data for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from fewbit.cli import main
from tests.models import info, node, proto, weight

GOLDEN = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class Done:
    """What a command left behind. `said`: both streams together."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


Cli = Callable[..., Done]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in this process, as in a pipe."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*words: object) -> Done:
        capsys.readouterr()
        code = main([str(w) for w in words])
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return run


def classifier() -> onnx.ModelProto:
    """x[n, 3, 6, 6] → Conv → Relu → Flatten → Gemm → y[n, 5]"""
    return proto(
        [
            node("Conv", "x w b", "c", "conv", pads=[1, 1, 1, 1]),
            node("Relu", "c", "r", "relu"),
            node("Flatten", "r", "f", "flatten"),
            node("Gemm", "f v d", "y", "fc", transB=1),
        ],
        [info("x", ["n", 3, 6, 6])],
        [info("y", ["n", 5])],
        {"w": weight(64, 3, 3, 3), "b": weight(64), "v": weight(5, 2304), "d": weight(5)},
    )


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.onnx, data.npz (12 samples with labels) and bare.npz (without)."""
    folder = tmp_path_factory.mktemp("files")
    onnx.save(classifier(), folder / "net.onnx")
    x = np.random.default_rng(0).standard_normal((12, 3, 6, 6)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, labels=np.arange(12) % 5)
    np.savez(folder / "bare.npz", x=x)
    return folder


@pytest.fixture(scope="session")
def net(files: Path) -> Path:
    return files / "net.onnx"


@pytest.fixture(scope="session")
def data(files: Path) -> Path:
    return files / "data.npz"


@pytest.fixture(scope="session")
def quantized(files: Path) -> Path:
    """The small classifier in integers, its plan beside it."""
    words = ["quantize", files / "net.onnx", "-o", files / "int8.onnx", "--data", files / "data.npz"]
    assert main([str(w) for w in [*words, "--no-verify", "--quiet", "--quantize-mode", "full"]]) == 0
    return files / "int8.onnx"


def golden(name: str, text: str) -> None:
    """Compare with tests/golden/<name>.txt; FEWBIT_GOLDEN=write makes it anew, for git to show what changed."""
    if os.environ.get("FEWBIT_GOLDEN") == "write":
        (GOLDEN / f"{name}.txt").write_text(text, "utf-8")
    assert text == (GOLDEN / f"{name}.txt").read_text("utf-8")
