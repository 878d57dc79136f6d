"""The modules of a network and their places: a shared module stands at several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from fewbit.errors import AlreadyQuantized, UnsupportedModel, UsageError, unknown

SHOWN = 3


def check_net(net: nn.Module) -> None:
    """Refuse what cannot be changed in place at all.

    Raises:
        UsageError: this is no torch.nn.Module.
        UnsupportedModel: a scripted network, lazy modules without weights, DistributedDataParallel.
        AlreadyQuantized: PyTorch's own quantization was at work.
    """
    if not isinstance(net, nn.Module):
        raise UsageError(f"a network is a torch.nn.Module; this is {type(net).__name__}")
    if isinstance(net, DistributedDataParallel):
        raise UnsupportedModel(
            "this is DistributedDataParallel, which knows its parameters already; convert the network in it "
            "(net.module) before it is wrapped"
        )
    for name, m in net.named_modules():
        if isinstance(m, torch.jit.ScriptModule):
            raise UnsupportedModel(f"{name or 'the network'} is TorchScript; give the network that it was made from")
        if isinstance(m, LazyModuleMixin) and m.has_uninitialized_params():
            raise UnsupportedModel(f"{name or 'the network'} is {type(m).__name__} without weights; run a batch first")
        if type(m).__module__.startswith(("torch.ao.nn", "torch.ao.quantization", "torchao.")):
            raise AlreadyQuantized(
                f"{name or 'the network'} is {type(m).__module__}.{type(m).__name__}; give the float network"
            )


def computed_weight(module: nn.Module) -> str:
    """Why the weight of a layer is no plain parameter, or ""."""
    if parametrize.is_parametrized(module):
        return "its weight is parametrized (torch.nn.utils.parametrize.remove_parametrizations makes it plain)"
    if module._parameters.get("weight") is None:
        return "its weight is computed by a hook (remove weight_norm, spectral_norm or pruning first)"
    return ""


def own_forward(layer: nn.Module) -> str:
    """The method by which a subclass computes differently from the layer of PyTorch that it is based on, or ""."""
    base = next((t for t in type(layer).__mro__ if t.__module__.startswith("torch.nn.")), nn.Module)
    changed = (f for f in ("forward", "_conv_forward") if getattr(type(layer), f, None) is not getattr(base, f, None))
    return next(changed, "")


def selected(net: nn.Module, entries: Iterable[nn.Module | str], kind: str, *, inside: bool = True) -> set[nn.Module]:
    """The modules that names, globs or module objects stand for.

    Args:
        kind: how an entry is called in messages.
        inside: and all that is inside of them.

    Raises:
        UnknownName: nothing has this name, or the module is not part of the network.
    """
    if isinstance(entries, str | nn.Module):
        raise UsageError(f"{kind} is a list of names or modules; write [{str(entries)[:40]!r}]")
    names = dict(net.named_modules(remove_duplicate=False))
    known = set(names.values())
    found: set[nn.Module] = set()
    for entry in entries:
        if isinstance(entry, nn.Module):
            matches = {entry} & known
        else:
            matches = {m for name, m in names.items() if name == entry or fnmatchcase(name, str(entry))}
        if not matches:
            what = f"{type(entry).__name__} object" if isinstance(entry, nn.Module) else entry
            hint = "It is not part of this network." if isinstance(entry, nn.Module) else "Globs are allowed: layer4.*"
            raise unknown(kind, what, (name for name in names if name), hint=hint)
        for m in matches:
            found.update(m.modules() if inside else [m])
    return found


def swap(net: nn.Module, new: dict[nn.Module, nn.Module]) -> None:
    """Put each new module at every place of the old one."""
    for parent in list(net.modules()):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]


def weights_in_use(net: nn.Module) -> dict[int, set[nn.Module]]:
    """Parameter (by id) → the modules that hold it: tied weights have several."""
    users: dict[int, set[nn.Module]] = {}
    for m in net.modules():
        for p in m._parameters.values():
            if p is not None:
                users.setdefault(id(p), set()).add(m)
    return users


def some(names: Iterable[str]) -> Iterator[str]:
    """The first few names, and how many more there are."""
    listed = list(names)
    yield from listed[:SHOWN]
    if len(listed) > SHOWN:
        yield f"{len(listed) - SHOWN} more"


def reason(e: BaseException) -> str:
    """The first line of what an exception says, without colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(e))
    return next((line.strip() for line in text.splitlines() if line.strip()), type(e).__name__)
