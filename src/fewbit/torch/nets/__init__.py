"""Small reference networks for images of 28 to 32 pixels, and networks of the user's own.

    build("resnet20", classes=10, channels=1)      load_network("mine.py's module:function")

A new network is a builder and its row in `NETS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from torch import nn

from fewbit.data.function import PATTERN, load_function
from fewbit.errors import UsageError, one_of
from fewbit.torch.nets.mobilenet import mobilenet, mobilenet_v2
from fewbit.torch.nets.parts import Variant
from fewbit.torch.nets.resnet import resnet

NETS: dict[str, Callable[[Variant, int, int], nn.Module]] = {
    "resnet8": resnet(1),
    "resnet20": resnet(3),
    "resnet56": resnet(9),
    "mobilenet1.0": mobilenet(1.0),
    "mobilenet0.25": mobilenet(0.25),
    "mobilenetv2_1.0": mobilenet_v2(1.0),
    "mobilenetv2_0.25": mobilenet_v2(0.25),
}
"""Name → function that takes a Variant, the number of classes and of the image's channels."""

ALSO = {"cifar_resnet20_v1": "resnet20", "cifar_resnet56_v1": "resnet56"}
"""GluonCV's name → ours, where both are the same network; other names are the same anyway, or mean another network."""

VARIANTS = tuple(f.name for f in fields(Variant))
"""Words of `build` that change a network."""


def build(
    name: str,
    classes: int = 10,
    channels: int = 1,
    *,
    use_gn: bool = False,
    use_se: bool = False,
    last_gamma: bool = False,
) -> nn.Module:
    """A reference network with start values from torch's random generator.

    Args:
        name: one of `NETS`. classes: outputs. channels: of the images.
        use_gn, use_se, last_gamma: see `Variant`.

    Raises:
        UnknownName: no network is called so; the nearest name is offered. UsageError: it has no such variant.
    """
    return NETS[one_of("network", name, NETS)](Variant(use_gn, use_se, last_gamma), classes, channels)


def our_name(name: str) -> str:
    """The name of a reference network, which may be called as in GluonCV."""
    return ALSO.get(name, name)


def load_network(text: str) -> nn.Module:
    """The network that the user's `module:function` returns.

    Raises:
        UsageError: no such function, or it returns something else. DataError: the user's code raised.
    """
    found: Any = load_function(text)()
    if not isinstance(found, nn.Module):
        raise UsageError(f"{text} returned {type(found).__name__}; it must return a network, a torch.nn.Module")
    return found


def is_function(name: str) -> bool:
    """Whether a name means a function of the user's."""
    return PATTERN.fullmatch(name) is not None
