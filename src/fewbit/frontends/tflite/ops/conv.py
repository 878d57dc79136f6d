"""Convolutions. TFLite's weights have their channels last; ONNX's are (out, in/group, kernel…).

    CONV_2D             (out, kh, kw, in)       → (out, in, kh, kw)
    DEPTHWISE_CONV_2D   (1, kh, kw, in·m)       → (in·m, 1, kh, kw), one group a channel
    TRANSPOSE_CONV      (out, kh, kw, in)       → (in, out, kh, kw)
    CONV_3D             (kd, kh, kw, in, out)   → (out, in, kd, kh, kw)

The transposed ones have n places of s in a result of a known size: what (n - 1)·s + k has more is cut off, half of it
in front; what it has less is added at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op
from fewbit.frontends.tflite.ops.fused import FUSED, activated, fused
from fewbit.frontends.tflite.ops.spatial import checked, margins, padding, pair
from fewbit.frontends.tflite.schema import Quant
from fewbit.graph.build import Value


@op("CONV_2D")
def conv_2d(layer: Layer) -> Laid:
    """Conv."""
    return fused_conv(layer, layer)


@op("DEPTHWISE_CONV_2D")
def depthwise_conv_2d(layer: Layer) -> Laid:
    """Conv with one group for each channel."""
    return fused_conv(layer, layer)


def fused_conv(
    layer: Layer,
    conv: Layer,
    x: Laid | None = None,
    dilation: Sequence[int] = (),
    pads: tuple[int, ...] | None = None,
) -> Laid:
    """A convolution with its bias and activation.

    Args:
        conv: whose weights and options these are; `layer` is what the nodes are named after.
        x, dilation, pads: in place of its own, for convolutions between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND.
    """
    deep = conv.operator.op == "DEPTHWISE_CONV_2D"
    x = x or conv.first(0)
    shape = matrix(conv, 1, 4)
    stride, dilation = pair(conv, "Stride"), dilation or pair(conv, "Dilation")
    channels, kernel = conv.sizes(x.value)[1], checked(conv, "the kernel", shape[1:3])
    weight = conv.value(1, (3, 0, 1, 2) if deep else (0, 3, 1, 2))
    group = _groups(conv, deep, channels, shape)
    own = margins(conv.sizes(x.value)[2:], kernel, stride, dilation, padding(conv)) if pads is None else {"pads": pads}
    y = layer.main(
        "Conv", x.value, weight, bias(conv, 2, 0, 1), kernel_shape=kernel, strides=stride, dilations=dilation,
        group=group, **own,
    )  # fmt: skip
    return x.like(activated(layer, y, conv.options.word("FusedActivationFunction", FUSED)))


def _groups(layer: Layer, deep: bool, channels: int | None, shape: Sequence[int]) -> int:
    if deep:
        times = layer.options.whole("DepthMultiplier", 0)
        found = channels or (shape[3] // times if times > 0 else 0)
        if shape[0] != 1 or found < 1 or shape[3] % found:
            said = f"its weight has the shape {tuple(shape)} for {channels} channels"
            raise layer.misfit(f"{said}; it must be (1, kh, kw, a multiple of them)")
        return found
    if channels is None:
        return 1
    if shape[3] < 1 or channels < 1 or channels % shape[3] or shape[0] % (channels // shape[3]):
        raise layer.misfit(f"its weight has the shape {tuple(shape)}, which does not go with {channels} channels")
    return channels // shape[3]


def matrix(layer: Layer, i: int, rank: int) -> tuple[int, ...]:
    """The shape of a weight, all of it known."""
    shape = layer.shape(i)
    if len(shape) != rank or None in shape:
        raise layer.misfit(f"its weight has the shape {shape}; it must have {rank} axes of known sizes")
    return tuple(int(d or 0) for d in shape)


def bias(layer: Layer, i: int, x: int, weight: int) -> Value | None:
    """A bias, as real numbers; stored as integers its scale is that of the input times that of the weight."""
    if not layer.has(i):
        return None
    tensor, scene = layer.tensor(i), layer.scene
    if tensor.type not in ("INT32", "INT64") or tensor.data is None:
        return layer.value(i)
    q, quant = tensor.array(), tensor.quant or _product(layer, x, weight)
    if quant is None or q.ndim != 1 or (not quant.per_tensor and quant.scale.size != q.size):
        raise layer.misfit(f"its bias {tensor.name!r} of shape {q.shape} holds integers of unknown scale")
    quant = Quant(quant.scale, np.zeros_like(quant.zero), 0)
    fits = q.dtype == np.int32 or bool((np.abs(q) < 2**31).all())
    if not scene.integers or not fits:
        return scene.build.constant(quant.real(q), scene.label(tensor))
    return scene.dequantized(q.astype(np.int32), quant, tensor.name)


def _product(layer: Layer, x: int, weight: int) -> Quant | None:
    a, b = layer.tensor(x).quant, layer.tensor(weight).quant
    return (
        Quant(a.scale * b.scale, np.zeros_like(b.zero), 0) if a is not None and b is not None and a.per_tensor else None
    )


@op("TRANSPOSE_CONV")
def transpose_conv(layer: Layer) -> Laid:
    """ConvTranspose to the size that the first input says."""
    wanted = layer.wholes(0, "size of the result")
    if len(wanted) != 4:
        raise layer.misfit(f"the size of its result is {wanted}; it must be four numbers")
    return _grown(layer, 2, 1, 3, pair(layer, "Stride"), wanted[1:3])


@op("Convolution2DTransposeBias")
def convolution_transpose_bias(layer: Layer) -> Laid:
    """MediaPipe's ConvTranspose: its options are three numbers, padding (1 is SAME, 2 VALID) and strides."""
    if len(layer.operator.custom) < 12:
        raise layer.misfit("its options are cut off")
    how, wide, high = struct.unpack("<3i", layer.operator.custom[:12])
    shape, stride = matrix(layer, 1, 4), checked(layer, "the stride", (high, wide))
    if how not in (1, 2):
        raise layer.misfit(f"its padding is {how}; it must be 1 or 2")
    sizes = [
        None if n is None else n * s if how == 1 else n * s + max(k - s, 0)
        for n, s, k in zip(layer.shape(0)[1:3], stride, shape[1:3], strict=True)
    ]
    return _grown(layer, 0, 1, 2, stride, sizes, fuses=False)


def _grown(
    layer: Layer, i: int, weight: int, b: int, stride: Sequence[int], wanted: Sequence[int | None], fuses: bool = True
) -> Laid:
    x, shape = layer.first(i), matrix(layer, weight, 4)
    sizes, kernel = layer.sizes(x.value), checked(layer, "the kernel", shape[1:3])
    if sizes[1] not in (None, shape[3]):
        raise layer.misfit(f"its weight has the shape {shape}, which does not go with {sizes[1]} channels")
    spare: list[int] = []
    for n, w, s, k in zip(sizes[2:], wanted, stride, kernel, strict=True):
        if n is None or w is None:  # SAME: the result is n·s
            spare.append(k - s)
            continue
        spare.append((n - 1) * s + k - w)
    cut, more = [max(0, p) for p in spare], [max(0, -p) for p in spare]
    if any(m >= s for m, s in zip(more, stride, strict=True)):
        raise layer.misfit(f"its result of size {tuple(wanted)} is larger than what it can make")
    y = layer.main(
        "ConvTranspose", x.value, layer.value(weight, (3, 0, 1, 2)), bias(layer, b, i, weight), kernel_shape=kernel,
        strides=stride, pads=(*(c // 2 for c in cut), *(c - c // 2 for c in cut)),
        output_padding=more if any(more) else None,
    )  # fmt: skip
    return x.like(fused(layer, y) if fuses else y)


@op("CONV_3D")
def conv_3d(layer: Layer) -> Laid:
    """Conv over three axes."""
    x, shape, o = layer.first(0), matrix(layer, 1, 5), layer.options
    stride = checked(layer, "the stride", [o.whole(f"Stride{a}") for a in "DHW"])
    dilation = checked(layer, "the dilation", [o.whole(f"Dilation{a}Factor", 1) for a in "DHW"])
    kernel = checked(layer, "the kernel", shape[:3])
    own = margins(layer.sizes(x.value)[2:], kernel, stride, dilation, padding(layer))
    y = layer.main(
        "Conv", x.value, layer.value(1, (4, 3, 0, 1, 2)), bias(layer, 2, 0, 1), kernel_shape=kernel, strides=stride,
        dilations=dilation, **own,
    )  # fmt: skip
    return x.like(fused(layer, y))
