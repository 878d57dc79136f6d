"""Pooling. What SAME adds counts in no average."""

from __future__ import annotations

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op
from fewbit.frontends.tflite.ops.fused import fused
from fewbit.frontends.tflite.ops.spatial import checked, margins, padding, pair
from fewbit.graph.build import Value


@op("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool_2d(layer: Layer) -> Laid:
    """AveragePool and MaxPool; a window as large as the picture is the global form."""
    x, average = layer.first(0), layer.operator.op == "AVERAGE_POOL_2D"
    return x.like(fused(layer, _pooled(layer, x.value, average)))


@op("L2_POOL_2D")
def l2_pool_2d(layer: Layer) -> Laid:
    """The root of the mean of squares."""
    x = layer.first(0)
    mean = _pooled(layer, layer.node("Mul", x.value, x.value), average=True)
    return x.like(fused(layer, layer.node("Sqrt", mean)))


def _pooled(layer: Layer, x: Value, average: bool) -> Value:
    o, sizes = layer.options, layer.sizes(x)[2:]
    if len(sizes) != 2:
        raise layer.misfit(f"its input has {len(sizes) + 2} axes; it must have 4")
    kernel = checked(layer, "the window", (o.whole("FilterHeight"), o.whole("FilterWidth")))
    stride = pair(layer, "Stride")
    own = margins(sizes, kernel, stride, (1, 1), padding(layer))
    if kernel == sizes and not own:
        return layer.main("GlobalAveragePool" if average else "GlobalMaxPool", x)
    return layer.main("AveragePool" if average else "MaxPool", x, kernel_shape=kernel, strides=stride, **own)
