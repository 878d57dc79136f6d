"""The notebooks run with this very interpreter, and what they show is what their text says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebooks.running import CODE_OF, NOTEBOOKS, ROOT, code_of, environment, texts
from tests.shown import checked
from tests.structure.test_words import MACHINE, UNFINISHED

LARGEST = 300_000
LINK = re.compile(r"\]\(([^)#:]+)\)")


def by_id(notebook: Any) -> dict[str, Any]:
    return {cell.id: cell for cell in notebook.cells}


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda p: p.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def kept(path: Path) -> Any:
    """As it lies in the repository."""
    return nbformat.read(path, as_version=4)


# -- as they lie there --------------------------------------------------------------------------------------------


def test_there_are_two() -> None:
    assert [p.stem for p in NOTEBOOKS] == ["bad_layer", "first_quantization"]


def test_outputs_are_there_and_belong_to_the_code(kept: Any) -> None:
    nbformat.validate(kept)
    code = [c for c in kept.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert kept.metadata[CODE_OF] == code_of(kept), "run: python -m tests.notebooks.running"
    assert sum(bool(c.outputs) for c in code) >= len(code) * 2 // 3
    assert not [o for c in code for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"]


def test_it_is_small_and_of_no_machine(path: Path, kept: Any) -> None:
    assert path.stat().st_size < LARGEST
    text = "\n".join([*(c.source for c in kept.cells), *map(texts, kept.cells), json.dumps(kept.metadata)])
    for pattern in (MACHINE, UNFINISHED):
        assert not [line for line in text.splitlines() if pattern.search(line)]
    assert str(ROOT) not in text and "ipykernel_" not in text


def test_it_explains_itself(kept: Any) -> None:
    """Text between the code, short cells, ids that are words."""
    assert kept.cells[0].source.startswith("# ")
    assert sum(c.cell_type == "markdown" for c in kept.cells) >= 0.4 * len(kept.cells)
    assert max(c.source.count("\n") for c in kept.cells) < 25
    assert all(re.fullmatch(r"[a-z-]+", c.id) for c in kept.cells)


def test_links_lead_somewhere(path: Path, kept: Any) -> None:
    links = [m for c in kept.cells if c.cell_type == "markdown" for m in LINK.findall(c.source)]
    assert links and all((path.parent / link).is_file() for link in links)


def test_tables_are_whole(kept: Any) -> None:
    pages = [o.data["text/html"] for c in kept.cells for o in c.get("outputs", ()) if "text/html" in o.get("data", {})]
    assert len(pages) >= 5
    for html in pages:
        checked(html)


# -- run ----------------------------------------------------------------------------------------------------------


def test_it_runs_and_shows_what_it_says(path: Path, kept: Any, tmp_path: Path) -> None:
    # in a process of its own: Jupyter leaves sockets and event loops behind
    words = [sys.executable, "-m", "tests.notebooks.running", "--to", str(tmp_path), str(path)]
    done = subprocess.run(words, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, done.stderr
    fresh = by_id(nbformat.read(tmp_path / path.name, as_version=4))
    assert list(fresh) == list(by_id(kept))
    for name, cell in by_id(kept).items():  # as many results of the same kinds; numbers may differ
        found, before = (
            [sorted(o.get("data", {})) for o in c.get("outputs", ()) if "data" in o] for c in (fresh[name], cell)
        )
        assert found == before, name
    CHECKS[path.stem](fresh)


def first_quantization(cells: dict[str, Any]) -> None:
    said = {name: texts(cell).strip() for name, cell in cells.items()}
    words = {name: checked(page(cell)) for name, cell in cells.items() if page(cell)}
    assert "image: float32[N, 1, 28, 28]" in words["load"] and "12 Conv" in words["load"]
    assert "GlobalAveragePool" in words["inspect"] and "openvino" in words["inspect"]
    assert "26 of 28 integer" in words["plan"] and "calibrate with data" in words["plan"]
    assert "would run at 2.60 of its float time" in words["plan"]
    assert "26 of 28 integer" in words["quantize"] and "345.0 kB -> 94.1 kB" in words["quantize"]
    assert said["ok"] in ("True", "False")  # a busy machine may find it slow
    assert "largest steps, 5 of 17" in words["table"] and said["entries"].count("<NodePlan: ") == 2
    assert number(r"SQNR (\S+) dB", said["compare"]) > 20 and "worst layers, 10 of 28" in words["compare"]
    assert said["benchmark"].startswith("<fewbit.Benchmark: model 0.") or "x the other, batch 1" in said["benchmark"]
    assert number(r"agrees (\S+) %", said["evaluate"]) > 98
    assert "demo-int8.plan.json" in said["save"]
    changed = int(number(r"^(\d+) of 1000 pictures", said["run"]))
    assert changed == round(1000 - 10 * number(r"agrees (\S+) %", said["evaluate"]))  # ONNX Runtime alone says the same
    assert number(r"scores: (\S+);", said["changed"]) > 4 * number(r"of these: (\S+)", said["changed"])


def bad_layer(cells: dict[str, Any]) -> None:
    said = {name: texts(cell).strip() for name, cell in cells.items()}
    assert "agrees 100.00 %" in said["flaw"] and number(r"scores: (\d+) dB", said["same"]) > 100
    assert "THE OUTPUT IS OFF" in said["shout"] and 'role="alert"' in page(cells["shout"])
    assert number(r"agrees (\S+) %", said["task"]) < 98.5
    assert said["suspects"].startswith("[<LayerError /layer2/conv2/")
    first, second, third = re.findall(r"<tr><td[^>]*>([^<]+)</td>.*?</tr>", page(cells["sensitivity"]))[:3]
    assert {first, second} == {"/layer2/conv1/conv/Conv", "/layer2/conv2/conv/Conv"} and third not in (first, second)
    assert 0.4 < number(r"integers: (\S+)", said["inside"]) < 0.6
    assert 40 < number(r"channels (\d+)%", said["histogram"]) < 70
    rows = {m[1]: float(m[2]) for m in re.finditer(r"^\| ([\w -]+) \| ([\d.]+) \|", said["all"], re.M)}
    start = rows.pop("as it was")
    assert start < 15 and rows["weights tensor-wise"] < start + 0.5 and rows["1 layer float"] < start + 2
    assert all(start + 3 < rows[f"calib_mode {mode}"] < 25 for mode in ("percentile", "entropy"))
    assert all(rows[name] > 33 for name in ("2 layers float", "1 layer 16 bits", "effort default", "min_sqnr 30"))
    assert "16 bits are stored as integers and computed in float" in said["bits"]
    assert 50 < number(r"channel 5: (\d+)", said["rescale"]) < 90 and number(r"others: (\S+) at", said["rescale"]) < 5
    assert "Budget met" in said["budget"] and "float: /layer2/conv" in said["budget"].replace("\n", " ")
    assert said["reasons"].count("float to meet min_sqnr 30") == 2
    assert "Budget met" in said["config"] and "no layer turned float" in said["config"].replace("\n", " ")
    assert said["keep"].startswith("True\n")


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {f.__name__: f for f in (first_quantization, bad_layer)}


def page(cell: Any) -> str:
    """The HTML that a cell shows."""
    return "".join(o.get("data", {}).get("text/html", "") for o in cell.get("outputs", ()))


def number(pattern: str, text: str) -> float:
    """The first number that a pattern finds."""
    found = re.search(pattern, text, re.M)
    assert found, text[:500]
    return float(found[1])
