"""Fixtures that several tests of data share."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewbit.data.packing import listed_folder, pack_records
from tests.data.helpers import noise, save


@pytest.fixture
def both(tmp_path: Path) -> tuple[Path, Path]:
    """Nine images of different sizes in three class folders, and the same in a record file."""
    root = tmp_path / "photos"
    for i, name in enumerate(("2/a.png", "2/b.jpg", "2/c.png", "5/d.png", "5/e.jpg", "7/f.bmp", "7/g.png")):
        save(noise(20 + i, 40 - 2 * i, i), root / name)
    pack_records(listed_folder(root), root, tmp_path / "a.rec")
    return root, tmp_path / "a.rec"
