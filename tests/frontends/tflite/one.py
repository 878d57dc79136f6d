"""Small TFLite files, written with the schema that LiteRT carries, and LiteRT itself as the oracle.

file = write([Lite("RELU", ["x"], ["y"])], {"x": Fed((1, 4)), "y": Fed((1, 4))}, ["x"], ["y"])
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import flatbuffers
import numpy as np
import onnxruntime as ort
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from fewbit.frontends.tflite.convert import convert
from fewbit.frontends.tflite.schema import Quant, parse
from fewbit.graph.model import Model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

Array = NDArray[Any]

TYPES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8", "uint8": "UINT8", "int16": "INT16", "int32": "INT32",
    "int64": "INT64", "bool": "BOOL", "float64": "FLOAT64", "uint32": "UINT32",
}  # fmt: skip


@dataclass(frozen=True)
class Fed:
    """A tensor without numbers; `free` is its shape with -1 for what is open."""

    shape: tuple[int, ...]
    dtype: Any = "float32"
    scale: Any = None
    zero: Any = 0
    free: tuple[int, ...] | None = None
    variable: bool = False


@dataclass(frozen=True)
class Const:
    """A tensor with numbers. `type`: where NumPy has none for it."""

    data: Array
    scale: Any = None
    zero: Any = 0
    axis: int = 0
    type: str = ""
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Lite:
    """An operator; the name of the class of its options follows from them, if it is not given as `kind`."""

    op: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    kind: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    custom: bytes = b""
    version: int = 1


Tensors = Mapping[str, Fed | Const]


def write(
    ops: Sequence[Lite], tensors: Tensors, inputs: Sequence[str], outputs: Sequence[str], *, graphs: int = 1,
    signature: Mapping[str, str] | None = None,
) -> bytes:  # fmt: skip
    """The bytes of a file."""
    model, names = schema.ModelT(), list(tensors)
    model.version, model.buffers = 3, [schema.BufferT()]
    sub = schema.SubGraphT()
    sub.name, sub.inputs, sub.outputs = b"main", _ints(names, inputs), _ints(names, outputs)
    sub.tensors = [_tensor(model, name, tensor) for name, tensor in tensors.items()]
    codes = list(dict.fromkeys((o.op, o.version, bool(o.custom)) for o in ops))
    model.operatorCodes = [_code(*code) for code in codes]
    sub.operators = [_operator(o, names, codes.index((o.op, o.version, bool(o.custom)))) for o in ops]
    model.subgraphs = [sub] * graphs
    if signature:
        model.signatureDefs = [_signature(signature, names, inputs)]
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _ints(names: Sequence[str], used: Sequence[str]) -> Array:
    return np.asarray([names.index(u) if u else -1 for u in used], np.int32)


def _tensor(model: Any, name: str, tensor: Fed | Const) -> Any:
    made = schema.TensorT()
    made.name = name.encode()
    if isinstance(tensor, Const):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8)
        model.buffers.append(buffer)
        made.buffer, shape = len(model.buffers) - 1, tensor.data.shape if tensor.shape is None else tensor.shape
        kind = tensor.type or TYPES[tensor.data.dtype.name]
    else:
        made.buffer, shape, kind = 0, tensor.shape, TYPES[np.dtype(tensor.dtype).name]
        made.isVariable = tensor.variable
        if tensor.free is not None:
            made.shapeSignature = np.asarray(tensor.free, np.int32)
    made.shape, made.type = np.asarray(shape, np.int32), getattr(schema.TensorType, kind)
    if tensor.scale is not None:
        q = made.quantization = schema.QuantizationParametersT()
        q.scale = np.atleast_1d(np.asarray(tensor.scale, np.float32))
        q.zeroPoint = np.broadcast_to(np.atleast_1d(np.asarray(tensor.zero, np.int64)), q.scale.shape).copy()
        q.quantizedDimension = tensor.axis if isinstance(tensor, Const) else 0
    return made


def _code(op: str, version: int, custom: bool) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode = schema.BuiltinOperator.CUSTOM if custom else getattr(schema.BuiltinOperator, op)
    made.deprecatedBuiltinCode, made.version = min(made.builtinCode, 127), version
    made.customCode = op.encode() if custom else None
    return made


def _operator(o: Lite, names: Sequence[str], code: int) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, _ints(names, o.inputs), _ints(names, o.outputs)
    if o.custom:
        made.customOptions = np.frombuffer(o.custom, np.uint8)
    if o.kind:
        made.builtinOptionsType = getattr(schema.BuiltinOptions, o.kind)
        made.builtinOptions = getattr(schema, f"{o.kind}T")()
        for key, value in o.options.items():
            assert hasattr(made.builtinOptions, key), (o.kind, key)
            setattr(made.builtinOptions, key, value)
    return made


def _signature(signature: Mapping[str, str], names: Sequence[str], inputs: Sequence[str]) -> Any:
    made = schema.SignatureDefT()
    made.signatureKey, made.inputs, made.outputs = b"serving_default", [], []
    for name, tensor in signature.items():
        one = schema.TensorMapT()
        one.name, one.tensorIndex = name.encode(), names.index(tensor)
        (made.inputs if tensor in inputs else made.outputs).append(one)
    return made


def lite(file: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What LiteRT answers, by its plain kernels."""
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    net = Interpreter(model_content=file, experimental_op_resolver_type=kernels)
    for d in net.get_input_details():
        if tuple(d["shape"]) != feeds[d["name"]].shape:
            net.resize_tensor_input(d["index"], feeds[d["name"]].shape)
    net.allocate_tensors()
    for d in net.get_input_details():
        net.set_tensor(d["index"], feeds[d["name"]])
    net.invoke()
    return {d["name"]: net.get_tensor(d["index"]) for d in net.get_output_details()}


def read(file: bytes, **how: Any) -> Model:
    """The Model of a file."""
    return convert(parse(file, "net.tflite"), **how)


def quants(file: bytes) -> dict[str, Quant]:
    """The scales of a file's integers."""
    return {t.name: t.quant for t in parse(file, "net.tflite").tensors if t.quant is not None}


def real(file: bytes, found: Mapping[str, Array]) -> dict[str, Array]:
    """The numbers that integers of the file's inputs or outputs stand for."""
    known = quants(file)
    return {k: known[k].real(v) if k in known else v for k, v in found.items()}


def step(file: bytes, name: str) -> float:
    """What one integer more is; where they stand for nothing else, 1."""
    known = quants(file)
    return float(known[name].scale[0]) if name in known else 1.0


def run(model: Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What ONNX Runtime answers, without its optimizer."""
    from fewbit.engines.onnxruntime import open_onnxruntime

    runner = open_onnxruntime(model, optimize=False)
    return dict(runner.run(dict(feeds)))


def sized(ops: Sequence[Lite], tensors: Tensors, inputs: Sequence[str], outputs: Sequence[str], feeds: Any) -> Tensors:
    """The tensors, with the shapes that LiteRT finds for outputs."""
    found = lite(write(ops, tensors, inputs, outputs), feeds)
    return {
        **tensors,
        **{n: replace(tensors[n], shape=a.shape) for n, a in found.items() if isinstance(tensors[n], Fed)},
    }


assert ort
