"""Larger and smaller maps: Interp, Upsample."""

from __future__ import annotations

from fewbit.frontends.caffe.layer import Layer, op
from fewbit.graph.build import Value

LARGEST = 1 << 20
"""Longest side of a map."""


@op("Interp", settings="interp_param")
def interp(layer: Layer) -> Value:
    """Resize, linear, corner on corner; a second bottom may give the size."""
    settings = layer.settings
    before, behind = settings.whole("pad_beg", 0), settings.whole("pad_end", 0)
    if before > 0 or behind > 0:
        raise layer.misfit(f"pad_beg is {before} and pad_end {behind}; they crop, so that they may not be above 0")
    x = layer.x
    if before or behind:
        begin, end = layer.const([-before] * 2), layer.const([layer.size(a) + behind for a in (2, 3)])
        x = layer.node("Slice", x, begin, end, layer.const([2, 3]))
    shrink, zoom = settings.positive("shrink_factor", 1), settings.positive("zoom_factor", 1)
    high, wide = settings.whole("height", 0), settings.whole("width", 0)
    if len(layer.inputs) == 2:
        size = [layer.size(a, layer.inputs[1]) for a in (2, 3)]
    elif high > 0 and wide > 0:
        size = [high, wide]
    else:
        size = [(layer.size(a) + before + behind - 1) // shrink + 1 for a in (2, 3)]
        size = [n + (n - 1) * (zoom - 1) for n in size]
    _possible(layer, size)
    return _resized(layer, x, size, "align_corners")


@op("Upsample", settings="upsample_param")
def upsample(layer: Layer) -> Value:
    """One bottom: Resize, each pixel as a square of them. Two: numbers back to where MAX pooling found them."""
    layer.takes(1, 2)
    settings = layer.settings
    scale = settings.positive("scale", settings.positive("stride", 2))
    scales = settings.positive("scale_h", scale), settings.positive("scale_w", scale)
    if len(layer.inputs) == 1:
        factors = layer.const([1.0, 1.0, *map(float, scales)])
        more = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return layer.main("Resize", layer.x, None, factors, mode="nearest", **more)
    odd = settings.flag("pad_out_h", False), settings.flag("pad_out_w", False)
    size = [layer.size(2 + i) * scales[i] - odd[i] for i in range(2)]
    if settings.has("upsample_h") or settings.has("upsample_w"):
        size = [settings.positive("upsample_h"), settings.positive("upsample_w")]
    _possible(layer, size)
    return _unpooled(layer, size)


def _possible(layer: Layer, size: list[int]) -> None:
    if min(size) < 1 or max(size) > LARGEST:
        raise layer.misfit(f"it would give a map of {size}; sides of 1 to {LARGEST} are possible")


def _unpooled(layer: Layer, size: list[int]) -> Value:
    """Each number at its place in a map of zeros, (N, C, h, w) → (N, C, H, W)."""
    x, places = layer.inputs
    channels, rows = layer.size(1), layer.const([0, 0, -1])
    values, where = (layer.node("Reshape", v, rows) for v in (x, layer.node("Cast", places, to=7)))
    count = layer.node("Shape", x, start=0, end=1)
    zeros = layer.node(
        "Expand", layer.const(0.0), layer.node("Concat", count, layer.const([channels, size[0] * size[1]]), axis=0)
    )
    put = layer.main("ScatterElements", zeros, where, values, axis=2)
    return layer.node("Reshape", put, layer.const([0, channels, *size]))


def _resized(layer: Layer, x: Value, size: list[int], mode: str) -> Value:
    sizes = layer.node("Concat", layer.node("Shape", x, start=0, end=2), layer.const(size), axis=0)
    found = layer.main("Resize", x, None, None, sizes, mode="linear", coordinate_transformation_mode=mode)
    return layer.told(found, (*layer.shape(x)[:2], *size))
