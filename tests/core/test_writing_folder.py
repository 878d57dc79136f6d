"""Folders appear whole or not at all, and nothing is lost that fewbit did not write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fewbit.core.writing_folder import HEAD, SUMS, check_folder, was_written, writing_folder
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
    assert was_written(out) and not was_written(out.parent)
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
    with pytest.raises(
        OutputError, match=r"it holds mine\.txt, not written by fewbit.*allow it with overwrite.*others stay"
    ):
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
    assert not was_written(out)


def test_no_folder_to_put_it_in(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*missing; make it first"):
        check_folder(tmp_path / "missing" / "out")


def test_a_file_is_no_folder(out: Path) -> None:
    out.write_text("1")
    with pytest.raises(OutputError, match="it is not a folder"):
        write(out, {"a.txt": "1"}, overwrite=True)


KILLED = """
import os, pathlib, signal, sys
from fewbit.core.writing_folder import writing_folder
place, moves, rename = pathlib.Path(sys.argv[1]), int(sys.argv[2]), os.rename
def counted(source, to):
    global moves
    if not moves:
        os.kill(os.getpid(), signal.SIGKILL)
    moves -= 1
    rename(source, to)
os.rename = counted
with writing_folder(place) as fresh:
    for name in ("a.txt", "in/c.txt"):
        (fresh / name).parent.mkdir(exist_ok=True)
        (fresh / name).write_text("2")
"""


def killed(out: Path, moves: int) -> None:
    """A run that writes a.txt and in/c.txt, and is killed after so many of its moves."""
    done = subprocess.run([sys.executable, "-c", KILLED, out, str(moves)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


def left(out: Path) -> list[str]:
    return sorted(p.name for p in out.glob(".fewbit-*"))


@pytest.mark.parametrize("moves", range(6))  # three files out, three in
def test_what_a_killed_run_leaves_is_in_nobody_s_way(out: Path, moves: int) -> None:
    write(out, {"a.txt": "1", "b.txt": "1"})
    killed(out, moves)
    assert len(left(out)) == 1
    check_folder(out)
    write(out, {"a.txt": "3"})
    assert held(out) == {"a.txt": "3"} and left(out) == [] and was_written(out)


@pytest.mark.parametrize("moves", [0, 3, 5])
def test_what_a_killed_run_leaves_hides_no_foreign_file(out: Path, moves: int) -> None:
    write(out, {"a.txt": "1", "b.txt": "1"})
    killed(out, moves)
    (out / "in").mkdir(exist_ok=True)
    (out / "in" / "c.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"it holds in/c\.txt, not written"):
        write(out, {"a.txt": "3"})
    assert (out / "in" / "c.txt").read_text() == "mine" and len(left(out)) == 1


def test_what_a_killed_run_leaves_beside_a_new_folder_goes_too(out: Path) -> None:
    killed(out, 0)
    assert not out.exists() and len(left(out.parent)) == 1
    write(out.parent / "other", {"a.txt": "1"})
    assert left(out.parent) == []
    write(out, {"a.txt": "1"})
    killed(out, 2)
    before = left(out)
    write(out / "sub", {"a.txt": "1"})
    assert left(out) == before  # it still tells whose files these are


def work_of(beside: Path, process: int) -> Path:
    """What a run works in that is not yet at its end."""
    work = beside / f".fewbit-{process}-abc"
    (work / "new").mkdir(parents=True)
    (work / "old").mkdir()
    (work / "new" / "run.py").write_text("1")
    return work


def test_where_another_run_writes_no_second_one_does(out: Path) -> None:
    write(out, {"a.txt": "1"})
    work = work_of(out, os.getppid())  # a process that is there
    for overwrite in (False, True):
        with pytest.raises(
            OutputError, match=rf"another run writes there now; wait for it, or remove {work.name} there"
        ):
            write(out, {"a.txt": "2"}, overwrite=overwrite)
    assert (work / "new" / "run.py").is_file() and len(left(out)) == 1
    assert held(out)["a.txt"] == "1"


def test_runs_beside_each_other_leave_each_other_alone(out: Path) -> None:
    work = work_of(out.parent, os.getppid())
    with writing_folder(out) as fresh:
        write(out.parent / "second", {"a.txt": "2"})  # another thread, say
        (fresh / "a.txt").write_text("1")
    assert (out / "a.txt").read_text() == "1" and left(out.parent) == [work.name]


def test_a_killed_run_may_have_had_the_same_number(out: Path) -> None:
    write(out, {"a.txt": "1"})
    work_of(out, os.getpid())
    write(out, {"a.txt": "2"})
    assert held(out) == {"a.txt": "2"} and left(out) == []


@pytest.mark.parametrize("name", [".fewbit-notes/a", ".fewbit-1-a/mine.txt", "sub/.fewbit-x/new/a"])
def test_what_only_looks_like_it_is_foreign(out: Path, name: str) -> None:
    write(out, {"a.txt": "1"})
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    with pytest.raises(OutputError, match="not written by fewbit"):
        write(out, {"a.txt": "2"})
    assert (out / name).read_text() == "mine"
