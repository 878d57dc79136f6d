"""Nothing unfinished, and nothing of one machine, in what we ship."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.structure.source import ROOT, TEXT, files, short

# the brackets keep a search for these words from finding this file; in quotes, one is torch.fx's word for an input
UNFINISHED = re.compile(
    r"\b(TOD[O]|FIXM[E]|XX[X]|raise NotImplementedErro[r]|placeholde[r](?!\x22)|not implemented ye[t])\b", re.I
)
MACHINE = re.compile(r"(?<![\w.])/(home|root|tmp|work|farm)/|\bpyp[i]\.|pythonhoste[d]\.")

SHIPPED = files("src", suffixes=TEXT)
WRITTEN = [
    *files("src", "tests", "bench", "examples", "docs", ".ci", suffixes=TEXT),
    *sorted(p for p in ROOT.iterdir() if p.is_file() and p.suffix in TEXT and p.name != ".git"),
]


def hits(pattern: re.Pattern[str], text: str) -> list[str]:
    """The lines in which `pattern` is found, with their numbers."""
    return [f"{i}: {line.strip()}" for i, line in enumerate(text.splitlines(), 1) if pattern.search(line)]


@pytest.mark.parametrize("path", SHIPPED, ids=short)
def test_nothing_is_left_unfinished(path: Path) -> None:
    assert not hits(UNFINISHED, path.read_text("utf-8"))


@pytest.mark.parametrize("path", WRITTEN, ids=short)
def test_no_path_of_one_machine_and_no_package_host(path: Path) -> None:
    assert not hits(MACHINE, path.read_text("utf-8"))


@pytest.mark.parametrize("text", ["# todo: later", "raise notimplementederror", "x = 1  # fixme"])
def test_an_unfinished_line_is_found(text: str) -> None:
    assert hits(UNFINISHED, f"first\n{text}") == [f"2: {text}"]


@pytest.mark.parametrize("folder", ["tmp", "home", "root"])
def test_a_machine_path_is_found(folder: str) -> None:
    assert hits(MACHINE, f"open('/{folder}/x')") == [f"1: open('/{folder}/x')"]


@pytest.mark.parametrize("host", ["pypi", "files.pythonhosted"])
def test_a_package_host_is_found(host: str) -> None:
    assert hits(MACHINE, f"see https://{host}.example/simple")


@pytest.mark.parametrize("text", ["docs/home/page", "./tmp/x", "/usr/share/datasets", "layer4/work/conv"])
def test_other_paths_pass(text: str) -> None:
    assert hits(MACHINE, text) == []
