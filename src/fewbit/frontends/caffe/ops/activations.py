"""Functions of one number, and Softmax."""

from __future__ import annotations

from math import log

from fewbit.frontends.caffe.layer import Layer, op, spread
from fewbit.graph.build import Value

PLAIN = {"AbsVal": "Abs", "BNLL": "Softplus", "Sigmoid": "Sigmoid", "TanH": "Tanh", "HardSwish": "HardSwish"}
"""Layers without settings → what ONNX calls them."""


@op(*PLAIN)
def plain(layer: Layer) -> Value:
    """The same under another name; BNLL is log(1 + exp x)."""
    return layer.main(PLAIN[layer.spec.type], layer.x)


@op("ReLU", settings="relu_param")
def relu(layer: Layer) -> Value:
    """Relu, or LeakyRelu."""
    slope = layer.settings.number("negative_slope", 0.0)
    return layer.main("LeakyRelu", layer.x, alpha=slope) if slope else layer.main("Relu", layer.x)


@op("ReLU6")
def relu6(layer: Layer) -> Value:
    """Clip from 0 to 6."""
    return layer.main("Clip", layer.x, layer.const(0.0), layer.const(6.0))


@op("Clip", settings="clip_param")
def clip(layer: Layer) -> Value:
    """Clip."""
    low, high = layer.settings.number("min"), layer.settings.number("max")
    return layer.main("Clip", layer.x, layer.const(low), layer.const(high))


@op("PReLU", settings="prelu_param")
def prelu(layer: Layer) -> Value:
    """PRelu with a slope a channel, or one for all."""
    shared, rank = layer.settings.flag("channel_shared", False), layer.rank()
    slope = layer.weight(0, (1,) if shared else (layer.size(1),), "slope", "filler", plain=0.25)
    return layer.main("PRelu", layer.x, layer.const(slope if shared else spread(slope, rank, 1), "slope"))


@op("ELU", settings="elu_param")
def elu(layer: Layer) -> Value:
    """Elu."""
    return layer.main("Elu", layer.x, alpha=layer.settings.number("alpha", 1.0))


@op("Swish", settings="swish_param")
def swish(layer: Layer) -> Value:
    """X · sigmoid(βx)."""
    beta = layer.settings.number("beta", 1.0)
    inner = layer.x if beta == 1 else layer.node("Mul", layer.x, layer.const(beta))
    return layer.main("Mul", layer.x, layer.node("Sigmoid", inner))


@op("Mish")
def mish(layer: Layer) -> Value:
    """X · tanh(log(1 + exp x))."""
    return layer.main("Mul", layer.x, layer.node("Tanh", layer.node("Softplus", layer.x)))


@op("HardSigmoid")
def hard_sigmoid(layer: Layer) -> Value:
    """X / 6 + ½, from 0 to 1."""
    return layer.main("HardSigmoid", layer.x, alpha=1 / 6, beta=0.5)


@op("Threshold", settings="threshold_param")
def threshold(layer: Layer) -> Value:
    """1 above the threshold, else 0."""
    above = layer.main("Greater", layer.x, layer.const(layer.settings.number("threshold", 0.0)))
    return layer.node("Cast", above, to=1)


@op("Dropout", settings="dropout_param")
def dropout(layer: Layer) -> Value:
    """Nothing, at inference; scale_train off means that the values are scaled now."""
    if not layer.settings.flag("scale_train", True):
        raise layer.unsupported("scale_train is false; fewbit reads dropout that scales while it trains")
    return layer.x


@op("Power", settings="power_param")
def power(layer: Layer) -> Value:
    """(shift + scale · x) ^ power."""
    found, exponent = _scaled(layer), layer.settings.number("power", 1.0)
    return found if exponent == 1 else layer.main("Pow", found, layer.const(exponent))


@op("Exp", settings="exp_param")
def exp(layer: Layer) -> Value:
    """Base ^ (shift + scale · x); base -1 is e."""
    return layer.main("Exp", _scaled(layer, _log_of_base(layer)))


@op("Log", settings="log_param")
def logarithm(layer: Layer) -> Value:
    """The logarithm of shift + scale · x; base -1 is e."""
    by = _log_of_base(layer)
    found = layer.main("Log", _scaled(layer))
    return found if by == 1 else layer.node("Mul", found, layer.const(1 / by))


def _log_of_base(layer: Layer) -> float:
    base = layer.settings.number("base", -1.0)
    if (base != -1 and base <= 0) or base == 1:
        raise layer.misfit(f"base is {base}; it must be above 0 and not 1, or -1 for e")
    return 1.0 if base == -1 else log(base)


def _scaled(layer: Layer, by: float = 1.0) -> Value:
    """(shift + scale · x) · by, without what changes nothing."""
    scale, shift = layer.settings.number("scale", 1.0) * by, layer.settings.number("shift", 0.0) * by
    found = layer.x if scale == 1 else layer.node("Mul", layer.x, layer.const(scale))
    return found if shift == 0 else layer.node("Add", found, layer.const(shift))


@op("Softmax", settings="softmax_param")
def softmax(layer: Layer) -> Value:
    """Softmax along one axis."""
    return layer.main("Softmax", layer.x, axis=layer.axis())
