"""Pairs of a layer and the BatchNorm behind it: which BatchNorms can be taken into the layer before them.

    conv → bn → relu                 a pair
    conv → bn, conv → add            none: the add wants what bn has not touched
    conv1, conv2 → bn                none: bn is behind two layers
    conv → bn, called at two places  a pair, if it is so at both

Every BatchNorm that finds no layer is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch import nn

from fewbit.torch.blocks import outer_modules
from fewbit.torch.reads import LAYERS, NORMS, Part, Reads, reads
from fewbit.torch.tree import computed_weight


@dataclass(frozen=True, eq=False)
class Pair:
    """A layer and the BatchNorm that alone reads what it gives, each with its name."""

    layer: nn.Module
    norm: nn.Module
    names: tuple[str, str]


@dataclass(frozen=True)
class Pairs:
    """What was found.

    Args:
        found: the pairs, in the order of the network.
        left: BatchNorm → why no layer takes it.
    """

    found: tuple[Pair, ...]
    left: dict[str, str]


def find_pairs(
    net: nn.Module,
    sample: Any = None,
    *,
    exclude: Collection[nn.Module] = (),
    refuse: Callable[[nn.Module], str] = lambda layer: "",
) -> Pairs:
    """Find the layer of each BatchNorm.

    A BatchNorm1d behind a Linear works on the channels only if the Linear is given (N, C). Only a run on a sample sees
    that; without one it is taken to be so.

    Args:
        sample: what forward takes; needed where forward cannot be traced.
        exclude: layers and BatchNorms that stay as they are.
        refuse: layer → why it cannot take a BatchNorm, or "".

    Raises:
        UnsupportedModel: forward cannot be traced and there is no sample.
    """
    names = {m: name for name, m in outer_modules(net)}
    norms = [m for m in names if isinstance(m, NORMS)]
    if not norms:
        return Pairs((), {})
    flow = reads(net, sample)
    found, left = [], {}
    for norm in norms:
        why, layer = _judge(norm, flow, names, exclude)
        if layer is not None and not why:
            why = refuse(layer)
        if layer is None or why:
            left[names[norm]] = why
        else:
            found.append(Pair(layer, norm, (names[layer], names[norm])))
    return Pairs(tuple(found), left)


def _judge(
    norm: nn.Module, flow: Reads, names: dict[nn.Module, str], exclude: Collection[nn.Module]
) -> tuple[str, nn.Module | None]:
    """Why this BatchNorm stays, or "" and the layer that it belongs to."""
    if norm in exclude:
        return "excluded", None
    if norm.running_mean is None or norm.running_var is None:
        return "it has no running statistics", None
    if norm._forward_hooks or norm._forward_pre_hooks:
        return "a hook is attached to it", None
    sources = flow.sources.get(norm, set())
    if not sources:
        return "forward does not call it", None
    if len(sources) > 1:
        return f"it is called behind {_words(sources, names)}", None
    (layer,) = sources
    if not isinstance(layer, LAYERS):
        return f"it stands behind {_words(sources, names)}, not behind a layer", None
    name = names.get(layer, "a layer inside of another one")
    others = flow.readers[layer] - {norm}
    if layer not in names:
        return f"it stands behind {name}", layer
    if layer in exclude:
        return f"the layer before it, {name}, is excluded", layer
    if others:
        return f"what {name} gives is also read by {_words(others, names)}", layer
    if why := computed_weight(layer):
        return why, layer
    if layer in flow.peeked:
        return f"the weight of {name} is also read past its forward", layer
    channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if channels != norm.num_features:
        return f"{name} gives {channels} channels, not {norm.num_features}", layer
    ranks = flow.ranks.get(norm, set())
    if isinstance(layer, nn.Linear) and ranks - {2}:
        return f"{name} is given {max(ranks)} axes, and the channels are not the axis that BatchNorm scales", layer
    return "", layer


def _words(parts: Collection[Part], names: dict[nn.Module, str]) -> str:
    words = sorted({p if isinstance(p, str) else names.get(p, type(p).__name__) for p in parts})
    return " and ".join(words)
