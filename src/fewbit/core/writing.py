"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fewbit.errors import OutputError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a path in a temporary folder beside `path`; what is written there appears at `path`'s folder at the end.

    Files move one by one in name order, `path` itself last, so that its presence means that all is there.

    Raises:
        OutputError: no such folder, no permission, no space.
    """
    try:
        if path.exists() and not path.is_file():
            raise OutputError(
                f"cannot write {path}: it is {'a folder' if path.is_dir() else 'not a file'}; give another name"
            )
        folder = Path(tempfile.mkdtemp(prefix=".fewbit-", dir=path.parent))
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror or e}") from e
    moved: list[Path] = []
    try:
        yield folder / path.name
        for file in sorted(folder.iterdir(), key=lambda f: (f.name == path.name, f.name)):
            os.replace(file, path.parent / file.name)
            moved.append(path.parent / file.name)
    except BaseException as e:
        for file in moved:  # what came before the file that failed is of no use without it
            file.unlink(missing_ok=True)
        if isinstance(e, OSError):
            raise OutputError(f"cannot write {path}: {e.strerror or e}") from e
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
