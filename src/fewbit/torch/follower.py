"""Values that share parameters: one quantizer learns, the others follow."""

from __future__ import annotations

from torch import Tensor, nn

from fewbit.torch.quantizer import ActQuantizer


class Follower(nn.Module):
    """Rounds with the scale of another quantizer, and learns nothing: for values that share parameters."""

    def __init__(self, base: ActQuantizer) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        """x, of any shape."""
        return self.base.fake(x)
