"""Quantization-aware training in a loop of your own: two calls around it, none inside.

python examples/qat_own_loop.py          (needs: pip install 'fewbit[torch]')
"""

import torch
from torch import nn
from torch.nn import functional as F

import fewbit as fb
from fewbit.data.demo import demo_test


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def run(net: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int, rate: float) -> None:
    optimizer = torch.optim.Adam(net.parameters(), rate)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(32):
            loss = F.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()


def top1(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    with torch.no_grad():
        return float((net(x).argmax(1) == y).float().mean())


def main() -> None:
    x, y = (torch.from_numpy(demo_test()[k]) for k in ("image", "labels"))
    net = network()
    run(net, x[:800], y[:800], epochs=15, rate=0.01)
    print(f"float            top-1 {top1(net, x[800:], y[800:]):.3f}")

    net = fb.torch.prepare(net, x[:200], bit_num=4)  # computes as its 4-bit form will
    print(f"4 bits           top-1 {top1(net, x[800:], y[800:]):.3f}")
    run(net, x[:800], y[:800], epochs=5, rate=0.001)
    print(f"4 bits, trained  top-1 {top1(net, x[800:], y[800:]):.3f}")

    out = fb.torch.export(net, x[800:])
    out.save("own-w4a4.onnx")
    print(out.check)


if __name__ == "__main__":
    main()
