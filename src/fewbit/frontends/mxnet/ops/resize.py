"""Other sizes: UpSampling, BilinearResize2D, AdaptiveAvgPooling2D, Pad."""

from __future__ import annotations

import numpy as np

from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.graph.build import Value
from fewbit.graph.model import Array

MOST = 1 << 13
"""Height and width that means are taken for, and factor by which a picture grows."""

CORNERS = {True: "align_corners", False: "pytorch_half_pixel"}


@op("UpSampling", "_npx_upsampling")
def upsampling(layer: Layer) -> Value:
    """Resize (nearest), of several inputs to the size of the first, joined; or a ConvTranspose (bilinear).

    Raises:
        ModelFormatError: the scale is none.
    """
    scale, kind = layer.attrs.whole("scale"), layer.attrs.word("sample_type", "", ("nearest", "bilinear"))
    mode = layer.attrs.word("multi_input_mode", "concat", ("concat", "sum"))
    layer.attrs.skip("num_filter")
    if scale < 1:
        raise ModelFormatError(f"{layer.what}: scale is {scale}; it must be at least 1")
    if kind == "bilinear":
        return _deconvolved(layer, scale)
    if len(layer.inputs) == 1:
        return layer.main("Resize", layer.x, None, _scales(layer, scale), **_nearest())
    grown = [layer.node("Resize", layer.x, None, _scales(layer, scale), **_nearest())]
    for value in layer.inputs[1:]:
        grown.append(_grown(layer, value, grown[0]))
    return layer.main("Sum", *grown) if mode == "sum" else layer.main("Concat", *grown, axis=1)


@op("_contrib_BilinearResize2D")
def bilinear_resize(layer: Layer) -> Value:
    """Resize (linear) to a size, by a factor, to the size of another value, or to the nearest even or odd size."""
    a = layer.attrs
    way = CORNERS[a.flag("align_corners", True)]
    mode = a.word("mode", "size", ("size", "like", *ODD_EVEN))
    wanted = (a.whole("height", 1), a.whole("width", 1))
    factor = tuple(a.number(k) if a.has(k) else None for k in ("scale_height", "scale_width"))
    if any(f is not None and not 0 < f <= MOST for f in factor):
        raise ModelFormatError(
            f"{layer.what}: scale_height and scale_width are {factor}; they must be from 0 to {MOST}"
        )
    same = {"mode": "linear", "coordinate_transformation_mode": way}
    if mode == "like":
        size = _tail(layer, layer.inputs[1])
        return layer.main(
            "Resize", layer.x, None, None, layer.node("Concat", _head(layer, layer.x), size, axis=0), **same
        )
    if mode != "size" or any(factor):
        have = _spatial(layer)
        height, width = (_resized(mode, n, f, w) for n, f, w in zip(have, factor, wanted, strict=True))
        wanted = (height, width)
    if min(wanted) < 1:
        raise ModelFormatError(f"{layer.what}: it makes pictures of size {wanted}")
    sizes = layer.node("Concat", _head(layer, layer.x), layer.const(list(wanted)), axis=0)
    return layer.told(layer.main("Resize", layer.x, None, None, sizes, **same), (*layer.shape()[:2], *wanted))


@op("_contrib_AdaptiveAvgPooling2D")
def adaptive_average(layer: Layer) -> Value:
    """Means over ⌊i·n/m⌋ … ⌈(i + 1)·n/m⌉, for n places that become m: pooling where m divides n, else A·x·Bᵀ."""
    size = layer.attrs.wholes("output_size", (1,), count=2) or (1, 1)
    if size == (1, 1):
        return layer.main("GlobalAveragePool", layer.x)
    have = _spatial(layer)
    if min(size) < 1 or max(size) > MOST:
        raise ModelFormatError(f"{layer.what}: output_size is {size}; it must be from 1 to {MOST}")
    if all(n % m == 0 for n, m in zip(have, size, strict=True)):
        window = [n // m for n, m in zip(have, size, strict=True)]
        return layer.main("AveragePool", layer.x, kernel_shape=window, strides=window)
    rows, columns = (_means(n, m) for n, m in zip(have, size, strict=True))
    return layer.main("MatMul", layer.node("MatMul", layer.const(rows), layer.x), layer.const(columns.T.copy()))


@op("Pad", "pad", "_npx_pad")
def pad(layer: Layer) -> Value:
    """Pad: with a number, with the edge, or mirrored."""
    mode = layer.attrs.word("mode", "constant", ("constant", "edge", "reflect"))
    width = layer.attrs.wholes("pad_width")
    number = layer.attrs.number("constant_value", 0.0)
    if len(width) != 2 * layer.rank():
        raise ModelFormatError(f"{layer.what}: pad_width {width} must be two numbers for each of {layer.rank()} axes")
    fill = layer.like(number, layer.x) if mode == "constant" else None
    return layer.main("Pad", layer.x, layer.const([*width[::2], *width[1::2]]), fill, mode=mode)


ODD_EVEN = ("odd_scale", "to_even_down", "to_even_up", "to_odd_down", "to_odd_up")


def _resized(mode: str, n: int, factor: float | None, wanted: int) -> int:
    """The size of an axis of size n."""
    if mode == "size":
        return int(n * np.float32(factor)) if factor else wanted
    if mode == "odd_scale":
        grow = np.float32(factor or 1)
        return int(n * grow) if n % 2 == 0 else int((n - 1) * grow) + 1
    step = -1 if mode.endswith("down") else 1
    return n if (n % 2 == 0) == ("even" in mode) else n + step


def _spatial(layer: Layer) -> tuple[int, int]:
    """Height and width, which must be known."""
    shape = layer.shape()
    if len(shape) != 4:
        raise ModelFormatError(f"{layer.what}: it needs an input with 4 axes; its input has the shape {shape}")
    if None in shape[2:]:
        layer.fixed()
    return int(shape[2] or 0), int(shape[3] or 0)


def _means(n: int, m: int) -> Array:
    """The matrix (m, n) whose rows are means."""
    rows = np.zeros((m, n), np.float32)
    for i in range(m):
        start, stop = i * n // m, -(-(i + 1) * n // m)
        rows[i, start:stop] = 1 / (stop - start)
    return rows


def _nearest() -> dict[str, str]:
    return {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def _scales(layer: Layer, scale: int) -> Value:
    return layer.const(np.asarray([1, 1, *(scale,) * (layer.rank() - 2)], np.float32))


def _grown(layer: Layer, value: Value, like: Value) -> Value:
    """A value in the height and width of another."""
    sizes = layer.node("Concat", _head(layer, value), _tail(layer, like), axis=0)
    shape = (*layer.shape(value)[:2], *layer.shape(like)[2:])
    return layer.told(layer.node("Resize", value, None, None, sizes, **_nearest()), shape)


def _head(layer: Layer, value: Value) -> Value:
    """Batch and channels."""
    return layer.node("Shape", value, end=2)


def _tail(layer: Layer, value: Value) -> Value:
    """Height and width."""
    return layer.node("Shape", value, start=2)


def _deconvolved(layer: Layer, scale: int) -> Value:
    """Bilinear: every channel by its own kernel, which is a parameter."""
    kernel, margin = 2 * scale - scale % 2, scale // 2  # so that the size is scale·n
    channels = layer.shape()[1]
    if channels is None:
        raise layer.unsupported("the number of its channels is not known")
    return layer.main(
        "ConvTranspose",
        layer.x,
        layer.inputs[1],
        group=channels,
        kernel_shape=(kernel,) * 2,
        strides=(scale,) * 2,
        pads=(margin,) * 4,
    )
