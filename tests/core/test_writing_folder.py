"""Folders appear whole or not at all, and nothing is lost that fewbit did not write."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fewbit.core.writing_folder import HEAD, SUMS, check_folder, writing_folder
from fewbit.errors import OutputError


def write(path: Path, files: dict[str, str], *, overwrite: bool = False) -> None:
    with writing_folder(path, overwrite=overwrite) as fresh:
        for name, text in files.items():
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
            (fresh / name).write_text(text)


def held(path: Path) -> dict[str, str]:
    """Every file below a folder but the list of sums."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != SUMS)
    return {p.relative_to(path).as_posix(): p.read_text() for p in files}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_a_folder_appears_with_its_sums_and_nothing_else(out: Path) -> None:
    write(out, {"a.txt": "1", "in/b.txt": "2"})
    assert held(out) == {"a.txt": "1", "in/b.txt": "2"}
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    done = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0 and "in/b.txt: OK" in done.stdout
    assert os.stat(out).st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("before", [None, {}, {"old.txt": "0", "sub/old.txt": "0"}], ids=["none", "empty", "ours"])
def test_all_is_as_before_if_the_work_fails(out: Path, before: dict[str, str] | None) -> None:
    if before is not None:
        out.mkdir()
    if before:
        write(out, before)
    with pytest.raises(KeyboardInterrupt), writing_folder(out) as fresh:
        (fresh / "a.txt").write_text("1")
        raise KeyboardInterrupt
    assert held(out) == (before or {}) and out.exists() == (before is not None)
    assert [p.name for p in out.parent.iterdir() if p != out] == []
    check_folder(out)


def test_an_empty_folder_is_filled(out: Path) -> None:
    out.mkdir()
    number = out.stat().st_ino
    write(out, {"a.txt": "1"})
    assert held(out) == {"a.txt": "1"} and out.stat().st_ino == number  # a shell in it is still there


def test_what_was_written_is_written_anew_and_leaves_nothing_behind(out: Path) -> None:
    write(out, {"a.txt": "1", "gone/b.txt": "2"})
    (out / "__pycache__").mkdir()
    (out / "__pycache__" / "run.pyc").write_text("cache")
    write(out, {"a.txt": "3", "new/c.txt": "4"})
    assert held(out) == {"__pycache__/run.pyc": "cache", "a.txt": "3", "new/c.txt": "4"}
    assert not (out / "gone").exists()


def test_a_foreign_file_is_named_and_nothing_is_touched(out: Path) -> None:
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"it holds mine\.txt, not written by fewbit.*allow it with overwrite"):
        write(out, {"a.txt": "1"})
    assert held(out) == {"mine.txt": "mine"}


def test_a_changed_file_is_foreign(out: Path) -> None:
    write(out, {"a.txt": "1"})
    (out / "a.txt").write_text("edited")
    with pytest.raises(OutputError, match=r"holds a\.txt, not written by fewbit or changed since"):
        write(out, {"a.txt": "2"})
    assert held(out) == {"a.txt": "edited"}


def test_with_overwrite_others_stay(out: Path) -> None:
    write(out, {"a.txt": "1", "b.txt": "1"})
    (out / "mine").mkdir()
    (out / "mine" / "notes.txt").write_text("mine")
    (out / "a.txt").write_text("edited")
    write(out, {"a.txt": "2"}, overwrite=True)
    assert held(out) == {"a.txt": "2", "mine/notes.txt": "mine"}
    check_folder(out, overwrite=True)


def test_a_folder_in_the_way_of_a_file_undoes_all(out: Path) -> None:
    write(out, {"a.txt": "1", "z.txt": "1"})
    (out / "b.txt").mkdir()
    (out / "b.txt" / "mine").write_text("mine")
    with pytest.raises(OutputError, match=r"b\.txt: it is a folder"):
        write(out, {"a.txt": "2", "b.txt": "2", "z.txt": "2"}, overwrite=True)
    assert held(out) == {"a.txt": "1", "b.txt/mine": "mine", "z.txt": "1"}
    assert (out / SUMS).read_text().startswith(HEAD)


def test_a_list_that_points_outside_reaches_nothing(out: Path) -> None:
    victim = out.parent / "victim.txt"
    victim.write_text("1")
    out.mkdir()
    sums = subprocess.run(["sha256sum", victim], capture_output=True, text=True).stdout.split()[0]
    (out / SUMS).write_text(f"{HEAD}\n{sums}  ../victim.txt\n{sums}  {victim}\n")
    (out / "link.txt").symlink_to(victim)
    with pytest.raises(OutputError, match=r"holds link\.txt"):
        write(out, {"a.txt": "2"})
    (out / "link.txt").unlink()
    write(out, {"a.txt": "2"})
    assert victim.read_text() == "1" and held(out) == {"a.txt": "2"}


@pytest.mark.parametrize("text", ["", "not ours", "\udcff"], ids=["empty", "other", "binary"])
def test_a_list_that_is_none_makes_all_foreign(out: Path, text: str) -> None:
    out.mkdir()
    (out / SUMS).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(OutputError, match="holds SHA256SUMS, not written"):
        check_folder(out)


def test_no_folder_to_put_it_in(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*missing"):
        check_folder(tmp_path / "missing" / "out")


def test_a_file_is_no_folder(out: Path) -> None:
    out.write_text("1")
    with pytest.raises(OutputError, match="it is not a folder"):
        write(out, {"a.txt": "1"}, overwrite=True)
