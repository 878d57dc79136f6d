"""Which ncnn layer computes which ONNX layer: found by the weights, and by the values that flow in and out.

pnnx renames, reorders, merges and splits; none of that is guessed at. A pair belongs together if the ncnn layer holds
the very weights of the ONNX layer, and if on one sample both networks, in float,

    feed it the same values:      blob in front of it = ONNX input
    get the same from it:         blob behind it = act(ONNX output), act: what ncnn's layer says is merged into it

Layers that compute the same of the same are told apart by nothing, and need not be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.engines.ncnn.param import Layer
from fewbit.engines.ncnn.weights import Weights
from fewbit.graph.strip import IntegerLayer

Array = NDArray[Any]

CLOSE = 1e-3
"""Largest difference of two float networks, as a share of the largest magnitude."""

TYPES = {"Conv": ("Convolution", "ConvolutionDepthWise"), "Gemm": ("InnerProduct", "Gemm")}
TYPES["MatMul"] = TYPES["Gemm"]

ACTIVATIONS: Mapping[int, Callable[[Array, Sequence[float]], Array]] = {
    0: lambda y, p: y,
    1: lambda y, p: np.maximum(y, 0),
    2: lambda y, p: np.where(y < 0, y * p[0], y),
    3: lambda y, p: np.clip(y, p[0], p[1]),
    4: lambda y, p: 1 / (1 + np.exp(-y)),
    5: lambda y, p: y * np.tanh(np.logaddexp(y, 0)),
    6: lambda y, p: y * np.clip(p[0] * y + p[1], 0, 1),
}
"""Parameter 9 of a layer → what it does to its sums, given parameter 10."""


@dataclass(frozen=True)
class Wanted:
    """An ONNX layer to be found: its operator, integers, float weight, and its values on one sample.

    Args:
        weight: (out, …). x: what it reads. ys: what it may answer with, without activations.
    """

    op: str
    integer: IntegerLayer
    weight: Array
    x: Array
    ys: tuple[Array, ...]


def key_of(weight: Array) -> str:
    """What tells one weight from another: its numbers in order."""
    return hashlib.sha256(np.ascontiguousarray(weight, np.float32).tobytes()).hexdigest()


def weight_of(layer: Layer, weights: Weights) -> Array | None:
    """The weight of an ncnn layer as (out, …) in order; None if it has no single one."""
    found = weights.get(layer.name, {}).get("weight")
    if found is None or layer.type != "Gemm":
        return found
    if not plain_gemm(layer):
        return None
    n, k = layer.int(8), layer.int(9)
    return found if layer.int(3) else np.ascontiguousarray(found.reshape(k, n).T).reshape(-1)


def plain_gemm(layer: Layer) -> bool:
    """Whether a Gemm layer is `x · W + b` with constant W, and a constant b for each column or none."""
    scaled = any(float(layer.params.get(k, "1")) != 1 for k in (0, 1))
    odd = layer.int(2) or layer.int(4) or not layer.int(5) or any(layer.int(k) for k in (11, 12, 13, 14))
    bias = not layer.int(6) or layer.int(10) in (-1, 4)
    return not scaled and not odd and bias and len(layer.inputs) == 1


def candidates(wanted: Wanted, layers: Sequence[Layer], weights: Weights) -> list[Layer]:
    """Layers that hold the weights of an ONNX layer."""
    key = key_of(wanted.weight)
    found = []
    for layer in layers:
        if layer.type in TYPES[wanted.op]:
            weight = weight_of(layer, weights)
            if weight is not None and weight.size == wanted.weight.size and key_of(weight) == key:
                found.append(layer)
    return found


def blobs_of(layer: Layer) -> tuple[str, str]:
    """Blobs in front of a layer and behind it."""
    return layer.inputs[0], layer.outputs[0]


def matches(wanted: Wanted, layer: Layer, blobs: Mapping[str, Array]) -> str:
    """Why a layer with the right weights is not the one after all; empty if it is."""
    x, y = (blobs[b] for b in blobs_of(layer))
    kind = layer.int(9) if layer.type != "Gemm" else 0  # whose parameter 9 is a size
    act = ACTIVATIONS.get(kind)
    if act is None:
        return f"ncnn's layer {layer.name!r} ends in activation {kind}, which is not known"
    off = apart(wanted.x, x)
    if not off < CLOSE:
        return f"ncnn's layer {layer.name!r} has its weights, but reads other values (off by {off:.2g})"
    off = min(apart(act(made, layer.floats(10)), y) for made in wanted.ys)
    if not off < CLOSE:
        return f"ncnn's layer {layer.name!r} has its weights, but answers with other values (off by {off:.2g})"
    return ""


def apart(a: Array, b: Array) -> float:
    """Largest difference as a share of the largest magnitude; infinite if sizes differ, NaN if numbers are."""
    a, b = np.asarray(a, np.float64).reshape(-1), np.asarray(b, np.float64).reshape(-1)
    if a.size != b.size:
        return float("inf")
    return float(np.abs(a - b).max(initial=0) / max(np.abs(a).max(initial=0), np.abs(b).max(initial=0), 1e-12))
