"""Activation and LeakyReLU with all their types, and layers that only do something while training."""

from __future__ import annotations

import math

from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.graph.build import Value, shape_of

PLAIN = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}
ACTIVATIONS = (*PLAIN, "log_sigmoid", "mish")
LEAKY = ("leaky", "prelu", "elu", "selu", "gelu", "gelu_erf", "gelu_tanh", "rrelu")


@op("Activation", "_npx_activation")
def activation(layer: Layer) -> Value:
    """The function that `act_type` names; log_sigmoid and mish come with MXNet 2."""
    layer.attrs.skip("min_calib_range", "max_calib_range")
    kind = layer.attrs.word("act_type", "", ACTIVATIONS)
    if kind in PLAIN:
        return layer.main(PLAIN[kind], layer.x)
    if kind == "mish":
        return layer.main("Mul", layer.x, layer.node("Tanh", layer.node("Softplus", layer.x)))
    return layer.main("Neg", layer.node("Softplus", layer.node("Neg", layer.x)))


@op("LeakyReLU", "_npx_leaky_relu")
def leaky_relu(layer: Layer) -> Value:
    """The function that `act_type` names; rrelu has the mean of its bounds as its slope."""
    layer.attrs.skip("min_calib_range", "max_calib_range")
    kind, slope = layer.attrs.word("act_type", "leaky", LEAKY), layer.attrs.number("slope", 0.25)
    lower, upper = layer.attrs.number("lower_bound", 0.125), layer.attrs.number("upper_bound", 0.334)
    if kind in ("leaky", "rrelu"):
        return layer.main("LeakyRelu", layer.x, alpha=slope if kind == "leaky" else (lower + upper) / 2)
    if kind == "elu":
        return layer.main("Elu", layer.x, alpha=slope)
    if kind == "selu":
        return layer.main("Selu", layer.x, alpha=1.6732632423543772, gamma=1.0507009873554805)
    if kind == "prelu":
        return layer.main("PRelu", layer.x, _slopes(layer))
    if kind == "gelu_tanh":
        return _gelu_tanh(layer)
    return _gelu(layer)


def _slopes(layer: Layer) -> Value:
    """The slopes of prelu, one or one for each channel, shaped (C, 1, …) to stand at axis 1."""
    axes, slope = layer.rank() - 2, layer.inputs[1]
    known = layer.array(1)
    if axes <= 0 or shape_of(slope) == (1,):
        return slope
    if known is not None:
        return layer.const(known.reshape(-1, *(1,) * axes))
    return layer.node("Reshape", slope, layer.const([-1, *(1,) * axes]))


def _gelu(layer: Layer) -> Value:
    """x·(1 + erf(x / √2)) / 2."""
    grown = layer.node("Erf", layer.node("Div", layer.x, layer.const(math.sqrt(2))))
    part = layer.node("Mul", layer.x, layer.node("Add", grown, layer.const(1.0)))
    return layer.main("Mul", part, layer.const(0.5))


def _gelu_tanh(layer: Layer) -> Value:
    """x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2."""
    cube = layer.node("Pow", layer.x, layer.const(3.0))
    bent = layer.node("Add", layer.x, layer.node("Mul", cube, layer.const(0.044715)))
    grown = layer.node("Tanh", layer.node("Mul", bent, layer.const(math.sqrt(2 / math.pi))))
    part = layer.node("Mul", layer.x, layer.node("Add", grown, layer.const(1.0)))
    return layer.main("Mul", part, layer.const(0.5))


@op("Dropout", "_npx_dropout")
def dropout(layer: Layer) -> Value:
    """Nothing, when nobody trains.

    Raises:
        UnsupportedModel: it drops always.
    """
    layer.attrs.skip("p", "axes")
    if layer.attrs.word("mode", "training", ("training", "always")) == "always":
        raise layer.unsupported("mode is 'always': its answer is random")
    return layer.x


@op("identity", "_copy", "_np_copy", "_npi_copy", "BlockGrad", "stop_gradient", "_npx_stop_gradient", "make_loss",
    "MakeLoss", "_sparse_stop_gradient", "_sparse_make_loss", "IdentityAttachKLSparseReg",
    "_identity_with_attr_like_rhs", "_CrossDeviceCopy",
    "_contrib_gradientmultiplier")  # fmt: skip
def identity(layer: Layer) -> Value:
    """The input as it is; attributes are about training."""
    layer.attrs.skip("normalization", "valid_thresh", "sparseness_target", "penalty", "scalar", "is_int", "msg")
    return layer.x


@op("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput", "_sparse_LinearRegressionOutput",
    "_sparse_MAERegressionOutput")  # fmt: skip
def regression(layer: Layer) -> Value:
    """The input as it is; the rest is a loss."""
    layer.attrs.skip("margin", "regularization_coefficient", "use_linear")
    return layer.x


@op("LogisticRegressionOutput", "_sparse_LogisticRegressionOutput")
def logistic(layer: Layer) -> Value:
    """Sigmoid."""
    return layer.main("Sigmoid", layer.x)
