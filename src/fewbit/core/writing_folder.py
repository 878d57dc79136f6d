"""Folders that appear whole or not at all, and are written anew only over what fewbit wrote itself.

    out/                         no such folder: it is made whole, and takes its name in one step
    out/ empty                   files move in one by one
    out/ all listed, unchanged   the old files go, the new ones move in
    out/ anything else           refused; with `overwrite` files of the same name are replaced, others stay
                                 (of those that are listed and unchanged none stays: they are what fewbit wrote)

SHA256SUMS lists what was written. It goes first and comes last, so that its presence means that all is there.

Work is done in `.fewbit-<process>-…/new` and `/old`. A run that is killed leaves that behind, with lists that tell
which of the files around are fewbit's: nobody's way is barred, and the next run that succeeds clears it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fewbit.core.tables import listed
from fewbit.errors import OutputError

SUMS = "SHA256SUMS"
HEAD = "# written by fewbit; to check: sha256sum --check SHA256SUMS"

NEW, OLD = "new", "old"
WORK = re.compile(r"\.fewbit-(\d+)-\w+")
"""Name of a folder that work is done in, with the process that does it."""

_at_work: set[str] = set()
"""Names of those that this process works in now."""

MADE_BY_USE = "__pycache__"
"""Folder that running a script leaves; it is in nobody's way."""


@contextlib.contextmanager
def writing_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a fresh folder; what is written there appears as the folder `path` at the end.

    Args:
        overwrite: whether `path` may hold what fewbit did not write.

    Raises:
        OutputError: no folder to put it in, no permission, no space, or `path` holds what must not be lost.
    """
    place = Path(os.path.abspath(path))
    check_folder(path, overwrite=overwrite)
    beside = place if place.is_dir() else place.parent  # on the same file system, so that files can move
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".fewbit-{os.getpid()}-", dir=beside))
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror or e}") from e
    _at_work.add(temporary.name)
    try:
        fresh, aside = temporary / NEW, temporary / OLD
        fresh.mkdir()
        aside.mkdir()
        yield fresh
        (fresh / SUMS).write_text(_sums(fresh), "utf-8")
        if place.is_dir():
            check_folder(path, overwrite=overwrite, but=temporary.name)
            _move_in(fresh, place, aside, _ours(place))
        else:
            os.rename(fresh, place)
        _clear(beside, used=beside == place)
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror or e}") from e
    finally:
        _at_work.discard(temporary.name)
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder(path: Path, *, overwrite: bool = False, but: str = "") -> None:
    """Refuse what `writing_folder` would refuse, before the work.

    Args:
        but: name of the folder in it that work is done in.

    Raises:
        OutputError: see there.
    """
    place = Path(os.path.abspath(path))
    if not place.exists() and not place.is_symlink():
        if not place.parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {path.parent}; make it first")
        return
    if not place.is_dir():
        raise OutputError(f"cannot write {path}: it is not a folder; give another name")
    try:
        busy = next((w for w in place.glob(".fewbit-*") if w.name != but and _is_work(w) and _runs(w)), None)
        ours = _ours(place)
        foreign = [f for f in _inside(place) if f not in ours]
    except OSError as e:
        raise OutputError(f"cannot read {path}: {e.strerror or e}") from e
    if busy is not None:
        raise OutputError(
            f"cannot write {path}: another run writes there now; wait for it, or remove {busy.name} there if none does"
        )
    if foreign and not overwrite:
        raise OutputError(
            f"cannot write {path}: it holds {listed(foreign)}, not written by fewbit or changed since; give another "
            "folder, or allow it with overwrite: files of the same name are replaced then, and so is all that fewbit "
            "wrote there before; others stay"
        )


def _inside(place: Path) -> list[str]:
    """Files, links and whatever else is no folder, below a folder; links are not followed."""
    found = []
    for folder, inner, names in os.walk(place):
        inner[:] = [i for i in inner if i != MADE_BY_USE and not _is_work(Path(folder) / i)]
        links = [i for i in inner if (Path(folder) / i).is_symlink()]
        found += [(Path(folder) / name).relative_to(place).as_posix() for name in (*names, *links)]
    return sorted(found)


def _is_work(folder: Path) -> bool:
    """Whether work is done in a folder, or was until it was killed."""
    named = WORK.fullmatch(folder.name) is not None and not folder.is_symlink()
    return named and {f.name for f in folder.iterdir()} <= {NEW, OLD}


def _clear(beside: Path, *, used: bool) -> None:
    """Remove what runs left behind that were killed.

    Args:
        used: whether `beside` has just been written; if not, what still tells whose its files are has to stay.
    """
    for folder in sorted(beside.glob(".fewbit-*")):
        with contextlib.suppress(OSError):  # that of another run, which has come to its end meanwhile
            if _is_work(folder) and not _runs(folder) and (used or not any((folder / OLD).iterdir())):
                shutil.rmtree(folder, ignore_errors=True)


def _runs(folder: Path) -> bool:
    """Whether the process that made a folder to work in is there, or may be."""
    found = WORK.fullmatch(folder.name)
    if found and int(found[1]) == os.getpid():
        return folder.name in _at_work  # in containers, one run has the number of another
    if found is None or os.name != "posix":  # elsewhere, to ask whether a process is there ends it
        return True
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _sums(folder: Path) -> str:
    lines = [f"{_sha256(folder / name)}  {name}" for name in _inside(folder)]
    return "\n".join([HEAD, *lines]) + "\n"


def was_written(place: Path) -> bool:
    """Whether a folder was made by `writing_folder`, whatever became of its files."""
    try:
        return bool(_lines(place / SUMS))
    except OSError:
        return False


def written(place: Path) -> set[str]:
    """Files below a folder that `writing_folder` wrote there and nobody changed: they go when it is written anew."""
    return _ours(place) if place.is_dir() else set()


def _lines(file: Path) -> list[str]:
    """A list of sums, its head included; nothing if it is no list of ours."""
    if file.is_symlink() or not file.is_file():
        return []
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        return []
    return lines if lines[:1] == [HEAD] else []


def _ours(place: Path) -> set[str]:
    """Files below a folder that fewbit wrote there, and nobody changed since: the list itself, too."""
    known: dict[str, set[str]] = {}
    lists = [place, *(work / part for work in place.glob(".fewbit-*") if _is_work(work) for part in (OLD, NEW))]
    for line in (line for folder in lists for line in _lines(folder / SUMS) if "  " in line):
        sha, name = line.split("  ", 1)
        known.setdefault(name, set()).add(sha)
    kept = (f for f in _inside(place) if f in known and not (place / f).is_symlink())
    ours = {f for f in kept if (place / f).is_file() and _sha256(place / f) in known[f]}
    return ours | {SUMS} if _lines(place / SUMS) else ours


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _move_in(fresh: Path, place: Path, aside: Path, ours: set[str]) -> None:
    """Put the new files in place of the old ones; all is as it was if one of them cannot be moved."""
    new = sorted(_inside(fresh), key=lambda f: (f == SUMS, f))
    out = sorted(ours | {f for f in new if os.path.lexists(place / f)}, key=lambda f: (f != SUMS, f))
    moves = [*((place / f, aside / f) for f in out), *((fresh / f, place / f) for f in new)]
    done: list[tuple[Path, Path]] = []
    try:
        for source, to in moves:
            if source.is_dir() and not source.is_symlink():
                raise OutputError(f"cannot write {source}: it is a folder")
            to.parent.mkdir(parents=True, exist_ok=True)
            os.rename(source, to)
            done.append((source, to))
    except BaseException:
        for source, to in reversed(done):
            os.rename(to, source)
        raise
    for folder in sorted({(place / f).parent for f in out} - {place}, reverse=True):
        with contextlib.suppress(OSError):  # one that is not empty stays
            folder.rmdir()
