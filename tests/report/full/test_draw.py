"""Pictures for documents: all that a report has is drawn, the same numbers give the same bytes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test
from fewbit.errors import EngineMissing, OutputError, UsageError
from fewbit.report import pictures
from fewbit.report.full.report import FullReport
from tests.report.full.test_more import SWEEP


@pytest.fixture(scope="module")
def made() -> FullReport:
    model = fb.load(DEMO_MODEL)
    whole = fb.quantize(model, demo_calibration(), verify=False, effort="fast", batch_size=32)
    found = fb.make_report(model, whole, {"image": demo_test()["image"][:8]}, batch_size=8)
    sweep = {"about": "net on photos", **SWEEP.to_json()}
    odd = replace(found.layers[2], node="$a_{<script>}^", sqnr=float("nan"))
    return replace(found, sweeps=(sweep,), layers=(*found.layers[:2], odd, *found.layers[3:]))


def test_everything_is_drawn(made: FullReport, tmp_path: Path) -> None:
    files = made.save_pictures(tmp_path / "a")
    names = {f.stem for f in files}
    assert {"errors", "operators", "sensitivity", "sweep-1", "histogram-1", "channels-1"} <= names
    for file in files:
        assert ET.parse(file).getroot().tag.endswith("svg")
    assert "&lt;script&gt;" in (tmp_path / "a" / "errors.svg").read_text("utf-8")
    again = made.save_pictures(tmp_path / "b")
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in again]


def test_png_and_other_endings(made: FullReport, tmp_path: Path) -> None:
    few = replace(made, layers=made.layers[:3], profile=None, sensitivity=None, sweeps=())
    files = few.save_pictures(tmp_path, ".png")
    assert files and all(f.read_bytes().startswith(b"\x89PNG") for f in files)
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        few.save_pictures(tmp_path, ".pdf")


def test_without_matplotlib_and_where_a_file_is(
    made: FullReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot make the folder"):
        made.save_pictures(tmp_path / "file")
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    with pytest.raises(EngineMissing, match="plot"):
        made.save_pictures(tmp_path / "x")
