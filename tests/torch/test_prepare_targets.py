"""Networks prepared for engines other than ONNX Runtime: what is exported is what was simulated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fewbit as fb
from fewbit.graph.tensorrt_legal import check_tensorrt
from tests.torch.small_nets import plain


class Block(nn.Module):
    """Two convolutions around which a sum leads, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner, self.norm1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.outer, self.norm2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        z = self.norm2(self.outer(F.relu(self.norm1(self.inner(y)))))
        return self.head(F.relu(z + y).mean((2, 3)))


@pytest.mark.parametrize(
    ("build", "target"), [(plain, "openvino"), (Block, "openvino"), (Block, "tensorrt"), (Block, "ncnn")]
)
def test_what_is_exported_is_what_was_simulated(build: Callable[[], nn.Module], target: str) -> None:
    torch.manual_seed(0)
    sample = torch.randn(8, 3, 8, 8)
    net = fb.torch.prepare(build(), sample, target=target)
    optimizer = torch.optim.SGD(net.parameters(), 0.02)
    F.cross_entropy(net(sample), torch.arange(8) % 5).backward()
    optimizer.step()
    done = fb.torch.export(net.eval(), sample)
    assert done.check.equal, str(done.check)
    assert done.plan.target == target
    assert any(n.op_type == "QuantizeLinear" for n in done.quantized.nodes)
    if target == "tensorrt":
        assert check_tensorrt(done.quantized) == []
