"""Whatever docs/ shows runs: Python blocks as they stand, commands for real where marked, all others as far as parsing.

    ```python                 runs; the blocks of a file share one namespace and one folder, in order
    ```python needs=openvino  runs if that package is installed
    ```sh run                 the lines that start with `fewbit` run
    ```sh                     they must parse, and each flag must stand in the verb's help

The folder holds what the docs speak of: net.onnx, calib.npz and test.npz.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fewbit.calib import OBSERVERS
from fewbit.cli import main
from fewbit.cli.app import VERBS, verb_command
from fewbit.config import DataConfig, QuantConfig
from fewbit.core.target import TARGETS
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test
from fewbit.deployment import DEPLOYERS
from fewbit.engines import ENGINES
from fewbit.frontends import FRONTENDS

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
NAMED = re.compile(
    r"`((?:bench|src|tests|examples|docs)/[\w./-]+|(?:api|calib|cli|compat|config|core|data|deployment|engines|frontends"
    r"|graph|mindspore|quantization|report|search|torch)/[\w/-]+\.py)`"
)
REGISTRIES: tuple[dict[str, Any], ...] = (OBSERVERS, TARGETS, ENGINES, FRONTENDS, DEPLOYERS)

pytestmark = pytest.mark.filterwarnings("default::fewbit.errors.FewbitWarning")  # such as: slower, on a busy machine


class Block(NamedTuple):
    """`line` counts from 1, for tracebacks."""

    kind: str
    marks: str
    text: str
    line: int


def blocks(path: Path) -> list[Block]:
    text = path.read_text("utf-8")
    return [Block(m[1], m[2].strip(), m[3], text.count("\n", 0, m.start(3)) + 1) for m in FENCE.finditer(text)]


def commands(block: Block) -> list[str]:
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("fewbit ")] if block.kind == "sh" else []


def short(path: Path) -> str:
    return path.relative_to(ROOT / "docs").as_posix()


COMMANDS = [(short(p), line) for p in DOCS for b in blocks(p) for line in commands(b)]
INLINE = [(short(p), m) for p in DOCS for m in re.findall(r"`(fewbit [a-z][^`]*)`", p.read_text("utf-8"))]
SHORT_ONES = [p for p in DOCS if p.name.startswith("adding-")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    shutil.copy(DEMO_MODEL, folder / "net.onnx")
    np.savez(folder / "calib.npz", image=demo_calibration()["image"][::5])
    np.savez(folder / "test.npz", **{k: x[::5] for k, x in demo_test().items()})
    return folder


@pytest.fixture
def folder(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own, and registries that forget what the docs add."""
    for f in files.iterdir():
        shutil.copy(f, tmp_path)
    monkeypatch.chdir(tmp_path)
    before = [dict(r) for r in REGISTRIES]
    yield tmp_path
    for registry, old in zip(REGISTRIES, before, strict=True):
        registry.clear()
        registry.update(old)


LONG = ("simulate", "sensitivity", "debug", "weights", "budgets", "effort", "tensorrt")
"""Pages on one topic that take seconds, and whose topic has tests of its own: run by `make test-all`."""

PAGES = [pytest.param(p, marks=pytest.mark.slow if p.stem in LONG else ()) for p in DOCS]


@pytest.mark.parametrize("path", PAGES, ids=[short(p) for p in DOCS])
def test_what_a_page_shows_runs(path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": path.stem}
    for block in blocks(path):
        needs = re.match(r"needs=(\w+)", block.marks)
        if needs and importlib.util.find_spec(needs[1]) is None:
            continue
        if block.kind == "python":
            exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), names)
        elif block.marks == "run":
            for line in commands(block):
                code = main(shlex.split(line)[1:])
                assert code == 0, f"{path.name}: {line}\n{capsys.readouterr().err}"
        elif block.kind == "toml":
            found = tomllib.loads(block.text)
            QuantConfig(**found["quantize"]), DataConfig(**found["data"])
        elif block.kind == "json":
            assert json.loads(block.text)


@pytest.mark.parametrize(("page", "line"), [*COMMANDS, *INLINE])
def test_a_command_is_one_that_exists(page: str, line: str) -> None:
    _, verb, *words = shlex.split(line)
    assert verb in VERBS, f"{page}: {line}"
    entry = verb_command(verb)
    context = entry.make_context(verb, ["--help"], resilient_parsing=True)
    known = set(re.findall(r"(?<![\w-])--?[a-z][a-zA-Z0-9-]*", entry.get_help(context)))
    flags = [w for w in words if re.match(r"--?[a-z]", w)]
    assert set(flags) <= known, f"{page}: {line}"
    if (page, line) in COMMANDS:
        entry.make_context(verb, words)  # raises on what does not parse


@pytest.mark.parametrize("path", DOCS, ids=short)
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text("utf-8")):
        assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_files_that_are_named_are_there() -> None:
    """In backticks, from the top or from src/fewbit; those of users' own folders are left alone."""
    for path in [*DOCS, *ROOT.glob("*.md"), ROOT / "bench" / "README.md"]:
        for name in NAMED.findall(path.read_text("utf-8")):
            assert (ROOT / name).exists() or (ROOT / "src" / "fewbit" / name).exists(), f"{path.name}: {name}"


@pytest.mark.parametrize("path", SHORT_ONES, ids=short)
def test_a_recipe_is_short(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 60


def test_there_are_pages_and_commands() -> None:
    assert len(DOCS) >= 50 and len(SHORT_ONES) == 6 and len(COMMANDS) >= 10
