"""MobileNets v1 and v2 with strides for images of 28 to 32 pixels: the first convolution keeps the size.

    v1   3x3 depthwise ConvNorm+ReLU → [squeeze] → 1x1 ConvNorm+ReLU
    v2   1x1 ConvNorm+ReLU (wider) → 3x3 depthwise ConvNorm+ReLU → [squeeze] → 1x1 ConvNorm → + x where sizes allow

Howard and others, 2017; Sandler and others, 2018. ReLU instead of ReLU6: small images train as well with it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fewbit.errors import UsageError
from fewbit.torch.nets.parts import ConvNorm, Variant, initialize

STAGES_V1 = (  # channels, stride, blocks
    (64, 1, 1), (128, 2, 1), (128, 1, 1), (256, 2, 1), (256, 1, 1), (512, 2, 1), (512, 1, 5), (1024, 2, 1), (1024, 1, 1)
)  # fmt: skip
STAGES_V2 = (  # how much wider inside, channels, stride of the first block, blocks
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 3), (6, 64, 2, 4), (6, 96, 1, 3), (6, 160, 2, 3), (6, 320, 1, 1)
)  # fmt: skip
STEM, LAST_V2 = 32, 1280


def _wide(channels: int, width: float) -> int:
    """Channels at this width, a multiple of 8 that loses no more than a tenth."""
    found = max(8, int(channels * width + 4) // 8 * 8)
    return found + 8 if found < 0.9 * channels * width else found


class Separable(nn.Sequential):
    """A depthwise and a pointwise convolution: the block of v1."""

    def __init__(self, variant: Variant, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            ConvNorm(variant, inputs, inputs, stride=stride, groups=inputs),
            variant.squeeze(inputs),
            ConvNorm(variant, inputs, outputs, 1),
        )


class Inverted(nn.Module):
    """Wide inside, narrow between the blocks: the block of v2."""

    def __init__(self, variant: Variant, inputs: int, outputs: int, stride: int, factor: int) -> None:
        super().__init__()
        inner = inputs * factor
        self.widen = ConvNorm(variant, inputs, inner, 1) if factor > 1 else nn.Identity()
        self.depthwise = ConvNorm(variant, inner, inner, stride=stride, groups=inner)
        self.squeeze = variant.squeeze(inner)
        self.narrow = ConvNorm(variant, inner, outputs, 1, relu=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The block."""
        y = self.narrow(self.squeeze(self.depthwise(self.widen(x))))
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """Stem, blocks, mean, one linear layer."""

    def __init__(self, stem: nn.Module, blocks: list[nn.Module], features: int, classes: int) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(features, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores (n, classes) of images (n, c, h, w)."""
        return self.head(self.flatten(self.mean(self.blocks(self.stem(x)))))


def mobilenet(width: float) -> Callable[[Variant, int, int], nn.Module]:
    """The builder of MobileNet v1 at a width.

    Raises:
        UsageError: the builder was asked for last_gamma.
    """

    def build(variant: Variant, classes: int, channels: int) -> nn.Module:
        if variant.last_gamma:
            raise UsageError("last_gamma is for networks with residual blocks; MobileNet v1 has none, v2 has")
        before = _wide(STEM, width)
        stem, blocks = ConvNorm(variant, channels, before), []
        for outputs, stride, count in STAGES_V1:
            for k in range(count):
                blocks.append(Separable(variant, before, _wide(outputs, width), stride if k == 0 else 1))
                before = _wide(outputs, width)
        net = MobileNet(stem, list(blocks), before, classes)
        initialize(net, [])
        return net

    return build


def mobilenet_v2(width: float) -> Callable[[Variant, int, int], nn.Module]:
    """The builder of MobileNet v2 at a width."""

    def build(variant: Variant, classes: int, channels: int) -> nn.Module:
        before = _wide(STEM, width)
        stem, blocks = ConvNorm(variant, channels, before), []
        for factor, outputs, stride, count in STAGES_V2:
            for k in range(count):
                blocks.append(Inverted(variant, before, _wide(outputs, width), stride if k == 0 else 1, factor))
                before = _wide(outputs, width)
        features = _wide(LAST_V2, max(width, 1.0))
        last = [b.narrow.norm for b in blocks if b.residual and variant.last_gamma]
        net = MobileNet(stem, [*blocks, ConvNorm(variant, before, features, 1)], features, classes)
        initialize(net, last)
        return net

    return build
