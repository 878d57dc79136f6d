"""Folders that appear whole or not at all, and are written anew only over what fewbit wrote itself.

    out/                         no such folder: it is made whole, and takes its name in one step
    out/ empty                   files move in one by one
    out/ all listed, unchanged   the old files go, the new ones move in
    out/ anything else           refused; with `overwrite` files of the same name are replaced, all others stay

SHA256SUMS lists what was written. It goes first and comes last, so that its presence means that all is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fewbit.core.tables import listed
from fewbit.errors import OutputError

SUMS = "SHA256SUMS"
HEAD = "# written by fewbit; to check: sha256sum --check SHA256SUMS"

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
        temporary = Path(tempfile.mkdtemp(prefix=".fewbit-", dir=beside))
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror or e}") from e
    try:
        fresh, aside = temporary / "new", temporary / "old"
        fresh.mkdir()
        aside.mkdir()
        yield fresh
        (fresh / SUMS).write_text(_sums(fresh), "utf-8")
        if place.is_dir():
            check_folder(path, overwrite=overwrite, but=temporary.name)
            _move_in(fresh, place, aside, _ours(place))
        else:
            os.rename(fresh, place)
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror or e}") from e
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder(path: Path, *, overwrite: bool = False, but: str = "") -> None:
    """Refuse what `writing_folder` would refuse, before the work.

    Args:
        but: name of a file or folder in it that does not count.

    Raises:
        OutputError: see there.
    """
    place = Path(os.path.abspath(path))
    if not place.exists() and not place.is_symlink():
        if not place.parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {path.parent}")
        return
    if not place.is_dir():
        raise OutputError(f"cannot write {path}: it is not a folder")
    try:
        ours = _ours(place)
        foreign = [f for f in _inside(place) if f not in ours and f.split("/")[0] != but]
    except OSError as e:
        raise OutputError(f"cannot read {path}: {e.strerror or e}") from e
    if foreign and not overwrite:
        raise OutputError(
            f"cannot write {path}: it holds {listed(foreign)}, not written by fewbit or changed since; give another "
            "folder, or allow it with overwrite: files of the same name are replaced then, all others stay"
        )


def _inside(place: Path) -> list[str]:
    """Files, links and whatever else is no folder, below a folder; links are not followed."""
    found = []
    for folder, inner, names in os.walk(place):
        inner[:] = [i for i in inner if i != MADE_BY_USE]
        links = [i for i in inner if (Path(folder) / i).is_symlink()]
        found += [(Path(folder) / name).relative_to(place).as_posix() for name in (*names, *links)]
    return sorted(found)


def _sums(folder: Path) -> str:
    lines = [f"{_sha256(folder / name)}  {name}" for name in _inside(folder)]
    return "\n".join([HEAD, *lines]) + "\n"


def _ours(place: Path) -> set[str]:
    """Files below a folder that fewbit wrote there, and nobody changed since: the list itself, too."""
    file = place / SUMS
    if file.is_symlink() or not file.is_file():
        return set()
    try:
        head, *lines = file.read_text("utf-8").splitlines() or [""]
    except UnicodeDecodeError:
        return set()
    if head != HEAD:
        return set()
    sums = dict(line.split("  ", 1)[::-1] for line in lines if "  " in line)
    kept = (f for f in _inside(place) if f in sums and not (place / f).is_symlink())
    return {SUMS, *(f for f in kept if (place / f).is_file() and _sha256(place / f) == sums[f])}


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
