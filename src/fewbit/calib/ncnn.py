"""Ranges as ncnn's calibration tool finds them: ±T, or 0 … T if no value is negative.

    ncnn-kl   T of the least divergence over 2,048 bins of |x|: core/threshold_ncnn.py
    eq        the same; then steps of weights and values by the cosine of each layer's output: quantization/cosine.py
    aciq      T = α · σ, the best clip of a normal distribution, whose σ follows from the largest magnitude of N values:
              σ = 2·absmax · 0.175·(1 + √(π·ln 4)) / √(2·ln N),  α(8 bits) = 3.924; N: values in one sample

Source of aciq: Banner and others, "Post training 4-bit quantization of convolutional networks", 2019. Where T is beyond
the largest magnitude, that is taken, which ncnn's tool does not do.
"""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from fewbit.calib.base import Float32, observer
from fewbit.calib.kl import KlObserver
from fewbit.calib.minmax import Range, finite_range, nothing_seen
from fewbit.core.spec import QuantSpec
from fewbit.core.threshold_ncnn import threshold_bins

ALPHA = (0.0, 1.71063519, 2.15159277, 2.55913646, 2.93620062, 3.28691474, 3.6151146, 3.92403714)
"""Best clip of a normal distribution in standard deviations, for 1 to 8 bits."""

SPREAD = 2 * 0.175 * (1 + math.sqrt(math.pi * math.log(4)))


@observer("ncnn-kl")
class NcnnKlObserver(KlObserver):
    """Up to T of ncnn's KL search."""

    search = staticmethod(threshold_bins)


@observer("eq")
class EqObserver(NcnnKlObserver):
    """What the search for steps by cosine begins with."""


@observer("aciq")
class AciqObserver:
    """The best clip for normally distributed values with the largest magnitude that was seen."""

    def __init__(self, spec: QuantSpec) -> None:
        self.spec = spec
        self.lo, self.hi = math.inf, -math.inf
        self.count = 0

    def update(self, x: Float32, batch: int | None = None) -> None:
        """See one batch; its first axis counts samples."""
        if np.size(x):
            lo, hi = finite_range(x)
            self._add(lo, hi, x.size // len(x) if np.ndim(x) else 1)

    def _add(self, lo: float, hi: float, count: int) -> None:
        self.lo, self.hi, self.count = min(self.lo, lo), max(self.hi, hi), max(self.count, count)

    def merge(self, other: Self) -> None:
        """Take in what another observer saw."""
        self._add(other.lo, other.hi, other.count)

    def result(self) -> Range:
        """The range to keep: symmetric about 0 if any value is negative."""
        if not self.count:
            raise nothing_seen()
        top = max(-self.lo, self.hi)
        if self.count > 1 and 2 <= self.spec.bits <= len(ALPHA):
            top = min(top, ALPHA[self.spec.bits - 1] * top * SPREAD / math.sqrt(2 * math.log(self.count)))
        return (-top if self.lo < 0 else 0.0), top

    def state(self) -> dict[str, Any]:
        """What was learned."""
        return {"range": np.array([self.lo, self.hi]), "count": self.count} if self.count else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        self.lo, self.hi = (float(v) for v in state["range"]) if state else (math.inf, -math.inf)
        self.count = int(state["count"]) if state else 0
