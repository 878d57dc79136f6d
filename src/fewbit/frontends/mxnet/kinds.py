"""Number types in the middle of a network.

MXNet computes whole numbers in their own type and feeds indices as floats; ONNX wants int64 indices, truth values as
bool, and has few operators for whole numbers. Half and double precision are float32 here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fewbit.frontends.mxnet.layer import Layer
from fewbit.frontends.mxnet.sizes import Make
from fewbit.graph.build import Value, type_of

NUMBER = {np.dtype(k): v for k, v in {
    "float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9,
}.items()}  # fmt: skip
"""Type → ONNX's number for it."""

KEPT = {"float32": "float32", "float16": "float32", "float64": "float32", "bfloat16": "float32",
        "uint8": "uint8", "int8": "int8", "int32": "int32", "int64": "int64", "bool": "bool"}  # fmt: skip
"""MXNet's name of a type → the type that is used here."""

CODES = {
    "0": "float32",
    "1": "float64",
    "2": "float16",
    "3": "uint8",
    "4": "int32",
    "5": "int8",
    "6": "int64",
    "7": "bool",
}
"""Old files write the type as a number."""

Kind = np.dtype[Any]
FLOAT, LONG, BOOL = np.dtype("float32"), np.dtype("int64"), np.dtype("bool")


def kind_of(x: Value) -> Kind:
    """The type of a value."""
    return type_of(x) or FLOAT


def is_float(x: Value) -> bool:
    """Whether it is not a whole number nor a truth value."""
    return kind_of(x).kind == "f"


def cast(layer: Layer, x: Value, kind: Any, make: Make | None = None) -> Value:
    """As another type; x itself if it has it already, and no node must be made."""
    if kind_of(x) == np.dtype(kind) and make is None:
        return x
    return (make or layer.node)("Cast", x, to=NUMBER[np.dtype(kind)])


def asked(layer: Layer, default: Any, key: str = "dtype") -> Kind:
    """The type that an attribute asks for."""
    text = layer.attrs.text(key, "None")
    if text in ("None", ""):
        return np.dtype(default)
    return np.dtype(
        KEPT[layer.attrs.word(key, "", (*KEPT, *CODES)) if text in KEPT or text not in CODES else CODES[text]]
    )


def common(layer: Layer, *values: Value) -> tuple[Value, ...]:
    """All as the wider of their types: whole numbers become floats beside floats."""
    kinds = {kind_of(v) for v in values}
    if len(kinds) == 1:
        return values
    floats = [k for k in kinds if k.kind == "f"]
    kind = floats[0] if floats else np.result_type(*kinds)
    return tuple(cast(layer, v, kind) for v in values)


def truth(layer: Layer, x: Value) -> Value:
    """Whether x is not 0."""
    return cast(layer, x, BOOL)
