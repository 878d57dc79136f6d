"""`fewbit sizes`: every form of a network, side by side."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration
from fewbit.errors import ConfigError, UnknownName, UsageError
from tests.cli.conftest import Cli


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("calib.npz", image=demo_calibration()["image"][:40])
    Path("c.toml").write_text('[quantize]\neffort = "fast"\ncalib_mode = "entropy"\n')
    return tmp_path


def test_a_table_of_all_forms(cli: Cli, place: Path) -> None:
    done = cli("sizes", DEMO_MODEL, "--data", "calib.npz", "--config", "c.toml", "--json", "--quiet")
    assert done.code == 0, done.err
    rows = {r["form"]: r for r in json.loads(done.out)["rows"]}
    assert list(rows) == list(fb.api.FORMS)
    assert rows["float"]["latency"] == 1 and rows["float"]["compression"] == 1
    sizes = [rows[f]["file"] for f in ("float", "weight-8", "weight-6", "weight-4")]
    assert sizes == sorted(sizes, reverse=True)
    assert rows["mixed-coded"]["file"] < min(rows["mixed"]["file"], sizes[1])
    for form in ("weight-8", "weight-6", "mixed", "full"):
        assert rows[form]["cosine"] > 0.99 and rows[form]["sqnr"] > 15
    for form in set(rows) - {"mixed-coded", "dynamic"}:
        assert rows[form]["load_s"] > 0 and rows[form]["peak_mib"] >= rows[form]["load_mib"] > 0
        assert rows[form]["latency"] > 0
    assert not list(place.glob("*.onnx"))


def test_some_forms_and_no_data(cli: Cli, place: Path) -> None:
    done = cli("sizes", DEMO_MODEL, "--forms", "weight-4,full", "--effort", "fast")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].endswith("errors on random numbers")
    assert [line.split()[0] for line in lines[3:6]] == ["float", "weight-4", "full"]
    assert "full: ranges of activations are measured on data, and none was given" in done.out


def test_flags_that_say_something_to_one_form_only(place: Path) -> None:
    found = fb.sizes(DEMO_MODEL, forms=["weight-4"], group_size=16, effort="fast")
    plain = fb.sizes(DEMO_MODEL, forms=["weight-4"], effort="fast")
    assert found.row("weight-4").file > plain.row("weight-4").file


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"forms": ["weight-5"]}, UnknownName, "unknown form 'weight-5'; did you mean .*'weight-4'"),
        ({"bit_num": 4}, UsageError, "bit_num is what the forms differ in; choose them with forms="),
        ({"init_scale": 0.1, "forms": ["full"]}, ConfigError, "init_scale is for mixed bit"),
    ],
)
def test_bad_words(words, error, says) -> None:
    with pytest.raises(error, match=says):
        fb.sizes(DEMO_MODEL, **words)


def test_every_flag(cli: Cli, place: Path) -> None:
    done = cli("sizes", "none-symbol.json", "--params", "p.params", "--input-shapes", "data:1,3,8,8")
    assert done.code == 1 and "none-symbol.json" in done.err
