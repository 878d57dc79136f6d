"""StoredWeight: the integers of one weight with all that turns them back into real numbers.

    real = (q − z) · (s · g) + m          rounded to float32 after each step, as engines do it

s, z belong to the format (`QuantParams`); g and m are a correction that restores each channel's spread and mean. What a
file holds of it is up to the form: bit planes in the graph, or entropy-coded in a container.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewbit.core.params import IntArray, QuantParams


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """One weight in integers.

    Args:
        q: integers in the weight's own shape, within the format's limits.
        params: format (1 to 16 bits), scale and zero point.
        gain, offset: of the correction, float32 of the shape of `params.scale`; None = 1 and 0.
    """

    q: IntArray
    params: QuantParams
    gain: NDArray[np.float32] | None = None
    offset: NDArray[np.float32] | None = None

    @property
    def bits(self) -> int:
        """Bits that an integer takes."""
        return self.params.spec.bits

    @property
    def step(self) -> NDArray[np.float32]:
        """What one integer is worth, s · g, of the shape of the scale."""
        scale = self.params.scale
        with np.errstate(over="ignore"):
            return scale if self.gain is None else np.asarray(scale * self.gain, np.float32)

    def real(self) -> NDArray[np.float32]:
        """What every engine computes with."""
        shape, p = self.q.shape, self.params
        found: NDArray[np.float32] = (self.q.astype(np.int32) - p.spread(p.zero_point, shape)).astype(np.float32)
        with np.errstate(over="ignore"):  # of a damaged file: infinity, as engines have it
            found *= p.spread(self.step, shape)
            if self.offset is not None:
                found += p.spread(self.offset, shape)
        return found
