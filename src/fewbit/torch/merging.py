"""Merge each BatchNorm into the layer before it; the network computes the same in evaluation mode.

    s = γ / √(σ² + ε)      W ← W · s      b ← (b - μ) · s + β      bn ← Identity

Computed in float64 and stored in the type of the weight. What a quantized layer has taken
in (`fake_bn`) is merged, too.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fewbit.errors import FewbitWarning
from fewbit.torch.blocks import BLOCKS, outer_modules
from fewbit.torch.pairs import find_pairs
from fewbit.torch.report import note
from fewbit.torch.tree import check_net, own_forward, selected, some, swap, weights_in_use


def merge_bn(net: nn.Module, exclude: Iterable[nn.Module | str] = (), sample: Any = None) -> nn.Module:
    """Merge BatchNorms in place; why one stays is told by `quantization_report`.

    Args:
        exclude: layers and BatchNorms that stay as they are: names, globs or modules.
        sample: what forward takes, one batch; needed where forward cannot be traced.

    Returns:
        The same network.

    Raises:
        UnknownName: `exclude` names something that is not there.
        UnsupportedModel: forward cannot be traced and there is no sample; or the network cannot be changed in place.
    """
    check_net(net)
    unwanted = selected(net, exclude, "module to exclude")
    users = weights_in_use(net)
    pairs = find_pairs(net, sample, exclude=unwanted, refuse=lambda layer: _refusal(layer, users))
    inner = [m for _, m in outer_modules(net) if isinstance(getattr(m, "bn", None), nn.Module) and m not in unwanted]
    inner = [m for m in inner if isinstance(m, _ConvNd | nn.Linear) and not _tied(m, users)]
    for pair in pairs.found:
        scale, shift = norm_factors(pair.norm)
        _store(pair.layer, *merged(pair.layer, scale, shift))
    swap(net, {pair.norm: nn.Identity() for pair in pairs.found})
    for layer in inner:
        scale, shift = norm_factors(layer.bn)
        _store(layer, *merged(layer, scale, shift))
        layer.bn = None
    note(net, {name: f"not merged: {why}" for name, why in pairs.left.items()})
    stay = [f"{name} ({why})" for name, why in pairs.left.items() if not why.endswith("excluded")]
    if stay:
        warnings.warn(FewbitWarning("BatchNorm stays: " + "; ".join(some(stay))), stacklevel=2)
    return net


def norm_factors(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Factor and summand, float64 (C,): bn(x) = s·x + t in evaluation mode."""
    mean, var = _wide(norm.running_mean), _wide(norm.running_var)
    scale = torch.rsqrt(var + norm.eps)
    if norm.weight is not None:
        scale = scale * _wide(norm.weight)
    shift = -mean * scale
    return scale, shift if norm.bias is None else shift + _wide(norm.bias)


def merged(layer: nn.Module, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of a layer that does y·scale + shift itself."""
    weight = layer.weight.detach().double()
    if isinstance(layer, _ConvTransposeNd):  # (in, out / groups, …): the outputs of group g belong to its inputs
        spread = scale.view(layer.groups, 1, -1).expand(-1, layer.in_channels // layer.groups, -1)
        weight = weight * spread.reshape(weight.shape[:2] + (1,) * (weight.ndim - 2))
    else:
        weight = weight * scale.view(-1, *(1,) * (weight.ndim - 1))
    bias = shift if layer.bias is None else layer.bias.detach().double() * scale + shift
    return weight, bias


def _wide(t: Any) -> Tensor:
    return t.detach().double()


def _store(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    """Keep the Parameter objects where there are some: an optimizer may hold them."""
    own: Tensor = layer.weight
    with torch.no_grad():
        own.copy_(weight)
        if layer.bias is None:
            layer.bias = nn.Parameter(bias.to(own), requires_grad=own.requires_grad)
        else:
            layer.bias.copy_(bias)


def _tied(layer: nn.Module, users: dict[int, set[nn.Module]]) -> bool:
    return any(len(users[id(p)]) > 1 for p in layer._parameters.values() if p is not None)


def _refusal(layer: nn.Module, users: dict[int, set[nn.Module]]) -> str:
    """Why nothing can be merged into a layer, or ""."""
    if _tied(layer, users):
        return "its weight is another layer's, too"
    quantizer = getattr(layer, "weight_quantizer", None)
    if quantizer is not None and (quantizer.learned or quantizer.frozen):
        return "the scale of its weight is learned or fixed; merge before"
    if not isinstance(layer, BLOCKS) and own_forward(layer) and not _takes_factors(layer):
        return f"{type(layer).__name__} computes in its own way: another weight and bias would not give y·s + t"
    return ""


def _takes_factors(layer: nn.Module) -> bool:
    """Try, for a forward of unknown kind, whether weight·s and bias·s + t give y·s + t; not if it scales its weight."""
    old = copy.deepcopy(layer).double().eval()
    new = copy.deepcopy(old)
    linear = isinstance(layer, nn.Linear)
    inputs, outputs = (layer.in_features, layer.out_features) if linear else (layer.in_channels, layer.out_channels)
    side = [] if linear else [2 * d * (k - 1) + 3 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    random = torch.Generator().manual_seed(0)
    shapes = ((2, inputs, *side), (outputs,), (outputs,))
    x, s, t = (torch.randn(n, generator=random, dtype=torch.float64).to(layer.weight.device) for n in shapes)
    _store(new, *merged(new, s, t))
    try:
        with torch.no_grad():
            across = (-1, *(1,) * len(side))
            return torch.allclose(new(x), old(x) * s.view(across) + t.view(across))
    except (TypeError, ValueError, RuntimeError):  # it takes something else than x of this shape
        return False
