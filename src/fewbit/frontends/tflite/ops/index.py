"""Places that are looked up or written to."""

from __future__ import annotations

import numpy as np

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import LONG, Layer, op
from fewbit.frontends.tflite.layout import plain, without
from fewbit.graph.build import Value

MOST = 1 << 20
"""Places of a one-hot vector."""


@op("GATHER")
def gather(layer: Layer) -> Laid | Value:
    """Gather along an axis; with batch axes in front, GatherND."""
    x, axis, batch = layer.lies(0), layer.axis_of(layer.options.whole("Axis")), layer.options.whole("BatchDims")
    count = layer.rank(1)
    batch = batch + count if batch < 0 else batch
    if not 0 <= batch <= min(axis, count):
        raise layer.misfit(f"it has {batch} batch axes for axis {axis} and places of {count} axes")
    places = layer.value(1)
    if batch:
        if axis != batch:
            raise layer.unsupported(f"it looks up along axis {axis} behind {batch} batch axes; they must be the same")
        deep = layer.node("Unsqueeze", layer.cast(places, LONG), layer.const([-1]))
        return layer.main("GatherND", layer.value(0), deep, batch_dims=batch)
    if count > 1:
        return layer.main("Gather", layer.value(0), places, axis=axis)
    found = layer.main("Gather", x.value, places, axis=x.axis(axis))
    return Laid(found, x.perm if count else without(x.perm, [axis]))


@op("GATHER_ND")
def gather_nd(layer: Layer) -> Value:
    """GatherND."""
    return layer.main("GatherND", layer.value(0), layer.cast(layer.value(1), LONG))


@op("SCATTER_ND")
def scatter_nd(layer: Layer) -> Value:
    """ScatterND into zeros; what goes to one place twice is added."""
    zero = layer.const(np.zeros((), layer.kind(1)))
    empty = layer.node("Expand", zero, layer.longs(2))
    return layer.main("ScatterND", empty, layer.cast(layer.value(0), LONG), layer.value(1), reduction="add")


@op("ONE_HOT")
def one_hot(layer: Layer) -> Value:
    """Where(places = 0 … depth - 1, on, off)."""
    (depth,) = layer.wholes(1, "depth")
    rank = layer.rank() + 1
    axis = layer.axis_of(layer.options.whole("Axis", -1), rank)
    if not 0 <= depth <= MOST:
        raise layer.misfit(f"its depth is {depth}; it must be from 0 to {MOST}")
    steps = np.arange(depth, dtype=layer.kind()).reshape([-1 if a == axis else 1 for a in range(rank)])
    hot = layer.node("Equal", layer.node("Unsqueeze", layer.value(0), layer.const([axis])), layer.const(steps))
    return layer.main("Where", hot, layer.value(2), layer.value(3))


@op("WHERE")
def where(layer: Layer) -> Value:
    """The places of what is not zero, one a row."""
    order = plain(layer.rank())
    return layer.main("Transpose", layer.node("NonZero", layer.value(0, order)), perm=(1, 0))
