"""An error that names an extra names one that exists, and every extra an engine names can be installed."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.structure.source import files, project, short, tree

EXTRAS = set(project()["optional-dependencies"])


def named_extras(code: ast.Module) -> list[str]:
    """The second argument of every `EngineMissing(engine, extra)`."""
    calls = [n for n in ast.walk(code) if isinstance(n, ast.Call) and ast.unparse(n.func).endswith("EngineMissing")]
    return [ast.literal_eval(call.args[1]) for call in calls]


@pytest.mark.parametrize("path", files("src/fewbit"), ids=short)
def test_an_error_names_an_extra_that_exists(path: Path) -> None:
    assert set(named_extras(tree(path))) <= EXTRAS


def test_a_named_extra_is_read_from_the_call() -> None:
    assert named_extras(ast.parse("def f():\n    raise errors.EngineMissing('OpenVINO', 'openvino')")) == ["openvino"]


def test_the_extras_are_these() -> None:
    assert {"openvino", "ncnn", "torch", "plot", "tflite", "ray", "docs", "dev", "bench"} == EXTRAS
