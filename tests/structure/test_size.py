"""A file is one idea, a function fits a screen."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.structure.source import files, short, tree

FILE_LINES, FUNCTION_LINES = 500, 80


@pytest.mark.parametrize("path", files("src", "tests", "bench", "examples"), ids=short)
def test_file_and_its_functions_are_short(path: Path) -> None:
    lines = path.read_text("utf-8").count("\n")
    assert lines <= FILE_LINES, f"{lines} lines; split it by idea"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines; split it by step"
