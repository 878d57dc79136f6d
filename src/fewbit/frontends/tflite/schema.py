"""A `.tflite` file as plain records: one graph of operators, its tensors, their numbers.

    Model ─ subgraphs[0] ─ operators ─ inputs, outputs: numbers of tensors
                         └ tensors ─ shape, type, scales and zero points, number of a buffer ─ bytes

The schema itself is the package `tflite`. Nothing in a file is believed: every count is held against the size of the
file before anything is read, and what the package stumbles over becomes a ModelFormatError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.errors import EngineMissing, ModelFormatError, UnsupportedModel, UsageError
from fewbit.frontends.tflite.options import BROKEN, Options
from fewbit.graph.build import Dims
from fewbit.graph.model import Array

MAGIC = b"TFL3"
NEEDED = ("Model", "TensorType", "BuiltinOperator", "BuiltinOptions")
"""What is used of the schema's package at once."""

CUSTOM = "CUSTOM"
INT4 = "INT4"

TYPES: dict[str, Any] = {
    "FLOAT32": np.float32, "FLOAT16": np.float16, "FLOAT64": np.float64, "INT4": np.int8, "INT8": np.int8,
    "UINT8": np.uint8, "INT16": np.int16, "UINT16": np.uint16, "INT32": np.int32, "UINT32": np.uint32,
    "INT64": np.int64, "UINT64": np.uint64, "BOOL": np.bool_,
}  # fmt: skip
"""Types of tensors that fewbit reads → NumPy's."""

MOST_RANK = 8
"""TFLite's kernels take up to six axes."""


@dataclass(frozen=True)
class Quant:
    """real = (q - zero)·scale; one scale and zero, or one each along `axis`."""

    scale: Array
    zero: Array
    axis: int

    @property
    def per_tensor(self) -> bool:
        """Whether one scale holds for all."""
        return self.scale.size == 1

    def same(self, other: Quant | None) -> bool:
        """Whether integers of both mean the same."""
        if other is None or self.scale.shape != other.scale.shape:
            return False
        return bool((self.scale == other.scale).all() and (self.zero == other.zero).all() and self.axis == other.axis)

    def spread(self, rank: int) -> tuple[Array, Array]:
        """Scale and zero, shaped to go with an array of so many axes."""
        shape = () if self.per_tensor else tuple(-1 if a == self.axis else 1 for a in range(rank))
        return self.scale.reshape(shape), self.zero.reshape(shape)

    def real(self, q: Array) -> Array:
        """What integers stand for."""
        scale, zero = self.spread(q.ndim)
        return np.asarray((q.astype(np.float64) - zero) * scale.astype(np.float64), np.float32)


@dataclass(frozen=True)
class Tensor:
    """One tensor.

    Args:
        index, name: unique. shape: as stored; `free` has None for axes that the file leaves open.
        type: a key of TYPES, or one that fewbit does not read. quant: of integers that stand for real numbers.
        data: of a constant. variable: whether it keeps its numbers from run to run.
        signed: whether the file says which axes are free.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    free: Dims
    type: str
    quant: Quant | None = None
    data: memoryview | None = None
    variable: bool = False
    signed: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's type."""
        if self.type not in TYPES:
            raise UnsupportedModel(
                f"tensor {self.name!r} is of type {self.type}; fewbit reads {', '.join(t for t in TYPES)}"
            )
        return np.dtype(TYPES[self.type])

    def array(self) -> Array:
        """The numbers of a constant, as stored."""
        assert self.data is not None
        count, dtype = prod(self.shape), self.dtype
        if self.type == INT4:
            return _unpacked(self._sized((count + 1) // 2), count).reshape(self.shape)
        return np.frombuffer(self._sized(count * dtype.itemsize), dtype, count).reshape(self.shape)

    def _sized(self, wanted: int) -> memoryview:
        assert self.data is not None
        if len(self.data) != wanted:
            raise ModelFormatError(
                f"tensor {self.name!r} of shape {self.shape} and type {self.type} has {len(self.data)} bytes; "
                f"{wanted} are needed. The file is damaged"
            )
        return self.data


@dataclass(frozen=True)
class Operator:
    """One operator: its inputs and outputs are numbers of tensors, -1 for an input that is left out."""

    index: int
    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Options
    custom: bytes = b""


@dataclass(frozen=True)
class LiteGraph:
    """What is computed. `signature`: names that the file gives inputs and outputs → their tensors' names."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    signature: tuple[tuple[str, str], ...] = ()
    graphs: int = 1


def read_file(path: Path) -> LiteGraph:
    """Read a `.tflite` file.

    Raises:
        ModelFormatError: no such file, none of TFLite, truncated or damaged.
        EngineMissing, UsageError: see `schema_package`.
    """
    if not path.is_file():
        raise ModelFormatError(f"there is no file {path}; check the name")
    return parse(path.read_bytes(), str(path))


def parse(data: bytes, what: str) -> LiteGraph:
    """The graph in the bytes of a file; `what` is the file, for messages."""
    tflite = schema_package()
    if data[4:8] != MAGIC:
        raise ModelFormatError(f"{what} is no TFLite file: bytes 4 to 7 are {data[4:8]!r} and not {MAGIC!r}")
    with broken(what):
        return _Reader(tflite, data, what).graph()


def schema_package() -> Any:
    """The package that knows the schema.

    Raises:
        EngineMissing: it is not installed. UsageError: a file or folder of the user's has its name and is found first.
    """
    try:
        import tflite
    except ImportError as e:
        raise EngineMissing("tflite, which knows the format of .tflite files,", "tflite") from e
    if not all(hasattr(tflite, name) for name in NEEDED):
        found = getattr(tflite, "__file__", None) or next(iter(getattr(tflite, "__path__", ())), "another module")
        raise UsageError(
            f"import tflite finds {found}, and not the package that knows the format of .tflite files; give that file "
            "or folder another name (the package: pip install 'fewbit[tflite]')"
        )
    return tflite


@contextmanager
def broken(what: str) -> Iterator[None]:
    """Turn what reading wild offsets raises into our error."""
    try:
        yield
    except BROKEN as e:
        raise ModelFormatError(f"{what} is damaged or cut off: {type(e).__name__} ({str(e)[:120]})") from e


class _Reader:
    """Walks the tables of a file."""

    def __init__(self, schema: Any, data: bytes, what: str) -> None:
        self.schema, self.data, self.what = schema, data, what
        self.model = schema.Model.GetRootAs(data, 0)
        self.types = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
        self.kinds = {v: k for k, v in vars(schema.BuiltinOptions).items() if isinstance(v, int)}
        self.names = set[str]()

    def graph(self) -> LiteGraph:
        if self.model.Version() != 3:
            raise UnsupportedModel(f"{self.what} is of version {self.model.Version()} of the format; fewbit reads 3")
        graphs = self.count(self.model.SubgraphsLength())
        if graphs < 1:
            raise ModelFormatError(f"{self.what} holds no graph")
        names = {v: k for k, v in vars(self.schema.BuiltinOperator).items() if isinstance(v, int)}
        self.codes = [self.code(i, names) for i in range(self.count(self.model.OperatorCodesLength()))]
        sub = self.model.Subgraphs(0)
        tensors = tuple(self.tensor(sub, i) for i in range(self.count(sub.TensorsLength())))
        operators = tuple(self.operator(sub, i, len(tensors)) for i in range(self.count(sub.OperatorsLength())))
        inputs, outputs = (self.indices(_list(sub, w), len(tensors), least=0, what=w) for w in ("Inputs", "Outputs"))
        return LiteGraph(tensors, operators, inputs, outputs, self.signature(tensors), graphs)

    def count(self, n: int) -> int:
        """How many there are of something; each takes four bytes at least."""
        if 4 * n > len(self.data):
            raise ModelFormatError(f"{self.what} is damaged: it says that it holds {n} of something in one table")
        return int(n)

    def code(self, i: int, names: dict[int, str]) -> str:
        """The name of an operator; those of old files stand in one byte."""
        entry = self.model.OperatorCodes(i)
        number = max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())
        name = names.get(number)
        if name == CUSTOM:
            return _text(entry.CustomCode()) or CUSTOM
        return name or f"operator {number}"

    def tensor(self, sub: Any, i: int) -> Tensor:
        entry = sub.Tensors(i)
        shape, signature = _list(entry, "Shape"), _list(entry, "ShapeSignature")
        name = self.unique(_text(entry.Name()) or f"tensor{i}")
        if len(shape) > MOST_RANK or any(d < 0 for d in shape):
            raise ModelFormatError(f"{self.what}: tensor {name!r} has the shape {shape[:16]}; the file is damaged")
        signed = len(signature) == len(shape)
        free = tuple(None if s == -1 else d for d, s in zip(shape, signature if signed else shape, strict=True))
        if entry.Sparsity() is not None:
            raise UnsupportedModel(f"tensor {name!r} is stored sparse; convert the network without sparsity")
        return Tensor(
            i, name, shape, free, self.types.get(entry.Type(), f"number {entry.Type()}"),
            self.quant(entry, name, shape), self.buffer(entry.Buffer(), name), bool(entry.IsVariable()),
            signed,
        )  # fmt: skip

    def unique(self, name: str) -> str:
        found, n = name, 1
        while found in self.names:
            n += 1
            found = f"{name}_{n}"
        self.names.add(found)
        return found

    def quant(self, entry: Any, name: str, shape: tuple[int, ...]) -> Quant | None:
        q = entry.Quantization()
        if q is None or not self.count(q.ScaleLength()):
            return None
        scale = np.asarray(q.ScaleAsNumpy(), np.float32)
        zero = np.asarray(q.ZeroPointAsNumpy(), np.int64) if self.count(q.ZeroPointLength()) else np.zeros(1, np.int64)
        axis = int(q.QuantizedDimension())
        zero = np.broadcast_to(zero, scale.shape) if zero.size == 1 else zero
        along = scale.size == 1 or (0 <= axis < len(shape) and shape[axis] == scale.size)
        if not along or zero.shape != scale.shape or not (np.isfinite(scale) & (scale >= 0)).all():
            raise ModelFormatError(
                f"{self.what}: tensor {name!r} of shape {shape} has {scale.size} scales and {zero.size} zero points "
                f"along axis {axis}; there must be one, or one for each place along it, finite and not negative"
            )
        least = np.iinfo(np.int32)
        if not ((zero >= least.min) & (zero <= least.max)).all():
            raise ModelFormatError(f"{self.what}: tensor {name!r} has zero points beyond 32 bits")
        if not scale.any():
            return None  # what a converter writes for a tensor that it knows nothing of
        return Quant(np.where(scale == 0, np.float32(1), scale), zero, axis)

    def buffer(self, i: int, name: str) -> memoryview | None:
        """The bytes of a constant; buffer 0 and empty ones stand for nothing."""
        if not 0 <= i < self.count(self.model.BuffersLength()):
            raise ModelFormatError(f"{self.what}: tensor {name!r} has buffer {i}, which is not there")
        entry = self.model.Buffers(i)
        start, size = int(entry.Offset()), int(entry.Size())
        if start > 1:  # behind the tables, in files beyond 2 GB
            if start + size > len(self.data):
                raise ModelFormatError(f"{self.what} is cut off: buffer {i} ends behind its end")
            return memoryview(self.data)[start : start + size]
        if not entry.DataLength():
            return None
        return memoryview(np.ascontiguousarray(entry.DataAsNumpy(), np.uint8).data)

    def operator(self, sub: Any, i: int, tensors: int) -> Operator:
        entry = sub.Operators(i)
        code = entry.OpcodeIndex()
        if not 0 <= code < len(self.codes):
            raise ModelFormatError(f"{self.what}: operator {i} has code {code}, which is not there")
        what = f"operator {i} ({self.codes[code]})"
        kind, table = self.kinds.get(entry.BuiltinOptionsType(), "NONE"), None
        if kind != "NONE" and entry.BuiltinOptions() is not None:
            raw = entry.BuiltinOptions()
            table = getattr(self.schema, kind)()
            table.Init(raw.Bytes, raw.Pos)
        custom = bytes(np.asarray(entry.CustomOptionsAsNumpy(), np.uint8)) if entry.CustomOptionsLength() else b""
        return Operator(
            i, self.codes[code],
            self.indices(_list(entry, "Inputs"), tensors, least=-1, what=what),
            self.indices(_list(entry, "Outputs"), tensors, least=0, what=what),
            Options(table, len(self.data)), custom,
        )  # fmt: skip

    def indices(self, found: tuple[int, ...], tensors: int, *, least: int, what: str) -> tuple[int, ...]:
        wrong = next((i for i in found if not least <= i < tensors), None)
        if wrong is not None:
            raise ModelFormatError(f"{self.what}: {what} names tensor {wrong} of {tensors}; the file is damaged")
        return found

    def signature(self, tensors: tuple[Tensor, ...]) -> tuple[tuple[str, str], ...]:
        """Names of inputs and outputs for callers, where the file has one signature."""
        if self.model.SignatureDefsLength() != 1:
            return ()
        one, found = self.model.SignatureDefs(0), list[tuple[str, str]]()
        for count, entry in ((one.InputsLength(), one.Inputs), (one.OutputsLength(), one.Outputs)):
            for i in range(self.count(count)):
                index = entry(i).TensorIndex()
                if 0 <= index < len(tensors):
                    found.append((_text(entry(i).Name()), tensors[index].name))
        return tuple(found)


def _list(table: Any, name: str) -> tuple[int, ...]:
    """A vector of whole numbers; none is empty."""
    length: Callable[[], int] = getattr(table, f"{name}Length")
    return tuple(int(n) for n in getattr(table, f"{name}AsNumpy")()) if length() else ()


def _text(raw: bytes | None) -> str:
    return raw.decode("utf-8", "replace").replace("\0", "") if raw else ""


def _unpacked(data: memoryview, count: int) -> Array:
    """Two's complement of four bits, the lower half of a byte first."""
    pairs = np.frombuffer(data, np.uint8)
    nibbles = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)[:count].astype(np.int8)
    return np.asarray(np.where(nibbles > 7, nibbles - 16, nibbles), np.int8)
