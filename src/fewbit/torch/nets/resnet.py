"""ResNets for small images: 6·n + 2 layers in three stages of 16, 32 and 64 channels.

    x → ConvNorm+ReLU → ConvNorm → [squeeze] → + → ReLU
    └──────────── (1x1 ConvNorm) ──────────────┘           where size or width change

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, 2015, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fewbit.torch.nets.parts import ConvNorm, Variant, initialize

WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, variant: Variant, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        same = stride == 1 and inputs == outputs
        self.first = ConvNorm(variant, inputs, outputs, stride=stride)
        self.second = ConvNorm(variant, outputs, outputs, relu=False)
        self.squeeze = variant.squeeze(outputs)
        self.shortcut = nn.Identity() if same else ConvNorm(variant, inputs, outputs, 1, stride, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block."""
        return self.relu(self.squeeze(self.second(self.first(x))) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, stages of blocks, mean, one linear layer."""

    def __init__(self, variant: Variant, blocks: int, classes: int, channels: int) -> None:
        super().__init__()
        self.stem = ConvNorm(variant, channels, WIDTHS[0])
        found: list[nn.Module] = []
        for inputs, outputs in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False):
            for k in range(blocks):
                first = k == 0
                stride = 2 if first and outputs != WIDTHS[0] else 1
                found.append(Block(variant, inputs if first else outputs, outputs, stride))
        self.blocks = nn.Sequential(*found)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(WIDTHS[-1], classes)
        initialize(self, [b.second.norm for b in found if isinstance(b, Block) and variant.last_gamma])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) of images (n, c, h, w)."""
        return self.head(self.flatten(self.mean(self.blocks(self.stem(x)))))


def resnet(blocks: int) -> Callable[[Variant, int, int], nn.Module]:
    """The builder of a ResNet with so many blocks a stage."""
    return lambda variant, classes, channels: ResNet(variant, blocks, classes, channels)
