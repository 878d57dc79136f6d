"""Ranges of inputs from batches of data.

naive     epochs × (net(x); update_ema())        v ← (1 - m)·cur + m·old
kl        for each input the threshold that loses least information (kl.py), from one pass in which inputs stay float
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from fewbit.errors import ConfigError, DataError, EmptyData, one_of
from fewbit.torch.kl import collect_kl
from fewbit.torch.methods import act_quantizers, observing, quantize_input, update_ema
from fewbit.torch.reads import call, in_mode

MODES = ("naive", "kl")


def calibrate_inputs(net: nn.Module, batches: Iterable[Any], mode: str = "naive", epochs: int = 3) -> None:
    """Find the ranges of all inputs; afterwards they are used (`quantize_input(net, online=False)`).

    The network runs in evaluation mode, its weights rounded as they are. Learned steps stay.

    Args:
        batches: tensors, tuples or dicts of inputs; what forward has no argument for, such as labels, is left out. Gone
            through `epochs` times: a list or a DataLoader, not a generator.
        mode: "naive" or "kl". epochs: passes over the data, for "naive"; "kl" makes one.

    Raises:
        EmptyData: there is no batch. DataError: a generator cannot be gone through again.
    """
    one_of("mode", mode, MODES)
    if not isinstance(epochs, int) or epochs < 1:
        raise ConfigError(f"epochs is {epochs!r}; it must be a whole number, 1 or more")
    quantizers = act_quantizers(net)
    if mode == "naive" and epochs > 1 and iter(batches) is batches:
        raise DataError(
            "batches is a generator, which can be gone through once; give a list or a DataLoader, or epochs=1"
        )
    with in_mode(net, False), observing(net):
        if mode == "naive":
            for _ in range(epochs):
                for _ in _ran(net, batches):
                    update_ema(net)
        else:
            with collect_kl(q for q in quantizers.values() if not q.learned):
                for _ in _ran(net, batches):
                    pass
    quantize_input(net, online=False)


def _ran(net: nn.Module, batches: Iterable[Any]) -> Iterator[None]:
    """Run the network on one batch after the other."""
    empty = True
    for batch in batches:
        call(net, inputs_of(net, batch))
        empty = False
        yield
    if empty:
        raise EmptyData("batches holds no batch")


def inputs_of(net: nn.Module, batch: Any) -> Any:
    """What of a batch forward takes: as many as it has arguments without defaults, at least one."""
    if isinstance(batch, Tensor | Mapping) or not isinstance(batch, tuple | list):
        return batch
    kinds = inspect.Parameter
    arguments = inspect.signature(net.forward).parameters.values()
    if any(a.kind == kinds.VAR_POSITIONAL for a in arguments):
        return tuple(batch)
    needed = [a for a in arguments if a.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    return tuple(batch[: max(1, sum(a.default is kinds.empty for a in needed))])
