"""The file of timings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fewbit.core.timing import Ratio
from fewbit.search.timings import KEPT, Timings, default_cache, machine, shapes

R = Ratio(0.4, 0.5, 0.6, 9)


def filled(path: Path | None, about: str = "here") -> Timings:
    return Timings(path, about, {("a", "float x"): R}, {"a": {"conv/1 ÷ 2": 3.5}})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "timings.json"
    filled(path).save()
    found = Timings.load(path, "here")
    assert found == filled(path)
    assert Timings.load(path, "elsewhere") == Timings(path, "elsewhere")
    assert [p.name for p in tmp_path.iterdir()] == ["timings.json"]


def test_others_keep_their_entries_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "timings.json"
    for i in range(KEPT + 1):
        filled(path, f"network {i}").save()
    assert len(json.loads(path.read_text("utf-8"))["networks"]) == KEPT
    assert not Timings.load(path, "network 0").ratios
    assert Timings.load(path, "network 1").ratios


def test_nothing_is_written_without_a_path_or_without_timings(tmp_path: Path) -> None:
    filled(None).save()
    Timings(tmp_path / "timings.json", "here").save()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ratio", [[0.4, 0.5, 0.6], [0.4, 0.5, "0.6", 9], [0.4, 0.5, -1, 9], [0.4, 0.5, 0.6, 0], None])
def test_an_entry_that_is_no_timing_is_left_out(ratio: object, tmp_path: Path) -> None:
    path = tmp_path / "timings.json"
    filled(path).save()
    held = json.loads(path.read_text("utf-8"))
    (network,) = held["networks"].values()
    network["ratios"]["a ÷ float x"] = ratio
    path.write_text(json.dumps(held))
    assert Timings.load(path, "here") == Timings(path, "here")


def test_the_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEWBIT_CACHE", str(tmp_path))
    assert default_cache() == tmp_path / "timings.json"
    monkeypatch.delenv("FEWBIT_CACHE")
    assert default_cache() == Path.home() / ".cache" / "fewbit" / "timings.json"


def test_the_machine_is_the_same_twice() -> None:
    assert machine() == machine()
    assert "cores" in machine()


def test_feeds_in_words() -> None:
    assert shapes({"b": np.zeros((1, 2)), "a": np.zeros(3)}) == "a[3], b[1, 2]"
