"""Replace the layers of a network by quantized ones, in place; the parameters stay the same objects.

    Conv2d → BatchNorm2d → ReLU       fake_bn=False   QuantConv2d → BatchNorm2d → ReLU
                                      fake_bn=True    QuantConv2d (BatchNorm inside) → Identity → ReLU

Everything is planned and made first and put into the network last: after an error it is as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from fewbit.errors import AlreadyQuantized, FewbitWarning, UnsupportedModel, UsageError
from fewbit.torch.bind import bind
from fewbit.torch.blocks import BLOCKS, collect_quantized_blocks
from fewbit.torch.converters import Converter, LayerConverter, NormConverter, quant_type_of
from fewbit.torch.layers import QUANT_LAYERS
from fewbit.torch.pairs import Pairs, find_pairs
from fewbit.torch.reads import LAYERS, NORMS
from fewbit.torch.report import is_heavy, note
from fewbit.torch.tree import check_net, computed_weight, own_forward, selected, some, swap
from fewbit.torch.words import own_words

HOOKS = (
    "_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook",
)  # fmt: skip


@dataclass
class _Plan:
    """What is going to happen.

    Args:
        jobs: module → what makes its successor. notes: name → why it stays, for the report.
        forced: names of layers that stay though nobody asked for it. taken: BatchNorms that a layer must take.
    """

    names: dict[nn.Module, str]
    jobs: dict[nn.Module, Converter] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    forced: list[str] = field(default_factory=list)
    taken: list[nn.Module] = field(default_factory=list)


@own_words
def convert_model(
    net: nn.Module,
    exclude: Iterable[nn.Module | str] = (),
    convert_fn: Mapping[type[nn.Module], Converter | None] | None = None,
    custom_fn: Mapping[nn.Module | str, Converter | None] | None = None,
    *,
    weight_width: int = 8,
    input_width: int = 8,
    quant_type: str = "channel",
    quantize_input: bool = True,
    input_signed: bool = False,
    fake_bn: bool | str = False,
    wino_quantize: str = "none",
    ste: str = "plain",
    learned: bool = False,
    momentum: float = 0.9,
    sample: Any = None,
) -> nn.Module:
    """Quantize every convolution and Linear, in place, and bind fewbit's methods to the network.

    What stays float, and why, is told by `net.quantization_report()`.

    Args:
        exclude: what stays as it is, with all that is inside: names, globs ("layer4.*") or modules.
        convert_fn: type → function that makes the successor of a module; None leaves modules of this type alone. The
            nearest type of a module's class counts; others than these get the default for layers.
        custom_fn: the same for single modules, by name, glob or object; goes before `exclude` and `convert_fn`.
        weight_width, input_width, quant_type, quantize_input, input_signed, fake_bn, wino_quantize, ste, learned,
            momentum: the default for layers, see `LayerConverter`.
        sample: what forward takes, one batch; needed for `fake_bn` where forward cannot be traced.

    Returns:
        The same network; a network that is itself a layer cannot be replaced in place: its successor.

    Raises:
        UsageError: nothing can be converted, or a converter gives no module.
        UnknownName: `exclude` or `custom_fn` names something that is not there.
        ConfigError: a setting is out of range.
        AlreadyQuantized: there are quantized layers already that are not excluded.
        UnsupportedModel: the network cannot be changed in place; a BatchNorm that has to be taken cannot be.
    """
    default = LayerConverter(
        weight_width, input_width, quant_type, quantize_input, input_signed, fake_bn, wino_quantize, ste, learned,
        momentum,
    )  # fmt: skip
    check_net(net)
    excluded = selected(net, exclude, "module to exclude")
    _check_unquantized(net, excluded)
    plan = _plan(net, excluded, _table(default, convert_fn or {}), _custom(net, custom_fn or {}))
    pairs = _pairs(net, plan, excluded, sample)
    new = _made(plan, {p.layer: p.norm for p in pairs.found})
    if not new:
        why = some(f"{name or 'the network itself'}: {why}" for name, why in plan.notes.items())
        raise UsageError(f"nothing in this {type(net).__name__} can be converted ({'; '.join(why) or 'no layers'})")

    for old, made in new.items():
        _keep_hooks(old, made)
    swap(net, new | {p.norm: nn.Identity() for p in pairs.found})
    net = new.get(net, net)
    _leave_fast_path(net)
    note(net, plan.notes | {name: f"not taken in: {why}" for name, why in pairs.left.items()})
    bind(net)
    if plan.forced:
        told = (f"{name or 'the network itself'} ({plan.notes[name]})" for name in plan.forced)
        warnings.warn(FewbitWarning("stays float: " + "; ".join(some(told))), stacklevel=3)
    return net


def _check_unquantized(net: nn.Module, excluded: set[nn.Module]) -> None:
    there = [name for name, m in collect_quantized_blocks(net) if m not in excluded]
    if there:
        raise AlreadyQuantized(
            f"{', '.join(n or 'the network' for n in some(there))}: quantized already; convert a network once, with "
            "convert_fn and custom_fn for what differs, or exclude what is done"
        )


def _table(default: Converter, own: Mapping[type[nn.Module], Converter | None]) -> dict[type, Converter | None]:
    """Type → converter: the default for layers, and the caller's over it."""
    for kind, fn in own.items():
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise UsageError(f"convert_fn has the key {kind!r}; keys are types of modules, as torch.nn.Conv2d")
        _check_function(fn, f"convert_fn[{kind.__name__}]")
    return dict.fromkeys(QUANT_LAYERS, default) | dict(own)


def _custom(net: nn.Module, own: Mapping[nn.Module | str, Converter | None]) -> dict[nn.Module, Converter | None]:
    found: dict[nn.Module, Converter | None] = {}
    for key, fn in own.items():
        _check_function(fn, f"custom_fn[{key if isinstance(key, str) else type(key).__name__}]")
        found |= dict.fromkeys(selected(net, [key], "module in custom_fn", inside=False), fn)
    return found


def _check_function(fn: Any, where: str) -> None:
    if fn is not None and not callable(fn):
        raise UsageError(f"{where} is {fn!r}; it must be a function from module to module, or None to leave it alone")


def _plan(
    net: nn.Module,
    excluded: set[nn.Module],
    table: Mapping[type, Converter | None],
    custom: Mapping[nn.Module, Converter | None],
) -> _Plan:
    plan = _Plan({m: name for name, m in net.named_modules()})
    done: set[nn.Module] = set()
    for m, name in plan.names.items():
        if m in done or isinstance(m, BLOCKS):
            done.update(m.modules())
            continue
        kind = next((t for t in type(m).__mro__ if t in table), None)
        if m in custom:
            fn, said = custom[m], "left to itself by custom_fn"
        elif m in excluded:
            fn, said = None, "excluded"
        elif kind is not None:
            fn, said = table[kind], "left to itself by convert_fn"
        else:
            fn, said = None, f"there is no quantized form of {type(m).__name__}" if is_heavy(m) else ""
            if said and not isinstance(m, nn.Embedding | nn.EmbeddingBag):
                plan.forced.append(name)
        if isinstance(fn, NormConverter):
            plan.taken.append(m)
        elif isinstance(fn, LayerConverter) and (why := _cannot(m)):
            plan.notes[name] = why
            plan.forced.append(name)
        elif fn is not None:
            plan.jobs[m] = fn
        elif said and (kind is not None or m in custom or is_heavy(m)):
            plan.notes[name] = said
        if fn is not None or isinstance(m, LAYERS + NORMS):
            done.update(m.modules())
    return plan


def _cannot(module: nn.Module) -> str:
    """Why a layer has to stay as it is, or ""."""
    if isinstance(module, NonDynamicallyQuantizableLinear):
        return "the attention around it reads its weight past its forward"
    if quant_type_of(module) is None:
        return ""  # the converter says that it is not for this type
    if why := computed_weight(module):
        return why
    if changed := own_forward(module):
        return f"{type(module).__name__} has a {changed} of its own, which {quant_type_of(module).__name__} would lose"
    return ""


def _pairs(net: nn.Module, plan: _Plan, excluded: set[nn.Module], sample: Any) -> Pairs:
    """The BatchNorms that layers take."""
    takers = {m for m, fn in plan.jobs.items() if isinstance(fn, LayerConverter) and fn.fake_bn}

    def refuse(layer: nn.Module) -> str:
        return "" if layer in takers else f"{plan.names[layer]} is converted without fake_bn, or not at all"

    pairs = find_pairs(net, sample, exclude=excluded, refuse=refuse) if takers or plan.taken else Pairs((), {})
    for norm in plan.taken:
        name = plan.names[norm]
        if name in pairs.left or not isinstance(norm, NORMS):
            why = pairs.left.get(name, f"{type(norm).__name__} is no BatchNorm")
            raise UnsupportedModel(f"{name} cannot be taken into a layer: {why}. Leave it out of gen_bn_converter")
    return pairs


def _made(plan: _Plan, norms: Mapping[nn.Module, nn.Module]) -> dict[nn.Module, nn.Module]:
    """Old → new module, for those that change."""
    new = {}
    for m, fn in plan.jobs.items():
        made = fn(m, norms[m]) if isinstance(fn, LayerConverter) and m in norms else fn(m)
        if made is None or made is m:
            plan.notes[plan.names[m]] = "left as it is by its converter" if made is None else "changed by its converter"
        elif isinstance(made, nn.Module):
            new[m] = made
        else:
            raise UsageError(f"the converter of {plan.names[m]!r} gave {made!r}; it must give a module, or None")
    return new


def _keep_hooks(old: nn.Module, new: nn.Module) -> None:
    """Hooks stay, in the same tables, so that their handles still remove them."""
    for table in HOOKS:
        if getattr(old, table, None):
            new.__dict__[table] = old.__dict__[table]


def _leave_fast_path(net: nn.Module) -> None:
    """PyTorch's encoder would, in evaluation, read the weights of its Linears and compute past them, in float."""
    for m in net.modules():
        if isinstance(m, nn.TransformerEncoderLayer) and _has_blocks(m):
            m.activation_relu_or_gelu = 0
        if isinstance(m, nn.TransformerEncoder) and _has_blocks(m):
            m.use_nested_tensor = False


def _has_blocks(module: nn.Module) -> bool:
    return any(isinstance(m, BLOCKS) for m in module.modules())
