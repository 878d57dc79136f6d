"""The parameter files of MXNet 2: .npz (an array a member, a sparse one a folder of members) and .npy.

    arg:w.npy                                                       'arg:w'
    arg:e/data.npy, indices.npy, shape.npy, format.npy              'arg:e', row_sparse
    arg:e/data.npy, indices.npy, indptr.npy, shape.npy, format.npy  'arg:e', csr

Headers are matched, not evaluated; nothing is unpickled. A file that unpacks to far more than it holds is refused
before it is unpacked.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import ModelFormatError, UnsupportedModel
from fewbit.frontends.mxnet import dense
from fewbit.frontends.mxnet.dense import plausible, raw_bytes, widen

Array = NDArray[Any]

ROW_SPARSE = {"data", "indices", "shape", "format"}
CSR = ROW_SPARSE | {"indptr"}

HEADER = re.compile(
    r"\{'descr': ('[<>|=][fiub][1248]'|\[\('bfloat16', '<u2'\)\]), 'fortran_order': (True|False), "
    r"'shape': \(((?:[0-9]{1,18}(?:, ?|(?=\))))*)\),? ?\}[ \n]*"
)
UNPACK = 4 << 30
"""Bytes that a file may always unpack to; more only if it is no more than `RATIO` times its size."""
RATIO = 16
CHUNK = 1 << 20


def is_npz(start: bytes) -> bool:
    """Whether a file that starts so is a zip file."""
    return start[:4] in {b"PK\3\4", b"PK\5\6", b"PK\7\x08"}


def is_npy(start: bytes) -> bool:
    """Whether a file that starts so is a .npy file."""
    return start[:4] == b"\x93NUM"


def read_npy(file: IO[bytes], what: str) -> Array:
    """Read a .npy file."""
    size = file.seek(0, 2)
    file.seek(0)
    return _read(file, size, what)


def read_npz(file: IO[bytes], path: Path) -> dict[str, Array]:
    """Read the arrays of an .npz file; sparse ones become dense."""
    try:
        with zipfile.ZipFile(file) as z:
            return _members(z, file.seek(0, 2), path)
    except (EOFError, ValueError, zlib.error, zipfile.BadZipFile, struct.error, RuntimeError, NotImplementedError) as e:
        raise ModelFormatError(f"{path} is not a readable .npz file: {e}") from e


def _members(z: zipfile.ZipFile, size: int, path: Path) -> dict[str, Array]:
    infos = _infos(z, size, path)
    room = dense.Allowance(dense.MOST_BYTES)
    folders: dict[str, set[str]] = {}
    for key in infos:
        folder, _, name = key.rpartition("/")
        folders.setdefault(folder, set()).add(name)

    def member(key: str, read: Callable[[IO[bytes], int, str], Any] = _read) -> Any:
        with z.open(infos[key]) as stream:
            return read(stream, infos[key].file_size, f"{path}: member {infos[key].filename!r}")

    out: dict[str, Array] = {}
    for key in infos:
        folder, slash, _ = key.rpartition("/")
        if folders[folder] not in (ROW_SPARSE, CSR):
            out[key] = member(key)
        elif folder not in out:
            out[folder] = _sparse(partial(_inside, member, folder + slash), room, f"{path}: {folder!r}")
    return out


def _inside(member: Callable[..., Any], folder: str, name: str, *read: Any) -> Any:
    return member(folder + name, *read)


def _infos(z: zipfile.ZipFile, size: int, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members by key, checked as far as the directory of the file tells."""
    infos: dict[str, zipfile.ZipInfo] = {}
    for info in z.infolist():
        if info.is_dir():
            continue
        if not info.filename.endswith(".npy"):
            raise ModelFormatError(
                f"{path}: member {info.filename!r} is no array; an .npz file holds .npy members only"
            )
        if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ModelFormatError(
                f"{path}: member {info.filename!r} is packed by method {info.compress_type}; allowed are 0 (not "
                "packed) and 8 (deflate)"
            )
        key = info.filename.removesuffix(".npy")
        if key in infos:
            raise ModelFormatError(f"{path} has two members {info.filename!r}; the file is damaged")
        infos[key] = info
    unpacked = sum(info.file_size for info in infos.values())
    if unpacked > max(UNPACK, RATIO * size):
        raise UnsupportedModel(
            f"{path} has {size} bytes and would unpack to {unpacked}; fewbit unpacks at most {UNPACK} bytes, or "
            f"{RATIO} times the size of the file. Save it again without compression if it is what it should be"
        )
    return infos


def _sparse(member: Callable[..., Any], room: dense.Allowance, what: str) -> Array:
    form = member("format", _text)
    dims = member("shape")
    if dims.ndim != 1 or dims.dtype.kind not in "iu" or not 1 <= dims.size <= dense.MOST_AXES or dims.min() < 0:
        raise ModelFormatError(f"{what} is damaged: its shape is {dims.tolist() if dims.size < 40 else dims.shape}")
    shape = tuple(dims.tolist())
    if form == "row_sparse":
        return dense.from_rows(member("data"), member("indices"), shape, room, what)
    if form == "csr":
        return dense.from_csr(member("data"), member("indptr"), member("indices"), shape, room, what)
    raise ModelFormatError(f"{what} is a sparse array of format {form!r}; MXNet has 'row_sparse' and 'csr'")


def _text(stream: IO[bytes], size: int, what: str) -> str:
    """The word in format.npy. Its header is skipped: MXNet writes one that numpy cannot read either."""
    _header_text(stream, what)
    return stream.read(64).replace(b"\0", b"").decode("ascii", "replace").strip()


def _read(stream: IO[bytes], size: int, what: str) -> Array:
    """The array of a .npy stream of `size` bytes: one of its own, C order, aligned, writable."""
    text, used = _header_text(stream, what)
    shape, fortran, dtype, bfloat16 = _header(text, what)
    if math.prod(shape) * dtype.itemsize != size - used:
        raise ModelFormatError(
            f"{what} has {size - used} bytes of values, but an array of shape {shape} and type {dtype} takes "
            f"{math.prod(shape) * dtype.itemsize}; the file is cut off or damaged"
        )
    out = np.empty(shape[::-1] if fortran else shape, dtype)
    view = raw_bytes(out)
    at = 0
    while at < len(view) and (chunk := stream.read(min(CHUNK, len(view) - at))):
        view[at : at + len(chunk)] = chunk
        at += len(chunk)
    if at < len(view):
        raise ModelFormatError(f"{what} ends after {at} of {len(view)} bytes; the file is cut off or damaged")
    if fortran:
        out = np.ascontiguousarray(out.transpose())
    if bfloat16:
        return widen(out)
    return out if dtype.isnative else out.astype(dtype.newbyteorder("="))


def _header_text(stream: IO[bytes], what: str) -> tuple[str, int]:
    """The header of a .npy stream, and the bytes before the values."""
    start = stream.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:] not in {b"\1\0", b"\2\0"}:
        raise ModelFormatError(f"{what} is not a .npy array: it starts with {start!r}")
    form = "<H" if start[6] == 1 else "<I"
    raw = stream.read(struct.calcsize(form))
    length = struct.unpack(form, raw)[0] if len(raw) == struct.calcsize(form) else -1
    text = stream.read(length) if 0 <= length <= 1 << 16 else b""
    if not text or len(text) != length:
        raise ModelFormatError(f"{what} is not a .npy array: its header is cut off or too long")
    return text.decode("latin1"), 8 + len(raw) + length


def _header(text: str, what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], bool]:
    match = HEADER.fullmatch(text)
    try:
        word = match[1].strip("'") if match else ""
        bfloat16 = word.startswith("[")
        dtype = np.dtype("<u2" if bfloat16 else word)
        if match is None:
            raise TypeError
    except TypeError as e:
        raise ModelFormatError(f"{what} is no array of numbers that MXNet knows: its header is {text[:200]!r}") from e
    shape = tuple(int(d) for d in match[3].replace(",", " ").split())
    if not plausible(shape):
        raise ModelFormatError(f"{what} is damaged: its shape is {shape[:40]}")
    return shape, match[2] == "True", dtype, bfloat16
