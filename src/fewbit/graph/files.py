"""ONNX files: read without trusting them, write whole or not at all.

A model file is untrusted. External weights may lie only inside the model's own folder, symbolic links resolved;
offsets and lengths are checked against the file before anything is mapped. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from numpy.typing import NDArray

from fewbit.core.writing import writing
from fewbit.errors import AlreadyQuantized, ModelFormatError, UnsafePath
from fewbit.graph.model import MAX_PROTO, PACKED, Model
from fewbit.graph.normalize import normalize
from fewbit.graph.wire import BIG, read_cut, write_whole

QUANTIZED_OPS = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger "
    "QLinearAdd QLinearMul QLinearConcat QLinearAveragePool QLinearGlobalAveragePool QLinearLeakyRelu QLinearSigmoid "
    "QLinearSoftmax QGemm MatMulNBits DynamicQuantizeMatMul DynamicQuantizeLSTM MatMulIntegerToFloat".split()
)

logging.getLogger("onnx_ir.serde").setLevel(logging.ERROR)  # what it warns of in broken files, we raise

Bytes = NDArray[np.uint8]

BROKEN = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, AssertionError)
"""What onnx and onnx_ir raise on files that say impossible things."""


def load_model(path: str | Path, *, allow_quantized: bool = False) -> Model:
    """Read an ONNX file.

    Args:
        path: the `.onnx` file; external weights stay on disk, memory-mapped.
        allow_quantized: accept a model that holds quantized operators already.

    Raises:
        ModelFormatError: no such file, not ONNX, truncated or corrupt.
        UnsafePath: external data outside of the model's folder.
        UnsupportedModel: the opset is too old and cannot be raised.
        AlreadyQuantized: unless allowed.
    """
    path = Path(path)
    try:
        with opened(path, "a model") as file:
            message, weights = read_cut(file)
        proto = onnx.ModelProto.FromString(message)
    except (DecodeError, ValueError) as e:
        raise ModelFormatError(f"{path} is not an ONNX model, or it is truncated or corrupt: {e}") from e
    model = from_proto(proto, path, weights)
    if not allow_quantized:
        refuse_quantized(model, str(path))
    return model


@contextlib.contextmanager
def opened(path: Path, kind: str) -> Iterator[BinaryIO]:
    """A file to read; what goes wrong with it is a ModelFormatError. `kind`: of file that is needed, for messages."""
    try:
        with open(path, "rb") as file:
            yield file
    except FileNotFoundError:
        raise ModelFormatError(f"there is no file {path}; check the name") from None
    except IsADirectoryError:
        raise ModelFormatError(f"{path} is a folder; {kind} file is needed") from None
    except OSError as e:
        raise ModelFormatError(f"cannot read {path}: {e.strerror or e}") from e


def from_proto(proto: onnx.ModelProto, path: Path | None = None, weights: Mapping[str, Bytes] | None = None) -> Model:
    """Wrap a protobuf model; it is checked and normalized (see `Model`).

    Args:
        proto: the model. path: where it comes from; external weights may lie in that folder only.
        weights: bytes of initializers that are left out of `proto`, as `wire.read_cut` gives them.
    """
    what = str(path) if path else "the model"
    if not proto.HasField("graph") or not proto.graph.output or not proto.ir_version:
        raise ModelFormatError(f"{what} is not an ONNX model, or it is truncated: it has no graph with an output")
    if not any(o.domain in ("", "ai.onnx") for o in proto.opset_import):
        raise ModelFormatError(f"{what} does not say which opset it uses; it is truncated or corrupt")
    names = Counter(t.name for t in proto.graph.initializer)
    for name, n in names.items():
        if n > 1:
            raise ModelFormatError(f"{what} holds {n} weights named {name!r}")
    _check_texts(proto, what)
    try:
        irm = ir.serde.deserialize_model(proto)
        _take_weights(irm, _folders(path), weights or {}, what)
        return normalize(Model(irm, path), what)
    except BROKEN as e:
        raise ModelFormatError(f"{what} holds a graph that cannot be read: {_root(e)}") from e


def _check_texts(message: Message, what: str) -> None:
    """Raise if a name or other text is not UTF-8: protobuf reads it as bytes, and nothing can write it again."""
    fields = message.ListFields() if not isinstance(message, onnx.TensorProto) else _small_fields(message)
    for field, value in fields:
        parts = (value,) if isinstance(value, str | bytes | Message) else value
        if field.type == field.TYPE_MESSAGE:
            for part in parts:
                _check_texts(part, what)
        elif field.type == field.TYPE_STRING:
            for text in parts:
                if not isinstance(text, str):
                    raise ModelFormatError(f"{what} is corrupt: {field.name} {text[:50]!r} in it is not UTF-8")


def _small_fields(tensor: onnx.TensorProto) -> list[tuple[FieldDescriptor, Any]]:
    """Those without the numbers, which would be copied at each look."""
    kinds = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE)
    known = [(f, getattr(tensor, f.name)) for f in tensor.DESCRIPTOR.fields if f.type in kinds]
    return [(f, v) for f, v in known if f.name != "segment"]


def _root(error: BaseException) -> str:
    """The first line of the innermost message: onnx_ir wraps each error in the text of the whole graph."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _folders(path: Path | None) -> list[Path]:
    """Where external weights may lie: beside the file, and if it is a link, beside what it points to."""
    places = [path.parent, path.resolve().parent] if path else [Path.cwd()]
    return list(dict.fromkeys(p.resolve() for p in places))


def _take_weights(irm: ir.Model, folders: list[Path], weights: Mapping[str, Bytes], what: str) -> None:
    """Give every tensor an array of its own, or a mapping of its external file.

    A protobuf tensor would be copied at each look and keep the whole message alive. A mapping stays what it is when
    another file takes its name, as `save` does it.
    """
    mapped: dict[Path, Bytes] = {}
    for holder, key, tensor in list(_tensors(irm)):
        if any(not isinstance(d, int) or d < 0 for d in tensor.shape):
            raise ModelFormatError(f"{what}: weight {tensor.name!r} has shape {tensor.shape}")
        if isinstance(tensor, ir.ExternalTensor):
            own = _from_bytes(tensor, _external(tensor, folders, what, mapped), what)
        elif tensor.dtype == ir.DataType.STRING:
            continue
        elif holder is irm.graph and key in weights:
            own = _from_bytes(tensor, weights[key], what)
        else:
            own = _from_message(tensor, what)
        if isinstance(holder, ir.Node):
            holder.attributes.add(ir.AttrTensor(key, own))
        else:
            holder.initializers[key].const_value = own


def _from_bytes(tensor: ir.TensorProtocol, data: Bytes, what: str) -> ir.TensorProtocol:
    """A tensor over bytes as they lie in a file; 4-bit ones stay packed."""
    need = _bytes_needed(tensor)
    if data.size != need:
        raise ModelFormatError(
            f"{what}: weight {tensor.name!r} has {data.size} bytes, but its shape {tensor.shape} needs {need}"
        )
    if tensor.dtype.bitwidth < 8:
        return ir.PackedTensor(data, tensor.dtype, shape=_shape(tensor), name=tensor.name)
    array = data.view(np.dtype(tensor.dtype.numpy()).newbyteorder("<")).reshape(tensor.shape.numpy())
    array = np.require(array, requirements="A")  # engines read whole words: bytes that start at odd places are copied
    return ir.Tensor(array, tensor.dtype, shape=_shape(tensor), name=tensor.name)


def _from_message(tensor: ir.TensorProtocol, what: str) -> ir.TensorProtocol:
    try:
        return ir.Tensor(tensor.numpy(), tensor.dtype, shape=_shape(tensor), name=tensor.name)
    except (ValueError, TypeError, AssertionError) as e:  # assertions of onnx_ir about what the file says
        raise ModelFormatError(f"{what}: weight {tensor.name!r} does not hold what its shape says: {_root(e)}") from e


def _shape(tensor: ir.TensorProtocol) -> ir.Shape:
    return ir.Shape(list(tensor.shape.numpy()))


def _bytes_needed(tensor: ir.TensorProtocol) -> int:
    return -(-math.prod(tensor.shape.numpy()) * tensor.dtype.bitwidth // 8)


def refuse_quantized(model: Model, what: str) -> None:
    """Raise AlreadyQuantized if the model holds quantized operators."""
    found = sorted({n.op_type for n in model.ir.graph.all_nodes()} & QUANTIZED_OPS)
    if found:
        raise AlreadyQuantized(
            f"{what} is quantized already (it holds {', '.join(found)}); give the float model, "
            "or load it with allow_quantized=True to run, compare or inspect it"
        )
    refuse_packed(model, what)


def refuse_packed(model: Model, what: str) -> None:
    """Raise AlreadyQuantized if nodes of the model unpack its weights from integers."""
    if PACKED in model.metadata:
        raise AlreadyQuantized(
            f"{what} is quantized already ({model.metadata[PACKED]} of its weights are stored in few bits); give the "
            "float model, or load it with allow_quantized=True to run, compare or inspect it"
        )


def _tensors(irm: ir.Model) -> Iterator[tuple[ir.Node | ir.Graph, str, ir.TensorProtocol]]:
    """Every tensor with its holder, functions included: initializers (graph, name) and attributes (node, key)."""
    for graph in (irm.graph, *irm.graph.subgraphs(), *(f.graph for f in irm.functions.values())):
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                yield graph, name, value.const_value
        for node in graph:
            for key, a in node.attributes.items():
                if a.type == ir.AttributeType.TENSOR and a.value is not None:
                    yield node, key, a.value


def _external(tensor: ir.ExternalTensor, folders: list[Path], what: str, mapped: dict[Path, Bytes]) -> Bytes:
    """The bytes of an external weight, mapped, once it is sure that they are there and inside of the model's folder."""
    location = os.fspath(tensor.location)
    places = [(folder / location).resolve() for folder in folders]
    inside = [p for p in places if any(p.is_relative_to(folder) for folder in folders)]
    if os.path.isabs(location) or not inside:
        raise UnsafePath(
            f"{what}: weight {tensor.name!r} points to {location!r}, outside of the model's folder; "
            "put the data file beside the model"
        )
    file = next((p for p in inside if p.is_file()), None)
    if file is None:
        raise ModelFormatError(
            f"{what}: the data file {location!r} of weight {tensor.name!r} is missing; put it beside the model"
        )
    if tensor.dtype == ir.DataType.STRING:
        raise ModelFormatError(f"{what}: weight {tensor.name!r} is of strings; these cannot lie in a data file")
    offset, size, need = tensor.offset or 0, file.stat().st_size, _bytes_needed(tensor)
    length = need if tensor.length is None else tensor.length
    if offset < 0 or length < need or offset + need > size:
        raise ModelFormatError(
            f"{what}: weight {tensor.name!r} needs {need} bytes at {offset} of {location!r}, "
            f"which has {size} (its record says {length}); the data file is truncated or not the right one"
        )
    if file not in mapped:
        mapped[file] = np.asarray(np.memmap(file, np.uint8, "r")) if size else np.empty(0, np.uint8)
    return mapped[file][offset : offset + need]


# -- writing --------------------------------------------------------------------------------------------------------


def save_model(model: Model, path: Path, *, max_proto: int = MAX_PROTO) -> None:
    """Write the model as one file, or with its weights in `<name>.data` beside it if it is over `max_proto` bytes."""
    with writing(path) as file:
        if model.nbytes > max_proto:
            ir.save(model.clone().ir, file, external_data=path.name + ".data", size_threshold_bytes=BIG, alignment=BIG)
        else:
            with open(file, "wb") as out:
                _write(model, out)


def to_bytes(model: Model) -> bytes:
    """The model as one protobuf message, byte for byte the same every time; weights included."""
    out = io.BytesIO()
    _write(model, out)
    return out.getvalue()


def _write(model: Model, out: BinaryIO) -> None:
    light, weights = model.clone(), {}
    for value in map(light.values().get, light.stored):  # what unpacking gives, engines infer; it would be a line each
        if value is not None:
            value.type = value.shape = None
    for name, value in light.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < BIG or tensor.dtype == ir.DataType.STRING or tensor.dtype.bitwidth < 8:
            continue
        array = np.ascontiguousarray(tensor.numpy())
        weights[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
        value.const_value = ir.ExternalTensor("", 0, 0, tensor.dtype, shape=_shape(tensor), name=name)
    message = ir.serde.serialize_model(light.ir)
    for t in message.graph.initializer:
        if t.name in weights:
            t.ClearField("external_data")
            t.ClearField("data_location")
    write_whole(message, weights, out)
