"""Products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op
from fewbit.frontends.tflite.layout import Perm, in_order, plain
from fewbit.frontends.tflite.ops.conv import bias, matrix
from fewbit.frontends.tflite.ops.fused import fused
from fewbit.graph.build import Value
from fewbit.graph.model import Array

DEFAULT_WEIGHTS = 0

MOST = 1 << 24
"""Columns whose order is still noted."""


@op("FULLY_CONNECTED")
def fully_connected(layer: Layer) -> Laid:
    """Gemm: x·Wᵀ + b with x flattened to the width of W; MatMul and Add where x keeps its axes.

    A picture that lies otherwise than in the file is flattened as it lies, and the columns of W are put into its order.
    """
    if layer.options.whole("WeightsFormat") != DEFAULT_WEIGHTS:
        raise layer.unsupported("its weights are shuffled for one processor; convert the network without that")
    hidden, wide = matrix(layer, 1, 2)
    laid = layer.scene.laid(layer.index(0), layer)
    columns, x = laid.columns, laid.value
    if columns is None and layer.options.flag("KeepNumDims") and len(laid.perm) != 2:
        return Laid(_kept(layer), plain(len(laid.perm)))
    if columns is None:
        x, columns = _flat(layer, laid, wide)
    elif columns.size != wide:
        raise layer.misfit(f"its weight has the shape {(hidden, wide)}; its input has {columns.size} columns")
    y = layer.main("Gemm", x, _weight(layer, columns), bias(layer, 2, 0, 1), transB=1)
    return Laid(fused(layer, y), plain(2))


def _kept(layer: Layer) -> Value:
    """The product over the last axis."""
    product, b = layer.main("MatMul", layer.value(0), layer.value(1, (1, 0))), bias(layer, 2, 0, 1)
    return fused(layer, product if b is None else layer.node("Add", product, b))


def _flat(layer: Layer, laid: Laid, wide: int) -> tuple[Value, Array | None]:
    """The input with two axes, and the order of its columns where that is another."""
    sizes = layer.shape(0)
    if len(sizes) == 2 and sizes[1] == wide:
        return layer.value(0), None
    if can_mix(laid.perm, sizes, wide) and layer.scene.is_constant(layer.index(1)):
        return layer.node("Flatten", laid.value, axis=1), mixed(laid.perm, sizes)
    return layer.node("Reshape", layer.value(0), layer.const([-1, wide])), None


def can_mix(perm: Perm, sizes: Sequence[int | None], wide: int) -> bool:
    """Whether a value that lies otherwise than in the file may be flattened as it lies."""
    inner = [d for d in sizes[1:] if d is not None]
    whole = len(sizes) > 2 and len(inner) == len(sizes) - 1 and perm[0] == 0
    return whole and wide <= MOST and prod(inner) == wide and not in_order(perm, sizes)


def mixed(perm: Perm, sizes: Sequence[int | None]) -> Array:
    """Column j of a value that is flattened as it lies → its column in the file."""
    inner = [int(d or 0) for d in sizes[1:]]
    places = np.arange(int(np.prod(inner))).reshape(inner)
    return places.transpose([a - 1 for a in perm[1:]]).reshape(-1)


def _weight(layer: Layer, columns: Array | None) -> Value:
    if columns is None:
        return layer.value(1)
    scene = layer.scene
    tensor = scene.tensors[scene.same.get(layer.index(1), layer.index(1))]
    return scene.number(tensor, np.ascontiguousarray(scene.stored(tensor)[:, columns]), plain(2))


@op("BATCH_MATMUL")
def batch_matmul(layer: Layer) -> Value:
    """MatMul, either side transposed if asked for."""
    sides = []
    for i, key in ((0, "AdjX"), (1, "AdjY")):
        order = plain(layer.rank(i))
        if len(order) < 2:
            raise layer.misfit(f"input {i} has {len(order)} axes; it must have 2 at least")
        sides.append(layer.value(i, (*order[:-2], order[-1], order[-2]) if layer.options.flag(key) else order))
    return layer.main("MatMul", *sides)


@op("EMBEDDING_LOOKUP")
def embedding_lookup(layer: Layer) -> Value:
    """Gather of rows."""
    return layer.main("Gather", layer.value(1), layer.value(0), axis=0)
