"""Softmax in its many spellings: exp(x/t) / Σ exp(x/t) along an axis.

    softmax             any axis; with lengths, only the first so many places count
    SoftmaxActivation   the last axis, or axis 1 (mode channel)
    SoftmaxOutput       all but the batch, or axis 1 (multi_output), or the last axis (preserve_shape)

In the first case of SoftmaxOutput MXNet's own oneDNN kernel takes the last axis, against its documentation.
"""

from __future__ import annotations

import numpy as np

from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.graph.build import Value

MOST = 1 << 20
"""Places up to which they are numbered here, and not while the network runs."""

LOW = -1e30
"""In place of what does not count: exp of it is 0, and it is finite, so that nothing becomes NaN."""


@op("softmax", "softmin", "log_softmax", "_npx_softmax", "_npx_log_softmax")
def softmax(layer: Layer) -> Value:
    """Softmax or LogSoftmax."""
    layer.attrs.skip("dtype")
    axis, x = layer.axis("axis", -1), layer.x
    log, sign = "log" in layer.op, -1.0 if layer.op == "softmin" else 1.0
    scale = sign / _temperature(layer)
    if scale != 1.0:
        x = layer.node("Mul", x, layer.const(scale))
    if not layer.attrs.flag("use_length", False):
        return layer.main("LogSoftmax" if log else "Softmax", x, axis=axis)
    if log:
        raise layer.unsupported("MXNet itself cannot use lengths here (use_length)")
    counts = _counts(layer, axis)
    y = layer.main("Softmax", layer.node("Where", counts, x, layer.const(LOW)), axis=axis)
    return layer.node("Where", counts, y, layer.const(0.0))


@op("masked_softmax", "_npx_masked_softmax", "masked_log_softmax", "_npx_masked_log_softmax")
def masked_softmax(layer: Layer) -> Value:
    """Softmax where a mask is true; what is masked is 0, or -∞ in the logarithm."""
    layer.attrs.skip("dtype", "normalize")
    axis, log = layer.axis("axis", -1), "log" in layer.op
    mask = layer.node("Cast", layer.inputs[1], to=9)
    x = layer.node("Mul", layer.x, layer.const(1 / _temperature(layer)))
    y = layer.main("LogSoftmax" if log else "Softmax", layer.node("Where", mask, x, layer.const(LOW)), axis=axis)
    return layer.node("Where", mask, y, layer.const(-np.float32(np.inf) if log else 0.0))


@op("SoftmaxOutput", "Softmax")
def softmax_output(layer: Layer) -> Value:
    """Softmax; labels, and what is said of them, are for training."""
    layer.attrs.skip("ignore_label", "use_ignore", "normalization", "out_grad", "smooth_alpha")
    multi, kept = layer.attrs.flag("multi_output", False), layer.attrs.flag("preserve_shape", False)
    rank = layer.rank()
    if multi or kept or rank == 2:
        return layer.main("Softmax", layer.x, axis=1 if multi else rank - 1)
    return _over_sample(layer)


@op("SoftmaxActivation", "_npx_softmax_activation")
def softmax_activation(layer: Layer) -> Value:
    """Softmax."""
    mode = layer.attrs.word("mode", "instance", ("instance", "channel"))
    return layer.main("Softmax", layer.x, axis=1 if mode == "channel" else layer.rank() - 1)


def _temperature(layer: Layer) -> float:
    found = layer.attrs.number("temperature", 1.0)
    if not found:
        raise ModelFormatError(f"{layer.what}: temperature is 0; what is divided by it would be infinite")
    return found


def _over_sample(layer: Layer) -> Value:
    """(N, …) → (N, -1) → Softmax → (N, …)."""
    y = layer.main("Softmax", layer.node("Flatten", layer.x, axis=1), axis=1)
    return layer.told(layer.node("Reshape", y, layer.node("Shape", layer.x)), layer.shape())


def _counts(layer: Layer, axis: int) -> Value:
    """[place along the axis < length], for lengths of the input's shape without the axis."""
    size = layer.shape()[axis]
    if size is not None and size <= MOST:
        places = layer.const(np.arange(size))
    else:
        whole = layer.node("Gather", layer.node("Shape", layer.x), layer.const(np.int64(axis)), axis=0)
        places = layer.node("Range", layer.const(np.int64(0)), whole, layer.const(np.int64(1)))
    behind = layer.rank() - axis - 1
    if behind:
        places = layer.node("Unsqueeze", places, layer.const([i + 1 for i in range(behind)]))
    length = layer.node("Cast", layer.inputs[1], to=7)
    return layer.node("Less", places, layer.node("Unsqueeze", length, layer.const([axis])))
