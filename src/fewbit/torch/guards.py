"""Looks at what prepare and export are given, before anything is done: each error names it and says what to do."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._pytree import tree_leaves

from fewbit.errors import AlreadyQuantized, ConfigError, FewbitError, ModelError, UnsupportedModel, UsageError, one_of
from fewbit.torch.blocks import BLOCKS
from fewbit.torch.fake_bn import WAYS
from fewbit.torch.prepared import holders, standalone
from fewbit.torch.quantizer import ActQuantizer, WeightQuantizer
from fewbit.torch.reads import LAYERS
from fewbit.torch.rounding import FIXED, STES
from fewbit.torch.scales import Scales
from fewbit.torch.trace import copied, tensors
from fewbit.torch.tree import check_net, computed_weight, reason

NEAR = 1e-3
"""Difference between a network and its traced form, relative to the largest output, that may come from rounding."""


def check_words(learned: Any, ste: str, fake_bn: str) -> None:
    """Refuse words of `prepare` that mean nothing."""
    if learned is not None and not isinstance(learned, bool):
        raise ConfigError(f"learned is {learned!r}; it must be True, False or None (by the number of bits)")
    if ste == "lsq" and learned is not True:
        raise ConfigError("ste 'lsq' goes with learned=True: it is the gradient of a learned scale")
    one_of("ste", ste, STES if learned is True else FIXED)
    one_of("fake_bn", fake_bn, WAYS)


def check_float(net: nn.Module) -> None:
    """Refuse what is no float network of plain weights.

    Raises:
        UsageError: no network. AlreadyQuantized: prepared or converted.
        UnsupportedModel: weights that are not there, not float32, or computed.
    """
    check_net(net)
    done = next((k for k, m in net.named_modules() if isinstance(m, (*BLOCKS, ActQuantizer, WeightQuantizer))), None)
    if done is not None:
        raise AlreadyQuantized(
            f"{done or 'the network'} is quantized already; prepare the float network that it was made from (to change "
            "settings, prepare that anew and load the weights)"
        )
    for name, t in (*net.named_parameters(), *net.named_buffers()):
        if t.is_meta:
            raise UnsupportedModel(f"{name} is on the device 'meta', where tensors hold no numbers; load weights first")
    _check_float32(net, "net.float() makes it so; train it with autocast if it is to be fast")
    for name, m in net.named_modules():
        if isinstance(m, LAYERS) and "weight" not in m._parameters and not is_parametrized(m):
            raise UnsupportedModel(f"layer {name or type(m).__name__!r}: {computed_weight(m)}")


def _check_float32(net: nn.Module, hint: str) -> None:
    for name, t in (*net.named_parameters(), *net.named_buffers()):
        if (t.is_floating_point() or t.is_complex()) and t.dtype != torch.float32:
            kind = str(t.dtype).removeprefix("torch.")
            raise UnsupportedModel(f"{name} is {kind}; networks are simulated from float32: {hint}")


def check_prepared(net: nn.Module) -> None:
    """Refuse to export what lost its numbers.

    Raises:
        UnsupportedModel: not float32. ModelError: NaN or infinity.
    """
    _check_float32(net, "call net.float() before export")
    observed = {id(b) for q in net.modules() if isinstance(q, Scales) for k, b in q.named_buffers() if "batch" in k}
    for name, t in (*net.named_parameters(), *net.named_buffers()):
        if t.is_floating_point() and id(t) not in observed and not bool(torch.isfinite(t).all()):
            raise ModelError(f"{name} holds NaN or infinity: the training diverged; go back to a state before that")


def no_plan(net: nn.Module) -> UsageError | None:
    """The error for a network that holds a prepared one, or is one that lost its plan."""
    if inner := [name for name in holders(net) if name]:
        where = inner[0] if inner[0].isidentifier() else f"get_submodule({inner[0]!r})"
        return UsageError(
            f"the prepared network is a part of this {type(net).__name__}: export(net.{where}, sample), with what that "
            "part takes as sample"
        )
    if standalone(net):
        return UsageError(
            f"this {type(net).__name__} holds quantizers of prepare, and not its plan; prepare the float network "
            "again, load_state_dict what was trained, and export that"
        )
    return None


def check_sample(net: nn.Module, inputs: Sequence[Any]) -> None:
    """Refuse a sample that cannot be one, by its shape and type."""
    name = type(net).__name__
    try:
        inspect.signature(net.forward).bind(*inputs)
    except TypeError as e:
        raise UsageError(f"sample holds {len(inputs)} inputs, and forward of {name} wants others: {e}") from e
    given = [(i, x) for i, x in enumerate(inputs) if isinstance(x, Tensor)]
    for i, x in given:
        which = f"input {i} of the sample" if len(inputs) > 1 else "sample"
        if x.dim() and not x.numel():
            raise UsageError(f"{which} has the shape {tuple(x.shape)}: it holds no sample; one or more are needed")
        if x.is_floating_point() and x.dtype != torch.float32:
            kind = str(x.dtype).removeprefix("torch.")
            raise UsageError(f"{which} is {kind}; networks are simulated in float32: give it as .float()")
    if not any(x.dim() for _, x in given):
        raise UsageError("sample is a tensor without axes; the first axis counts samples")


def answers(net: nn.Module, inputs: Sequence[Any]) -> list[Any]:
    """What the network answers in evaluation, on the CPU; it is left as it is, and so are random numbers.

    Raises:
        UsageError: it cannot take that.
    """
    return _run(copied(net).cpu().eval(), type(net).__name__, inputs)


def _run(net: nn.Module, name: str, inputs: Sequence[Any]) -> list[Any]:
    own = [x.detach().cpu().clone() if isinstance(x, Tensor) else x for x in inputs]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return tree_leaves(net(*own))
    except FewbitError:
        raise
    except Exception as e:  # whatever forward raises
        shapes = ", ".join(
            f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}" if isinstance(x, Tensor) else repr(x)
            for x in inputs
        )
        raise UsageError(f"{name} cannot take this sample ({shapes}): {reason(e)}") from e


def check_trace(net: nn.Module, graph: fx.GraphModule, inputs: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Compare a network with its traced form, and note the shapes in that.

    Args:
        graph: each of its nodes gets `tensor_meta`. wanted: what `answers` gave for the network.

    Raises:
        UnsupportedModel: they differ.
    """
    probe = copy.deepcopy(graph).cpu().eval()
    found = _run(probe, type(net).__name__, inputs)
    same = len(found) == len(wanted) and all(_near(a, b) for a, b in zip(found, wanted, strict=True))
    if not same:
        raise UnsupportedModel(
            f"{type(net).__name__}, traced, does not answer what the network itself answers on the sample: forward "
            "does something that a trace does not see (hooks, stored values, writing into tensors). Convert its "
            "layers one by one instead: fewbit.torch.convert_model"
        )
    tensors(probe, [x.detach().cpu() if isinstance(x, Tensor) else x for x in inputs])
    for node, shaped in zip(graph.graph.nodes, probe.graph.nodes, strict=True):
        if "tensor_meta" in shaped.meta:
            node.meta["tensor_meta"] = shaped.meta["tensor_meta"]


def _near(a: Any, b: Any) -> bool:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        return isinstance(a, Tensor) == isinstance(b, Tensor)
    if a.shape != b.shape:
        return False
    if not (a.is_floating_point() and b.is_floating_point()):
        return True
    most = float(b.abs().nan_to_num(posinf=0.0).max()) if b.numel() else 0.0
    return torch.allclose(a, b, rtol=NEAR, atol=NEAR * most, equal_nan=True)
