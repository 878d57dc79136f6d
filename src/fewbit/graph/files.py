"""ONNX files: read without trusting them, write whole or not at all.

A model file is untrusted. External weights may lie only inside the model's own folder, symbolic links resolved;
offsets and lengths are checked against the file before anything is mapped. Nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from fewbit.errors import AlreadyQuantized, ModelFormatError, OutputError, UnsafePath
from fewbit.graph.model import MAX_PROTO, Model
from fewbit.graph.normalize import normalize

QUANTIZED_OPS = frozenset(
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger "
    "QLinearAdd QLinearMul QLinearConcat QLinearAveragePool QLinearGlobalAveragePool QLinearLeakyRelu QLinearSigmoid "
    "QLinearSoftmax QGemm MatMulNBits DynamicQuantizeMatMul DynamicQuantizeLSTM MatMulIntegerToFloat".split()
)


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
        proto = onnx.load(os.fspath(path), format="protobuf", load_external_data=False)
    except FileNotFoundError:
        raise ModelFormatError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise ModelFormatError(f"{path} is a folder; a model file is needed") from None
    except OSError as e:
        raise ModelFormatError(f"cannot read {path}: {e.strerror or e}") from e
    except (DecodeError, ValueError) as e:
        raise ModelFormatError(f"{path} is not an ONNX model, or it is truncated or corrupt") from e
    model = from_proto(proto, path)
    if not allow_quantized:
        refuse_quantized(model, str(path))
    return model


def from_proto(proto: onnx.ModelProto, path: Path | None = None) -> Model:
    """Wrap a protobuf model; it is checked and normalized (see `Model`)."""
    what = str(path) if path else "the model"
    if not proto.HasField("graph") or not proto.graph.output or not proto.ir_version:
        raise ModelFormatError(f"{what} is not an ONNX model, or it is truncated: it has no graph with an output")
    folder = (path.parent if path else Path.cwd()).resolve()
    try:
        irm = ir.serde.deserialize_model(proto)
    except (ValueError, TypeError, KeyError, AttributeError, ir.serde.SerdeError) as e:
        raise ModelFormatError(f"{what} holds a graph that cannot be read: {e}") from e
    for _, _, tensor in _tensors(irm):
        if isinstance(tensor, ir.ExternalTensor):
            _check_external(tensor, folder, what)
            tensor.base_dir = os.fspath(folder)
    _leave_protobuf(irm, what)
    return normalize(Model(irm, path), what)


def _leave_protobuf(irm: ir.Model, what: str) -> None:
    """Take weights over into numpy arrays: protobuf would copy a weight at each look and keep the whole file alive."""
    for node, key, tensor in list(_tensors(irm)):
        if not isinstance(tensor, ir.TensorProtoTensor) or tensor.dtype == ir.DataType.STRING:
            continue
        try:
            own = ir.Tensor(tensor.numpy(), tensor.dtype, shape=tensor.shape, name=tensor.name)
        except (ValueError, TypeError) as e:
            raise ModelFormatError(f"{what}: weight {tensor.name!r} does not hold what its shape says: {e}") from e
        if isinstance(node, ir.Node):
            node.attributes.add(ir.AttrTensor(key, own))
        else:
            node.initializers[key].const_value = own


def refuse_quantized(model: Model, what: str) -> None:
    """Raise AlreadyQuantized if the model holds quantized operators."""
    found = sorted({n.op_type for n in model.ir.graph.all_nodes()} & QUANTIZED_OPS)
    if found:
        raise AlreadyQuantized(
            f"{what} is quantized already (it holds {', '.join(found)}); give the float model, "
            "or load it with allow_quantized=True to run, compare or inspect it"
        )


def _tensors(irm: ir.Model) -> Iterator[tuple[ir.Node | ir.Graph, str, ir.TensorProtocol]]:
    """Every tensor with its holder: initializers (graph, name) and attributes (node, key), of all graphs and functions."""
    for graph in (irm.graph, *irm.graph.subgraphs(), *(f.graph for f in irm.functions.values())):
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                yield graph, name, value.const_value
        for node in graph:
            for key, a in node.attributes.items():
                if a.type == ir.AttributeType.TENSOR and a.value is not None:
                    yield node, key, a.value


def _check_external(tensor: ir.ExternalTensor, folder: Path, what: str) -> None:
    location = os.fspath(tensor.location)
    file = (folder / location).resolve()
    if os.path.isabs(location) or not file.is_relative_to(folder):
        raise UnsafePath(
            f"{what}: weight {tensor.name!r} points to {location!r}, outside of the model's folder; "
            "put the data file beside the model"
        )
    if not file.is_file():
        raise ModelFormatError(f"{what}: the data file {location!r} of weight {tensor.name!r} is missing")
    offset, size = tensor.offset or 0, file.stat().st_size
    need = -(-int(tensor.size * tensor.dtype.bitwidth) // 8)
    length = need if tensor.length is None else tensor.length
    if offset < 0 or length < need or offset + need > size:
        raise ModelFormatError(
            f"{what}: weight {tensor.name!r} needs {need} bytes at {offset} of {location!r}, "
            f"which has {size} (its record says {length}); the data file is truncated or not the right one"
        )


# -- writing --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a path in a temporary folder beside `path`; what is written there appears at `path`'s folder at the end.

    Files move one by one in name order, `path` itself last, so that its presence means that all is there.

    Raises:
        OutputError: no such folder, no permission, no space.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=".fewbit-", dir=path.parent))
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror or e}") from e
    try:
        yield folder / path.name
        for file in sorted(folder.iterdir(), key=lambda f: (f.name == path.name, f.name)):
            os.replace(file, path.parent / file.name)
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror or e}") from e
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def save_model(model: Model, path: Path, *, max_proto: int = MAX_PROTO) -> None:
    """Write the model as one file, or with its weights in `<name>.data` beside it if it is over `max_proto` bytes."""
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    with writing(path) as file:
        if model.nbytes > max_proto:
            ir.save(model.ir, file, external_data=path.name + ".data", size_threshold_bytes=1024)
        else:
            with open(file, "wb") as out:
                out.write(to_bytes(model))


def to_bytes(model: Model) -> bytes:
    """The model as one protobuf message, byte for byte the same every time; weights included."""
    data: bytes = ir.serde.serialize_model(model.ir).SerializeToString(deterministic=True)
    return data
