"""Documents of other verbs, read back for a report; whatever is none is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewbit.core.tables import dumps
from fewbit.errors import DataError
from fewbit.report.full.more import read_more
from fewbit.report.sizes import SizeRow, Sizes
from fewbit.report.sweep import Sweep, SweepRow
from fewbit.search.ranking import LayerSensitivity, Sensitivity

RANKED = Sensitivity(
    (LayerSensitivity("a", "Conv", 9, 20.0, 31.0), LayerSensitivity("b", "Gemm", 2, float("inf"))), 18.0, 16
)
SIZES = Sizes((SizeRow("float", 100, 1.0), SizeRow("full", 30, 3.3, latency=0.5, cosine=0.99, note="fine")), "here")
ROWS = (
    SweepRow(8, "channel", "naive", False, 0.9, 0.01, 0.99, 1, 2),
    SweepRow(4, "layer", "kl", True, None, None, 0.5, None, None),
)
SWEEP = Sweep("net", "photos", 0.91, ROWS)


def write(folder: Path, name: str, found: object) -> Path:
    (folder / name).write_text(dumps(found) if not isinstance(found, str) else found)
    return folder / name


def test_all_three_kinds_in_any_order(tmp_path: Path) -> None:
    files = [write(tmp_path, n, x.to_json()) for n, x in (("w.json", SWEEP), ("s.json", SIZES), ("r.json", RANKED))]
    more = read_more([*files, files[0]])
    assert more.sizes == SIZES and len(more.sweeps) == 2
    assert (
        more.sensitivity is not None and more.sensitivity.kind == "measured" and "16 samples" in more.sensitivity.about
    )
    assert more.sensitivity.rows[1] == {"layer": "b", "op": "Gemm", "alone": float("inf"), "left": None}
    assert more.sweeps[0]["about"] == "net on photos, float top-1 91.00 %"
    assert [r["bits"] for r in more.sweeps[0]["rows"]] == [8, 4]


def test_nothing_gives_nothing() -> None:
    more = read_more([])
    assert more.sensitivity is None and more.sizes is None and more.sweeps == ()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "no JSON"),
        ("[]", "list"),
        ("{}", "no document"),
        ('{"rows": []}', "no document"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(DataError, match=word) as e:
        read_more([write(tmp_path, "x.json", text)])
    assert "fewbit sensitivity --json" in str(e.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone\.json"):
        read_more([tmp_path / "gone.json"])


@pytest.mark.parametrize(
    "damage", [("alone", "much"), ("alone", [1]), ("alone", True), ("alone", 10**400), ("left", "")]
)
def test_damaged_numbers_are_refused(tmp_path: Path, damage: tuple[str, object]) -> None:
    found = RANKED.to_json()
    found["layers"][0][damage[0]] = damage[1]
    with pytest.raises(DataError, match="where a number belongs"):
        read_more([write(tmp_path, "r.json", json.dumps(found))])


@pytest.mark.parametrize(("key", "value"), [("bits", "8"), ("merge_bn", 1), ("top1", "high")])
def test_damaged_sweeps_are_refused(tmp_path: Path, key: str, value: object) -> None:
    found = SWEEP.to_json()
    found["rows"][0][key] = value
    with pytest.raises(DataError, match=r"w\.json holds"):
        read_more([write(tmp_path, "w.json", json.dumps(found))])


@pytest.mark.parametrize(("made", "part", "key"), [(RANKED, "layers", "alone"), (SIZES, "rows", "form")])
def test_what_must_be_there_is(tmp_path: Path, made: Sensitivity | Sizes, part: str, key: str) -> None:
    found = made.to_json()
    found[part][0][key] = None
    with pytest.raises(DataError, match="no document that a report can show"):
        read_more([write(tmp_path, "x.json", json.dumps(found))])


def test_devices_are_no_documents() -> None:
    with pytest.raises(DataError, match="it is no file"):
        read_more(["/dev/zero"])
