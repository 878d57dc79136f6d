"""Rows of .npy and .npz files, read when they are wanted.

    .npy, stored .npz member       read in place, or mapped and unmapped: the process does not grow with the file
    compressed .npz member         decompressed as far as the read goes; in order, each byte is decompressed once
    compressed and out of order    loaded whole (shuffle, Fortran order)

Pickled objects are never loaded.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO, Any, Protocol

import numpy as np

from fewbit.data.base import Array
from fewbit.errors import DataError

Index = slice | Array

MOST = 2**48
"""Values that a header may speak of: more than fit into any memory, and few enough for numpy."""


class Table(Protocol):
    """An array whose rows can be taken."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its axes; the first counts rows."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its element type."""

    def take(self, index: Index) -> Array:
        """The rows of a slice, or of an array of row numbers."""


@dataclass(frozen=True, eq=False)
class MemoryTable:
    """Rows of an array in memory."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Table`."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """See `Table`."""
        return self.array.dtype

    def take(self, index: Index) -> Array:
        """See `Table`; a slice is a view."""
        x: Array = self.array[index]
        return x


@dataclass(frozen=True, eq=False)
class FileTable:
    """Rows that lie uncompressed in a file, from byte `offset` on."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str

    def take(self, index: Index) -> Array:
        """See `Table`; a copy."""
        try:
            if isinstance(index, slice) and self.order == "C":  # cheaper than mapping, which counts for small rows
                a, b, _ = index.indices(self.shape[0])
                row = math.prod(self.shape[1:])
                x = np.fromfile(
                    self.path, self.dtype, (b - a) * row, offset=self.offset + a * row * self.dtype.itemsize
                )
                return x.reshape(b - a, *self.shape[1:])
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)  # type: ignore[call-overload]
        except (OSError, ValueError) as e:
            raise DataError(f"cannot read {self.path}: {e}") from e
        return np.array(mapped[index])


class PackedTable:
    """Rows of a compressed member of a zip file; cheap in ascending order."""

    def __init__(self, path: Path, member: str, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int) -> None:
        self.path, self.member, self.shape, self.dtype = path, member, shape, dtype
        self._offset = offset
        self._lock = Lock()
        with zipfile.ZipFile(path) as z:
            self._stream = z.open(member)

    def take(self, index: Index) -> Array:
        """See `Table`; a copy."""
        rows = range(*index.indices(self.shape[0])) if isinstance(index, slice) else index.tolist()
        with self._lock:
            return np.stack([self._row(r) for r in rows])

    def _row(self, r: int) -> Array:
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        try:
            self._stream.seek(self._offset + r * size)
            raw = self._stream.read(size)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as e:
            raise DataError(f"{self.path}: member {self.member!r} is damaged at sample {r}: {e}") from e
        if len(raw) != size:
            raise DataError(f"{self.path}: member {self.member!r} ends at sample {r} of {self.shape[0]}")
        return np.frombuffer(raw, self.dtype).reshape(self.shape[1:])


def open_npy(path: Path) -> Table:
    """Open a .npy file without reading its values.

    Raises:
        DataError: it is damaged, or holds objects.
    """
    with _opened(path) as f:
        return _table(f, path, str(path))


def open_npz(path: Path, *, in_order: bool) -> dict[str, Table]:
    """Open the members of an .npz file without reading their values.

    Args:
        in_order: rows will be taken in ascending order.

    Raises:
        DataError: it is damaged, or a member is no array or holds objects.
    """
    try:
        with zipfile.ZipFile(path) as z, _opened(path) as f:
            return {i.filename.removesuffix(".npy"): _member(z, i, f, path, in_order) for i in z.infolist()}
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, struct.error, RuntimeError, NotImplementedError) as e:
        raise DataError(f"{path} is not a readable .npz file: {e}") from e


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as e:
        raise DataError(f"cannot read {path}: {e}") from e


def _member(z: zipfile.ZipFile, info: zipfile.ZipInfo, f: IO[bytes], path: Path, in_order: bool) -> Table:
    what = f"{path}: member {info.filename!r}"
    if not info.filename.endswith(".npy"):
        raise DataError(f"{what} is no array; an .npz file holds .npy members only")
    if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
        f.seek(info.header_offset + 26)  # the local header may have another extra field than the directory
        name, extra = struct.unpack("<HH", f.read(4))
        f.seek(info.header_offset + 30 + name + extra)
        return _table(f, path, what)
    with z.open(info) as stream:
        shape, fortran, dtype = _header(stream, what)
        _check_size(shape, dtype, info.file_size - stream.tell(), what)
        if in_order and not fortran and shape:
            return PackedTable(path, info.filename, shape, dtype, stream.tell())
    with z.open(info) as stream:
        try:
            return MemoryTable(np.lib.format.read_array(stream, allow_pickle=False))
        except ValueError as e:
            raise DataError(f"{what} is damaged: {e}") from e


def _table(f: IO[bytes], path: Path, what: str) -> Table:
    """The array whose .npy header `f` stands at."""
    shape, fortran, dtype = _header(f, what)
    offset = f.tell()
    _check_size(shape, dtype, f.seek(0, 2) - offset, what)
    if not math.prod(shape) * dtype.itemsize:
        return MemoryTable(np.empty(shape, dtype))
    if not shape:  # a single value has no rows to take
        f.seek(offset)
        return MemoryTable(np.frombuffer(f.read(dtype.itemsize), dtype).reshape(()))
    return FileTable(path, offset, shape, dtype, "F" if fortran else "C")


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], size: int, what: str) -> None:
    """Refuse a header that speaks of more than the `size` bytes behind it, before anything is allocated for it."""
    if not 0 <= math.prod(shape) * dtype.itemsize <= size:
        raise DataError(f"{what} is cut off: it should hold an array of shape {shape}")


def _header(f: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(f)
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(f)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(f)
        else:
            raise ValueError(f"format version {version}")
    except ValueError as e:
        raise DataError(f"{what} is not a .npy array: {e}") from e
    if min(shape, default=0) < 0 or math.prod(d for d in shape if d) > MOST:
        raise DataError(f"{what} is damaged: its shape is {shape}")
    if dtype.hasobject:
        raise DataError(f"{what} holds pickled Python objects, which could run code; save it with a number dtype")
    return shape, fortran, dtype
