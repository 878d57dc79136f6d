"""Bytes of a file that may be gzipped, and members of a tar archive; nothing is written to disk.

    take(n)      n ≤ what the file can still hold, else DataError before n bytes are allocated
                 a gzip stream holds at most 1032 times its size: the limit of the method

Whether a file is gzipped is read from its first bytes, not from its name.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from fewbit.errors import DataError

GZIP = b"\x1f\x8b"
RATIO = 1032
"""Bytes that one byte of deflate can stand for, at most."""

PIECE = 1 << 20
BLOCK = 512
"""Tar: length of a header, and what contents are filled up to."""

REGULAR = (b"0", b"\0")
"""Tar: types of an ordinary file; links, folders, long names and all others are passed over."""


class ByteStream:
    """The bytes of a file in order; `at` have been taken. See `opened`."""

    def __init__(self, path: Path, raw: IO[bytes] | gzip.GzipFile, most: int) -> None:
        self.path, self._raw, self._most = path, raw, most
        self.at = 0

    def take(self, count: int, what: str) -> bytearray:
        """The next `count` bytes.

        Args:
            what: they are, for messages.

        Raises:
            DataError: there are fewer.
        """
        if count > self._most - self.at:
            raise self._short(count, what, f"can hold at most {self._most}")
        start, found = self.at, self.rest(count)
        if len(found) < count:
            self.at = start
            raise self._short(count, what, f"ends after {start + len(found)}")
        return found

    def rest(self, most: int) -> bytearray:
        """What is left, but not more than `most` bytes."""
        found = bytearray()
        while len(found) < most and (piece := self._raw.read(min(PIECE, most - len(found)))):
            found += piece
        self.at += len(found)
        return found

    def skip(self, count: int, what: str) -> None:
        """Pass over bytes, without keeping them.

        Raises:
            DataError: there are fewer.
        """
        if count > self._most - self.at:
            raise self._short(count, what, f"can hold at most {self._most}")
        while count:
            step = min(PIECE, count)
            self.take(step, what)
            count -= step

    def ended(self) -> bool:
        """Whether nothing is left; otherwise a byte is lost."""
        return not self._raw.read(1)

    def _short(self, count: int, what: str, fault: str) -> DataError:
        return DataError(f"{self.path} is cut off: {what} takes {count} bytes from byte {self.at} on, and it {fault}")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[ByteStream]:
    """Open a file, unpacking it on the way if it is gzipped.

    Raises:
        DataError: it cannot be read, or its compression is damaged.
    """
    with contextlib.ExitStack() as stack:
        try:
            size = path.stat().st_size
            file: IO[bytes] = stack.enter_context(path.open("rb"))
            packed = file.read(len(GZIP)) == GZIP
            file.seek(0)
            if packed:
                yield ByteStream(path, stack.enter_context(gzip.GzipFile(fileobj=file)), size * RATIO)
            else:
                yield ByteStream(path, file, size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as e:
            raise DataError(f"{path} is damaged: {e}; fetch it anew") from e
        except OSError as e:
            raise DataError(f"cannot read {path}: {e.strerror or e}") from e


def read_whole_file(path: Path, most: int) -> bytearray:
    """All bytes of a file.

    Raises:
        DataError: it cannot be read, or has more than `most`.
    """
    with opened(path) as stream:
        found = stream.rest(most)
        if not stream.ended():
            raise DataError(f"{path} holds more than {most} bytes, which no file of its name does")
        return found


def tar_members(path: Path, names: Iterable[str], most: int) -> dict[str, bytearray]:
    """Ordinary files of a .tar or .tar.gz by their names in it; of equal names the first one.

    Raises:
        DataError: one is missing or has more than `most` bytes, or the archive is damaged.
    """
    wanted = set(names)
    found: dict[str, bytearray] = {}
    with opened(path) as stream:
        while len(found) < len(wanted):
            head = stream.take(BLOCK, "the header of a member")
            if not any(head):
                break
            name, size, ordinary = _tar_header(head, stream)
            fill = -size % BLOCK
            if ordinary and name in wanted and name not in found:
                if size > most:
                    raise DataError(f"{path}: member {name!r} has {size} bytes; at most {most} are read")
                found[name] = stream.take(size, f"member {name!r}")
                stream.skip(fill, f"member {name!r}")
            else:
                stream.skip(size + fill, f"member {name[:80]!r}")
    if missing := sorted(wanted - set(found)):
        raise DataError(f"{path} lacks {', '.join(missing)}; links in it are not followed. Fetch it anew")
    return found


def _tar_header(head: bytearray, stream: ByteStream) -> tuple[str, int, bool]:
    """Name, size and whether it is an ordinary file."""
    where = f"{stream.path} is damaged at byte {stream.at - BLOCK}"
    stated = _octal(head[148:156])
    if stated is None or stated != sum(head) - sum(head[148:156]) + 8 * ord(" "):
        raise DataError(f"{where}: no header of a tar member stands there; is it a tar archive?")
    size = _octal(head[124:136])
    if size is None:
        raise DataError(f"{where}: {bytes(head[124:136])!r} is no size of a member")
    name, prefix = (bytes(part).split(b"\0")[0].decode("latin-1") for part in (head[:100], head[345:500]))
    if head[257:263] == b"ustar\0" and prefix:
        name = f"{prefix}/{name}"
    return name.removeprefix("./"), size, bytes(head[156:157]) in REGULAR


def _octal(field: bytearray) -> int | None:
    text = bytes(field).strip(b" \0")
    if not text:
        return 0
    return int(text, 8) if text.isdigit() and not set(text) & set(b"89") else None
