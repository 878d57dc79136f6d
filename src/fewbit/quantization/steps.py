"""Steps: the scales and limits of a weight where the weight is the matrix of a layer.

real[o, k] = p[o, k] · s[o, j]        p = q − z, from qmin − z to qmax − z;   j: the block of inputs that k is in

tensor     one block, one scale for all outputs
channel    one block, one scale an output
groups     a block a group of inputs
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.params import QuantParams
from fewbit.quantization.linear import Linear

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Steps:
    """Scales of one weight.

    Args:
        scale: (group, out, J). lo, hi: smallest and largest p, (group, out, J). blocks: j of each input, (K,).
        index: where the plan keeps each scale, (group, out, J). size: scales that the plan keeps. bits: of a weight.
        tied: whether one scale is for all outputs.
    """

    scale: NDArray[np.float32]
    lo: NDArray[np.int32]
    hi: NDArray[np.int32]
    blocks: NDArray[np.intp]
    index: NDArray[np.int32]
    size: int
    bits: int
    tied: bool = False

    @property
    def columns(self) -> list[NDArray[np.intp]]:
        """The inputs of each block."""
        return [np.flatnonzero(self.blocks == j) for j in range(self.scale.shape[-1])]

    def wide(self, numbers: Array) -> Array:
        """Numbers (group, out, J) for each weight, (group, out, K)."""
        return np.ascontiguousarray(numbers[..., self.blocks])

    @property
    def limits(self) -> tuple[Array, Array]:
        """Smallest and largest p of each weight, (group, out, K)."""
        return self.wide(self.lo), self.wide(self.hi)

    def nearest(self, weight: Array) -> NDArray[np.int32]:
        """The p nearest to each weight."""
        lo, hi = self.limits
        with np.errstate(over="ignore"):  # beyond float32 is beyond the limits as well
            return np.clip(np.rint(weight / self.wide(self.scale)), lo, hi).astype(np.int32)

    def real(self, p: Array) -> NDArray[np.float32]:
        """What p stands for."""
        return np.asarray(p * self.wide(self.scale), np.float32)

    def rescaled(self, scale: Array) -> Steps:
        """With other scales."""
        return replace(self, scale=np.asarray(scale, np.float32))

    def flat(self) -> tuple[float, ...]:
        """Scales as the plan keeps them."""
        found = np.zeros(self.size, np.float32)
        found[self.index] = self.scale
        return tuple(float(s) for s in found)


def steps_of(layer: Linear, params: QuantParams) -> Steps:
    """The steps of a layer's weight.

    Args:
        layer: whose weight it is. params: of the weight as stored.
    """
    numbers = np.arange(params.scale.size, dtype=np.int32).reshape(params.scale.shape)
    which = layer.matrix(np.broadcast_to(params.spread(numbers, layer.shape), layer.shape))
    _, first, blocks = np.unique(which[0, 0], return_index=True, return_inverse=True)
    index = np.ascontiguousarray(which[..., first])
    zero = params.zero_point.reshape(-1)[index]
    return Steps(
        scale=params.scale.reshape(-1)[index],
        lo=(params.spec.qmin - zero).astype(np.int32),
        hi=(params.spec.qmax - zero).astype(np.int32),
        blocks=blocks.reshape(-1),
        index=index,
        size=params.scale.size,
        bits=params.spec.bits,
        tied=params.scale.ndim == 0,
    )
