"""What the structure tests read: the files of the repository and their syntax trees."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "fewbit"
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".csv", ".cfg", ".ini", ".yml", ".sh", ""}


def files(*folders: str, suffixes: frozenset[str] | set[str] = frozenset({".py"})) -> list[Path]:
    """All files below `folders` of the repository that have one of `suffixes`, in order."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return sorted(p for p in found if p.is_file() and p.suffix in suffixes and "__pycache__" not in p.parts)


def short(path: Path) -> str:
    """The path inside the repository; the name of a test case."""
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text("utf-8"), path.name)


def project() -> dict[str, Any]:
    """The table `[project]` of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
