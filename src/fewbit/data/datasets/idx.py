"""IDX files, those of MNIST and Fashion-MNIST, gzipped or not.

    0 0 | type | axes | length of each axis, 4 bytes, most significant first | values
    type 8: bytes, the only one that images and labels use

The sizes that the header speaks of are compared with the file before anything is allocated for them.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewbit.core.writing import writing
from fewbit.data.datasets.bytestream import opened
from fewbit.data.signature import show
from fewbit.errors import DataError

BYTES = 8
"""Type of values."""


def read_idx(path: Path, row: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read the bytes of an IDX file.

    Args:
        row: the shape that each sample must have; () for labels.

    Raises:
        DataError: it is no such file, is cut off, or has another shape.
    """
    with opened(path) as stream:
        magic = bytes(stream.take(4, "the magic"))
        want = bytes([0, 0, BYTES, 1 + len(row)])
        if magic != want:
            raise DataError(
                f"{path} begins with {magic.hex(' ')}; an IDX file of {'images' if row else 'labels'} begins with "
                f"{want.hex(' ')}: 00 00, type 08 (bytes), {want[3]} axes"
            )
        axes = struct.unpack(f">{1 + len(row)}I", stream.take(4 * (1 + len(row)), "the shape"))
        if axes[1:] != row:
            raise DataError(f"{path} has the shape {show(axes)}; it must be {show(('N', *row))}")
        values = stream.take(math.prod(axes), f"an array of shape {show(axes)}")
        if not stream.ended():
            raise DataError(f"{path} goes on after byte {stream.at}, where its array of shape {show(axes)} ends")
    return np.frombuffer(values, np.uint8).reshape(axes)


def write_idx(path: str | Path, values: NDArray[np.uint8]) -> None:
    """Write bytes as an IDX file, gzipped if the name ends in .gz; whole or not at all.

    Raises:
        DataError: the values are no bytes, or have no axis.
    """
    if values.dtype != np.uint8 or not values.ndim:
        raise DataError(f"values of dtype {values.dtype}, shape {show(values.shape)} are no array of uint8")
    raw = bytes([0, 0, BYTES, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    with writing(Path(path)) as draft:
        draft.write_bytes(gzip.compress(raw, 6, mtime=0) if draft.suffix == ".gz" else raw)
