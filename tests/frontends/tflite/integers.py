"""Cases in integers: what is fed, weights and results get scales and zero points as TFLite's converter gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.frontends.tflite.cases import Case, Kept
from tests.frontends.tflite.one import Const, Fed, Lite, lite, sized, write

Array = NDArray[Any]

WEIGHTED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0, "FULLY_CONNECTED": 0}
"""Operators with weights → the axis of their channels out."""

FIXED = {
    "LOGISTIC": {"int8": (1 / 256, -128), "uint8": (1 / 256, 0), "int16": (1 / 32768, 0)},
    "SOFTMAX": {"int8": (1 / 256, -128), "uint8": (1 / 256, 0), "int16": (1 / 32768, 0)},
    "TANH": {"int8": (1 / 128, 0), "uint8": (1 / 128, 128), "int16": (1 / 32768, 0)},
    "LOG_SOFTMAX": {"int8": (16 / 256, 127), "uint8": (16 / 256, 255)},
    "L2_NORMALIZATION": {"int8": (1 / 128, 0), "uint8": (1 / 128, 128)},
}
"""Results whose scale is given."""

MOVING = frozenset(
    """AVERAGE_POOL_2D MAX_POOL_2D RESHAPE TRANSPOSE PAD PADV2 MIRROR_PAD SLICE STRIDED_SLICE SPLIT SPLIT_V PACK UNPACK
    GATHER SPACE_TO_DEPTH DEPTH_TO_SPACE SPACE_TO_BATCH_ND BATCH_TO_SPACE_ND RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR
    CONCATENATION MAXIMUM MINIMUM SQUEEZE EXPAND_DIMS TILE REDUCE_MAX REDUCE_MIN SELECT_V2 REVERSE_V2 GATHER_ND
    CONCATENATION TOPK_V2 SELECT""".split()
)
"""Operators whose result has the scale of what goes in."""


@dataclass(frozen=True)
class Whole:
    """A case in integers: the file, what is fed, what LiteRT answers, and the scale of each result."""

    file: bytes
    feeds: dict[str, Array]
    wanted: dict[str, Array]


def scale_of(x: Array, kind: str) -> tuple[float, int]:
    """Scale and zero point for the range of some numbers."""
    lo, hi = min(0.0, float(x.min())), max(0.0, float(x.max()), 1e-3)
    if kind == "int16":
        return max(-lo, hi) / 32767, 0
    scale = (hi - lo) / 255
    return scale, round(-lo / scale) + (0 if kind == "uint8" else -128)


def numbers(given: Any) -> Array:
    return given.data if isinstance(given, Kept) else given


def to_whole(x: Array, scale: Any, zero: Any, kind: str) -> Array:
    ends = np.iinfo(kind)
    return np.clip(np.round(x / scale) + zero, ends.min, ends.max).astype(kind)


def whole(case: Case, kind: str) -> Whole:
    """The case with activations of this type."""
    tensors: dict[str, Any] = {}
    feeds: dict[str, Array] = {}
    real: dict[str, Any] = {}
    names, shared = [f"in{k}" for k in range(len(case.inputs))], None
    if case.op in MOVING:
        arrays = [numbers(g) for g in case.inputs]
        shared = scale_of(np.concatenate([a.ravel() for a in arrays if a.dtype == np.float32]), kind)
    first = (1.0, 0)
    for k, (name, given) in enumerate(zip(names, case.inputs, strict=True)):
        array = numbers(given)
        real[name] = given
        if array.dtype != np.float32:
            tensors[name] = Const(array) if isinstance(given, Kept) else Fed(array.shape, array.dtype)
            if not isinstance(given, Kept):
                feeds[name] = array
        elif case.op in WEIGHTED and isinstance(given, Kept):
            tensors[name] = _parameter(case, given.data, kind, first, tensors)
        else:
            scale, zero = shared or scale_of(array, kind)
            first = (scale, zero) if case.op not in WEIGHTED or array.ndim > 1 else first
            q = to_whole(array, scale, zero, kind)
            tensors[name] = Const(q, scale, zero) if isinstance(given, Kept) else Fed(q.shape, kind, scale, zero)
            if not isinstance(given, Kept):
                feeds[name] = q
        assert k >= 0
    return _finished(case, kind, tensors, feeds, real, names, shared)


def _parameter(case: Case, data: Array, kind: str, first: tuple[float, int], tensors: dict[str, Any]) -> Const:
    """A weight, or a bias in steps of input times weight."""
    if data.ndim == 1:
        weight = next(t for t in reversed(tensors.values()) if isinstance(t, Const) and t.data.ndim > 1)
        scale = np.float32(first[0]) * np.asarray(weight.scale, np.float32)
        return Const(np.round(data / scale).astype("int64" if kind == "int16" else "int32"), scale)
    if kind == "uint8":
        scale, zero = scale_of(data, kind)
        return Const(to_whole(data, scale, zero, kind), scale, zero)
    axis = WEIGHTED[case.op]
    if case.op == "FULLY_CONNECTED":
        scale = np.abs(data).max() / 127
        return Const(to_whole(data, scale, 0, "int8"), scale)
    other = tuple(a for a in range(data.ndim) if a != axis)
    scale = (np.abs(data).max(other) / 127).astype(np.float32)
    shape = [-1 if a == axis else 1 for a in range(data.ndim)]
    return Const(to_whole(data, scale.reshape(shape), 0, "int8"), scale, axis=axis)


def _finished(
    case: Case, kind: str, tensors: dict[str, Any], feeds: dict[str, Array], real: dict[str, Any], names: list[str],
    shared: tuple[float, int] | None,
) -> Whole:  # fmt: skip
    outputs = [f"out{k}" for k in range(len(case.outputs))]
    float_feeds = {n: real[n] for n in feeds}
    float_tensors = {n: Const(g.data) if isinstance(g, Kept) else Fed(g.shape, g.dtype) for n, g in real.items()}
    ops = [Lite(case.op, names, outputs, case.kind, case.options, version=case.version)]
    ends = {o: Fed(case.size, t) for o, t in zip(outputs, case.outputs, strict=True)}
    found = lite(write(ops, {**float_tensors, **ends}, list(feeds), outputs), float_feeds)
    for name, dtype in zip(outputs, case.outputs, strict=True):
        if dtype == "float32":
            scale, zero = FIXED.get(case.op, {}).get(kind) or shared or scale_of(found[name], kind)
            tensors[name] = Fed(found[name].shape, kind, scale, zero)
        else:
            tensors[name] = Fed(found[name].shape, dtype)
    final = sized(ops, tensors, list(feeds), outputs, feeds)
    file = write(ops, final, list(feeds), outputs)
    return Whole(file, feeds, lite(file, feeds))
