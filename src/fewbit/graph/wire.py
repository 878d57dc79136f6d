"""Large weights of an .onnx file: read straight into arrays, and written straight from them.

    ModelProto { 7: GraphProto { 5: TensorProto { 8: name, 9: raw_data } } }

protobuf would hold a file several times over: its bytes, the message, a copy of each weight. Here weights of `BIG`
bytes and more are cut out of the message before protobuf sees it, and put back while it is written; all else passes
through byte for byte. Weights are read, not mapped: a file that is overwritten later changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray

Path = tuple[int, ...]

BIG = 4096
GRAPH: Path = (7,)
INITIALIZER: Path = (7, 5)
NAME, RAW = 8, 9
VARINT, EIGHT, LENGTH, FOUR = 0, 1, 2, 5


def read_cut(file: BinaryIO) -> tuple[bytes, dict[str, NDArray[np.uint8]]]:
    """Read a model file.

    Returns:
        the message without its large weights, and these as bytes by name.

    Raises:
        ValueError: it is not a protobuf message, or it is truncated.
    """
    weights: dict[str, NDArray[np.uint8]] = {}
    return _read(file, os.fstat(file.fileno()).st_size, (), weights), weights


def write_whole(message: onnx.ModelProto, weights: Mapping[str, NDArray[np.generic]], out: BinaryIO) -> None:
    """Write a model whose initializers named in `weights` hold no data, with that data put in.

    Args:
        message: its initializers are left empty afterwards. weights: contiguous, little-endian.
    """
    tensors = [(t.SerializeToString(deterministic=True), weights.get(t.name)) for t in message.graph.initializer]
    message.graph.ClearField("initializer")
    graph = message.graph.SerializeToString(deterministic=True)
    message.ClearField("graph")
    heads = []
    for small, data in tensors:
        raw = _head(RAW, data.nbytes) if data is not None else b""
        size = len(small) + len(raw) + (data.nbytes if data is not None else 0)
        heads.append((_head(INITIALIZER[-1], size) + small + raw, data))
    total = len(graph) + sum(len(head) + (data.nbytes if data is not None else 0) for head, data in heads)
    out.write(message.SerializeToString(deterministic=True) + _head(GRAPH[-1], total) + graph)
    for head, data in heads:
        out.write(head)
        if data is not None:
            out.write(data.reshape(-1).view(np.uint8).data)


def _read(file: BinaryIO, end: int, path: Path, weights: dict[str, NDArray[np.uint8]]) -> bytes:
    """One message, up to `end`."""
    parts: list[bytes] = []
    name, raw = "", None
    while (start := file.tell()) < end:
        field, kind = divmod(_varint(file), 8)
        if kind == VARINT:
            _varint(file)
            length = 0
        elif kind in (EIGHT, LENGTH, FOUR):
            length = _varint(file) if kind == LENGTH else {EIGHT: 8, FOUR: 4}[kind]
        else:
            raise ValueError(f"a field of unknown kind {kind} at byte {start}")
        body = file.tell()
        if body + length > end:
            raise ValueError(f"the field at byte {start} ends behind byte {end}")
        if kind == LENGTH and (*path, field) in (GRAPH, INITIALIZER):
            inner = _read(file, body + length, (*path, field), weights)
            parts += (_head(field, len(inner)), inner)
        elif path == INITIALIZER and field == RAW and kind == LENGTH and length >= BIG:
            raw = (body, length)
            file.seek(body + length)
        else:
            file.seek(start)
            parts.append(file.read(body + length - start))
            if path == INITIALIZER and field == NAME:
                name = parts[-1][body - start :].decode()
    if raw is not None:
        file.seek(raw[0])
        data = np.empty(raw[1], np.uint8)
        if file.readinto(data.data) != data.size:  # type: ignore[attr-defined]
            raise ValueError(f"the file ends inside of weight {name!r}")
        if name and name not in weights:
            weights[name] = data
        else:
            parts += (_head(RAW, data.size), data.tobytes())
        file.seek(end)
    return b"".join(parts)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError(f"a number at byte {file.tell()} does not end")


def _head(field: int, length: int) -> bytes:
    """Tag and length of a field."""
    out = bytearray()
    for value in (field << 3 | LENGTH, length):
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)
