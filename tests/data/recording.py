"""Record files for tests: those of MXNet, and made-up ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.data.imagelist import RecordHeader, pack_header
from fewbit.data.recordio import RecordWriter
from tests.data.helpers import noise

REC = Path(__file__).parents[1] / "golden" / "mxnet" / "rec"


def png(seed: int = 0, height: int = 4, width: int = 6) -> bytes:
    stream = io.BytesIO()
    noise(height, width, seed).save(stream, "PNG")
    return stream.getvalue()


def records(path: Path, labels: Any, contents: Any = None) -> Path:
    """A record file with one image for each of `labels`; ids from 40."""
    with RecordWriter(path) as out:
        for i, y in enumerate(labels):
            content = png(i) if contents is None else contents[i]
            out.write(pack_header(RecordHeader(tuple(np.atleast_1d(y).tolist()), i + 40), content))
    return path
