"""Files appear whole or not at all, and what was there before is not lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fewbit.core.writing import writing
from fewbit.errors import OutputError


def write(path: Path, **others: str) -> None:
    with writing(path) as file:
        for name, text in others.items():
            (file.parent / name).write_text(text)
        file.write_text("new")


def held(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted(folder.iterdir()) if p.is_file()}


def no_links(*args: object, **words: object) -> None:
    raise OSError("this file system has none")


@pytest.fixture(params=["links", "no links"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of the user, on a file system with and without hard links."""
    if request.param == "no links":
        monkeypatch.setattr(os, "link", no_links)
    for name in ("a", "c", "z"):
        (tmp_path / name).write_text(f"old {name}")
    return tmp_path


def test_all_are_replaced_and_nothing_else_stays(place: Path) -> None:
    write(place / "m", a="1", b="2", z="3")
    assert held(place) == {"a": "1", "b": "2", "c": "old c", "m": "new", "z": "3"}
    write(place / "a", m="4")
    assert held(place) == {"a": "new", "b": "2", "c": "old c", "m": "4", "z": "3"}
    assert not list(place.glob(".fewbit-*"))


def test_a_folder_in_the_way_is_seen_before_anything_moves(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "b").mkdir()
    monkeypatch.setattr(os, "replace", no_links)  # not called at all
    before = held(place)
    with pytest.raises(OutputError, match=r"/b: it is a folder; give another name"):
        write(place / "m", a="1", b="2", z="3")
    assert held(place) == before and sorted(p.name for p in place.iterdir()) == ["a", "b", "c", "z"]


@pytest.mark.parametrize("fails", ["a", "b", "z", "m"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "ctrl-c"])
def test_a_move_that_fails_undoes_all(
    place: Path, monkeypatch: pytest.MonkeyPatch, fails: str, error: BaseException
) -> None:
    (place / "m").write_text("old m")
    before, replace = held(place), os.replace

    def failing(source: Path, target: Path) -> None:
        if target.name == fails and source.parent.name.startswith(".fewbit-"):
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    kind = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(kind):
        write(place / "m", a="1", b="2", z="3")
    assert held(place) == before and not list(place.glob(".fewbit-*"))


def test_interrupted_after_the_last_move_all_is_there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def late(source: Path, target: Path) -> None:
        replace(source, target)
        if target.name == "m":
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", late)
    with pytest.raises(KeyboardInterrupt):
        write(place / "m", a="1", z="3")
    assert held(place) == {"a": "1", "c": "old c", "m": "new", "z": "3"} and not list(place.glob(".fewbit-*"))


def test_what_cannot_be_put_back_is_kept_and_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, moves = os.replace, []

    def failing(source: Path, target: Path) -> None:
        moves.append(target)
        if len(moves) > 1:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OutputError, match=r"what it was to replace is in .*\.fewbit-") as e:
        write(place / "m", a="1", z="3")
    assert "old a" in held(Path(str(e.value).rsplit(" ", 1)[1])).values()


def test_a_link_is_replaced_not_what_it_points_to(place: Path) -> None:
    (place / "b").symlink_to("c")
    write(place / "m", b="1")
    assert held(place)["c"] == "old c" and not (place / "b").is_symlink()


def test_one_file_is_never_gone_even_if_killed(tmp_path: Path) -> None:
    """What a killed run leaves: each name old or new, and the last one new only if all are."""
    code = (
        "import os, signal, sys; from pathlib import Path; from fewbit.core.writing import writing\n"
        "replace, place = os.replace, Path(sys.argv[1])\n"
        "def killed(source, target):\n"
        "    if target.name == sys.argv[2]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    replace(source, target)\n"
        "os.replace = killed\n"
        "with writing(place / 'm') as file:\n"
        "    [(file.parent / name).write_text('new') for name in 'amz']\n"
    )
    seen = {}
    for at in "azm":
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        for name in "amz":
            (tmp_path / name).write_text("old")
        done = subprocess.run([sys.executable, "-c", code, tmp_path, at])
        assert done.returncode == -signal.SIGKILL
        seen[at] = " ".join(held(tmp_path)[name] for name in "azm")
    assert seen == {"a": "old old old", "z": "new old old", "m": "new new old"}
