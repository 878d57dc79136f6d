r"""The `.fewbit` file: a network whose weights are entropy-coded integers, in one file.

    "fewbit\0" | u8 version | u64 bytes of the header | u32 crc of the header | u32 0
    header     JSON: the blocks in their order, each with its bytes and crc, and what the caller adds
    blocks     each from the next multiple of 64 on, zeros between:
               the ONNX graph │ a block for each stored weight │ the bytes of each other weight of 4 kB and more

In the graph a stored weight is one more input, a large other weight an initializer without data: the graph stays small
whatever the network weighs, and protobuf's 2 GB are never met. `core.weight_block` gives what a stored weight's block
holds.

Reading gives back a model in which a stored weight is an initializer of zeros that take no memory, and a mapping that
decodes a weight each time it is asked for: memory holds the file's coded bytes and the weights in use. The file is not
trusted: it must be as long as it says, each block must match its checksum, and its size bounds what it unfolds into.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from fewbit.core.stored import StoredWeight
from fewbit.core.weight_block import Entry, from_block, to_block
from fewbit.core.writing import writing
from fewbit.errors import ConfigError, ModelFormatError, UnsupportedModel, unknown
from fewbit.graph.files import Bytes, from_proto, opened
from fewbit.graph.model import MAX_PROTO, Model, dims
from fewbit.graph.wire import BIG

SUFFIX = ".fewbit"
MAGIC, VERSION = b"fewbit\0", 1
HEAD = struct.Struct("<7sBQII")
ALIGN = 64
MOST_HEADER = 1 << 26
"""Bytes of a header at most: JSON takes a multiple of its size once it is read."""


class StoredWeights(Mapping[str, StoredWeight]):
    """The stored weights of a file by name, decoded anew each time one is asked for.

    Asking raises ModelFormatError if the block holds something else than the header says.
    """

    def __init__(self, blocks: Mapping[str, tuple[Entry, bytes]], what: str) -> None:
        self._blocks = dict(blocks)
        self._what = what

    def __getitem__(self, name: str) -> StoredWeight:
        entry, data = self._blocks[name]
        try:
            return from_block(entry, data)
        except ModelFormatError as e:
            raise ModelFormatError(f"{self._what}: weight {name!r}: {e}") from e

    def __iter__(self) -> Iterator[str]:
        return iter(self._blocks)

    def __len__(self) -> int:
        return len(self._blocks)


# -- writing ---------------------------------------------------------------------------------------------------------


def write_container(
    model: Model, stored: Mapping[str, StoredWeight], path: Path, extra: Mapping[str, Any] | None = None
) -> None:
    """Write a network with its stored weights, whole or not at all.

    Args:
        model: stays as it is; the data of its stored weights is not looked at.
        stored: initializers of the main graph → their integers.
        path: the file. extra: what else the header is to hold, in JSON's terms.

    Raises:
        UnknownName: a stored weight is not an initializer of the main graph.
        ConfigError: a stored weight contradicts itself or its shape in the graph, or the header is too large.
        UnsupportedModel: weights in bodies of control flow are too large for one message.
        OutputError: the file cannot be written.
    """
    light, entries, blocks = model.clone(), list[dict[str, Any]](), list[Bytes]()
    for name, weight in stored.items():
        _to_input(light, name, weight)
        entry, data = to_block(weight)
        blocks.append(np.frombuffer(data, np.uint8))
        entries.append({"name": name, **entry.to_json(), **_check(blocks[-1])})
    message, weights = _split(light)
    others = [{"name": name, **_check(data)} for name, data in weights.items()]
    blocks = [np.frombuffer(message, np.uint8), *blocks, *weights.values()]
    fields = {"graph": _check(blocks[0]), "stored": entries, "weights": others, "extra": dict(extra or {})}
    header = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
    if len(header) > MOST_HEADER:
        raise ConfigError(f"the header has {len(header):,} bytes; {MOST_HEADER:,} are the most; put less into extra")
    with writing(path) as file, open(file, "wb") as out:
        out.write(HEAD.pack(MAGIC, VERSION, len(header), zlib.crc32(header), 0) + header)
        for block in blocks:
            out.write(bytes(-out.tell() % ALIGN))
            out.write(block.data)


def _check(data: Bytes) -> dict[str, int]:
    return {"bytes": data.size, "crc": zlib.crc32(data.data)}


def _to_input(light: Model, name: str, weight: StoredWeight) -> None:
    """Turn an initializer into an input."""
    value = light.graph.initializers.get(name)
    if value is None or value.const_value is None:
        raise unknown("weight", name, map(str, light.graph.initializers))
    shape = tuple(value.const_value.shape.numpy())
    if value.const_value.dtype != ir.DataType.FLOAT or shape != weight.q.shape:
        kind = f"{value.const_value.dtype.name.lower()} {list(shape)}"
        raise ConfigError(
            f"weight {name!r} is {kind} in the graph; its integers stand for float {list(weight.q.shape)}"
        )
    del light.graph.initializers[name]
    value.const_value = None
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(list(shape))
    light.graph.inputs.append(value)


def _split(light: Model) -> tuple[bytes, dict[str, Bytes]]:
    """The message of the graph, in which large weights have no data, and that data."""
    weights: dict[str, Bytes] = {}
    for name, value in light.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < BIG or tensor.dtype == ir.DataType.STRING:
            continue
        weights[name] = _bytes(tensor)
        shape = ir.Shape(list(tensor.shape.numpy()))
        value.const_value = ir.ExternalTensor("", 0, 0, tensor.dtype, shape=shape, name=name)
    left = sum(v.const_value.nbytes for v in light.weights() if v.const_value is not None and v.name not in weights)
    if left > MAX_PROTO:
        raise UnsupportedModel(f"bodies of control flow hold weights of {left:,} bytes; {MAX_PROTO:,} fit into a file")
    message = ir.serde.serialize_model(light.ir)
    for t in message.graph.initializer:
        if t.name in weights:
            t.ClearField("external_data")
            t.ClearField("data_location")
    return message.SerializeToString(deterministic=True), weights


def _bytes(tensor: ir.TensorProtocol) -> Bytes:
    """A weight as it lies in a file; not copied if it has whole bytes."""
    if tensor.dtype.bitwidth < 8:
        return np.frombuffer(tensor.tobytes(), np.uint8)
    array: NDArray[Any] = np.ascontiguousarray(tensor.numpy())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8)


# -- reading ---------------------------------------------------------------------------------------------------------


def read_container(path: str | Path) -> tuple[Model, StoredWeights, dict[str, Any]]:
    """Read a file that `write_container` wrote.

    Returns:
        the model, in which stored weights are initializers of zeros; the stored weights, decoded when asked for; and
        what the writer added.

    Raises:
        ModelFormatError: no such file, another kind of file, truncated or damaged.
        UnsafePath: its graph points to data outside of the file's folder.
        UnsupportedModel: its graph is beyond what fewbit takes.
    """
    path = Path(path)
    with opened(path, f"a {SUFFIX}") as file:
        header, blocks = _read(file, str(path))
    split = 1 + len(header["stored"])
    entries = {}
    for fields, data in zip(header["stored"], blocks[1:split], strict=True):
        entries[fields["name"]] = (_entry(fields, str(path)), data.tobytes())
    weights = {fields["name"]: data for fields, data in zip(header["weights"], blocks[split:], strict=True)}
    try:
        proto = onnx.ModelProto.FromString(blocks[0].tobytes())
    except DecodeError as e:
        raise ModelFormatError(f"{path} holds a graph that is corrupt: {e}") from e
    if lost := sorted(set(weights) - {t.name for t in proto.graph.initializer}):
        raise ModelFormatError(f"{path} holds weight {lost[0]!r}, which its graph has no place for")
    model = from_proto(proto, path, weights)
    for name, (entry, _) in entries.items():
        _to_initializer(model, name, entry.shape, str(path))
    return model, StoredWeights(entries, str(path)), header["extra"]


def _read(file: BinaryIO, what: str) -> tuple[dict[str, Any], list[Bytes]]:
    """Header and blocks; their sizes and checksums are right, and names are there once."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(HEAD.size)
    if len(head) < HEAD.size or not head.startswith(MAGIC):
        raise ModelFormatError(f"{what} is not a {SUFFIX} file, or it is truncated")
    _, version, length, crc, _ = HEAD.unpack(head)
    if version != VERSION:
        raise ModelFormatError(f"{what} is of version {version} of its format; this fewbit reads version {VERSION}")
    if length > min(size - HEAD.size, MOST_HEADER):
        raise ModelFormatError(f"{what} is truncated or damaged: a header of {length:,} bytes in a file of {size:,}")
    text = file.read(length)
    if zlib.crc32(text) != crc:
        raise ModelFormatError(f"{what} is damaged: its header does not match its checksum")
    header = _header(text, what)
    listed = [header["graph"], *header["stored"], *header["weights"]]
    starts, end = [], HEAD.size + length
    for fields in listed:
        starts.append(end + -end % ALIGN)
        end = starts[-1] + fields["bytes"]
    if end != size:
        raise ModelFormatError(f"{what} is truncated or damaged: its header tells of {end:,} bytes, it has {size:,}")
    return header, [_block(file, at, fields, what) for at, fields in zip(starts, listed, strict=True)]


def _header(text: bytes, what: str) -> dict[str, Any]:
    """The header, once every field that this file uses is there and of the right type."""
    header: dict[str, Any]
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise ModelFormatError(f"{what} is damaged: its header is not JSON ({e})") from e
    kinds = {"graph": dict, "stored": list, "weights": list, "extra": dict}
    for key, kind in kinds.items():
        if not isinstance(header, dict) or not isinstance(header.get(key), kind):
            raise ModelFormatError(f"{what} is damaged: its header has no {key!r}")
    named = [*header["stored"], *header["weights"]]
    for fields in (header["graph"], *named):
        good = isinstance(fields, dict) and all(type(fields.get(k)) is int and fields[k] >= 0 for k in ("bytes", "crc"))
        if not good or (fields is not header["graph"] and not isinstance(fields.get("name"), str)):
            raise ModelFormatError(f"{what} is damaged: its header lists a block without name, bytes and crc")
    names = [fields["name"] for fields in named]
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise ModelFormatError(f"{what} is damaged: its header lists weight {twice!r} twice")
    return header


def _block(file: BinaryIO, start: int, fields: dict[str, Any], what: str) -> Bytes:
    data = np.empty(fields["bytes"], np.uint8)
    file.seek(start)
    name = repr(fields["name"]) if "name" in fields else "the graph"
    if file.readinto(data.data) != data.size:  # type: ignore[attr-defined]
        raise ModelFormatError(f"{what} ends inside of {name}")
    if zlib.crc32(data.data) != fields["crc"]:
        raise ModelFormatError(f"{what} is damaged: {name} does not match its checksum")
    return data


def _entry(fields: dict[str, Any], what: str) -> Entry:
    try:
        return Entry.from_json(fields)
    except ModelFormatError as e:
        raise ModelFormatError(f"{what}: weight {fields['name']!r}: {e}") from e


def _to_initializer(model: Model, name: str, shape: tuple[int, ...], what: str) -> None:
    """Turn an input into an initializer of zeros, which share one number in memory."""
    value = next((v for v in model.graph.inputs if v.name == name), None)
    if value is None:
        raise ModelFormatError(f"{what} holds weight {name!r}, which its graph has no place for")
    if value.dtype != ir.DataType.FLOAT or dims(value) != shape:
        raise ModelFormatError(
            f"{what}: weight {name!r} has the shape {list(shape)}, in the graph it is {value!r:.200}"
        )
    model.graph.inputs.remove(value)
    value.const_value = ir.Tensor(np.broadcast_to(np.float32(0), shape), ir.DataType.FLOAT, name=name)
    model.graph.register_initializer(value)
