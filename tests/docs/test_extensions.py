"""What the site makes of docstrings, notebooks, programs and results, piece by piece."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A file of docs/_ext, forgotten afterwards: their names are common words."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_ext"))
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        return import_module(name)

    yield load
    for name in set(sys.modules) - before:
        if name in {"docstrings", "notebooks", "programs", "benchmarks"}:
            del sys.modules[name]


def test_entries_on_one_line_come_apart(part: Any) -> None:
    text = "float. plan: calibrated, of `model`; words: fields of `DataConfig`: see there. note: no name of ours"
    found = part("docstrings").entries(f"model: {text}", {"model", "plan", "words"})
    assert found == [
        ("model", "float."),
        ("plan", "calibrated, of `model`"),
        ("words", "fields of `DataConfig`: see there. note: no name of ours"),
    ]


def test_names_that_are_told_of_together_stay_together(part: Any) -> None:
    assert part("docstrings").entries("config, words: as there.", {"config", "words"}) == [
        ("config, words", "as there.")
    ]


def test_each_error_is_its_own(part: Any) -> None:
    found = part("docstrings").entries("UnknownName, ConfigError: as there. DataError: no data.", (), errors=True)
    assert found == [("UnknownName", "as there."), ("ConfigError", "as there."), ("DataError", "no data.")]


def test_a_docstring_becomes_fields(part: Any) -> None:
    lines = [
        "Do it.",
        "",
        "    x → y",
        "",
        "Args:",
        "    a: one.",
        "        More of |x|.",
        "",
        "Raises:",
        "    PlanError: no.",
    ]
    found = part("docstrings").to_rest(lines, {"a"})
    assert [line for line in found if line] == [
        "Do it.", ".. code-block:: text", "    x → y", r":param a: one. More of \|x\|.", ":raises PlanError: no."
    ]  # fmt: skip


def test_fields_of_a_dataclass_are_attributes_with_types(part: Any) -> None:
    found = part("docstrings").to_rest(["Of it.", "", "Args:", "    ms: time."], {"ms"}, {"ms": "float"})
    assert [line.strip() for line in found if line] == ["Of it.", ".. py:attribute:: ms", ":type: float", "time."]


def test_markup_is_escaped_and_code_is_not(part: Any) -> None:
    assert part("docstrings").escape("max|x| of `a*b_` * W_") == r"max\|x\| of `a*b_` \* W\_"


def test_a_notebook_shows_its_richest_output(part: Any) -> None:
    html = {"text/html": "<b>1</b>", "text/plain": "1"}
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {"cell_type": "code", "source": "x", "outputs": [{"output_type": "execute_result", "data": html}]},
        {"cell_type": "code", "source": "y", "outputs": [{"output_type": "stream", "text": "\x1b[31mred\x1b[0m\n"}]},
        {
            "cell_type": "code",
            "source": "z",
            "outputs": [{"output_type": "display_data", "data": {"image/png": "AA\n=="}}],
        },
    ]
    text = part("notebooks").page(json.dumps({"cells": cells}))
    assert text.startswith("# Title\ntext\n\n```python\nx\n```")
    assert "<b>1</b>" in text and "```{code-block} text\n:class: output\n\nred\n```" in text
    assert 'src="data:image/png;base64,AA=="' in text


def test_a_fence_is_longer_than_those_inside(part: Any) -> None:
    assert part("notebooks").fenced("text", "a\n```\nb").startswith("````text\n")


def test_a_program_is_its_docstring_and_its_code(part: Any) -> None:
    code = '"""Do it.\n\n    python it.py\n"""\n\nprint(1)\n'
    said = "Do it.\n\n```text\npython it.py\n```\n"
    assert part("programs").page("it.py", code) == f"# it.py\n\n{said}\n\n``````python\n{code}``````\n"


def test_a_result_without_a_title_goes_by_its_name(part: Any, tmp_path: Path) -> None:
    machine = {"cpu": "C", "cores": 2, "flags": ["vnni"], "python": "3", "versions": {"a": "1"}, "date": "2026-01-01"}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "new_one.json").write_text(json.dumps({"machine": machine}))
    (tmp_path / "README.md").write_text("| script | question |\n|---|---|\n")
    (tmp_path / "new_one.py").write_text('"""How new is it?\n\nMore.\n"""\n')
    text = part("benchmarks").page("new_one", "# new_one\n\nC; 2026-01-01\n\n| a |\n|---|\n| 1 |\n", tmp_path)
    assert text.startswith("# new one\n\n*How new is it?*\n")
    assert "2026-01-01" in text and "[new_one.json](new_one.json)" in text and text.endswith("| a |\n|---|\n| 1 |\n")
    assert "[new one](../bench/results/new_one.md)" in part("benchmarks").index(tmp_path)
