"""Caffe's files as small as tests need them: text of one layer, and protobuf bytes of weights."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

LENGTH = 2


def network(body: str, **inputs: Sequence[int]) -> str:
    """A network with these inputs."""
    dims = {name: " ".join(f"dim: {d}" for d in shape) for name, shape in inputs.items()}
    head = "\n".join(f'input: "{name}"' for name in inputs)
    return f'name: "net"\n{head}\n' + "\n".join(f"input_shape {{ {d} }}" for d in dims.values()) + f"\n{body}\n"


def layer(
    type_: str, settings: str = "", bottoms: Sequence[str] = ("x",), tops: Sequence[str] = ("y",), name: str = "l"
) -> str:
    """One layer."""
    ends = " ".join([*(f'bottom: "{b}"' for b in bottoms), *(f'top: "{t}"' for t in tops)])
    return f'layer {{ name: "{name}" type: "{type_}" {ends} {settings} }}'


def caffemodel(layers: Mapping[str, Sequence[NDArray[Any]]], types: Mapping[str, str] | None = None) -> bytes:
    """A file with the weights of these layers, in today's form."""
    return b"".join(
        field(
            100,
            field(1, name.encode())
            + field(2, (types or {}).get(name, "").encode())
            + b"".join(field(7, blob(a)) for a in arrays),
        )
        for name, arrays in layers.items()
    )


def blob(array: NDArray[Any]) -> bytes:
    """A BlobProto."""
    shape = b"".join(varint(d) for d in array.shape)
    return field(7, field(1, shape)) + field(5, array.astype("<f4").tobytes())


def old_blob(array: NDArray[Any]) -> bytes:
    """A BlobProto of the time when every blob had four axes, its floats one by one."""
    sizes = (1,) * (4 - array.ndim) + array.shape
    head = b"".join(bytes([(i + 1) << 3]) + varint(s) for i, s in enumerate(sizes))
    return head + b"".join(b"\x2d" + struct.pack("<f", v) for v in array.reshape(-1))


def field(number: int, data: bytes) -> bytes:
    """A field of bytes, or a message in a message."""
    return varint(number << 3 | LENGTH) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
