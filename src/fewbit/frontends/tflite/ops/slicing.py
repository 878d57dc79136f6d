"""Parts of a value, and margins around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op
from fewbit.frontends.tflite.layout import plain, with_axis, without

END = 2**31 - 1
"""Further than any axis reaches."""

MOST = 1 << 20
"""Places of an axis that are listed one by one."""


@op("SLICE")
def slice_(layer: Layer) -> Laid:
    """Slice from `begin`, so many; -1 is up to the end."""
    x, count = layer.lies(0), layer.rank()
    begin, size = layer.array(1), layer.array(2)
    places = layer.const([x.axis(a) for a in range(count)])
    if begin is not None and size is not None:
        starts, sizes = layer.wholes(1, "begin"), layer.wholes(2, "size")
        if not len(starts) == len(sizes) == count or min(*starts, 0) < 0:
            raise layer.misfit(f"it begins at {starts} with sizes {sizes}; its input has {count} axes")
        stops = [END if n == -1 else b + n for b, n in zip(starts, sizes, strict=True)]
        return x.like(layer.main("Slice", x.value, layer.const(starts), layer.const(stops), places))
    start, long = layer.longs(1), layer.longs(2)
    to_end = layer.node("Less", long, layer.const([0]))
    stop = layer.node("Where", to_end, layer.const([END]), layer.node("Add", start, long))
    return x.like(layer.main("Slice", x.value, start, stop, places))


@dataclass
class Spans:
    """What a strided slice takes of each axis: [start, stop, step], which axes go, and where new ones stand."""

    spans: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    gone: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)


@op("STRIDED_SLICE")
def strided_slice(layer: Layer) -> Laid:
    """Slice, then Squeeze for axes that are taken at one place, then Unsqueeze for new ones."""
    x, found = layer.lies(0), _spans(layer)
    value, order = x.value, x.perm
    if found.spans:
        axes = sorted(found.spans)
        starts, stops, steps = ([found.spans[a][k] for a in axes] for k in range(3))
        places = [order.index(a) for a in axes]
        step = None if all(s == 1 for s in steps) else layer.const(steps)
        value = layer.main("Slice", value, layer.const(starts), layer.const(stops), layer.const(places), step)
    if found.gone:
        value = layer.main("Squeeze", value, layer.const(sorted(order.index(a) for a in found.gone)))
        order = without(order, found.gone)
    for axis in found.new:
        order, place = with_axis(order, axis)
        value = layer.main("Unsqueeze", value, layer.const([place]))
    return Laid(value, order)


def _spans(layer: Layer) -> Spans:
    o = layer.options
    begin, end, step = (layer.wholes(i, w) for i, w in ((1, "begin"), (2, "end"), (3, "strides")))
    if not len(begin) == len(end) == len(step):
        raise layer.misfit(f"begin {begin}, end {end} and strides {step} are not as many")
    masks = [o.whole(f"{m}Mask") for m in ("Begin", "End", "Ellipsis", "NewAxis", "ShrinkAxis")]
    bits = [[bool(m >> k & 1) for m in masks] for k in range(len(begin))]
    sizes, found, axis, made = layer.shape(0), Spans(), 0, 0
    used = sum(not (b[2] or b[3]) for b in bits)
    if used > len(sizes) or sum(b[2] for b in bits) > 1 or 0 in step:
        raise layer.misfit(f"begin {begin} with strides {step} does not go with {len(sizes)} axes")
    for k, (from_start, to_end, ellipsis, new, shrink) in enumerate(bits):
        if ellipsis:
            axis, made = axis + len(sizes) - used, made + len(sizes) - used
        elif new:
            found.new.append(made)
            made += 1
        elif shrink:
            found.gone.append(axis)
            stop = begin[k] + 1 if begin[k] != -1 else END
            found.spans[axis] = (begin[k], stop, 1)
            axis += 1
        else:
            back, stop = step[k] < 0, end[k] + begin[k] * o.flag("Offset")
            start = (END if back else 0) if from_start else begin[k]
            stop = (-END if back else END) if to_end else stop
            if (start, step[k]) != (0, 1) or (stop < END and stop != sizes[axis]):
                found.spans[axis] = (start, stop, step[k])
            axis, made = axis + 1, made + 1
    return found


@op("SPLIT")
def split(layer: Layer) -> tuple[Laid, ...]:
    """Split into equal parts; the axis is the first input."""
    (axis,) = layer.wholes(0, "axis")
    x, count = layer.lies(1), len(layer.operator.outputs)
    axis = layer.axis_of(axis, len(x.perm))
    size = layer.shape(1)[axis]
    if count < 1 or (size is not None and size % count):
        raise layer.misfit(f"an axis of {size} cannot be split into {count} equal parts")
    if count == 1:
        return (x,)
    return tuple(x.like(v) for v in layer.mains("Split", x.value, outputs=count, axis=x.axis(axis)))


@op("SPLIT_V")
def split_v(layer: Layer) -> tuple[Laid, ...]:
    """Split into parts of given sizes; one may be -1."""
    (axis,), sizes = layer.wholes(2, "axis"), layer.wholes(1, "sizes")
    x, axis, count = layer.lies(0), layer.axis_of(axis), len(layer.operator.outputs)
    whole, rest = layer.shape(0)[axis], sum(s for s in sizes if s != -1)
    if whole is None and -1 in sizes:
        raise layer.unsupported("it splits off the rest of an axis whose size is free")
    sizes = [whole - rest if s == -1 and whole is not None else s for s in sizes]
    if len(sizes) != count or min(sizes, default=0) < 0 or (whole is not None and sum(sizes) != whole):
        raise layer.misfit(f"an axis of {whole} cannot be split into {count} parts of {sizes}")
    if count == 1:
        return (x,)
    parts = layer.mains("Split", x.value, layer.const(sizes), outputs=count, axis=x.axis(axis))
    return tuple(x.like(v) for v in parts)


@op("PAD", "PADV2")
def pad(layer: Layer) -> Laid:
    """Pad with zeros, or with the number that is the third input."""
    number = layer.value(2) if layer.operator.op == "PADV2" else None
    if number is not None and layer.rank(2):
        number = layer.node("Reshape", number, layer.const(np.zeros(0, np.int64)))
    x = layer.lies(0)
    if layer.array(1) is not None:
        return x.like(layer.main("Pad", x.value, layer.const(_margins(layer, x)), number))
    turned = layer.node("Transpose", layer.value(1), perm=(1, 0))
    flat = layer.node("Reshape", layer.cast(turned, np.dtype("int64")), layer.const([-1]))
    return Laid(layer.main("Pad", layer.value(0), flat, number), plain(len(x.perm)))


def _margins(layer: Layer, x: Laid) -> list[int]:
    """What is added in front of each axis, then behind each."""
    width, count = layer.wholes(1, "margins"), len(x.perm)
    if len(width) != 2 * count or min(width, default=0) < 0:
        raise layer.misfit(f"its margins are {width}; there must be two for each of {count} axes, none negative")
    return [width[2 * a + end] for end in (0, 1) for a in x.perm]


@op("MIRROR_PAD")
def mirror_pad(layer: Layer) -> Laid:
    """Pad that reflects; with the edge itself repeated, a Gather for each axis."""
    x, modes = layer.lies(0), {0: "REFLECT", 1: "SYMMETRIC"}
    width = _margins(layer, x)
    if layer.options.word("Mode", modes) == "REFLECT":
        return x.like(layer.main("Pad", x.value, layer.const(width), mode="reflect"))
    value, sizes, count = x.value, layer.sizes(x.value), len(x.perm)
    for place, (before, behind) in enumerate(zip(width[:count], width[count:], strict=True)):
        size = sizes[place]
        if before or behind:
            if size is None or not max(before, behind) <= size <= MOST:
                raise layer.unsupported(f"it adds {before} and {behind} to an axis of {size}")
            rows = np.pad(np.arange(size), (before, behind), mode="symmetric")
            value = layer.main("Gather", value, layer.const(_list(rows)), axis=place)
    return x.like(value)


def _list(rows: np.ndarray) -> Sequence[int]:
    return [int(r) for r in rows]


@op("REVERSE_V2")
def reverse(layer: Layer) -> Laid:
    """Slice backwards."""
    x, axes = layer.lies(0), layer.axes(1)
    if not axes:
        return x
    places, n = [x.axis(a) for a in axes], len(axes)
    ends = layer.const([-1] * n), layer.const([-END] * n), layer.const(places), layer.const([-1] * n)
    return x.like(layer.main("Slice", x.value, *ends))


@op("REVERSE_SEQUENCE")
def reverse_sequence(layer: Layer) -> Laid:
    """ReverseSequence, for rows of different lengths."""
    o, rank = layer.options, layer.rank()
    seq, batch = layer.axis_of(o.whole("SeqDim")), layer.axis_of(o.whole("BatchDim"))
    if seq == batch:
        raise layer.misfit(f"its rows and what they are of are both axis {seq}")
    order = (seq, batch, *(a for a in range(rank) if a not in (seq, batch)))
    x = layer.value(0, order)
    return Laid(layer.main("ReverseSequence", x, layer.longs(1), time_axis=0, batch_axis=1), order)
