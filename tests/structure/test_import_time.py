"""Nothing heavy is imported before it is needed.

Asked of `sys.modules` in a fresh interpreter, not of a clock: the answer is the same on a busy machine.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

ENGINES = {"onnx", "onnx_ir", "onnxruntime", "onnxscript", "openvino", "torch", "ncnn", "tensorrt", "ray"}
HEAVY = ENGINES | {"numba", "llvmlite", "scipy", "sympy", "PIL"}
CLI = HEAVY | {"typer", "rich", "click", "numpy"}

LIST = "import json, sys; print(json.dumps(sorted(m for m in sys.modules if '.' not in m)), file=sys.stderr)"
RUN = """
import sys
from fewbit.cli import main
sys.argv = ["fewbit", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, f"exit code {{stop.code}}"
"""


def loaded(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after `code`."""
    done = subprocess.run([sys.executable, "-c", f"{code}\n{LIST}"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_the_list_is_read_from_the_other_interpreter() -> None:
    assert "sqlite3" in loaded("import sqlite3")
    assert "sqlite3" not in loaded("pass")


def test_import_fewbit_is_light() -> None:
    assert not loaded("import fewbit") & CLI


def test_an_error_class_costs_nothing() -> None:
    assert not loaded("import fewbit; fewbit.FewbitError") & CLI


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["quantize", "--help"]], ids=" ".join)
def test_help_is_light(arguments: list[str]) -> None:
    assert not loaded(RUN.format(arguments=arguments)) & HEAVY
