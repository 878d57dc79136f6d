"""Record files of MXNet: .rec, one record after another, and .idx, where each begins.

    .rec   [magic | kind·2²⁹ + length | part | zeros up to a multiple of 4]  again and again
           kind: 0 whole   1 first part   2 middle   3 last; between parts stands the magic, which the writer cut out
    .idx   key TAB offset                       a line a record

Every length is compared with what is left of the file before anything is read; a file is never read as a whole.
"""

from __future__ import annotations

import contextlib
import struct
import warnings
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from fewbit.core.writing import writing
from fewbit.errors import DataError, FewbitWarning, OutputError, UsageError

MAGIC = b"\x0a\x23\xd7\xce"
FRAME = struct.Struct("<4sI")
LONGEST = 2**29 - 1
"""Bytes of a payload."""

WHOLE, FIRST, MIDDLE, LAST = range(4)
FOLLOWS = {None: (WHOLE, FIRST), FIRST: (MIDDLE, LAST), MIDDLE: (MIDDLE, LAST)}
LOOKS = 16
"""Places where an index is compared with the records before it is trusted; the others when they are read."""


class RecordReader:
    """The records of a .rec file by their position.

    Where they begin is read from the .idx file, if there is one that fits; else from the records, once.

    Args:
        path: of the .rec file. index: of the .idx file; None: the one beside it, if it is there and fits.

    Raises:
        DataError: the file cannot be read, is cut off or damaged; or the index that was named does not fit.
    """

    def __init__(self, path: str | Path, index: str | Path | None = None) -> None:
        self.path = Path(path)
        self.index: Path | None = None
        with self._opened() as stream:
            self._size = self.path.stat().st_size
            self.offsets = self._indexed(stream, index)

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[bytes]:
        with self._opened() as stream:
            for i in range(len(self)):
                yield self._read(stream, i)

    def read(self, i: int) -> bytes:
        """The payload of record `i`."""
        with self._opened() as stream:
            return self._read(stream, i)

    def heads(self, most: int) -> Iterator[tuple[bytes, int]]:
        """Of each record in turn the first bytes, at most so many, and how many there are in all."""
        with self._opened() as stream:
            for i in range(len(self)):
                parts, found = self._parts(stream, i), b""
                for n, (at, count) in enumerate(parts):
                    if len(found) < most:
                        found += (MAGIC if n else b"") + _take(stream, at, min(count, most))
                yield found[:most], sum(count for _, count in parts) + len(MAGIC) * (len(parts) - 1)

    def where(self, i: int) -> str:
        """What a message calls record `i`."""
        return f"record {i} of {self.path}, at byte {self.offsets[i]},"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            with self.path.open("rb") as stream:
                yield stream
        except OSError as e:
            raise DataError(f"cannot read {self.path}: {e.strerror or e}") from e

    def _read(self, stream: IO[bytes], i: int) -> bytes:
        return MAGIC.join([_take(stream, at, count) for at, count in self._parts(stream, i)])

    def _parts(self, stream: IO[bytes], i: int) -> list[tuple[int, int]]:
        """Where each part of a record lies, and its length; the record must end where the next one begins."""
        parts, end = self._walk(stream, int(self.offsets[i]), i)
        after = int(self.offsets[i + 1]) if i + 1 < len(self.offsets) else self._size
        if end != after:
            raise DataError(
                f"record {i} of {self.path} ends at byte {end}, and by the index {self.index} the next one begins at "
                f"{after}; make the index anew, or remove it"
            )
        return parts

    def _walk(self, stream: IO[bytes], at: int, i: int) -> tuple[list[tuple[int, int]], int]:
        """The parts of the record that begins at a byte, and where it ends."""
        parts, before = [], None
        while before not in (WHOLE, LAST):
            stream.seek(at)
            raw = stream.read(FRAME.size)
            magic, word = FRAME.unpack(raw) if len(raw) == FRAME.size else (MAGIC, 0)
            kind, count = word >> 29, word & LONGEST
            end = at + FRAME.size + count + -count % 4
            fault = ""
            if magic != MAGIC:
                fault = f"{magic.hex(' ')} stands where a part must begin with {MAGIC.hex(' ')}"
            elif len(raw) < FRAME.size:
                fault = f"the file is cut off: {len(raw)} bytes are left, and a part begins with {FRAME.size}"
            elif kind not in FOLLOWS[before]:
                fault = f"a part of kind {kind} {_after(before)}"
            elif end > self._size:
                fault = (
                    f"the part is {count} bytes long, and the file is cut off {end - self._size} bytes before its end"
                )
            if fault:
                raise DataError(f"record {i} of {self.path} is damaged at byte {at}: {fault}")
            parts.append((at + FRAME.size, count))
            before, at = kind, end
        return parts, at

    def _indexed(self, stream: IO[bytes], index: str | Path | None) -> NDArray[np.int64]:
        """Where each record begins."""
        file = self.path.with_suffix(".idx") if index is None else Path(index)
        if index is not None or file.is_file():
            self.index = file
            try:
                return self._fitting(stream, _read_offsets(file, self._size))
            except DataError as e:
                if index is not None:
                    raise
                self.index = None
                warnings.warn(f"{e}. Its records are counted instead", FewbitWarning, stacklevel=3)
        at, found = 0, array("q")
        while at < self._size:
            found.append(at)
            at = self._walk(stream, at, len(found) - 1)[1]
        return np.array(found, np.int64)

    def _fitting(self, stream: IO[bytes], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """The offsets of an index, compared with the file in some places."""
        if len(offsets) == 0 == self._size:
            return offsets
        if len(offsets) == 0 or offsets[0] != 0:
            begin = f"begins at byte {offsets[0]}" if len(offsets) else "is empty"
            raise DataError(f"the index {self.index} {begin}, and the first record of {self.path} is at byte 0")
        self.offsets = offsets
        for i in sorted({int(i) for i in np.linspace(0, len(offsets) - 1, LOOKS)}):
            try:
                self._parts(stream, i)
            except DataError as e:
                raise DataError(f"the index does not fit: {e}") from e
        return offsets


def _take(stream: IO[bytes], at: int, count: int) -> bytes:
    stream.seek(at)
    found = stream.read(count)
    if len(found) < count:  # compared with its size before: somebody writes to it
        raise OSError(f"{count - len(found)} bytes are gone")
    return found


def _after(before: int | None) -> str:
    if before is None:
        return "begins a record; only 0 (whole) and 1 (first part) may"
    return f"follows one of kind {before}; only 2 (middle) and 3 (last part) may"


def _read_offsets(file: Path, size: int) -> NDArray[np.int64]:
    """The offsets of an .idx file in rising order.

    Raises:
        DataError: it is no index, or points to where no record of a file of `size` bytes can be.
    """
    try:
        if file.stat().st_size > 8 * size + 64:
            raise DataError(f"the index {file} is larger than that of a file of {size} bytes can be")
        words = file.read_bytes().split()
    except OSError as e:
        raise DataError(f"cannot read the index {file}: {e.strerror or e}") from e
    if len(words) % 2:
        raise DataError(f"the index {file} holds {len(words)} words; it must be lines of a key and an offset")
    for place, word in enumerate(words[1::2]):
        if not word.isdigit() or len(word) > 18 or int(word) % 4 or int(word) + FRAME.size > size:
            raise DataError(
                f"the index {file} sends record {place} to byte {word.decode('ascii', 'replace')}, where none can be: "
                f"records begin at multiples of 4, and the file has {size} bytes"
            )
    found = np.sort(np.array(words[1::2], np.bytes_).astype(np.int64)) if words else np.zeros(0, np.int64)
    twice = np.flatnonzero(np.diff(found) == 0)
    if twice.size:
        raise DataError(f"the index {file} sends two records to byte {found[twice[0]]}")
    return found


class RecordWriter:
    """Writes a .rec file and its .idx; both appear at the end, whole, or not at all.

        with RecordWriter("data.rec") as out:
            out.write(pack_header(RecordHeader((3.0,), id=0), jpeg), key=0)

    Raises:
        UsageError: the name does not end in .rec. OutputError: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".rec":
            raise UsageError(f"the record file is named {str(path)!r}; the name must end in .rec")
        self._open = contextlib.ExitStack()
        self._count = 0

    def __enter__(self) -> RecordWriter:
        with contextlib.ExitStack() as stack:
            self._draft = stack.enter_context(writing(self.path))
            self._rec = stack.enter_context(self._draft.open("wb"))
            self._idx = stack.enter_context(self._draft.with_suffix(".idx").open("w", encoding="ascii", newline="\n"))
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._open.__exit__(kind, error, trace)

    def write(self, payload: bytes, key: int | None = None) -> None:
        """Append a record.

        Args:
            key: its name in the index; None: its position.
        """
        if len(payload) > LONGEST:
            raise OutputError(f"record {self._count} has {len(payload)} bytes; a record holds at most {LONGEST}")
        self._idx.write(f"{self._count if key is None else key}\t{self._rec.tell()}\n")
        parts = split(payload)
        for i, part in enumerate(parts):
            kind = WHOLE if len(parts) == 1 else FIRST if i == 0 else LAST if i == len(parts) - 1 else MIDDLE
            self._rec.write(FRAME.pack(MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4))
        self._count += 1

    def write_beside(self, suffix: str, text: str) -> None:
        """Write a text file of the same name but for the suffix; it appears together with the records."""
        self._draft.with_suffix(suffix).write_text(text, "utf-8", newline="\n")


def split(payload: bytes) -> list[bytes]:
    """Cut out the magic wherever it stands at a multiple of 4; without that, one part."""
    parts, begin, at = [], 0, payload.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            parts.append(payload[begin:at])
            begin = at + len(MAGIC)
        at = payload.find(MAGIC, max(at + 1, begin))
    return [*parts, payload[begin:]]
