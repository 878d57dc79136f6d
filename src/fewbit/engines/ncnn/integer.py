"""Make layers of a float ncnn network integer ones.

    Convolution    1 1 in0 1 … 6=432              weight float32, bias
    Convolution    1 1 in0 1 … 6=432 8=2          weight int8, bias, 127/max of each output, 127/max of the input

    term   2 one scale an output; 1 (depthwise, grouped) one a group
    +100   the answer is int8 as well, and its scale follows: if int8 convolutions alone read it, with one scale
    31=64  no Winograd for this layer, since its int32 sums could overflow

A grouped convolution has one scale for all outputs of a group; where a group has several with different scales, their
integers are computed anew with the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.engines.ncnn.param import Layer
from fewbit.engines.ncnn.weights import FUSED, Weights
from fewbit.graph.strip import LIMIT, IntegerLayer

Array = NDArray[Any]

CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
NO_WINOGRAD = 64
"""Bit of parameter 31 that keeps a layer from being computed in the Winograd domain."""

G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 6]], np.int64)
"""Of F(4×4, 3×3), times 24: the runtime transforms int8 weights with whole numbers."""

B = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0],
     [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]], np.int64
)  # fmt: skip
"""Of F(4×4, 3×3), which the input is transformed with: V = B·x·Bᵀ for a patch x of 6×6."""


def integer_layer(layer: Layer, given: IntegerLayer) -> tuple[Layer, dict[str, Array]]:
    """A float layer as an integer one: the layer, and its arrays but for the bias."""
    q, scale = given.weight, given.weight_scale
    if layer.type == "ConvolutionDepthWise":
        q, scale = by_group(q, scale, layer.int(7, 1))
        made = layer.with_params(_8=1)
    elif layer.type == "Gemm":
        made = inner_product(layer).with_params(_8=2)
    else:
        made = layer.with_params(_8=2)
    if winograd_may_overflow(layer, q):
        made = made.with_params(_31=NO_WINOGRAD)
    one = np.float32(1)
    return made, {
        "weight": np.ascontiguousarray(q, np.int8).reshape(-1),
        "weight_scale": (one / scale).astype(np.float32),
        "input_scale": np.array([one / given.input_scale], np.float32),
    }


def by_group(q: Array, scale: Array, groups: int) -> tuple[Array, Array]:
    """Integers with one scale for each group of outputs; outputs without weights have no say in it."""
    each, used = scale.reshape(groups, -1), q.reshape(groups, scale.size // groups, -1).any(2)
    largest = np.where(used, each, 0).max(1)
    one = np.where(largest > 0, largest, each.max(1)).astype(np.float32)
    if np.array_equal(np.where(used, each, one[:, None]), np.broadcast_to(one[:, None], each.shape)):
        return q, one
    factor = (each / one[:, None]).reshape(-1, *[1] * (q.ndim - 1))
    return np.clip(np.rint(q * factor), -LIMIT, LIMIT).astype(np.int8), one


def inner_product(layer: Layer) -> Layer:
    """A Gemm layer with constant weights as an InnerProduct, whose int8 form has ranges that are known beforehand."""
    n, k = layer.int(8), layer.int(9)
    bias = int(bool(layer.int(6)) and layer.int(10) == 4)
    return Layer("InnerProduct", layer.name, layer.inputs, layer.outputs, {0: str(n), 1: str(bias), 2: str(n * k)})


def takes_winograd(layer: Layer) -> bool:
    """Whether the runtime computes a layer in the Winograd domain, if it may: 3×3, no strides, dilations or groups."""
    fits = layer.type == "Convolution" and (layer.int(1), layer.int(11, layer.int(1))) == (3, 3)
    return fits and all(layer.int(k, 1) == 1 for k in (2, 12, 3, 13))


def winograd_may_overflow(layer: Layer, q: Array) -> bool:
    """Whether int32 could overflow for some input, where a layer is computed in the Winograd domain.

    U = G·q·Gᵀ for each pair of channels;  |Σ over inputs of U·V| ≤ Σ |U| · max |V|,  max |V| = 127 · Σ|B|·Σ|B|
    """
    if not takes_winograd(layer):
        return False
    u = np.einsum("ij,ocjk,lk->ocil", G, q.astype(np.int64), G, optimize=True)
    reach = np.abs(B).sum(1)
    return bool((np.abs(u).sum(1) * (LIMIT * np.outer(reach, reach))).max() > np.iinfo(np.int32).max)


def requantized(layers: Sequence[Layer], weights: Weights) -> list[Layer]:
    """Let convolutions answer in int8 where int8 convolutions alone read them; their output scale goes into `weights`.

    Values pass through Split layers, which copy them.
    """
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        for blob in layer.inputs:
            readers.setdefault(blob, []).append(layer)
    made = []
    for layer in layers:
        scale = _scale_behind(layer.outputs[0], readers, weights) if is_integer(layer) else None
        if scale is not None and layer.type in CONVOLUTIONS and layer.int(8) < FUSED:
            weights[layer.name]["output_scale"] = np.array([scale], np.float32)
            layer = layer.with_params(_8=layer.int(8) + FUSED)
        made.append(layer)
    return made


def is_integer(layer: Layer) -> bool:
    """Whether a layer computes in integers."""
    return layer.int(8) > 0 and layer.type in (*CONVOLUTIONS, "InnerProduct")


def _scale_behind(blob: str, readers: Mapping[str, Sequence[Layer]], weights: Weights) -> np.float32 | None:
    """The one scale with which int8 convolutions read a blob; None if others read it too, or nobody."""
    found: set[np.float32] = set()
    left = [blob]
    while left:
        users = readers.get(left.pop(), ())
        if not users:
            return None
        for user in users:
            if user.type == "Split":
                left += user.outputs
            elif user.type in CONVOLUTIONS and is_integer(user):
                found.add(np.float32(weights[user.name]["input_scale"][0]))
            else:
                return None
    return found.pop() if len(found) == 1 else None
