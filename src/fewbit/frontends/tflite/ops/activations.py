"""Activations, and softmax."""

from __future__ import annotations

import math
from typing import Any

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op
from fewbit.frontends.tflite.ops.arithmetic import spread
from fewbit.frontends.tflite.ops.fused import CLAMPS, activated

SIMPLE: dict[str, tuple[str, dict[str, Any]]] = {
    "LOGISTIC": ("Sigmoid", {}), "ELU": ("Elu", {"alpha": 1.0}), "HARD_SWISH": ("HardSwish", {}),
}  # fmt: skip


@op(*SIMPLE)
def simple(layer: Layer) -> Laid:
    """One operator each."""
    x, (name, attrs) = layer.lies(0), SIMPLE[layer.operator.op]
    return x.like(layer.main(name, x.value, **attrs))


@op("RELU", "TANH", *CLAMPS)
def clamp(layer: Layer) -> Laid:
    """Relu, Tanh, and Clip for those with two ends."""
    x = layer.lies(0)
    return x.like(activated(layer, x.value, layer.operator.op))


@op("LEAKY_RELU")
def leaky_relu(layer: Layer) -> Laid:
    """LeakyRelu."""
    x = layer.lies(0)
    return x.like(layer.main("LeakyRelu", x.value, alpha=layer.options.number("Alpha")))


@op("PRELU")
def prelu(layer: Layer) -> Laid:
    """PRelu; the slopes have an axis less than the input."""
    x = layer.lies(0)
    return x.like(layer.main("PRelu", x.value, spread(layer, 1, layer.rank(), x.perm)))


@op("GELU")
def gelu(layer: Layer) -> Laid:
    """x·(1 + erf(x / √2)) / 2, or with tanh where it is approximate."""
    x = layer.lies(0)
    if layer.options.flag("Approximate"):
        cubed = layer.node("Mul", layer.node("Mul", x.value, x.value), x.value)
        inner = layer.node("Add", x.value, layer.node("Mul", cubed, layer.const(0.044715)))
        soft = layer.node("Tanh", layer.node("Mul", inner, layer.const(math.sqrt(2 / math.pi))))
    else:
        soft = layer.node("Erf", layer.node("Div", x.value, layer.const(math.sqrt(2))))
    half = layer.node("Mul", x.value, layer.const(0.5))
    return x.like(layer.main("Mul", half, layer.node("Add", soft, layer.const(1.0))))


@op("SOFTMAX")
def softmax(layer: Layer) -> Laid:
    """Softmax over the file's last axis, of beta·x."""
    x, beta = layer.lies(0), layer.options.number("Beta", 1.0)
    scaled = x.value if beta == 1 else layer.node("Mul", x.value, layer.const(beta))
    return x.like(layer.main("Softmax", scaled, axis=_last(layer, x)))


@op("LOG_SOFTMAX")
def log_softmax(layer: Layer) -> Laid:
    """LogSoftmax over the file's last axis."""
    x = layer.lies(0)
    return x.like(layer.main("LogSoftmax", x.value, axis=_last(layer, x)))


def _last(layer: Layer, x: Laid) -> int:
    if not x.perm:
        raise layer.misfit("its input has no axis")
    return x.axis(len(x.perm) - 1)
