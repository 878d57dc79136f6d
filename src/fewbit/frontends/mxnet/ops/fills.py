"""Values that need no input, or only the size of one: constants, ranges.

A network computes them once, here; only ranges as long as a free axis are left to run.
"""

from __future__ import annotations

import math

import numpy as np

from fewbit.frontends.mxnet.kinds import FLOAT, LONG, asked, cast
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.sizes import MOST, allowed, ints, product, shape_list, size, sizes
from fewbit.graph.build import Value
from fewbit.graph.model import Array

FULL = {"_zeros": 0.0, "_zeros_without_dtype": 0.0, "_npi_zeros": 0.0, "_ones": 1.0, "_npi_ones": 1.0,
        "_full": None, "_npi_full": None}  # fmt: skip


@op(*FULL)
def full(layer: Layer) -> Value:
    """One number everywhere. Sizes that the file leaves open (0) are one here, and are broadcast."""
    fixed = FULL[layer.op]
    shape = [max(n, 1) for n in layer.attrs.wholes("shape", ())]
    number = layer.attrs.number("value") if fixed is None else fixed
    if layer.attrs.text("dtype") == "-1":
        return layer.const(np.full(allowed(layer, *shape), number, np.float32))
    return layer.const(np.full(allowed(layer, *shape), number, asked(layer, FLOAT)))


@op("_arange", "_npi_arange")
def arange(layer: Layer) -> Value:
    """start, start + step, … below stop, each `repeat` times."""
    attrs = layer.attrs
    start, step, count = attrs.number("start", 0.0), attrs.number("step", 1.0), layer.positive("repeat", 1)
    if attrs.flag("infer_range", False):
        raise layer.unsupported("its length is told by what reads it (infer_range), which fewbit does not do")
    if attrs.has("stop"):
        stop = attrs.number("stop")
    else:
        start, stop = 0.0, start
    if not step or not abs(stop - start) < math.inf or (stop - start) / step * count > MOST:
        raise layer.unsupported(f"it makes numbers from {start} to {stop} by {step}, {count} times; allowed are {MOST}")
    return layer.const(np.repeat(np.arange(start, stop, step), count).astype(asked(layer, FLOAT)))


@op("_linspace", "_npi_linspace")
def linspace(layer: Layer) -> Value:
    """Equal steps from start to stop."""
    attrs = layer.attrs
    (count,) = allowed(layer, layer.positive("num"))
    attrs.skip("step")
    found: Array = np.linspace(
        attrs.number("start"), attrs.number("stop"), count, endpoint=attrs.flag("endpoint", True)
    )
    return layer.const(found.astype(asked(layer, FLOAT)))


@op("_eye", "_npi_eye")
def eye(layer: Layer) -> Value:
    """Ones on a diagonal."""
    rows = layer.positive("N")
    columns = layer.positive("M", rows) if layer.attrs.text("M") != "0" else rows
    allowed(layer, rows, columns)
    return layer.const(np.eye(rows, columns, layer.attrs.whole("k", 0), asked(layer, FLOAT)))


@op("_contrib_arange_like", "_npx_arange_like")
def arange_like(layer: Layer) -> Value:
    """A range as long as an axis, or one number for each of the input's."""
    attrs = layer.attrs
    start, step, count = attrs.number("start", 0.0), attrs.number("step", 1.0), layer.positive("repeat", 1)
    axis = layer.axis("axis", 0) if attrs.has("axis") else None
    own = sizes(layer)
    length = (own[axis] if axis is not None else product(own)).known
    shape = layer.shape() if axis is None else (layer.shape()[axis],)
    if length is not None and length <= MOST:
        numbers = start + step * (np.arange(length) // count).astype(np.float64)
        return layer.const(numbers.astype(np.float32).reshape([d for d in shape if d is not None]))
    whole = (
        layer.node("Size", layer.x)
        if axis is None
        else layer.node("Squeeze", size(layer, layer.x, axis), ints(layer, 0))
    )
    counted = layer.node("Range", layer.const(LONG.type(0)), whole, layer.const(LONG.type(1)))
    if count > 1:
        counted = layer.node("Div", counted, layer.const(LONG.type(count)))
    scaled = layer.node("Mul", cast(layer, counted, FLOAT), layer.const(step))
    if axis is not None:
        return layer.told(layer.main("Add", scaled, layer.const(start)), shape)
    moved = layer.node("Add", scaled, layer.const(start))
    return layer.told(layer.main("Reshape", moved, shape_list(layer, layer.x)), shape)
