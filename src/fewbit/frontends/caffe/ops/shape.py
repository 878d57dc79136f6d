"""Layers that only move numbers: Concat, Crop, Flatten, Permute, Reorg, Reshape, ShuffleChannel, Slice, Split, Tile.

The first axis of a network's inputs is free here, where the file says how many there are. A Reshape that says that
number for its first axis therefore keeps what comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fewbit.frontends.caffe.layer import Layer, op
from fewbit.graph.build import Dims, Value


@op("Split")
def split(layer: Layer) -> tuple[Value, ...]:
    """The same value under several names."""
    return (layer.x,) * layer.tops


@op("Concat", settings="concat_param")
def concat(layer: Layer) -> Value:
    """Concat."""
    values = layer.takes(1, 10_000)
    axis = layer.axis(layer.settings.whole("concat_dim", 1))
    return layer.main("Concat", *values, axis=axis)


@op("Slice", settings="slice_param")
def slice_(layer: Layer) -> Value | tuple[Value, ...]:
    """Split, at the points that are given or in equal parts."""
    axis, count = layer.axis(layer.settings.whole("slice_dim", 1)), layer.tops
    points, size = layer.settings.wholes("slice_point"), layer.size(axis)
    if count == 1:
        return layer.x
    if points and len(points) != count - 1:
        raise layer.misfit(f"it has {len(points)} slice_points and {count} tops; there must be one point less")
    ends = [*points, size] if points else [size * (i + 1) // count for i in range(count)]
    parts = [end - start for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    if min(parts) < 1 or (not points and size % count):
        raise layer.misfit(f"axis {axis} of size {size} cannot be cut at {ends[:-1]} into {count} parts")
    return layer.mains("Split", layer.x, layer.const(parts), outputs=count, axis=axis)


@op("Flatten", settings="flatten_param")
def flatten(layer: Layer) -> Value:
    """Flatten, or Reshape for some of the axes."""
    first, last, rank = layer.axis(), layer.axis(-1, "end_axis"), layer.rank()
    if last < first:
        raise layer.misfit(f"end_axis is {last}, in front of axis {first}")
    if (first, last) == (1, rank - 1):
        return layer.main("Flatten", layer.x, axis=1)
    shape = layer.shape()
    return _reshaped(layer, [*([0] * first), -1, *shape[last + 1 :]])


@op("Reshape", settings="reshape_param")
def reshape(layer: Layer) -> Value:
    """Reshape: 0 keeps a size, -1 is what is left; `axis` and `num_axes` say which axes are replaced."""
    settings, shape = layer.settings, layer.shape()
    inner = settings.message("shape")
    sizes = [int(d) for d in inner.all("dim")] if inner is not None else []
    axis = layer.axis(0, end=1)
    count = settings.whole("num_axes", -1)
    count = len(shape) - axis if count == -1 else count
    if not 0 <= count <= len(shape) - axis:
        raise layer.misfit(f"num_axes is {count} from axis {axis}; its input has {len(shape)} axes")
    if min(sizes, default=0) < -1 or sizes.count(-1) > 1:
        raise layer.misfit(f"shape is {sizes}; it may hold sizes, 0, and one -1")
    for i, size in enumerate(sizes):
        if size == 0 and i >= count:
            raise layer.misfit(f"shape is {sizes}; the 0 at {i} has no axis to keep")
    wanted: list[int | None] = [*([0] * axis), *sizes, *shape[axis + count :]]
    if wanted and _keeps_batch(layer.batch, shape, wanted):
        wanted[0] = 0
    if len(sizes) == count:  # axes behind stay where they are
        wanted[axis + count :] = [0] * (len(shape) - axis - count)
    return _reshaped(layer, wanted)


def _keeps_batch(batch: int | None, shape: Dims, wanted: Sequence[int | None]) -> bool:
    """Whether the first size is that of the batch, written as a number."""
    if not shape or shape[0] is not None or batch is None or wanted[0] != batch:
        return False
    have, want = shape[1:], [shape[i] if w == 0 and i < len(shape) else w for i, w in enumerate(wanted)][1:]
    if -1 in want:
        return True
    return None in have or None in want or prod(d or 0 for d in have) == prod(d or 0 for d in want)


def _reshaped(layer: Layer, wanted: Sequence[int | None]) -> Value:
    """Reshape to sizes of which at most one is unknown."""
    sizes = [-1 if w is None else w for w in wanted]
    if sizes.count(-1) > 1:
        raise layer.unsupported(f"the shape {tuple(wanted)} has several sizes that are free; say the input's shape")
    return layer.main("Reshape", layer.x, layer.const(sizes))


@op("Permute", settings="permute_param")
def permute(layer: Layer) -> Value:
    """Transpose; axes that are not named follow in their order."""
    order, rank = list(layer.settings.wholes("order")), layer.rank()
    if len(set(order)) < len(order) or not all(0 <= a < rank for a in order):
        raise layer.misfit(f"order is {order}; it must name axes of {layer.shape()}, each once")
    order += [a for a in range(rank) if a not in order]
    return layer.main("Transpose", layer.x, perm=order)


@op("Tile", settings="tile_param")
def tile(layer: Layer) -> Value:
    """Tile one axis."""
    axis, times = layer.axis(), layer.settings.positive("tiles")
    return layer.main("Tile", layer.x, layer.const([times if i == axis else 1 for i in range(layer.rank())]))


@op("Crop", settings="crop_param")
def crop(layer: Layer) -> Value:
    """Slice to the size of the second bottom, from one axis on."""
    x, like = layer.takes(2)
    first, offsets = layer.axis(2), layer.settings.wholes("offset")
    rank, count = layer.rank(), layer.rank() - first
    if layer.rank(like) != rank or len(offsets) not in (0, 1, count) or min(offsets, default=0) < 0:
        raise layer.misfit(f"offset {offsets} for {count} axes of {layer.shape()}, to the size of {layer.shape(like)}")
    begin = list(offsets or (0,)) * (count if len(offsets) < 2 else 1)
    axes, known = list(range(first, rank)), layer.shape(like)[first:]
    have = layer.shape()[first:]
    for b, k, h in zip(begin, known, have, strict=True):
        if k is not None and h is not None and b + k > h:
            raise layer.misfit(f"offset {begin} and the size {known} go beyond {have}")
    if None in known:
        sizes = layer.node("Shape", like, start=first, end=rank)
        end = layer.node("Add", sizes, layer.const(begin)) if any(begin) else sizes
    else:
        end = layer.const([b + int(k or 0) for b, k in zip(begin, known, strict=True)])
    return layer.main("Slice", x, layer.const(begin), end, layer.const(axes))


@op("ShuffleChannel", settings="shuffle_channel_param")
def shuffle_channel(layer: Layer) -> Value:
    """The channels of all groups in turns: (g, c) → (c, g)."""
    group, channels, shape = layer.settings.positive("group", 1), layer.size(1), layer.shape()
    if channels % group:
        raise layer.misfit(f"{channels} channels cannot be split into group {group}")
    parts = layer.node("Reshape", layer.x, layer.const([0, group, channels // group, -1]))
    turned = layer.main("Transpose", parts, perm=(0, 2, 1, 3))
    sizes = [0, channels, *(-1 if d is None else d for d in shape[2:])]
    if sizes.count(-1) > 1:
        return layer.told(layer.node("Reshape", turned, layer.node("Shape", layer.x)), shape)
    return layer.node("Reshape", turned, layer.const(sizes))


@op("Reorg", settings="reorg_param")
def reorg(layer: Layer) -> Value:
    """SpaceToDepth by `stride` as the passthrough of YOLO is meant: (N, C, H, W) → (N, s·s·C, H/s, W/s)."""
    stride = layer.settings.positive("stride", 2)
    if layer.settings.flag("reverse", False):
        raise layer.unsupported("reverse is true; only the direction that networks use is read")
    high, wide, channels = layer.size(2), layer.size(3), layer.size(1)
    if high % stride or wide % stride or channels % stride**2:
        raise layer.misfit(f"its input {layer.shape()} cannot be taken apart by stride {stride}")
    # darknet's code reads (C/s², H·s, W·s) where the map is (C, H, W), and writes it out as (C·s², H/s, W/s)
    wider = layer.node("Reshape", layer.x, layer.const([0, channels // stride**2, high, stride, wide, stride]))
    apart = layer.main("Transpose", wider, perm=(0, 3, 5, 1, 2, 4))
    return layer.node("Reshape", apart, layer.const([0, channels * stride**2, high // stride, wide // stride]))
