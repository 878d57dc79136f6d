"""Functions become methods of one network: `update_ema(net)` is `net.update_ema()`.

    net.__class__:  Net   ⇒   Net (update_ema, quantize_input, …)   ⇒   Net

The network gets a class of its own below the one that it had. So a method acts on whatever network it is called on: a
deep copy's on the copy, that of a replica (DataParallel) on the replica. Functions stored on the network would act on
the original for ever, and would be in the way of pickle. Nothing of it is in the state_dict; a pickled network comes
back with the class made anew.
"""

from __future__ import annotations

import copyreg
import warnings
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

from torch import fx, nn

from fewbit.errors import FewbitWarning
from fewbit.torch.blocks import collect_quantized_blocks
from fewbit.torch.calibrate import calibrate_inputs
from fewbit.torch.merging import merge_bn
from fewbit.torch.methods import (
    disable_quantize,
    enable_quantize,
    fix_params,
    qparams_init,
    quantize_input,
    update_ema,
)
from fewbit.torch.report import quantization_report

METHODS: Mapping[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        qparams_init, update_ema, quantize_input, enable_quantize, disable_quantize, collect_quantized_blocks,
        fix_params, merge_bn, calibrate_inputs, quantization_report,
    )
}  # fmt: skip

BASE = "_fewbit_base"


def bind(net: nn.Module) -> nn.Module:
    """Give the network the methods, in place; a name that its class has already stays the class's own."""
    if hasattr(type(net), BASE):
        return net
    own = [name for name in METHODS if hasattr(type(net), name) or name in net._modules]
    if own:
        warnings.warn(
            FewbitWarning(
                f"{type(net).__name__} has its own {', '.join(own)}; fewbit's are in fewbit.torch, as functions"
            ),
            stacklevel=3,
        )
    base: Any = type(net)
    if isinstance(net, fx.GraphModule):  # it has a class of its own already, and writes its forward there
        for name, f in _content(base, own).items():
            setattr(base, name, f)
    else:
        net.__class__ = _with_methods(base, tuple(own))
    return net


@lru_cache(maxsize=64)
def _with_methods(base: Any, own: tuple[str, ...]) -> type[nn.Module]:
    """A class below `base` that looks like it and has the methods but for those named in `own`."""

    def __reduce_ex__(self: nn.Module, protocol: Any) -> Any:
        made = base.__reduce_ex__(self, protocol)
        # (class, arguments of __new__) would look the class up by a name that it does not have
        if made[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
            return _blank, (base, own, *made[1][1:]), *made[2:]
        return made

    more = {"__reduce_ex__": __reduce_ex__, "__module__": base.__module__, "__doc__": base.__doc__}
    return type(base.__name__, (base,), _content(base, own) | more)


def _content(base: type[nn.Module], own: Collection[str]) -> dict[str, Any]:
    content: dict[str, Any] = {name: f for name, f in METHODS.items() if name not in own} | {BASE: base}
    copied = getattr(base, "__deepcopy__", None)
    if copied is not None:  # it decides itself on the class of the copy
        content["__deepcopy__"] = lambda self, memo: bind(copied(self, memo))
    return content


def _blank(base: Any, own: tuple[str, ...], *arguments: Any) -> nn.Module:
    """What pickle fills."""
    kind = _with_methods(base, own)
    made: nn.Module = kind.__new__(kind, *arguments)
    return made
