"""Normalizations."""

from __future__ import annotations

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op
from fewbit.frontends.tflite.ops.fused import fused

LEAST = 1e-6
"""What TFLite divides by at least."""


@op("L2_NORMALIZATION")
def l2_normalization(layer: Layer) -> Laid:
    """X / max(‖x‖, 1e-6) over the file's last axis."""
    x = layer.lies(0)
    axis = x.axis(layer.axis_of(-1))
    length = layer.node("ReduceL2", x.value, axes=[axis], keepdims=1)
    y = layer.main("Div", x.value, layer.node("Max", length, layer.const(LEAST)))
    return x.like(fused(layer, y))


@op("LOCAL_RESPONSE_NORMALIZATION")
def local_response_normalization(layer: Layer) -> Laid:
    """LRN: x / (bias + alpha·Σx²)^beta; ONNX divides alpha by the size."""
    x, o = layer.first(0), layer.options
    radius = o.whole("Radius")
    if not 0 <= radius <= 1 << 20:
        raise layer.misfit(f"the radius is {radius}; it must not be negative")
    size = 2 * radius + 1
    how = {"alpha": o.number("Alpha") * size, "beta": o.number("Beta"), "bias": o.number("Bias")}
    return x.like(layer.main("LRN", x.value, size=size, **how))
