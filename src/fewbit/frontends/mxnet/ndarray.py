"""MXNet's parameter files: a list of arrays, and their names.

    u64 0x112 | u64 0 | u64 count | count x array | u64 names | names x (u64 length, utf-8)

An array starts with a u32 that says its layout; the newest one comes first:

    V3  as V2; no axes is one value, an unknown axis (-1) no array at all       MXNet under np-shape
    V2  i32 storage | [sparse: shape of the values] | shape | place, dtype | [sparse: dtype, shape of each index]
        | values | [sparse: each index]
    V1  shape | place, dtype | values
    else the u32 is the number of axes | u32 each | place, dtype | values       before V1

    shape: i32 axes, i64 each      place: i32 device, i32 number (ignored)      no axes: no array, nothing follows

Sparse arrays become dense, bfloat16 becomes float32 (exactly). MXNet 2 writes .npz and .npy instead (`npz.py`); what a
file is stands in its first four bytes, not in its name. A number in a file is believed only as far as there are bytes
for it: nothing is allocated before.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.writing import writing
from fewbit.errors import ModelFormatError, UnsupportedModel
from fewbit.frontends.mxnet import dense, npz
from fewbit.frontends.mxnet.dense import MOST_AXES, plausible, raw_bytes, widen

Array = NDArray[Any]

MAGIC = 0x112
V1, V2, V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
CPU = struct.pack("<ii", 1, 0)

MOST_ARRAYS = 1 << 20

BFLOAT16 = 12
DTYPES = {
    0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool",
    8: "int16", 9: "uint16", 10: "uint32", 11: "uint64", BFLOAT16: "bfloat16",
}  # fmt: skip
NUMBERS = {name: number for number, name in DTYPES.items()}
INDEXES = {0: 0, 1: 1, 2: 2}
"""Storage (dense, row_sparse, csr) → how many index arrays it has."""


@dataclass(frozen=True)
class Params:
    """The parameters of a network.

    Args:
        args: weights by name.
        auxs: what training measured (means and variances) by name.
        prefixed: the file told the two apart. If not (Gluon's save_parameters), all are in `args`.
    """

    args: dict[str, Array]
    auxs: dict[str, Array]
    prefixed: bool


def load_params(path: str | os.PathLike[str]) -> Params:
    """Read the parameters of a network: `load_ndarrays`, split by the prefixes `arg:` and `aux:`.

    Raises:
        ModelFormatError, UnsupportedModel: see `load_ndarrays`; also if only some names have a prefix.
    """
    arrays = load_ndarrays(path)
    bare = [key for key in arrays if not key.startswith(("arg:", "aux:"))]
    if bare and len(bare) < len(arrays):
        raise ModelFormatError(
            f"{path}: {len(arrays) - len(bare)} names start with arg: or aux:, but {len(bare)} do not, such as "
            f"{bare[0]!r}; a parameter file has either all or none"
        )
    if bare:
        return Params(arrays, {}, prefixed=False)
    args, auxs = ({k[4:]: v for k, v in arrays.items() if k.startswith(prefix)} for prefix in ("arg:", "aux:"))
    return Params(args, auxs, prefixed=True)


def save_params(path: str | os.PathLike[str], args: Mapping[str, Array], auxs: Mapping[str, Array]) -> None:
    """Write the parameters of a network with the prefixes `arg:` and `aux:`; see `save_ndarrays`."""
    prefixed = [(f"arg:{k}", v) for k, v in args.items()] + [(f"aux:{k}", v) for k, v in auxs.items()]
    save_ndarrays(path, dict(prefixed))


def load_ndarrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the arrays of a parameter file, by their names as stored; "0", "1", … if it has no names.

    Raises:
        ModelFormatError: no such file, no parameter file, or a damaged one; says which array, and what is wrong.
        UnsupportedModel: sparse arrays that would unfold to more than a machine should be asked for.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)
            file.seek(0)
            if npz.is_npy(start):
                return {"0": npz.read_npy(file, f"{path}")}
            if npz.is_npz(start):
                return npz.read_npz(file, path)
            return _read_list(_Cursor(file, os.fstat(file.fileno()).st_size, f"{path}"))
    except OSError as e:
        raise ModelFormatError(f"cannot read {path}: {e.strerror or e}") from e


@dataclass
class _Cursor:
    """A place in a file, and what is being read there."""

    file: io.BufferedReader
    left: int
    what: str

    def take(self, form: str, of: str) -> tuple[Any, ...]:
        """The next numbers."""
        size = struct.calcsize(form)
        self.need(size, of)
        data = self.file.read(size)
        if len(data) != size:
            raise self.error(f"the file ends in {of}")
        self.left -= size
        return struct.unpack(form, data)

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any], of: str) -> Array:
        """The next array: one of its own, C order, aligned, writable."""
        size = math.prod(shape) * dtype.itemsize
        self.need(size, f"{of} of shape {shape} and type {dtype}")
        out = np.empty(shape, dtype)
        if size and self.file.readinto(raw_bytes(out)) != size:
            raise self.error(f"the file ends in {of}")
        self.left -= size
        return out

    def need(self, size: int, of: str) -> None:
        """Refuse what the file has no bytes for."""
        if size > self.left:
            raise self.error(f"{of} should take {size} bytes, but only {self.left} are left in the file")

    def error(self, text: str) -> ModelFormatError:
        return ModelFormatError(f"{self.what}: {text}; the file is cut off or damaged")


def _read_list(c: _Cursor) -> dict[str, Array]:
    path = c.what
    if c.left < 24 or (start := c.take("<QQ", "the header"))[0] != MAGIC:
        raise ModelFormatError(
            f"{path} is not a parameter file of MXNet: it is neither a list of arrays (first byte 0x12, second 0x01) "
            "nor .npy or .npz"
        )
    if start[1]:
        raise c.error(f"the second number of the header is {start[1]}, which must be 0")
    (count,) = c.take("<Q", "the number of arrays")
    c.need(4 * count, f"a list of {count} arrays")
    if count > MOST_ARRAYS:
        raise c.error(f"it should hold {count} arrays; a parameter file has at most {MOST_ARRAYS}")
    arrays, room = [], dense.Allowance(dense.MOST_BYTES)
    for i in range(count):
        c.what = f"{path}: array {i} of {count}"
        arrays.append(_read_array(c, room))
    c.what = path
    keys = _read_keys(c, count)
    if c.left:
        raise c.error(f"{c.left} bytes follow after the last name")
    return dict(zip(keys, arrays, strict=True))


def _read_keys(c: _Cursor, count: int) -> list[str]:
    (names,) = c.take("<Q", "the number of names")
    if names not in {0, count}:
        raise c.error(f"{names} names for {count} arrays")
    keys: dict[str, None] = {}
    for i in range(names):
        (length,) = c.take("<Q", f"the name of array {i}")
        c.need(length, f"the name of array {i}")
        (raw,) = c.take(f"<{length}s", f"the name of array {i}")
        try:
            key = raw.decode()
        except UnicodeDecodeError as e:
            raise c.error(f"the name of array {i} is not utf-8: {raw[:80]!r}") from e
        if key in keys:
            raise c.error(f"array {i} has the name {key!r}, as one before it")
        keys[key] = None
    return list(keys) if names else [str(i) for i in range(count)]


def _read_array(c: _Cursor, room: dense.Allowance) -> Array:
    (magic,) = c.take("<I", "the layout")
    storage = 0
    values: tuple[int, ...] | None = None
    if magic in {V2, V3}:
        (storage,) = c.take("<i", "the storage")
        if storage in {1, 2}:
            values = _read_shape(c)
        elif storage not in {-1, 0}:
            raise c.error(f"its storage is {storage}; allowed are 0 (dense), 1 (row_sparse) and 2 (csr)")
    old = magic not in {V1, V2, V3}
    shape = _read_shape(c, magic if old else None, unknown=magic == V3)
    if shape is None or (not shape and magic != V3):
        return np.empty(0, np.float32)
    _, _, number = c.take("<iii", "place and dtype")
    if storage == -1:
        raise c.error("its storage is -1 (undefined), but it has values")
    if not storage:
        return _read_values(c, shape, number)
    return _read_sparse(c, values or (), shape, number, INDEXES[storage], room)


def _read_sparse(
    c: _Cursor, values: tuple[int, ...], shape: tuple[int, ...], number: int, indexes: int, room: dense.Allowance
) -> Array:
    heads = []
    for _ in range(indexes):
        (kind,) = c.take("<i", "the dtype of an index")
        heads.append((kind, _read_shape(c) or ()))
    if indexes == 2 and values == (0,):  # MXNet may write a csr array before it knows the number of its values
        values = heads[1][1]
    data = _read_values(c, values, number)
    index = [_read_values(c, at, kind) for kind, at in heads]
    if indexes == 1:
        return dense.from_rows(data, index[0], shape, room, c.what)
    return dense.from_csr(data, index[0], index[1], shape, room, c.what)


def _read_shape(c: _Cursor, axes: int | None = None, *, unknown: bool = False) -> tuple[int, ...] | None:
    """A shape; None if it is unknown. `axes`: the layout before V1, where their number is read already."""
    old = axes is not None
    if axes is None:
        (axes,) = c.take("<i", "the number of axes")
    if unknown and axes == -1:
        return None
    if not 0 <= axes <= MOST_AXES:
        raise c.error(f"its number of axes is {axes}; allowed are 0 to {MOST_AXES}")
    shape = c.take(f"<{axes}{'I' if old else 'q'}", "the shape")
    if unknown and min(shape, default=0) == -1:
        return None
    if not plausible(shape):
        raise c.error(f"its shape is {shape}")
    return shape


def _read_values(c: _Cursor, shape: tuple[int, ...], number: int) -> Array:
    if number not in DTYPES:
        raise c.error(f"its dtype is {number}; allowed are {', '.join(f'{n} ({d})' for n, d in DTYPES.items())}")
    if number == BFLOAT16:
        return widen(c.array(shape, np.dtype("<u2"), "bfloat16 values"))
    return c.array(shape, np.dtype(DTYPES[number]).newbyteorder("<"), "an array")


def save_ndarrays(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays as MXNet 1.x does, in the layout V2; in V3 if one has no axes, which V2 cannot tell from nothing.

    MXNet reads V3 under np-shape only (`mx.npx.set_np()`), and before 2.0 no int16, uint16, uint32 and uint64.

    Raises:
        UnsupportedModel: an array of a type that MXNet does not have; nothing is written.
        OutputError: the file cannot be written; nothing is left behind.
    """
    path = Path(path)
    for key, array in arrays.items():
        if array.dtype.name not in NUMBERS:
            raise UnsupportedModel(
                f"cannot write {path}: array {key!r} is {array.dtype}, for which MXNet has no number; "
                f"convert it to one of {', '.join(NUMBERS)}"
            )
    with writing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<QQQ", MAGIC, 0, len(arrays)))
        magic = V2 if all(a.ndim for a in arrays.values()) else V3
        for array in arrays.values():
            _write_array(file, array, magic)
        file.write(struct.pack("<Q", len(arrays)))
        for key in arrays:
            raw = key.encode()
            file.write(struct.pack("<Q", len(raw)) + raw)


def _write_array(file: IO[bytes], array: Array, magic: int) -> None:
    data = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    shape = struct.pack(f"<i{data.ndim}q", data.ndim, *data.shape)
    file.write(struct.pack("<Ii", magic, 0) + shape + CPU)
    file.write(struct.pack("<i", NUMBERS[array.dtype.name]))
    file.write(raw_bytes(data))
