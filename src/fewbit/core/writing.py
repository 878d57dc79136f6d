"""Files that appear whole or not at all, and take nothing with them if they do not."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from fewbit.errors import OutputError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a path in a temporary folder beside `path`; what is written there appears at `path`'s folder at the end.

    Files move one by one in name order, `path` itself last, so that its presence means that all is there. If one of
    them cannot move, those before it go again, and what they had replaced is put back.

    Raises:
        OutputError: no such folder, no permission, no space, or something in the way that is not a file.
    """
    try:
        _check(path)
        folder = Path(tempfile.mkdtemp(prefix=".fewbit-", dir=path.parent))
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror or e}") from e
    kept: Path | None = None
    try:
        yield folder / path.name
        files = sorted(folder.iterdir(), key=lambda f: (f.name == path.name, f.name))
        targets = [path.parent / file.name for file in files]
        for target in targets:
            _check(target)
        kept = Path(tempfile.mkdtemp(dir=folder)) if len(files) > 1 else None
        _move(files, targets, kept)
        kept = None
    except OSError as e:
        lost = f"; what it was to replace is in {kept}" if _holds(kept) else ""
        raise OutputError(f"cannot write {path}: {e.strerror or e}{lost}") from e
    finally:
        if not _holds(kept):
            shutil.rmtree(folder, ignore_errors=True)


def _check(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise OutputError(
            f"cannot write {path}: it is {'a folder' if path.is_dir() else 'not a file'}; give another name"
        )


def _move(files: Sequence[Path], targets: Sequence[Path], kept: Path | None) -> None:
    """Put new files in place of old ones, one by one; all is as it was if one of them cannot be moved.

    Args:
        kept: an empty folder for what is replaced, but for what the last one replaces: after it all is done.
    """
    try:
        for i, (file, target) in enumerate(zip(files, targets, strict=True)):
            if kept is not None and i < len(files) - 1 and os.path.lexists(target):
                _keep(target, kept / file.name)
            os.replace(file, target)
    except BaseException:  # Ctrl-C as well; what has happened is told by what lies where
        if kept is not None and not os.path.lexists(files[-1]):
            shutil.rmtree(kept, ignore_errors=True)  # all of it is there
        elif kept is not None:
            for file, target in reversed(list(zip(files, targets, strict=True))):
                old = kept / file.name
                if os.path.lexists(old):
                    os.replace(old, target)
                    old.unlink(missing_ok=True)  # two names of one file are not renamed
                elif not os.path.lexists(file):
                    target.unlink(missing_ok=True)
        raise


def _keep(file: Path, old: Path) -> None:
    """Give a file a second name, so that the first one is never without it; where there are none, another name."""
    try:
        os.link(file, old, follow_symlinks=False)
    except (OSError, NotImplementedError):
        os.rename(file, old)


def _holds(folder: Path | None) -> bool:
    """Whether there is something in a folder that must not go."""
    return folder is not None and folder.is_dir() and any(folder.iterdir())
