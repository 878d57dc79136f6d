"""Blocks of pixels that become channels or samples.

A convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND is one with dilation, and written as that:

    SPACE_TO_BATCH_ND(b, pads p) ─ conv (pads m of its own) ─ BATCH_TO_SPACE_ND(b, crops c)
      →  Conv(dilations b, pads p + b·m - c)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op
from fewbit.frontends.tflite.ops.conv import fused_conv, matrix
from fewbit.frontends.tflite.ops.spatial import MOST, margins, padding, pair
from fewbit.graph.build import Dims, Value

CONVS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@op("SPACE_TO_DEPTH", "DEPTH_TO_SPACE")
def depth(layer: Layer) -> Laid:
    """SpaceToDepth and DepthToSpace: TFLite's order of channels is ONNX's (DCR)."""
    x, size = layer.first(0), layer.options.whole("BlockSize")
    if not 1 <= size <= MOST or len(x.perm) != 4:
        raise layer.misfit(f"its block size is {size} for {len(x.perm)} axes; it must be at least 1, for 4 axes")
    return x.like(layer.main("SpaceToDepth" if layer.operator.op == "SPACE_TO_DEPTH" else "DepthToSpace", x.value,
                             blocksize=size))  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """Sizes of a block, and what is added to (or cut off) each axis in front and behind."""

    sizes: tuple[int, ...]
    ends: tuple[tuple[int, int], ...]


def blocks(layer: Layer) -> Blocks:
    """What the second and third inputs say."""
    sizes, ends = layer.wholes(1, "block"), layer.wholes(2, "margins")
    if len(ends) != 2 * len(sizes) or not all(1 <= b <= MOST for b in sizes) or not all(0 <= e <= MOST for e in ends):
        raise layer.misfit(f"its blocks are {sizes} and its margins {ends}; they do not go together")
    if len(sizes) >= layer.rank():
        raise layer.misfit(f"its blocks are {sizes}; its input has {layer.rank()} axes")
    return Blocks(tuple(sizes), tuple(zip(ends[::2], ends[1::2], strict=True)))


@op("SPACE_TO_BATCH_ND")
def space_to_batch(layer: Layer) -> Laid:
    """Pad, then Reshape, Transpose, Reshape."""
    x, b = layer.lies(0), blocks(layer)
    if x.perm[0] != 0:
        x = Laid(layer.value(0), tuple(range(layer.rank())))
    padded, sizes = _padded(layer, x, b), layer.sizes(x.value)
    places = [x.axis(k + 1) for k in range(len(b.sizes))]
    grown = {p: _whole(layer, sizes, p) + sum(e) for p, e in zip(places, b.ends, strict=True)}
    if any(n % s for n, s in zip(grown.values(), b.sizes, strict=True)):
        raise layer.misfit(f"blocks of {b.sizes} do not divide its input of {tuple(grown.values())}, margins included")
    split: list[int] = []
    inner, outer = list[int](), list[int]()
    for p in range(len(sizes)):
        outer.append(len(split))
        if p in grown:
            block = b.sizes[places.index(p)]
            split += [grown[p] // block, block]
            inner.append(len(split) - 1)
        else:
            split.append(-1 if p == 0 else _whole(layer, sizes, p))
    by_axis = [inner[sorted(places).index(p)] for p in places]
    turned = layer.node("Transpose", layer.node("Reshape", padded, layer.const(split)), perm=[*by_axis, *outer])
    new = [-1, *(split[o] for o in outer[1:])]
    return x.like(layer.main("Reshape", turned, layer.const(new)))


@op("BATCH_TO_SPACE_ND")
def batch_to_space(layer: Layer) -> Laid:
    """Reshape, Transpose, Reshape, then Slice; or the convolution that it is the end of."""
    dilated = _dilated(layer)
    if dilated is not None:
        return dilated
    x, b = layer.lies(0), blocks(layer)
    if x.perm[0] != 0:
        x = Laid(layer.value(0), tuple(range(layer.rank())))
    sizes, count = layer.sizes(x.value), len(b.sizes)
    places = [x.axis(k + 1) for k in range(count)]
    rest = [_whole(layer, sizes, p) for p in range(1, len(sizes))]
    apart = layer.node("Reshape", x.value, layer.const([*b.sizes, -1, *rest]))
    order, new = [count], [-1]
    for p in range(1, len(sizes)):
        order.append(count + p)
        new.append(rest[p - 1])
        if p in places:
            order.append(places.index(p))
            new[-1] *= b.sizes[places.index(p)]
    y = layer.main("Reshape", layer.node("Transpose", apart, perm=order), layer.const(new))
    if any(sum(e) for e in b.ends):
        stops = [new[p] - e[1] for p, e in zip(places, b.ends, strict=True)]
        y = layer.node("Slice", y, layer.const([e[0] for e in b.ends]), layer.const(stops), layer.const(places))
    return x.like(y)


def _padded(layer: Layer, x: Laid, b: Blocks) -> Value:
    if not any(sum(e) for e in b.ends):
        return x.value
    pads = np.zeros((2, len(x.perm)), np.int64)
    for k, e in enumerate(b.ends):
        pads[:, x.axis(k + 1)] = e
    return layer.node("Pad", x.value, layer.const(pads.reshape(-1)))


def _whole(layer: Layer, sizes: Dims, place: int) -> int:
    found = sizes[place]
    if found is None:
        raise layer.unsupported(f"it needs an input of fixed sizes but for the batch, and has {sizes}")
    return found


def _dilated(layer: Layer) -> Laid | None:
    """The convolution with dilation that ends here; None if it is something else."""
    scene = layer.scene
    conv = scene.makers.get(layer.index(0))
    if conv is None or conv.op not in CONVS or len(scene.readers.get(layer.index(0), [])) != 1:
        return None
    start = scene.makers.get(conv.inputs[0])
    if start is None or start.op != "SPACE_TO_BATCH_ND" or layer.index(0) in scene.graph.outputs:
        return None
    before, inner = Layer(start, layer.name, scene), Layer(conv, layer.name, scene)
    b, c = blocks(before), blocks(layer)
    plain = pair(inner, "Stride") == (1, 1) == pair(inner, "Dilation")
    if b.sizes != c.sizes or len(b.sizes) != 2 or not plain or before.rank() != 4:
        return None
    kernel = matrix(inner, 1, 4)[1:3]
    own = margins((None, None), kernel, (1, 1), (1, 1), padding(inner)).get("pads", (0,) * 4)
    ends, cuts = ([e[k] for k in (0, 1) for e in ends] for ends in (b.ends, c.ends))
    pads = [p + s * m - q for p, s, m, q in zip(ends, (*b.sizes, *b.sizes), own, cuts, strict=True)]
    if min(pads) < 0:
        return None
    return fused_conv(layer, inner, before.first(0), b.sizes, tuple(pads))
