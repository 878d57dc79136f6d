"""What stands in a record before an image, and in the list that the record file was made of.

record   flag, label, id, id2 | flag labels, if flag > 0 | the bytes of a JPEG or PNG file
.lst     index TAB label [TAB label …] TAB path
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.core.writing import writing
from fewbit.data.base import Array
from fewbit.errors import BadSample, DataError

HEADER = struct.Struct("<IfQQ")


@dataclass(frozen=True)
class RecordHeader:
    """What stands before the image.

    Args:
        labels: one for a class; for detection header width, object width, …, then the objects.
        id: number of the image in the list. id2: of use to nobody; kept.
    """

    labels: tuple[float, ...]
    id: int
    id2: int = 0


def pack_header(header: RecordHeader, content: bytes = b"") -> bytes:
    """The payload of an image record.

    Raises:
        DataError: no label, or a number that the header cannot hold.
    """
    labels = np.asarray(header.labels, np.float32)
    most = 2**64 - 1
    if labels.size == 0 or not (0 <= header.id <= most and 0 <= header.id2 <= most):
        raise DataError(f"{header} cannot be written: it needs a label, and ids from 0 to 2^64 - 1")
    if labels.size == 1:
        return HEADER.pack(0, labels[0], header.id, header.id2) + content
    return HEADER.pack(labels.size, 0.0, header.id, header.id2) + labels.astype("<f4").tobytes() + content


def unpack(payload: bytes, where: str = "the record") -> tuple[RecordHeader, bytes]:
    """Header and content of an image record.

    Args:
        where: what a message calls it.

    Raises:
        BadSample: it is too short for its header or its labels.
    """
    labels, ids = read_labels(payload, len(payload), where)
    skip = HEADER.size + 4 * (len(labels) if HEADER.unpack_from(payload)[0] else 0)
    return RecordHeader(tuple(labels.tolist()), *ids), payload[skip:]


def read_labels(head: bytes, length: int, where: str) -> tuple[Array, tuple[int, int]]:
    """Labels and ids.

    Args:
        head: the begin of a payload; fewer labels if it is cut off. length: of the whole payload.

    Raises:
        BadSample: the payload is too short for its header or its labels.
    """
    if length < HEADER.size:
        raise BadSample(f"{where} has {length} bytes; an image record begins with a header of {HEADER.size}")
    flag, label, one, two = HEADER.unpack_from(head)
    if not flag:
        return np.array([label], np.float32), (one, two)
    if HEADER.size + 4 * flag > length:
        raise BadSample(f"{where} has {length} bytes, too few for its header and the {flag} labels that it speaks of")
    there = min(flag, (len(head) - HEADER.size) // 4)
    return np.frombuffer(head, "<f4", there, HEADER.size).astype(np.float32), (one, two)


@dataclass(frozen=True)
class Listed:
    """A line of a .lst file."""

    index: int
    labels: tuple[float, ...]
    path: str


def read_lst(path: str | Path) -> list[Listed]:
    """Read a .lst file.

    Raises:
        DataError: it cannot be read, or a line is not index, labels, path; names the line.
    """
    try:
        text = Path(path).read_text("utf-8")
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise DataError(f"{path} is no text in UTF-8: {e}") from e
    found: dict[int, Listed] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        index, *labels = (word.strip() for word in line.split("\t"))
        name = labels.pop() if labels else ""
        if not (labels and name and index.isascii() and index.isdecimal() and all(map(_is_label, labels))):
            raise DataError(
                f"line {number} of {path} is {line[:60]!r}; it must be: whole number, label or labels, path, "
                "with tabs between"
            )
        if int(index) in found:
            raise DataError(f"line {number} of {path} has the index {index} once more; each may stand there once")
        found[int(index)] = Listed(int(index), tuple(np.array(labels, np.float32).tolist()), name)
    return list(found.values())


def _is_label(word: str) -> bool:
    try:
        return abs(float(word)) <= float(np.finfo(np.float32).max)  # False for NaN
    except ValueError:
        return False


def write_lst(path: str | Path, rows: Iterable[Listed]) -> None:
    """Write a .lst file, whole or not at all."""
    text = lst_text(rows)
    with writing(Path(path)) as draft:
        draft.write_text(text, "utf-8", newline="\n")


def lst_text(rows: Iterable[Listed]) -> str:
    """The text of a .lst file.

    Raises:
        DataError: a path that cannot stand in a line.
    """
    lines = []
    for row in rows:
        if not row.path.strip() or any(c in row.path for c in "\t\r\n"):
            raise DataError(f"{row.path!r} cannot stand in a .lst file: it is empty, or holds a tab or a line break")
        lines.append("\t".join([str(row.index), *numbers(row.labels), row.path]) + "\n")
    return "".join(lines)


def numbers(labels: Sequence[Any]) -> list[str]:
    """Labels as short as they can be written: 3, 0.1."""
    return [str(np.float32(x)).removesuffix(".0") for x in labels]
