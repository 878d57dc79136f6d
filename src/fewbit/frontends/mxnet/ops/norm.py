"""Normalizations.

    BatchNorm            γ·(x - mean) / √(var + eps) + β, with stored mean and var
    LayerNorm            the same, with mean and var along one axis
    InstanceNorm         … of each channel of a sample
    GroupNorm            … of groups of channels of a sample
    L2Normalization      x / √(Σx² + eps)
    LRN                  x / (knorm + alpha/nsize · Σx²)^beta, Σ over neighbouring channels

γ of a BatchNorm counts as 1, whatever is stored, if fix_gamma is on, as it is by default.
"""

from __future__ import annotations

import numpy as np

from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.ops.spatial import channel_to_back, channel_to_front, transposed
from fewbit.frontends.mxnet.whole import whole
from fewbit.graph.build import Value, shape_of


@op("BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm", "_npx_batch_norm", "_contrib_SyncBatchNorm", "_npx_sync_batch_norm",
    "_contrib_BatchNormWithReLU")  # fmt: skip
def batch_norm(layer: Layer) -> Value | tuple[Value, ...]:
    """BatchNormalization with the stored statistics, the channels moved to axis 1 where they are elsewhere."""
    layer.attrs.skip("use_global_stats", "key", "ndev", "min_calib_range", "max_calib_range")
    axis, eps = layer.axis("axis", 1), layer.attrs.number("eps", 1e-3)
    gamma, beta, mean, var = (layer.inputs[i] for i in range(1, 5))
    for value in (gamma, beta, mean, var):
        _channels(layer, value, layer.shape()[axis])
    if layer.attrs.flag("fix_gamma", True):
        known = shape_of(beta)
        if known is None or None in known:
            raise layer.unsupported("the number of its channels is not known")
        gamma = layer.const(np.ones([int(n) for n in known if n is not None], np.float32))
    x = channel_to_front(layer, layer.x, axis)
    y = channel_to_back(layer, layer.main("BatchNormalization", x, gamma, beta, mean, var, epsilon=eps), axis)
    if layer.op.endswith("ReLU"):
        y = layer.node("Relu", y)
    if not layer.attrs.flag("output_mean_var", False):
        return y
    root = layer.node("Sqrt", layer.node("Add", var, layer.const(eps)))
    return y, mean, layer.node("Reciprocal", root)


@op("LayerNorm", "_npx_layer_norm")
def layer_norm(layer: Layer) -> Value | tuple[Value, ...]:
    """LayerNormalization over one axis, moved to the end where it is elsewhere; on demand with mean and deviation."""
    axis, rank = layer.axis("axis", -1), layer.rank()
    perm = [*(i for i in range(rank) if i != axis), axis]
    inverse = [perm.index(i) for i in range(rank)]
    x = transposed(layer, layer.x, perm)
    fed = (x, layer.inputs[1], layer.inputs[2])
    eps = layer.attrs.number("eps", 1e-5)
    if not layer.attrs.flag("output_mean_var", False):
        return transposed(layer, layer.main("LayerNormalization", *fed, axis=-1, epsilon=eps), inverse)
    y, mean, inverted = layer.mains("LayerNormalization", *fed, outputs=3, axis=-1, epsilon=eps)
    deviation = layer.node("Reciprocal", inverted)
    return transposed(layer, y, inverse), transposed(layer, mean, inverse), transposed(layer, deviation, inverse)


@op("InstanceNorm", "_npx_instance_norm")
def instance_norm(layer: Layer) -> Value:
    """InstanceNormalization."""
    return layer.main("InstanceNormalization", *layer.inputs[:3], epsilon=layer.attrs.number("eps", 1e-3))


@op("GroupNorm", "_npx_group_norm")
def group_norm(layer: Layer) -> Value:
    """(N, C, …) → (N, groups, -1) → InstanceNormalization → (N, C, …) · γ + β; γ and β for each group, or each channel.

    Before MXNet 2 they are for groups.
    """
    groups, channels = layer.attrs.whole("num_groups", 1), layer.shape()[1]
    if layer.attrs.flag("output_mean_var", False):
        raise layer.unsupported("fewbit gives no mean and deviation of groups (output_mean_var)")
    if channels is None or groups < 1 or channels % groups:
        raise ModelFormatError(f"{layer.what}: {groups} groups do not divide {channels} channels")
    split = layer.node("Reshape", layer.x, layer.const([0, groups, -1]))
    one, none = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    normal = layer.main(
        "InstanceNormalization", split, layer.const(one), layer.const(none), epsilon=layer.attrs.number("eps", 1e-5)
    )
    y = layer.node("Reshape", normal, layer.node("Shape", layer.x))
    layer.told(y, layer.shape())
    gamma, beta = (_spread(layer, i, groups, channels) for i in (1, 2))
    return layer.node("Add", layer.node("Mul", y, gamma), beta)


@op("L2Normalization", "_npx_l2_normalization")
@whole
def l2_normalization(layer: Layer) -> Value:
    """Div, x / √(Σx² + eps), kept whole, as 8 bits lose small sums.

    Σ goes over a sample, over the channels at a place, or over a channel of a sample.
    """
    mode = layer.attrs.word("mode", "instance", ("instance", "channel", "spatial"))
    rank = layer.rank()
    axes = {"instance": range(1, rank), "channel": range(1, 2), "spatial": range(2, rank)}[mode]
    squares = layer.node("ReduceSumSquare", layer.x, axes=list(axes), keepdims=1)
    raised = layer.node("Add", squares, layer.const(layer.attrs.number("eps", 1e-10)))
    return layer.main("Div", layer.x, layer.node("Sqrt", raised))


@op("LRN", "_npx_lrn")
def lrn(layer: Layer) -> Value:
    """LRN across channels."""
    a = layer.attrs
    return layer.main(
        "LRN",
        layer.x,
        alpha=a.number("alpha", 1e-4),
        beta=a.number("beta", 0.75),
        bias=a.number("knorm", 2.0),
        size=a.whole("nsize"),
    )


def _channels(layer: Layer, value: Value, channels: int | None) -> None:
    shape = shape_of(value)
    if shape is not None and channels is not None and shape != (channels,):
        raise ModelFormatError(f"{layer.what}: its input has {channels} channels, {value.name!r} is for {shape}")


def _spread(layer: Layer, i: int, groups: int, channels: int) -> Value:
    """γ or β shaped (C, 1, …)."""
    array = layer.param(i, "gamma" if i == 1 else "beta").reshape(-1)
    if array.size not in (groups, channels):
        raise ModelFormatError(f"{layer.what}: it has {channels} channels in {groups} groups and {array.size} gammas")
    return layer.const(np.repeat(array, channels // array.size).reshape(-1, *(1,) * (layer.rank() - 2)))
