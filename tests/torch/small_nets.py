"""Little networks for the tests of the module-wise front, each with something that is hard about it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


class Residual(nn.Module):
    """Functional relu and +; the first convolution is read by its BatchNorm and by the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.stem_bn = nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        z = self.bn(self.conv(F.relu(self.stem_bn(y))))
        return self.fc(F.relu(z + y).mean((2, 3)))


class Shared(nn.Module):
    """One convolution under two names, called twice, each time in front of the same BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3)
        self.again = self.first
        self.fc = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn(self.first(x)))
        return self.fc(F.relu(self.bn(self.again(y))).mean((2, 3)))


class Tied(nn.Module):
    """Two layers, one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 4)
        self.bn = nn.BatchNorm1d(4)
        self.down = nn.Linear(4, 4, bias=False)
        self.down.weight = self.up.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.bn(self.up(x))))


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(8, affine=False)
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, groups=2)
        self.bn2 = nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.up(F.relu(self.bn1(self.down(x)))))).mean((2, 3))


def line() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.ConvTranspose1d(8, 4, 3, bias=False), nn.BatchNorm1d(4),
        nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5),
    )  # fmt: skip


def volume() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.ConvTranspose3d(4, 2, 2), nn.Flatten(), nn.LazyLinear(5)
    )


class Attention(nn.Module):
    """PyTorch's own attention computes with the weights of its parts past their forward."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(x).mean(1))


class Branching(nn.Module):
    """The way depends on the values: not traceable."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.other = nn.Conv2d(3, 4, 3)
        self.other_bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.other(x)
        kept = y.shape[0]  # the shape is no reading
        y = F.relu(self.bn(self.conv(x))) + self.other_bn(y)
        return y if y.sum() > 1e9 else y.clone().mean((2, 3))[:kept]


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "plain": (plain, (4, 3, 6, 6)),
    "residual": (Residual, (4, 3, 6, 6)),
    "shared": (Shared, (4, 3, 6, 6)),
    "tied": (Tied, (6, 4)),
    "transposed": (Transposed, (4, 3, 6, 6)),
    "line": (line, (6, 3, 9)),
    "volume": (volume, (3, 2, 5, 5, 5)),
    "attention": (Attention, (3, 5, 8)),
}
"""Name → builder and the shape of its input."""


def made(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A network whose BatchNorms have statistics to tell, and an input."""
    torch.manual_seed(seed)
    build, shape = NETS[name]
    return settled(build(), torch.randn(shape)), torch.randn(shape)


def settled(net: nn.Module, x: Tensor) -> nn.Module:
    """Statistics, γ and β far from where they start."""
    with torch.no_grad():
        net(x)
        for m in net.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.running_mean.uniform_(-1, 1)
                m.running_var.uniform_(0.3, 3)
                if m.affine:
                    m.weight.uniform_(-1.5, 1.5)
                    m.bias.uniform_(-1, 1)
    return net
