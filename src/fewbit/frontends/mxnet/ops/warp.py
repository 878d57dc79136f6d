"""Sampling a picture at places that the network computes: GridGenerator, BilinearSampler, SpatialTransformer.

    (N, 6) ── affine ──→ places (N, 2, H', W'), x and y from -1 to 1, ── GridSample ──→ (N, C, H', W')

What lies outside of the picture is 0.
"""

from __future__ import annotations

import numpy as np

from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.graph.build import Value
from fewbit.graph.model import Array

MOST = 1 << 13
"""Height and width of places that are laid out here."""


@op("GridGenerator", "_npx_grid_generator")
def grid_generator(layer: Layer) -> Value:
    """Places: an affine map of a regular grid, or a regular grid and what pixels move by (warp)."""
    if layer.attrs.word("transform_type", "", ("affine", "warp")) == "affine":
        rows, columns = _target(layer)
        flat = layer.main("MatMul", _matrix(layer, layer.x), layer.const(_regular(rows, columns)))
        return layer.node("Reshape", flat, layer.const([0, 2, rows, columns]))
    layer.attrs.skip("target_shape")
    shape = layer.fixed() if None in layer.shape()[2:] else layer.shape()
    if len(shape) != 4:
        raise ModelFormatError(f"{layer.what}: it needs an input with 4 axes; its input has the shape {shape}")
    rows, columns = _size(layer, (int(shape[2] or 0), int(shape[3] or 0)))
    half = np.asarray([(columns - 1) / 2, (rows - 1) / 2], np.float32).reshape(1, 2, 1, 1)
    grid = _regular(rows, columns)[:2].reshape(1, 2, rows, columns)
    return layer.main("Add", layer.node("Div", layer.x, layer.const(np.maximum(half, 0.5))), layer.const(grid))


@op("BilinearSampler", "_npx_bilinear_sampler")
def bilinear_sampler(layer: Layer) -> Value:
    """GridSample, its places (N, H', W', 2)."""
    return _sampled(layer, layer.node("Transpose", layer.inputs[1], perm=[0, 2, 3, 1]))


@op("SpatialTransformer", "_npx_spatial_transformer")
def spatial_transformer(layer: Layer) -> Value:
    """GridSample at an affine map of a regular grid."""
    layer.attrs.word("transform_type", "affine", ("affine",))
    layer.attrs.word("sampler_type", "bilinear", ("bilinear",))
    rows, columns = _target(layer)
    flat = layer.node("MatMul", _matrix(layer, layer.inputs[1]), layer.const(_regular(rows, columns)))
    pairs = layer.node("Transpose", flat, perm=[0, 2, 1])
    return _sampled(layer, layer.node("Reshape", pairs, layer.const([0, rows, columns, 2])))


def _sampled(layer: Layer, places: Value) -> Value:
    return layer.main("GridSample", layer.x, places, mode="bilinear", padding_mode="zeros", align_corners=1)


def _target(layer: Layer) -> tuple[int, int]:
    found = layer.attrs.wholes("target_shape", (0, 0), count=2) or (0, 0)
    return _size(layer, (found[0], found[1]))


def _size(layer: Layer, size: tuple[int, int]) -> tuple[int, int]:
    if min(size) < 1 or max(size) > MOST:
        raise ModelFormatError(f"{layer.what}: height and width are {size}; they must be from 1 to {MOST}")
    return size


def _matrix(layer: Layer, six: Value) -> Value:
    return layer.node("Reshape", six, layer.const([-1, 2, 3]))


def _regular(rows: int, columns: int) -> Array:
    """The places of a regular grid (3, rows·columns): x, y, 1."""
    x, y = (np.linspace(-1, 1, n, dtype=np.float32) if n > 1 else np.full(1, -1, np.float32) for n in (columns, rows))
    wide, high = np.meshgrid(x, y)
    return np.stack([wide.ravel(), high.ravel(), np.ones(rows * columns, np.float32)])
