"""Ranges of activations by Kullback-Leibler divergence.

    with collect_kl(quantizers):
        for x in batches:
            net(x)                      # rounds no activation meanwhile
    # each quantizer has its range now

The search is that of fewbit.core.threshold_simulator. A format that is not symmetric keeps what was seen of [-T, T].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fewbit.core.threshold_simulator import Counts
from fewbit.torch.quantizer import ActQuantizer
from fewbit.torch.rounding import always_zero


class KlCollector:
    """Counts what one quantizer is given, and finds its range.

    Args:
        quantizer: it is not changed before `finish`.
    """

    def __init__(self, quantizer: ActQuantizer) -> None:
        self.quantizer = quantizer
        self.counts: Counts | None = None
        self.lo = self.hi = 0.0

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Count one batch; the first fixes the bins.

        Raises:
            BadSample: a value is NaN or infinite.
        """
        if not x.numel():
            return
        values = x.detach().float().cpu().numpy()
        lo, hi = float(values.min()), float(values.max())
        if self.counts is None:
            self.counts = Counts(max(-lo, hi))
        self.counts.update(values)
        self.lo, self.hi = min(self.lo, lo), max(self.hi, hi)

    def finish(self) -> None:
        """Set the range; nothing happens if there was no batch."""
        if self.counts is None:
            return
        spec = self.quantizer.spec
        top = self.counts.threshold(spec.bits, bool(spec.signed))
        if always_zero(spec):
            self.quantizer.set_range(-top if spec.signed else 0.0, top)
        else:
            self.quantizer.set_range(max(self.lo, -top), min(self.hi, top))


@contextmanager
def collect_kl(quantizers: Iterable[ActQuantizer]) -> Iterator[list[KlCollector]]:
    """Collect while the block runs batches, then set the ranges; if it fails, nothing is set.

    Args:
        quantizers: those in question; they round nothing meanwhile.
    """
    collectors = [KlCollector(q) for q in dict.fromkeys(quantizers)]
    before = [(c.quantizer, c.quantizer.enabled) for c in collectors]
    hooks = [c.quantizer.register_forward_pre_hook(_hook(c)) for c in collectors]
    try:
        for quantizer, _ in before:
            quantizer.enabled = False
        yield collectors
    finally:
        for hook in hooks:
            hook.remove()
        for quantizer, enabled in before:
            quantizer.enabled = enabled
    for collector in collectors:
        collector.finish()


def _hook(collector: KlCollector) -> Any:
    def observe(module: object, given: tuple[Tensor, ...]) -> None:
        collector.observe(given[0])

    return observe
