"""`fewbit demo`: from start to end, with short timings."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from fewbit.cli import demo
from fewbit.data.demo import DEMO_MODEL
from tests.cli.conftest import Cli


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "SECONDS", 0.001)
    monkeypatch.setattr(demo, "BATCH_SIZES", (1,))
    monkeypatch.setattr(demo, "LAYER_IMAGES", 20)


def test_the_demo_shows_it_all_and_keeps_it(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    done = cli("demo", "--save", tmp_path / "kept")
    assert done.code == 0, done.err
    assert "\ncorrections, judged on held-out samples:\n" in done.out
    for word in ("weights", "layers", "accuracy float", "accuracy int8", "agreement", "worst layers", "ratio"):
        assert word in done.out
    assert "pip install 'fewbit[openvino]'" in done.out and done.out.endswith(f"kept in {tmp_path / 'kept'}\n")
    names = sorted(p.name for p in (tmp_path / "kept").iterdir())
    assert names == ["demo-int8.onnx", "demo-int8.plan.json", "demo.onnx", "layers"]


def test_the_demo_in_json_loses_no_accuracy(cli: Cli) -> None:
    found = json.loads(cli("demo", "--json").out)
    assert found["size_quantized"] < 0.3 * found["size_float"] and set(found["kept_float"]) == {
        "/stem/conv/Conv",
        "/relu/Relu",
    }
    assert any(c["kept"] and c["after"] > c["before"] for c in found["corrections"])
    assert set(found["engines"]) == {"onnxruntime", *(["openvino"] if find_spec("openvino") else [])}
    for engine in found["engines"].values():
        counted = engine["evaluation"]
        assert counted["samples"] == 1000
        assert counted["accuracy"]["top1"]["rate"] > 0.9 and counted["agreement"]["rate"] > 0.97


def test_a_folder_that_cannot_be_made_is_said_first(cli: Cli) -> None:
    done = cli("demo", "--save", DEMO_MODEL / "sub")
    assert done.code == 1 and "cannot make the folder" in done.err and done.out == ""
