"""Networks as bytes, `.caffemodel`: protobuf's wire format, read by the schema.

    tag (field number · 8 + wire type), value;  wire types: 0 number, 1 eight bytes, 2 length and bytes, 5 four bytes

Weights stay where they are in the file, as `memoryview`s, until somebody asks for them: see `Blob`. Lengths are checked
against what is left, so a few bytes cannot ask for much memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fewbit.errors import ModelFormatError
from fewbit.frontends.caffe.message import Message
from fewbit.frontends.caffe.schema import IGNORED, LARGEST_INT, Field, numbered
from fewbit.graph.model import Array

VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5
MOST_FIELDS = 5_000_000
"""Fields that a file may have; a network has some thousands."""

SIZES = {"floats": 4, "doubles": 8}
STORED = {"floats": "<f4", "doubles": "<f8"}


@dataclass
class Reader:
    """A file of bytes. `left` counts down the fields that are still allowed.

    Args:
        view: of the whole file. what: the file, for messages.
    """

    view: memoryview
    what: str
    left: int = MOST_FIELDS

    def message(self, kind: str, start: int = 0, end: int | None = None) -> Message:
        """The message between two bytes.

        Raises:
            ModelFormatError: it is none, it is cut off, or it is no network.
        """
        made, at = Message(kind), start
        end = len(self.view) if end is None else end
        known = numbered(kind)
        while at < end:
            tag, body = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            self.left -= 1
            if self.left < 0:
                raise ModelFormatError(f"{self.what} has more than {MOST_FIELDS:,} fields; it is no network")
            found = known.get(number)
            if found is not None and wire == FOUR and found.kind == "floats":
                at = self._unpacked(made, found, at, body, end)
                continue
            value, at = self._value(wire, at, body, end)
            if found is None:
                made.odd.append(str(number))
            elif found.kind != IGNORED:
                self._add(made, found, wire, value)
        return made

    def _value(self, wire: int, start: int, at: int, end: int) -> tuple[Any, int]:
        """A number, or the bytes between which a value lies; and where the next field starts."""
        if wire == VARINT:
            number, after = self._varint(at, end)
            return number - (1 << 64) if number >> 63 else number, after
        if wire == LENGTH:
            length, at = self._varint(at, end)
        elif wire in (EIGHT, FOUR):
            length = 8 if wire == EIGHT else 4
        else:
            raise self._damaged(start, f"a field of unknown kind {wire}")
        if length > end - at:
            raise self._damaged(start, f"a field of {length:,} bytes, where {end - at:,} are left")
        return (at, at + length), at + length

    def _add(self, made: Message, found: Field, wire: int, value: Any) -> None:
        """Put a value into its field, as its kind wants it."""
        name, kind = found.name, found.kind
        if kind in ("int", "bool", "word"):
            values = [value] if wire == VARINT else self._packed(value) if wire == LENGTH else None
            if values is not None:
                for v in values:
                    if abs(v) > LARGEST_INT:
                        raise self._damaged(0, f"{v} in the field {name!r} of a {made.kind}")
                    made.add(name, bool(v) if kind == "bool" else found.words.get(v, str(v)) if found.words else v)
                return
        elif kind == "float" and wire in (FOUR, LENGTH):
            start, end = value
            if (end - start) % 4 == 0:
                for (v,) in struct.iter_unpack("<f", self.view[start:end]):
                    made.add(name, v)
                return
        elif kind in SIZES and wire == LENGTH:
            made.add(name, self.view[value[0] : value[1]])
            return
        elif kind == "text" and wire == LENGTH:
            made.add(name, bytes(self.view[value[0] : value[1]]).decode("utf-8", "replace"))
            return
        elif wire == LENGTH and kind[0].isupper():
            made.add(name, self.message(kind, *value))
            return
        at = value[0] if isinstance(value, tuple) else 0
        raise self._damaged(at, f"the field {name!r} of a {made.kind} in a form of its own")

    def _packed(self, span: tuple[int, int]) -> list[int]:
        at, end = span
        found = []
        while at < end:
            self.left -= 1
            number, at = self._varint(at, end)
            found.append(number - (1 << 64) if number >> 63 else number)
        return found

    def _unpacked(self, made: Message, found: Field, start: int, body: int, end: int) -> int:
        """Floats one by one, each behind its tag; returns where they end."""
        width = body - start + 4
        count = (end - start) // width
        if count == 0:
            raise self._damaged(start, "a field of 4 bytes, where fewer are left")
        rows = np.frombuffer(self.view[start : start + count * width], np.uint8).reshape(count, width)
        other = (rows[:, : body - start] != rows[0, : body - start]).any(1)
        run = int(other.argmax()) if other.any() else count
        made.add(found.name, np.ascontiguousarray(rows[:run, body - start :]).reshape(-1).data)
        return start + run * width

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for i, byte in enumerate(self.view[at : min(end, at + 10)]):
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return value & (1 << 64) - 1, at + i + 1
        raise self._damaged(at, "a number that does not end")

    def _damaged(self, at: int, why: str) -> ModelFormatError:
        return ModelFormatError(f"{self.what} is damaged or truncated: at byte {at:,} stands {why}")


@dataclass(frozen=True)
class Blob:
    """Weights of a layer: their shape, and where their bytes lie.

    Args:
        shape: as the file has it. parts: of its bytes. kind: floats or doubles. what: the blob, for messages.
    """

    shape: tuple[int, ...]
    parts: tuple[Any, ...]
    kind: str
    what: str

    def array(self) -> Array:
        """The weights, float32, in memory of their own."""
        found = np.empty(prod(self.shape), np.float32)
        at = 0
        for part in self.parts:
            values = np.frombuffer(part, STORED[self.kind])
            found[at : at + len(values)] = values
            at += len(values)
        return found.reshape(self.shape)


def blob(message: Message, what: str) -> Blob:
    """Weights out of their message.

    Raises:
        ModelFormatError: there are more or fewer of them than their shape says.
    """
    kind = "doubles" if message.has("double_data") else "floats"
    parts = tuple(message.all("double_data" if kind == "doubles" else "data"))
    if not all(isinstance(p, memoryview) for p in parts):  # numbers in a text
        parts = (np.array(parts, STORED[kind]).data.cast("B"),)
    total = sum(p.nbytes for p in parts)
    shape = message.one("shape")
    if shape is not None:
        sizes = tuple(shape.all("dim"))
    elif any(message.has(k) for k in ("num", "channels", "height", "width")):
        sizes = tuple(message.one(k, 0) for k in ("num", "channels", "height", "width"))
    else:
        sizes = (total // SIZES[kind],)
    if any(p.nbytes % SIZES[kind] for p in parts) or min(sizes, default=1) < 0 or prod(sizes) * SIZES[kind] != total:
        raise ModelFormatError(f"{what} has shape {sizes} and {total:,} bytes of data, which do not fit; it is damaged")
    return Blob(sizes, parts, kind, what)
