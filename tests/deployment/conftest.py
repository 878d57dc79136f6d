"""What the tests of deployed folders share: the demo network in integers, and a way to run a folder's scripts."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration

ALONE = """
import runpy, sys
sys.path.insert(0, ".")
sys.argv = {argv!r}
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not [m for m in sys.modules if m.split(".")[0] == "fewbit"], "a deployed folder needs fewbit"
"""

SCRIPTS = ("feeds", "run", "verify", "network", "preprocess")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def demo() -> fb.Quantized:
    """The demo network in integers, for ONNX Runtime."""
    images = {"image": demo_calibration()["image"][::8]}
    return fb.quantize(DEMO_MODEL, images, effort="fast", verify=False, quantize_mode="full")


@pytest.fixture(scope="session")
def script() -> Callable[..., Done]:
    """Run a script of a folder in an interpreter of its own, as somebody would who has no fewbit."""

    def run(folder: Path, *words: str) -> Done:
        code = ALONE.format(argv=list(words))
        done = subprocess.run(
            [sys.executable, "-B", "-c", code],
            cwd=folder, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path, str], ModuleType]]:
    """A script of a folder as a module of this process, which is quicker; those beside it are taken from the folder."""

    def load(folder: Path, name: str) -> ModuleType:
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.syspath_prepend(str(folder))
        for other in SCRIPTS:
            sys.modules.pop(other, None)
        spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert spec is not None and spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[name] = made
        spec.loader.exec_module(made)
        return made

    yield load
    for name in SCRIPTS:
        sys.modules.pop(name, None)
