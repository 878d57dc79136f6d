"""Means, sums, largest and smallest values along axes, and where those are."""

from __future__ import annotations

import numpy as np

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op
from fewbit.frontends.tflite.layout import first, without
from fewbit.graph.build import Value

REDUCERS = {"MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_MAX": "ReduceMax", "REDUCE_MIN": "ReduceMin",
            "REDUCE_PROD": "ReduceProd"}  # fmt: skip
TRUTHS = {"REDUCE_ANY": "ReduceMax", "REDUCE_ALL": "ReduceMin"}
INT32 = np.dtype("int32")


@op(*REDUCERS)
def reducer(layer: Layer) -> Laid:
    """One operator each; the mean of a whole picture is GlobalAveragePool."""
    x, axes, keep = layer.lies(0), layer.axes(1), layer.options.flag("KeepDims")
    left = x.perm if keep else without(x.perm, axes)
    name, rank = REDUCERS[layer.operator.op], len(x.perm)
    if name == "ReduceMean" and rank == 4 and x.perm == first(4) and sorted(axes) == [1, 2]:
        mean = layer.main("GlobalAveragePool", x.value)
        return Laid(mean if keep else layer.node("Squeeze", mean, layer.const([2, 3])), left)
    return Laid(_reduced(layer, name, x, axes, keep, x.value), left)


@op(*TRUTHS)
def truth(layer: Layer) -> Laid:
    """Of 0 and 1, since ONNX has neither for truth values."""
    x, axes, keep = layer.lies(0), layer.axes(1), layer.options.flag("KeepDims")
    whole = layer.cast(x.value, INT32)
    found = _reduced(layer, TRUTHS[layer.operator.op], x, axes, keep, whole)
    return Laid(layer.cast(found, np.dtype(bool)), x.perm if keep else without(x.perm, axes))


def _reduced(layer: Layer, name: str, x: Laid, axes: list[int], keep: bool, value: Value) -> Value:
    if not axes:
        return value
    places = sorted(x.axis(a) for a in axes)
    if name == "ReduceSum":  # the only one with its axes as an input, up to opset 17
        return layer.main(name, value, layer.const(places), keepdims=int(keep))
    return layer.main(name, value, axes=places, keepdims=int(keep))


@op("ARG_MAX", "ARG_MIN")
def arg(layer: Layer) -> Laid:
    """The first place of the largest or smallest."""
    x = layer.lies(0)
    (axis,) = layer.wholes(1, "axis") or [0]
    axis = layer.axis_of(axis)
    name = "ArgMax" if layer.operator.op == "ARG_MAX" else "ArgMin"
    return Laid(layer.main(name, x.value, axis=x.axis(axis), keepdims=0), without(x.perm, [axis]))


@op("TOPK_V2")
def topk(layer: Layer) -> tuple[Laid, ...]:
    """TopK along the last axis."""
    x, last = layer.lies(0), layer.axis_of(-1)
    k = layer.longs(1)
    if layer.sizes(k) != (1,):
        k = layer.node("Reshape", k, layer.const([1]))
    values, places = layer.mains("TopK", x.value, k, outputs=2, axis=x.axis(last))
    return x.like(values), x.like(places)


@op("CUMSUM")
def cumsum(layer: Layer) -> Laid:
    """CumSum."""
    x, (axis,) = layer.lies(0), layer.axes(1)
    place = layer.const(np.asarray(x.axis(axis), np.int64))
    exclusive, reverse = layer.options.flag("Exclusive"), layer.options.flag("Reverse")
    return x.like(layer.main("CumSum", x.value, place, exclusive=int(exclusive), reverse=int(reverse)))
