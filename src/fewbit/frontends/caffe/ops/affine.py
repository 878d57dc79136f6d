"""Layers that multiply and add numbers a channel: BatchNorm, BN, Scale, Bias, Axpy."""

from __future__ import annotations

import numpy as np

from fewbit.frontends.caffe.layer import Layer, op, spread
from fewbit.graph.build import Value


@op("BatchNorm", settings="batch_norm_param")
def batch_norm(layer: Layer) -> Value:
    """BatchNormalization by stored sums: mean and variance are blobs divided by a third, which counts batches."""
    if not layer.settings.flag("use_global_stats", True):
        raise layer.unsupported(
            "use_global_stats is false, so that one sample's answer depends on the others; set it to true"
        )
    size, eps = layer.size(1), layer.settings.number("eps", 1e-5)
    count = float(layer.weight(2, (1,), "scale factor", plain=1.0)[0])
    by = np.float32(0 if count == 0 else 1 / count)
    mean, variance = (layer.weight(i, (size,), role) * by for i, role in enumerate(("mean", "variance")))
    gain, shift = np.ones(size, np.float32), np.zeros(size, np.float32)
    if layer.blobs() == 5:  # NVIDIA's fork keeps what else is a Scale layer
        gain, shift = layer.weight(3, (size,), "scale"), layer.weight(4, (size,), "bias")
    return _normalized(layer, gain, shift, mean, variance, eps)


@op("BN", settings="bn_param")
def bn(layer: Layer) -> Value:
    """Batch normalization of other forks: scale, bias, mean and variance; or scale and bias with all of it in them."""
    size = layer.size(1)
    eps = layer.settings.number("var_eps", layer.settings.number("eps", 1e-5))
    merged = layer.settings.word("bn_mode", "LEARN", ("LEARN", "INFERENCE")) == "INFERENCE"
    gain, shift = layer.weight(0, (size,), "scale"), layer.weight(1, (size,), "bias")
    if merged or layer.blobs() == 2:
        product = layer.main("Mul", layer.x, layer.const(spread(gain, layer.rank(), 1), "scale"))
        return layer.node("Add", product, layer.const(spread(shift, layer.rank(), 1), "bias"))
    mean, variance = layer.weight(2, (size,), "mean"), layer.weight(3, (size,), "variance")
    return _normalized(layer, gain, shift, mean, variance, eps)


def _normalized(layer: Layer, *stored: np.ndarray | float) -> Value:
    *arrays, eps = stored
    roles = ("scale", "bias", "mean", "variance")
    values = [layer.const(np.asarray(a), role) for a, role in zip(arrays, roles, strict=True)]
    return layer.main("BatchNormalization", layer.x, *values, epsilon=float(eps))


@op("Scale", settings="scale_param")
def scale(layer: Layer) -> Value:
    """Mul (and Add) along some axes, by a weight or by the second bottom."""
    layer.takes(1, 2)
    first = len(layer.inputs) == 1
    by, axis, shape = _factor(layer, "scale", 1.0)
    product = layer.main("Mul", layer.x, by)
    if not layer.settings.flag("bias_term", False):
        return product
    bias = layer.weight(int(first), shape, "bias", "bias_filler", plain=0.0)
    return layer.node("Add", product, layer.const(spread(bias, layer.rank(), axis), "bias"))


@op("Bias", settings="bias_param")
def bias(layer: Layer) -> Value:
    """Add along some axes, a weight or the second bottom."""
    layer.takes(1, 2)
    return layer.main("Add", layer.x, _factor(layer, "bias", 0.0)[0])


@op("Axpy")
def axpy(layer: Layer) -> Value:
    """The second bottom scaled by the first, a number a channel, plus the third."""
    a, x, y = layer.takes(3)
    rank = layer.rank(x)
    if layer.rank(a) < rank:
        a = layer.node("Unsqueeze", a, layer.const(list(range(layer.rank(a), rank))))
    return layer.main("Add", layer.node("Mul", x, a), y)


def _factor(layer: Layer, role: str, plain: float) -> tuple[Value, int, tuple[int, ...]]:
    """What x is multiplied by or what is added, shaped to go with x; the axis where it starts; its own shape."""
    axis, rank = layer.axis(), layer.rank()
    if len(layer.inputs) == 2:
        layer.settings.skip("num_axes")
        other = layer.inputs[1]
        axes = layer.rank(other)
        if axes and axis + axes > rank:
            raise layer.misfit(f"axis is {axis} and its second bottom has {axes} axes; the first has {rank}")
        missing = list(range(axes, rank - axis)) if axes else []
        shape = (
            tuple(layer.size(i) for i in range(axis, axis + axes)) if layer.settings.flag("bias_term", False) else ()
        )
        return layer.node("Unsqueeze", other, layer.const(missing)) if missing else other, axis, shape
    count = layer.settings.whole("num_axes", 1)
    count = rank - axis if count == -1 else count
    if not 0 <= count <= rank - axis:
        raise layer.misfit(f"num_axes is {count} from axis {axis}; its input has {rank} axes")
    shape = tuple(layer.size(i) for i in range(axis, axis + count))
    found = layer.weight(0, shape, role, "filler", plain=plain)
    return layer.const(spread(found, rank, axis) if count else found, role), axis, shape
