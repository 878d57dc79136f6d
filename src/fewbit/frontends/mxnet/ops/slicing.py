"""Parts of a value: slices, splits and crops.

slice(begin=(0, None), end=(None, -1), step=(1, 2))   →   Slice
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.sizes import ints, size, squeeze
from fewbit.graph.build import Value

FIRST, LAST = int(np.iinfo(np.int64).min) + 1, int(np.iinfo(np.int64).max)
"""Beyond both ends."""


@op("slice", "crop", "_sparse_slice", "_npi_slice", "_npx_slice")
def slices(layer: Layer) -> Value:
    """From begin to end by steps, on the first axes; None is the end in that direction."""
    begin, end = layer.attrs.items("begin"), layer.attrs.items("end")
    step = layer.attrs.items("step", ()) or (None,) * len(begin)
    if not len(begin) == len(end) == len(step) <= layer.rank():
        raise layer.misfit(f"begin, end and step must be of one length, up to {layer.rank()} axes")
    for n in (*begin, *end, *step):
        if n is not None and type(n) is not int:
            raise layer.misfit(f"begin, end and step must be whole numbers or None, not {n!r}")
    steps = [1 if s is None else int(s) for s in step]
    starts = [(0 if s > 0 else LAST) if b is None else int(b) for b, s in zip(begin, steps, strict=True)]
    ends = [(LAST if s > 0 else FIRST) if e is None else int(e) for e, s in zip(end, steps, strict=True)]
    return layer.main("Slice", *_bounds(layer, layer.x, range(len(begin)), starts, ends, steps))


@op("slice_axis")
def slice_axis(layer: Layer) -> Value:
    """From begin to end on one axis."""
    axis, begin, end = layer.axis("axis", 0), layer.attrs.whole("begin"), layer.attrs.whole("end", LAST)
    return layer.main("Slice", *_bounds(layer, layer.x, [axis], [begin], [end], [1]))


def _bounds(
    layer: Layer, x: Value, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]
) -> tuple[Value, ...]:
    plain = all(s == 1 for s in steps)
    lists = (starts, ends, axes) if plain else (starts, ends, axes, steps)
    return (x, *(ints(layer, *numbers) for numbers in lists))


@op("reverse", "flip", "_npi_flip")
def reverse(layer: Layer) -> Value:
    """These axes from their end to their beginning."""
    axes = layer.axes("axis")
    n = len(axes)
    turned = layer.main("Slice", *_bounds(layer, layer.x, axes, [LAST] * n, [FIRST] * n, [-1] * n))
    return layer.told(turned, layer.shape())


@op("slice_like")
def slice_like(layer: Layer) -> Value:
    """The first part of every axis, as long as that of another value."""
    x, other = layer.takes(2)
    axes = layer.axes("axes", ()) or list(range(layer.rank(other)))
    if max(axes) >= min(layer.rank(x), layer.rank(other)):
        raise layer.misfit(f"axes are {axes}; its inputs have {layer.rank(x)} and {layer.rank(other)} axes")
    parts = [size(layer, other, a) for a in axes]
    ends = parts[0] if len(parts) == 1 else layer.node("Concat", *parts, axis=0)
    if all(layer.shape(other)[a] is not None for a in axes):
        ends = ints(layer, *(layer.shape(other)[a] or 0 for a in axes))
    cut = layer.main("Slice", x, ints(layer, *[0] * len(axes)), ends, ints(layer, *axes))
    return layer.told(cut, [layer.shape(other)[a] if a in axes else d for a, d in enumerate(layer.shape(x))])


@op("Crop")
def crop(layer: Layer) -> Value:
    """Height and width of another value, or `h_w`; from `offset`, or from the middle."""
    x, like = layer.x, layer.inputs[1] if len(layer.inputs) > 1 else None
    wanted = layer.shape(like)[2:4] if like is not None else layer.attrs.wholes("h_w", (0, 0), count=2)
    offset, middle = layer.attrs.wholes("offset", (0, 0), count=2), layer.attrs.flag("center_crop", False)
    if like is not None:
        layer.attrs.skip("h_w")
    have = layer.shape(x)[2:4]
    if len(have) < 2 or len(wanted) < 2 or 0 in wanted:
        raise layer.misfit(f"it cuts {have} to {wanted}; it needs the height and width of inputs with 4 axes")
    if None not in wanted and (None not in have or not middle):
        sides = [d for d in wanted if d is not None]
        from_ = [(h - w) // 2 for h, w in zip(have, sides, strict=True) if h is not None] if middle else list(offset)
        begin, end = ints(layer, *from_), ints(layer, *(b + w for b, w in zip(from_, sides, strict=True)))
    else:
        side = layer.node("Shape", like, start=2, end=4) if like is not None else ints(layer, *(d or 0 for d in wanted))
        begin = ints(layer, *offset)
        if middle:
            spare = layer.node("Sub", layer.node("Shape", x, start=2, end=4), side)
            begin = layer.node("Div", spare, ints(layer, 2))
        end = layer.node("Add", begin, side)
    return layer.told(layer.main("Slice", x, begin, end, ints(layer, 2, 3)), [*layer.shape(x)[:2], *wanted])


@op("SliceChannel", "split")
def split(layer: Layer) -> Value | tuple[Value, ...]:
    """Equal parts of an axis; `squeeze_axis` drops it (then of size one)."""
    return _parts(
        layer, layer.attrs.whole("num_outputs"), layer.axis("axis", 1), layer.attrs.flag("squeeze_axis", False)
    )


@op("_split_v2", "_npi_split")
def split_at(layer: Layer) -> Value | tuple[Value, ...]:
    """Equal parts, or parts that begin at `indices` (of which the first is 0)."""
    axis, narrow = layer.axis("axis", 1), layer.attrs.flag("squeeze_axis", False)
    count, begins = layer.attrs.whole("sections", 0), layer.attrs.wholes("indices", ())
    if count > 0:
        return _parts(layer, count, axis, narrow)
    if not begins or list(begins) != sorted(begins) or begins[0]:
        raise layer.misfit(f"indices is {begins}; it must be numbers that grow, the first of them 0")
    cuts = [_bounds(layer, layer.x, [axis], [b], [e], [1]) for b, e in zip(begins, (*begins[1:], LAST), strict=True)]
    if not narrow:
        return layer.each("Slice", cuts)
    return layer.each("Squeeze", [(layer.node("Slice", *cut), ints(layer, axis)) for cut in cuts])


def _parts(layer: Layer, count: int, axis: int, narrow: bool) -> Value | tuple[Value, ...]:
    if not 1 <= count <= MOST_PARTS:
        raise layer.misfit(f"it has {count} outputs; allowed are 1 to {MOST_PARTS}")
    whole = layer.shape()[axis]
    if whole is not None and whole % count:
        raise layer.misfit(f"{whole} cannot be split into {count} equal parts")
    if count == 1:
        return squeeze(layer, layer.x, axis, make=layer.main) if narrow else layer.x
    if not narrow:
        return layer.mains("Split", layer.x, outputs=count, axis=axis)
    return layer.each(
        "Squeeze", [(p, ints(layer, axis)) for p in layer.nodes("Split", layer.x, outputs=count, axis=axis)]
    )


MOST_PARTS = 10_000
"""Outputs that one layer may have."""
