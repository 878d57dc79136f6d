"""Layers with weights: Convolution, Deconvolution, FullyConnected.

MXNet's weights are stored as ONNX wants them, (out, in/group, kernel…), and (in, out/group, kernel…) for
Deconvolution; only layouts with the channels last, (out, kernel…, in/group), are turned round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.ops.spatial import back, channels_last, first, kernel_of, sizes
from fewbit.graph.build import Value, shape_of


@op("Convolution", "Convolution_v1", "_npx_convolution")
def convolution(layer: Layer) -> Value:
    """Conv, with as many axes as the kernel has."""
    kernel, last = kernel_of(layer), channels_last(layer)
    axes, group = len(kernel), _groups(layer)
    x, weight = first(layer, layer.x, last), _weight(layer, last)
    filters = layer.attrs.whole("num_filter")
    _fits(layer, weight, (filters, _channels(layer, x, group), *kernel))
    y = layer.main(
        "Conv",
        x,
        weight,
        _bias(layer, filters, no_bias=False),
        kernel_shape=kernel,
        strides=sizes(layer, "stride", 1, axes),
        dilations=sizes(layer, "dilate", 1, axes),
        pads=sizes(layer, "pad", 0, axes) * 2,
        group=group,
    )
    return back(layer, y, last)


@op("Deconvolution", "_npx_deconvolution")
def deconvolution(layer: Layer) -> Value:
    """ConvTranspose: size stride·(in - 1) + dilate·(kernel - 1) + 1 - 2·pad + adj."""
    kernel, last = kernel_of(layer), channels_last(layer)
    axes, group, filters = len(kernel), _groups(layer), layer.attrs.whole("num_filter")
    stride, dilate = sizes(layer, "stride", 1, axes), sizes(layer, "dilate", 1, axes)
    x, weight = first(layer, layer.x, last), _weight(layer, last)
    _fits(layer, weight, (layer.shape(x)[1], filters // group, *kernel))
    reach = [d * (k - 1) + 1 for d, k in zip(dilate, kernel, strict=True)]
    pad, adj = _margins(layer, x, stride, reach)
    less = all(p >= a for p, a in zip(pad, adj, strict=True))  # adj as padding less at the end, where there is some
    y = layer.main(
        "ConvTranspose",
        x,
        weight,
        _bias(layer, filters, no_bias=True),
        kernel_shape=kernel,
        strides=stride,
        dilations=dilate,
        pads=(*pad, *(p - a for p, a in zip(pad, adj, strict=True))) if less else pad * 2,
        output_padding=None if less else adj,
        group=group,
    )
    return back(layer, y, last)


@op("FullyConnected", "_npx_fully_connected", "_sparse_FullyConnected")
def fully_connected(layer: Layer) -> Value:
    """Gemm or MatMul: x·Wᵀ + b, with x flattened to two axes, (n,) to (n, 1), unless `flatten` is off."""
    hidden, flatten = layer.attrs.whole("num_hidden"), layer.attrs.flag("flatten", True)
    bias, weight = _bias(layer, hidden, no_bias=False), layer.inputs[1]
    wide = layer.shape()[-1] if layer.rank() == 2 or not flatten else 1 if layer.rank() == 1 else None
    _fits(layer, weight, (hidden, wide))
    if flatten or layer.rank() == 2:
        x = layer.x if layer.rank() == 2 else layer.node("Flatten", layer.x, axis=1)
        return layer.main("Gemm", x, weight, bias, transB=1)
    known = layer.array(1)
    turned = layer.node("Transpose", weight, perm=(1, 0)) if known is None else layer.const(known.T.copy())
    product = layer.main("MatMul", layer.x, turned)
    return product if bias is None else layer.node("Add", product, bias)


def _weight(layer: Layer, last: bool) -> Value:
    """The weight with its channels on axis 1."""
    if not last:
        return layer.inputs[1]
    known = layer.array(1)
    return first(layer, layer.inputs[1], last) if known is None else layer.const(np.moveaxis(known, -1, 1).copy())


def _bias(layer: Layer, size: int, *, no_bias: bool) -> Value | None:
    if layer.attrs.flag("no_bias", no_bias):
        return None
    shape = shape_of(layer.inputs[2])
    if shape is not None and shape != (size,):
        raise ModelFormatError(f"{layer.what}: its bias has shape {shape}; {(size,)} is needed")
    return layer.inputs[2]


def _groups(layer: Layer) -> int:
    group, filters = layer.attrs.whole("num_group", 1), layer.attrs.whole("num_filter")
    if group < 1 or filters < 1 or filters % group:
        raise ModelFormatError(f"{layer.what}: num_filter {filters} cannot be split into num_group {group}")
    return group


def _channels(layer: Layer, x: Value, group: int) -> int | None:
    found = layer.shape(x)[1]
    return None if found is None else found // group


def _fits(layer: Layer, weight: Value, wanted: Sequence[int | None]) -> None:
    """Raise if the weight is not the one that this layer needs; None is any size."""
    shape = shape_of(weight)
    if shape is None:
        return
    fits = len(shape) == len(wanted) and all(
        w is None or s is None or s == w for s, w in zip(shape, wanted, strict=True)
    )
    if not fits:
        said = ", ".join("any" if w is None else str(w) for w in wanted)
        raise ModelFormatError(f"{layer.what}: its weight has shape {shape}; ({said}) is needed")


def _margins(
    layer: Layer, x: Value, stride: Sequence[int], reach: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding and what is added at the end: as given, or so that the size is `target_shape`."""
    axes = len(stride)
    pad, adj = sizes(layer, "pad", 0, axes), sizes(layer, "adj", 0, axes)
    target = layer.attrs.wholes("target_shape", (), count=axes)
    if not any(target):
        return pad, adj
    sized = layer.fixed(x)[2:] if None in layer.shape(x)[2:] else tuple(int(d or 0) for d in layer.shape(x)[2:])
    spare = [s * (n - 1) + r - t for s, n, r, t in zip(stride, sized, reach, target, strict=True)]
    if min(spare) < 0:
        raise ModelFormatError(f"{layer.what}: target_shape {target} is larger than what it can give")
    return tuple((n + 1) // 2 for n in spare), tuple(n % 2 for n in spare)
