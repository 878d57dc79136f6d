"""Layers with matrices: Convolution, Deconvolution, InnerProduct, Embed.

Caffe's weights are stored as ONNX wants them, (out, in/group, kernel…), and (in, out/group, kernel…) for
Deconvolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fewbit.frontends.caffe.layer import Layer, op
from fewbit.graph.build import Value
from fewbit.graph.model import Array

DEPTHWISE = ("DepthwiseConvolution", "ConvolutionDepthwise", "ConvolutionDepthWise")
"""Forks' names for a convolution with a group a channel, which some write down and some do not."""


@op("Convolution", *DEPTHWISE, settings="convolution_param")
def convolution(layer: Layer) -> Value:
    """Conv, with as many axes as its input has behind the channels."""
    kernel, group = _kernel(layer), layer.settings.positive("group", 1)
    channels, filters = layer.size(1), layer.settings.positive("num_output")
    group = channels if layer.spec.type in DEPTHWISE and group == 1 else group
    _splits(layer, group, channels, filters)
    window = _window(layer, kernel)
    weight = layer.weight(0, (filters, channels // group, *kernel), "weight", "weight_filler")
    return layer.main(
        "Conv",
        layer.x,
        layer.const(weight, "weight"),
        _bias(layer, filters),
        kernel_shape=kernel,
        **window,
        group=group,
    )


@op("Deconvolution", "DeconvolutionDepthwise", settings="convolution_param")
def deconvolution(layer: Layer) -> Value:
    """ConvTranspose: size stride · (in - 1) + dilation · (kernel - 1) + 1 - 2 · pad."""
    kernel, group = _kernel(layer), layer.settings.positive("group", 1)
    channels, filters = layer.size(1), layer.settings.positive("num_output")
    group = channels if layer.spec.type == "DeconvolutionDepthwise" and group == 1 else group
    _splits(layer, group, channels, filters)
    window = _window(layer, kernel)
    weight = layer.weight(0, (channels, filters // group, *kernel), "weight", "weight_filler")
    return layer.main(
        "ConvTranspose",
        layer.x,
        layer.const(weight, "weight"),
        _bias(layer, filters),
        kernel_shape=kernel,
        **window,
        group=group,
    )


@op("InnerProduct", settings="inner_product_param")
def inner_product(layer: Layer) -> Value:
    """Gemm, or MatMul where axes in front of `axis` are kept: all axes from it on are one."""
    axis, size = layer.axis(), layer.settings.positive("num_output")
    turned, shape = layer.settings.flag("transpose", False), layer.shape()
    inner = None if None in shape[axis:] else prod(d or 0 for d in shape[axis:])
    weight = layer.weight(0, (inner, size) if turned else (size, inner), "weight", "weight_filler")
    wide = weight.shape[0] if turned else weight.shape[1]
    if axis == 1:
        x = layer.x if layer.rank() == 2 else layer.node("Flatten", layer.x, axis=1)
        return layer.main("Gemm", x, layer.const(weight, "weight"), _bias(layer, size), transB=int(not turned))
    x = layer.x
    if axis != layer.rank() - 1:
        x = layer.node("Reshape", x, layer.const([*([0] * axis), wide]))
    matrix = weight if turned else np.ascontiguousarray(weight.T)
    if axis == 0:
        x = layer.node("Reshape", x, layer.const([wide]))
    product, bias = layer.main("MatMul", x, layer.const(matrix, "weight")), _bias(layer, size)
    return product if bias is None else layer.node("Add", product, bias)


@op("Embed", settings="embed_param")
def embed(layer: Layer) -> Value:
    """Gather: a row of the table for each number."""
    size, rows = layer.settings.positive("num_output"), layer.settings.positive("input_dim")
    table = layer.const(layer.weight(0, (rows, size), "weight", "weight_filler"), "weight")
    found = layer.main("Gather", table, layer.node("Cast", layer.x, to=7), axis=0)
    bias = _bias(layer, size)
    return found if bias is None else layer.node("Add", found, bias)


def _bias(layer: Layer, size: int) -> Value | None:
    if not layer.settings.flag("bias_term", True):
        return None
    found: Array = layer.weight(1, (size,), "bias", "bias_filler", plain=0.0)
    return layer.const(found, "bias")


def _splits(layer: Layer, group: int, channels: int, filters: int) -> None:
    if channels % group or filters % group:
        raise layer.misfit(f"{channels} channels and num_output {filters} cannot be split into group {group}")


def _kernel(layer: Layer) -> tuple[int, ...]:
    axis = layer.axis()
    if axis != 1:
        raise layer.unsupported(f"axis is {axis}; ONNX has the channels on axis 1")
    if layer.rank() < 3:
        raise layer.misfit(f"its input has shape {layer.shape()}; it must have axes behind the channels")
    found = sizes(layer, "kernel_size", ("kernel_h", "kernel_w"), layer.rank() - 2, None)
    if min(found) < 1:
        raise layer.misfit(f"kernel_size is {found}; it must be at least 1")
    return found


def _window(layer: Layer, kernel: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Strides, dilations and pads, one number for each axis."""
    axes = len(kernel)
    stride = sizes(layer, "stride", ("stride_h", "stride_w"), axes, 1)
    dilation, pad = sizes(layer, "dilation", (), axes, 1), sizes(layer, "pad", ("pad_h", "pad_w"), axes, 0)
    if min(stride) < 1 or min(dilation) < 1 or min(pad) < 0:
        raise layer.misfit(f"stride {stride} and dilation {dilation} must be at least 1, and pad {pad} at least 0")
    return {"strides": stride, "dilations": dilation, "pads": pad * 2}


def sizes(layer: Layer, key: str, pair: Sequence[str], axes: int, default: int | None) -> tuple[int, ...]:
    """A setting with one number for each axis: given once for all, once for each, or as height and width."""
    found, given = layer.settings.wholes(key), [k for k in pair if layer.settings.has(k)]
    if given:
        if (found and any(found)) or axes != 2:
            raise layer.misfit(
                f"{key} is given together with {' and '.join(given)}, or for {axes} axes; give one of them"
            )
        fallback = None if default is None else default
        found = tuple(layer.settings.whole(k, fallback) for k in pair)
    if not found and default is None:
        raise layer.misfit(f"{key} must be given")
    found = found or (default or 0,)
    if len(found) == 1:
        return found * axes
    if len(found) != axes:
        raise layer.misfit(f"{key} has {len(found)} numbers; its input has {axes} axes behind the channels")
    return found
