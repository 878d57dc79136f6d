"""Models as engines take them, and what engines made of them.

    light_proto: model → a message of some kB + {weight name: array}, nothing copied
    self_contained: model → one message, or, above 2 GB, a file with its data beside it
    read_nodes: optimized model file → name, operator and input types of each node

A weight over `LIGHT` bytes is written as "external"; the engine is handed the array under that name instead, so the
weights are in memory once, and the message never meets protobuf's 2 GB. Arrays can be handed to the main graph only:
weights in `If`, `Loop` and `Scan` bodies stay inside the message, and where they would be too large for that they move
to the main graph first (bodies see its values, and names are unique in a Model).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.model import MAX_PROTO, Model

LIGHT = 1024
"""Weights up to this many bytes stay in the message: engines read shapes, axes and scales from them."""


def light_proto(model: Model, *, max_proto: int = MAX_PROTO) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """Split a model into a small message and its weights.

    Args:
        model: stays as it is.
        max_proto: bytes of weights in bodies of control flow above which they move out.

    Returns:
        The serialized model, and the weights that it marks as external. Arrays are the model's own where its type has
        whole bytes; of 4-bit weights the packed bytes lie at the start of an array of the full shape.
    """
    light = model.clone()
    inner = [v for v in light.weights() if v.graph is not light.graph]
    if sum(_nbytes(v) for v in inner) > max_proto:
        for value in inner:
            if _nbytes(value) > LIGHT:
                _move_out(light, value)
    for value in list(light.graph.initializers.values()):
        if not value.uses() and not value.is_graph_output():  # ONNX Runtime drops these before it looks for their data
            del light.graph.initializers[str(value.name)]
    arrays = {}
    for value in light.graph.initializers.values():
        tensor, name = value.const_value, str(value.name)
        if tensor is not None and tensor.nbytes > LIGHT and tensor.dtype != ir.DataType.STRING:
            arrays[name] = _handed_over(tensor)
            shape = ir.Shape(list(tensor.shape.numpy()))
            value.const_value = ir.ExternalTensor("weights", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)
    _embed(light, keep=arrays)
    return _message(light), arrays


def element_type(array: NDArray[Any]) -> int:
    """ONNX's number for the type of an array, those of ml_dtypes included."""
    return int(ir.DataType.from_numpy(array.dtype))


@contextlib.contextmanager
def self_contained(model: Model, *, max_proto: int = MAX_PROTO) -> Iterator[bytes | Path]:
    """The model with all its weights, as one message if it fits, else as a file that is gone afterwards."""
    whole = model.clone()
    if whole.nbytes <= max_proto:
        _embed(whole)
        yield _message(whole)
        return
    with tempfile.TemporaryDirectory(prefix="fewbit-") as folder:
        file = Path(folder) / "model.onnx"
        ir.save(whole.ir, file, external_data="model.data", size_threshold_bytes=LIGHT)
        yield file


def read_nodes(path: str | Path) -> list[tuple[str, str, list[str]]]:
    """Name, operator (with its domain unless standard) and input types of each node of the main graph.

    Types are words as ONNX has them: "float", "uint8"; "" where neither the file nor the operators before it tell.
    """
    graph = onnx.load(path, load_external_data=False).graph
    types: dict[str, int] = {t.name: t.data_type for t in graph.initializer}
    types |= {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)}
    found = []
    for node in graph.node:
        op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        known = [ir.DataType(types.get(name, 0)) for name in node.input if name]
        made = int(_made(node.op_type, known))
        for name in node.output:  # engines do not note the types of what they inserted themselves
            types[name] = types.get(name, 0) or made
        found.append((node.name, op, ["" if t == ir.DataType.UNDEFINED else t.name.lower() for t in known]))
    return found


def _made(op: str, types: list[ir.DataType]) -> ir.DataType:
    """Type of an output: of a quantized operator that of the last zero point, else that of the first known input."""
    if op == "DequantizeLinear":
        return ir.DataType.FLOAT
    known = [t for t in types if t != ir.DataType.UNDEFINED]
    small = [t for t in known if t.is_integer() and t.bitwidth <= 16]
    if op.startswith("Q") and small:
        return small[-1]
    return known[0] if known else ir.DataType.UNDEFINED


def _nbytes(value: ir.Value) -> int:
    return int(value.const_value.nbytes) if value.const_value is not None else 0


def _move_out(model: Model, value: ir.Value) -> None:
    """Move a weight of a body to the main graph."""
    assert value.graph is not None and value.name is not None
    del value.graph.initializers[value.name]
    model.graph.register_initializer(value)


def _handed_over(tensor: ir.TensorProtocol) -> NDArray[Any]:
    """The weight as engines read it; below 8 bits numpy has no packed type, so only the first bytes are touched."""
    array = np.ascontiguousarray(tensor.numpy())
    if tensor.dtype.bitwidth >= 8:
        return array
    packed = np.frombuffer(tensor.tobytes(), np.uint8)
    room = np.empty(array.size, np.uint8)
    room[: packed.size] = packed
    return room.view(array.dtype).reshape(array.shape)


def _embed(model: Model, keep: dict[str, NDArray[Any]] | None = None) -> None:
    """Read weights that lie in files beside the model, but those in `keep`."""
    for value in model.weights():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor) and value.name not in (keep or {}):
            value.const_value = ir.Tensor(tensor.numpy(), tensor.dtype, shape=tensor.shape, name=tensor.name)


def _message(model: Model) -> bytes:
    data: bytes = ir.serde.serialize_model(model.ir).SerializeToString()
    return data
