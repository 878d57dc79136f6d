"""Pieces of the reference networks.

convolution → norm → ReLU                 ConvNorm
x · sigmoid(W₂ relu(W₁ mean(x)))          Squeeze    (squeeze and excitation)
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

GROUP_CHANNELS = 8
"""Channels that GroupNorm normalizes together; all widths are multiples of it."""

SQUEEZE = 4
"""Channels of a squeeze for one of its bottleneck."""


@dataclass(frozen=True)
class Variant:
    """What can be different in each of the networks.

    Args:
        use_gn: GroupNorm instead of BatchNorm. use_se: squeeze and excitation in each block.
        last_gamma: the last norm of each residual block starts at zero, so that the block starts as its shortcut.
    """

    use_gn: bool = False
    use_se: bool = False
    last_gamma: bool = False

    def norm(self, channels: int) -> nn.Module:
        """The layer that normalizes after a convolution."""
        return nn.GroupNorm(channels // GROUP_CHANNELS, channels) if self.use_gn else nn.BatchNorm2d(channels)

    def squeeze(self, channels: int) -> nn.Module:
        """The layer at the end of a block; none does nothing."""
        return Squeeze(channels) if self.use_se else nn.Identity()


class ConvNorm(nn.Sequential):
    """A convolution of odd kernel, its norm, a ReLU if wanted; as large as the input divided by the stride."""

    def __init__(
        self,
        variant: Variant,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        parts: list[tuple[str, nn.Module]] = [("conv", conv), ("norm", variant.norm(outputs))]
        super().__init__(OrderedDict([*parts, *([("relu", nn.ReLU())] if relu else [])]))


class Squeeze(nn.Module):
    """Each channel times a factor between 0 and 1 that follows from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = max(channels // SQUEEZE, GROUP_CHANNELS)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.down = nn.Conv2d(channels, inner, 1)
        self.relu = nn.ReLU()
        self.up = nn.Conv2d(inner, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the channels of x (n, c, h, w)."""
        return x * self.gate(self.up(self.relu(self.down(self.mean(x)))))


def initialize(net: nn.Module, last: list[nn.Module]) -> None:
    """Start values: convolutions by their fan-out, `last` norms at zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
    for norm in last:
        assert isinstance(norm, (nn.BatchNorm2d, nn.GroupNorm))
        nn.init.zeros_(norm.weight)
