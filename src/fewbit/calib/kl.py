"""Ranges by MindSpore Lite's KL search: ±T, or 0 … T if no value is negative.

    |x| ≤ 2⁻⁵²  not counted              2,048 bins of |x| up to absmax              T: core/threshold_2048.py

The converter takes ±T in both cases. What lies below 0 stands for no value then: without it the steps are half as wide,
the same values are cut off, and engines merge a Relu into the layer before, since 0 is the lowest integer.

The converter reads the data twice, for absmax and then for the bins. Here it is read once: values are counted on the
grid of histogram.py, of whose bins there are 4 to 8 to each of the 2,048; counts are shared out linearly where one
straddles an edge. So the result does not depend on how the data was split, and T is that of two passes up to what the
sharing moves (see the tests: within a few of the 2,048 bins).
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fewbit.calib.base import Float32, observer
from fewbit.calib.histogram import GridHistogram
from fewbit.calib.minmax import Range, flat, nothing_seen
from fewbit.core.spec import QuantSpec
from fewbit.core.threshold_2048 import BINS, threshold_bins

NOTHING = np.float32(2.0**-52)
"""Magnitudes up to this are not counted."""


@observer("kl")
class KlObserver:
    """Up to T of MindSpore Lite's KL search. `search`: counts in bins and levels → T, in bins."""

    search = staticmethod(threshold_bins)

    def __init__(self, spec: QuantSpec) -> None:
        self.spec = spec
        self.histogram = GridHistogram()
        self.zeros = 0

    def update(self, x: Float32, batch: int | None = None) -> None:
        """See one batch."""
        from fewbit.calib import kernels

        self.histogram.update(x)
        self.zeros += int(kernels.count_tiny(flat(x).view(np.int32), NOTHING.view(np.int32)))

    def merge(self, other: Self) -> None:
        """Take in what another observer saw."""
        self.histogram.merge(other.histogram)
        self.zeros += other.zeros

    def result(self) -> Range:
        """The range to keep: symmetric about 0 if any value is negative."""
        seen = self.histogram
        if seen.counts is None:
            raise nothing_seen()
        top = seen.absmax
        if top > NOTHING:
            top *= self.search(self.folded(), 1 << max(0, self.spec.bits - 1)) / BINS
        return (-top if seen.lo < 0 else 0.0), top

    def folded(self) -> NDArray[np.int64]:
        """Counts of |x| in 2,048 equal bins up to absmax, without those too small to count."""
        seen = self.histogram
        assert seen.counts is not None and seen.absmax > 0
        both = seen.counts[seen.half :] + seen.counts[: seen.half][::-1]
        both[0] = max(0, both[0] - self.zeros)
        at = np.arange(BINS + 1) * (seen.absmax * 2.0**-seen.exponent / BINS)
        cum = np.concatenate(([0], np.cumsum(both)))
        share = np.interp(at, np.arange(cum.size), cum)
        share[-1] = cum[-1]
        counts: NDArray[np.int64] = np.diff(np.rint(share)).astype(np.int64)
        return counts

    def state(self) -> dict[str, Any]:
        """What was learned."""
        state = self.histogram.state()
        return {**state, "zeros": self.zeros} if state else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.histogram.restore(state)
        self.zeros = int(state.get("zeros", 0))
