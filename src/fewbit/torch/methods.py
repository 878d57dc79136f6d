"""What can be done with a converted network, in the words of Quantization.MXNet.

    convert_model(net)                      inputs are rounded with the range of each batch itself
    for x in batches: net(x); net.update_ema()
    net.quantize_input(online=False)        from now on with the stored ranges
    net.fix_params()                        and with the weight scales as they are

Each of these is a function here and a method of the network (bind.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fewbit.errors import NotCalibrated, UsageError
from fewbit.torch.blocks import collect_quantized_blocks
from fewbit.torch.prepared import standalone
from fewbit.torch.quantizer import ActQuantizer
from fewbit.torch.reads import call, in_mode
from fewbit.torch.report import note
from fewbit.torch.winograd import winograd_quantize


def update_ema(net: nn.Module, momentum: float | None = None) -> None:
    """Let the range of the last batch go into the stored one: v ← (1 - m)·cur + m·old. Learned steps stay.

    Args:
        momentum: m; by default what each quantizer was made with (0.9: the old range keeps most of its weight).

    Raises:
        NotCalibrated: no batch has been run yet.
    """
    quantizers = [q for q in act_quantizers(net).values() if not q.learned]
    for q in quantizers:
        q.update_ema(momentum)
    if quantizers and not any(bool(q.initialized) for q in quantizers):
        raise NotCalibrated("no quantizer has seen a batch; run net(x) before update_ema()")


def quantize_input(net: nn.Module, enable: bool = True, online: bool = True) -> None:
    """Round what goes into the layers, or not.

    Args:
        enable: round it.
        online: with the range of each batch itself; False: with the stored range. Learned steps are used in any case.
    """
    for q in act_quantizers(net).values():
        q.enabled, q.online = enable, online and not q.learned


def enable_quantize(net: nn.Module) -> None:
    """Let the quantized layers quantize, and the quantizers between them that `prepare` put there."""
    _switch(net, True)


def disable_quantize(net: nn.Module) -> None:
    """Let the quantized layers compute as float ones; `enable_quantize` brings it back."""
    _switch(net, False)


def qparams_init(net: nn.Module, sample: Any = None) -> None:
    """Forget ranges and learned steps and, given a sample, take those of the inputs from it.

    Without a sample, ranges come with the next `update_ema`, and learned steps with the next training batch. Weights
    need no sample: their scales are found when they are next used, learned ones start there.

    Args:
        sample: one batch: a tensor, a tuple of what forward takes, or a dict of its named arguments.
    """
    acts = act_quantizers(net)
    for q in [*acts.values(), *weight_quantizers(net).values()]:
        q.initialized.fill_(False)
        q.set_extra_state({"frozen": False} if "frozen" in q.FLAGS else {})  # makes it look at `initialized` again
        if q.learned:
            q.scale.requires_grad_(True)
    for q in acts.values():
        q.observing = True
        for stored, empty in ((q.lo, 0.0), (q.hi, 0.0), (q.batch_lo, torch.inf), (q.batch_hi, -torch.inf)):
            stored.fill_(empty)
    if sample is None:
        return
    with in_mode(net, False), observing(net):
        for q in acts.values():
            q.training = q.learned  # a learned step starts at the first training batch
        call(net, sample)
    for q in acts.values():
        if not q.learned:
            q.update_ema(0.0)


def fix_params(net: nn.Module) -> None:
    """Fix the ranges of inputs and the scales of weights as they are now; `qparams_init` frees them.

    Raises:
        NotCalibrated: an input has no stored range; nothing is fixed then.
    """
    acts = act_quantizers(net)
    missing = [name for name, q in acts.items() if q.enabled and not q.initialized]
    if missing:
        raise NotCalibrated(
            f"{missing[0]} has no range to fix; run batches and update_ema(), or calibrate_inputs(net, batches), before"
        )
    for q in acts.values():
        q.online = q.observing = q.tracking = False
        q.scale.requires_grad_(False)
    for _, block in _blocks(net):
        weight = getattr(block, "weight_quantizer", None)
        if weight is not None:
            with torch.no_grad():
                _freeze(block, weight)
            weight.scale.requires_grad_(False)


def _freeze(layer: Any, quantizer: Any) -> None:
    """Fix the scale that the weights of evaluation have, in the domain where they are rounded."""
    weight = layer.folded()[0]
    if layer.winograd != "none" and quantizer.enabled and not quantizer.frozen:
        winograd_quantize(weight, quantizer, layer.winograd)
        quantizer.freeze()
    else:
        quantizer.freeze(weight)


def act_quantizers(net: nn.Module) -> dict[str, ActQuantizer]:
    """The quantizers of inputs and activations, by name.

    Raises:
        UsageError: nothing in the network is quantized.
    """
    _blocks(net)
    return {name: m for name, m in net.named_modules() if isinstance(m, ActQuantizer)}


def weight_quantizers(net: nn.Module) -> dict[str, Any]:
    """The quantizers of weights, by the name of their layer."""
    found = {name: getattr(block, "weight_quantizer", None) for name, block in _blocks(net)}
    return {name: q for name, q in found.items() if q is not None}


@contextmanager
def observing(net: nn.Module) -> Iterator[None]:
    """Ranges of batches are noted and nothing depends on stored ones, without gradients; flags come back after.

    Inputs that go below zero though their format does not are told by `quantization_report`.
    """
    before = {q: q.get_extra_state() for q in act_quantizers(net).values()}
    lowest: dict[ActQuantizer, float] = {}

    def look(q: ActQuantizer, given: tuple[Tensor, ...]) -> None:
        lowest[q] = min(lowest.get(q, 0.0), float(given[0].amin()))

    hooks = [q.register_forward_pre_hook(look) for q in before if not q.spec.signed]
    for q in before:
        q.observing, q.online, q.tracking = True, not q.learned, False
    try:
        with torch.no_grad():
            yield
    finally:
        for hook in hooks:
            hook.remove()
        for q, flags in before.items():
            q.set_extra_state(flags)
    for name, block in _blocks(net):
        low = min((lowest[q] for q in block.children() if q in lowest), default=0.0)
        if low < 0:
            note(net, {name: f"values down to {low:.3g} are cut off at 0 (signed formats keep them)"})


def _blocks(net: nn.Module) -> list[tuple[str, nn.Module]]:
    found = collect_quantized_blocks(net)
    if not found and not standalone(net):
        raise UsageError(f"nothing in this {type(net).__name__} is quantized; call convert_model(net) before")
    return found


def _switch(net: nn.Module, on: bool) -> None:
    for _, block in _blocks(net):
        block.quantize_enabled = on
    for quantizer in standalone(net):
        quantizer.enabled = on
