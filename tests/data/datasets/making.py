"""Files as the sets are handed out: pickles of Python 2, CIFAR records, tar archives, ImageNet folders."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.data.helpers import noise, save

Array = np.ndarray[Any, Any]


class Python2:
    """Assembles the stream that cPickle of Python 2 writes with protocol 2."""

    def __init__(self) -> None:
        self._out = bytearray(b"\x80\x02")
        self._memo = 0

    def dump(self, value: Any) -> bytes:
        self._add(value)
        return bytes(self._out + b".")

    def _put(self) -> None:
        self._out += b"q" + bytes([self._memo]) if self._memo < 256 else b"r" + struct.pack("<I", self._memo)
        self._memo += 1

    def _add(self, value: Any) -> None:
        out = self._out
        if isinstance(value, bool) or value is None:
            out += {True: b"\x88", False: b"\x89", None: b"N"}[value]
        elif isinstance(value, int):
            if 0 <= value < 2**16:
                out += b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)
            else:
                out += b"J" + struct.pack("<i", value)
        elif isinstance(value, bytes):
            out += (
                b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value
            )
            self._put()
        elif isinstance(value, list):
            out += b"]"
            self._put()
            for a in range(0, len(value), 1000):
                out += b"("
                for item in value[a : a + 1000]:
                    self._add(item)
                out += b"e"
        elif isinstance(value, dict):
            out += b"}"
            self._put()
            out += b"("
            for key, item in value.items():
                self._add(key)
                self._add(item)
            out += b"u"
        else:
            self._array(value)

    def _array(self, x: Array) -> None:
        out = self._out
        out += b"cnumpy.core.multiarray\n_reconstruct\n"
        self._put()
        out += b"cnumpy\nndarray\n"
        self._put()
        out += b"K\x00\x85"
        self._put()
        self._add(b"b")
        out += b"\x87"
        self._put()
        out += b"R"
        self._put()
        out += b"(K\x01"
        for n in x.shape:
            self._add(n)
        out += {1: b"\x85", 2: b"\x86", 3: b"\x87"}[x.ndim]
        self._put()
        out += b"cnumpy\ndtype\n"
        self._put()
        self._add(x.dtype.str[1:].encode())
        out += b"K\x00K\x01\x87"
        self._put()
        out += b"R"
        self._put()
        out += b"(K\x03"
        self._add(x.dtype.str[:1].encode())
        out += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00t"
        self._put()
        out += b"b"
        fortran = x.flags.f_contiguous and not x.flags.c_contiguous
        self._add(fortran)
        self._add(x.tobytes("F" if fortran else "C"))
        out += b"t"
        self._put()
        out += b"b"


def python2(value: Any) -> bytes:
    return Python2().dump(value)


def pixels(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), np.uint8)


def cifar_binary(rows: Array, *labels: Array) -> bytes:
    return np.concatenate([np.stack(labels, 1).astype(np.uint8), rows], 1).tobytes()


def cifar_python(rows: Array, **labels: Array) -> bytes:
    names = [b"image_%04d.png" % i for i in range(len(rows))]
    held = {b"data": rows, b"batch_label": b"testing batch 1 of 1", b"filenames": names}
    return python2(held | {k.encode(): v.tolist() for k, v in labels.items()})


def write_tar(path: Path, members: Mapping[str, bytes | tarfile.TarInfo], mode: str = "w:gz") -> Path:
    """A member is its bytes, or what tarfile says of a link or folder."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = 1234567890.5  # type: ignore[assignment]  # a fraction: a header of its own precedes the member
            tar.addfile(info, io.BytesIO(content))
    return path


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_images(folder: Path, *names: str) -> Path:
    """Images of different sizes."""
    for i, name in enumerate(names):
        save(noise(300 + 10 * i, 280 + 30 * i, i), folder / name, format="PNG")
    return folder
