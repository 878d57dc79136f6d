"""Normalization by what is around: LRN, MVN, Normalize."""

from __future__ import annotations

from fewbit.frontends.caffe.layer import Layer, op, spread, whole
from fewbit.frontends.caffe.ops.pool import Window, pooled
from fewbit.graph.build import Value

REGIONS = ("ACROSS_CHANNELS", "WITHIN_CHANNEL")


@op("LRN", settings="lrn_param")
@whole
def lrn(layer: Layer) -> Value:
    """LRN across channels; within one: x · (1 + α · mean of x² around it) ^ -β, where padding counts in the mean."""
    settings = layer.settings
    size, alpha, beta = settings.positive("local_size", 5), settings.number("alpha", 1.0), settings.number("beta", 0.75)
    if size % 2 == 0:
        raise layer.misfit(f"local_size is {size}; it must be odd")
    if settings.word("norm_region", "ACROSS_CHANNELS", REGIONS) == "ACROSS_CHANNELS":
        return layer.main("LRN", layer.x, size=size, alpha=alpha, beta=beta, bias=settings.number("k", 1.0))
    settings.skip("k")  # Caffe always takes 1 here
    return _within(layer, size, alpha, beta)


def _within(layer: Layer, size: int, alpha: float, beta: float) -> Value:
    pad = ((size - 1) // 2,) * 2
    mean = pooled(layer, layer.node("Mul", layer.x, layer.x), "AVE", Window((size,) * 2, (1, 1), pad, pad), main=False)
    assert not isinstance(mean, tuple)
    base = layer.node("Add", layer.node("Mul", mean, layer.const(alpha)), layer.const(1.0))
    return layer.main("Mul", layer.x, layer.node("Pow", base, layer.const(-beta)))


@op("MVN", settings="mvn_param")
@whole
def mvn(layer: Layer) -> Value:
    """(x - mean) / (deviation + eps), by sample and channel, or by sample."""
    first = 1 if layer.settings.flag("across_channels", False) else 2
    eps, axes = layer.settings.number("eps", 1e-9), list(range(first, layer.rank()))
    if not axes:
        raise layer.misfit(f"its input has shape {layer.shape()}; it must have axes behind the channels")
    mean = layer.node("ReduceMean", layer.x, axes=axes, keepdims=1)
    if not layer.settings.flag("normalize_variance", True):
        return layer.main("Sub", layer.x, mean)
    far = layer.node("Sub", layer.x, mean)
    deviation = layer.node("Sqrt", layer.node("ReduceMean", layer.node("Mul", far, far), axes=axes, keepdims=1))
    return layer.main("Div", far, layer.node("Add", deviation, layer.const(eps)))


@op("Normalize", settings="norm_param")
@whole
def normalize(layer: Layer) -> Value:
    """Scale · x / √(sum of x² + eps), the sum over a sample, or over the channels of a pixel."""
    settings = layer.settings
    axes = list(range(1, layer.rank())) if settings.flag("across_spatial", True) else [1]
    shared, eps = settings.flag("channel_shared", True), settings.number("eps", 1e-10)
    scale = layer.weight(0, (1,) if shared else (layer.size(1),), "scale", "scale_filler", plain=1.0)
    total = layer.node("ReduceSumSquare", layer.x, axes=axes, keepdims=1)
    length = layer.node("Sqrt", layer.node("Add", total, layer.const(eps)))
    one = layer.node("Div", layer.x, length)
    return layer.main("Mul", one, layer.const(scale if shared else spread(scale, layer.rank(), 1), "scale"))
