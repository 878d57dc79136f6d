"""What changes while a quantized network is trained: its bits, from stage to stage, and in the end no range any more.

    progressive_bits 8, 4 and bit_num 2, 9 epochs:   8 8 8  4 4 4  2 2 2

A quantizer never has fewer bits than it was prepared with: what an override keeps at 8 bits stays there. Where bits
change, learned scales start anew: those of weights from the weights, those of activations from the least squared error
on a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewbit.core.spec import QuantSpec
from fewbit.torch.quantizer import ActQuantizer, WeightQuantizer
from fewbit.torch.rounding import fake_quantize
from fewbit.torch.spread import from_range

SHARES = tuple(0.1 + 0.05 * k for k in range(19))
"""Parts of a batch's range that are tried as the range of a learned scale."""

VALUES = 1 << 17
"""Values of an activation that its range is chosen by."""


@dataclass(frozen=True)
class Planned:
    """How a quantizer was prepared."""

    spec: QuantSpec
    tracking: bool = False


def planned(net: nn.Module) -> dict[str, Planned]:
    """All quantizers of a network as they are; none: it is a float network."""
    return {n: Planned(q.spec, bool(getattr(q, "tracking", False))) for n, q in quantizers(net)}


def quantizers(net: nn.Module) -> Iterator[tuple[str, ActQuantizer | WeightQuantizer]]:
    """Each quantizer with its name."""
    yield from ((n, m) for n, m in net.named_modules() if isinstance(m, (ActQuantizer, WeightQuantizer)))


def bits_of(bits: Sequence[float], epoch: int, epochs: int) -> int | None:
    """Bits of an epoch (from 0 on), None in the last stage, which has what was planned. All stages are as long."""
    stage = epoch * (len(bits) + 1) // epochs
    return int(bits[stage]) if stage < len(bits) else None


def set_bits(net: nn.Module, plans: Mapping[str, Planned], bits: int | None) -> list[ActQuantizer | WeightQuantizer]:
    """Give each quantizer the bits of a stage; returns those whose bits are others now."""
    found = []
    for name, q in quantizers(net):
        spec = plans[name].spec
        wanted = replace(spec, bits=max(bits or 0, spec.bits))
        if wanted != q.spec:
            q.spec = wanted
            found.append(q)
    return found


def enter(net: nn.Module, plans: Mapping[str, Planned], bits: int | None, batch: Callable[[], Tensor]) -> None:
    """Begin a stage.

    Args:
        batch: gives images that scales of activations are found with; called only if that is needed.
    """
    changed = set_bits(net, plans, bits)
    learned = [q for q in changed if isinstance(q, ActQuantizer) and q.learned]
    for q in changed:
        if isinstance(q, WeightQuantizer):
            _start_anew(q)
        elif not q.learned:
            q.set_range(float(q.lo), float(q.hi))
    if learned:
        _find_ranges(net, learned, batch())


def _start_anew(q: WeightQuantizer) -> None:
    """Let the next forward find the scale."""
    q.initialized.fill_(False)
    q.set_extra_state({})  # looks at the buffer again


@torch.no_grad()
def _find_ranges(net: nn.Module, wanted: Sequence[ActQuantizer], images: Tensor) -> None:
    """Set ranges one after the other, in the order of the network, so that each sees what comes before rounded."""

    def before(q: Any, args: tuple[Any, ...]) -> None:
        lo, hi = least_error(q.spec, args[0].detach())
        q.set_range(lo, hi)

    training = net.training
    net.eval()
    with ExitStack() as hooks:
        for q in wanted:
            hooks.callback(q.register_forward_pre_hook(before).remove)
        net(images)
    net.train(training)


def least_error(spec: QuantSpec, x: Tensor) -> tuple[float, float]:
    """The range, a part of that of x, with the least squared error of rounding."""
    flat = x.float().flatten()
    flat = flat[:: -(-flat.numel() // VALUES)]
    lo, hi = torch.aminmax(flat)
    errors = [
        (fake_quantize(flat, *from_range(spec, lo * share, hi * share), spec, "plain") - flat).square().mean()
        for share in SHARES
    ]
    best = SHARES[int(torch.stack(errors).argmin())]
    return float(lo) * best, float(hi) * best


def hold_still(net: nn.Module, plans: Mapping[str, Planned], still: bool) -> None:
    """Let ranges and statistics of BatchNorm stand still, or follow the data; they do after `net.train()`."""
    for name, q in quantizers(net):
        if isinstance(q, ActQuantizer):
            q.tracking = plans[name].tracking and not still
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.train(not still)
