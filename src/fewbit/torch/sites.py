"""Where the values and nodes of an exported ONNX graph lie in the traced network that it came from.

    traced:  x → conv → bn → relu → add          plain form: BatchNorm folded, no quantizers, every node marked
    ONNX:    x → Conv → Relu → Add               values: Conv's output is `conv`; nodes: Relu is `relu` …

The plain form is the same before quantizers are put in and after training, so that a plan made for one fits the other.
"""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from fewbit.core.plan import Plan
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Array, Model, const
from fewbit.graph.places import weight_places
from fewbit.graph.rules.affine import BATCHNORM_BEFORE, SCALE, SCALE_BEFORE
from fewbit.graph.rules.shift import SHIFT
from fewbit.torch.engine import integer_add
from fewbit.torch.follower import Follower
from fewbit.torch.layers import QUANT_LAYERS
from fewbit.torch.onnx import Mark, to_onnx
from fewbit.torch.quantizer import ActQuantizer
from fewbit.torch.trace import BATCHNORMS, conv_bn_pairs, free_name, has_hooks, insert_module, tensors
from fewbit.torch.tree import computed_weight

KEPT_APART = (BATCHNORM_BEFORE, SCALE, SCALE_BEFORE, SHIFT)
"""Rewrites that would merge into a weight what is trained beside it."""

CONSTANTS = {0.0: 1e-30, 1.0: float(np.nextafter(np.float32(1), np.float32(2)))}
"""Numbers that exporting and fusing look out for → numbers next to them that say the same."""

PREFIX = "quantizers"
"""Folder of the quantizers that stand between layers, if the network has no part of that name."""

MADE_FROM = {quantized: plain for plain, quantized in QUANT_LAYERS.items()}


@dataclass(frozen=True)
class Sites:
    """An exported network, fused, and where its parts lie in the traced one.

    Args:
        model: the float network in ONNX. values: ONNX value → traced node. nodes: ONNX node → traced node.
        passing: traced nodes that are nothing in ONNX, such as Identity, and Dropout in evaluation.
        graph: the plain form; its modules hold the weights that `model` holds.
    """

    model: Model
    values: Mapping[str, str]
    nodes: Mapping[str, str]
    passing: frozenset[str]
    graph: fx.GraphModule

    def layer(self, node: str) -> nn.Module | None:
        """The module that an ONNX node computes, if it is one that can be quantized."""
        module, _ = self.module(node)
        return module if type(module) in QUANT_LAYERS else None

    def module(self, node: str) -> tuple[nn.Module | None, Any]:
        """The module that an ONNX node lies in, and the traced node that calls it; None for functions."""
        place = self.nodes.get(node)
        found = next((n for n in self.graph.graph.nodes if n.name == place), None)
        inside = found is not None and found.op == "call_module"
        return (self.graph.get_submodule(str(found.target)) if inside and found is not None else None), found


def find_sites(graph: fx.GraphModule, sample: Sequence[Any]) -> Sites:
    """Export the plain form of a traced network.

    Args:
        graph: traced, with or without quantizers; it is left as it is. sample: what forward takes.
    """
    sample = [x.detach().cpu() if isinstance(x, Tensor) else x for x in sample]
    plain = copy.deepcopy(graph).cpu()
    tensors(plain, sample)
    plain_form(plain)
    plain.__class__.__name__ = type(graph).__name__  # each has a class of its own
    clean = copy.deepcopy(plain)
    _unlike_constants(plain)
    names = [str(n.target) for n in plain.graph.nodes if n.op == "placeholder"]
    order = tensors(plain, sample)
    labels, folder = labels_of(plain), free_name(plain, "marks")
    for node in order:
        mark = insert_module(plain, f"{folder}.{node.name}", Mark(labels[node.name]), behind=node)
        node.replace_all_uses_with(mark, delete_user_cb=lambda user, mark=mark: user is not mark)
    plain.recompile()
    found = to_onnx(plain, sample, names[: len(sample)])
    model = fuse(found.model, without=KEPT_APART)
    _as_they_were(model)
    _name_weights(model)
    values: dict[str, str] = {}
    passing = set()
    for node in order:
        value = found.values.get(labels[node.name])
        if value is not None and values.setdefault(value, node.name) != node.name:
            passing.add(node.name)
    places = {label: name for name, label in labels.items()}
    owners = {n: places[label] for n, label in found.owners.items()}
    nodes = {str(n.name): owners.get(str(n.name)) or values.get(str(n.outputs[0].name), "") for n in model.nodes}
    return Sites(model, values, nodes, frozenset(passing), clean)


def _unlike_constants(plain: nn.Module) -> None:
    """Let no parameter be all 0 or all 1: what adds 0 or multiplies by 1 is optimized away, until it is trained."""
    for p in plain.parameters():
        if p.is_floating_point() and p.numel():
            for value, instead in CONSTANTS.items():
                if bool((p.detach() == value).all()):
                    p.data = torch.full_like(p, instead)


def _as_they_were(model: Model) -> None:
    for name, value in list(model.graph.initializers.items()):
        data = const(value)
        for was, instead in CONSTANTS.items():
            if data is not None and data.dtype == np.float32 and data.size and (data == np.float32(instead)).all():
                model.set_weight(str(name), np.full_like(data, was))


def _name_weights(model: Model) -> None:
    """Name weights after the first node that reads them; one that two layers share comes under either name."""
    done, taken = set[str](), model.names()
    for node in model.nodes:
        for place in weight_places(node)[:1]:
            value = node.inputs[place.index]
            name = f"{node.name}.weight"
            if value is None or str(value.name) in done:
                continue
            if value.name != name and name not in taken:
                value.name = name
                taken.add(name)
            done.add(str(value.name))


def labels_of(graph: fx.GraphModule) -> dict[str, str]:
    """What each traced node is called outside: a module that is called once by its path, all else by its own name."""
    calls = Counter(n.target for n in graph.graph.nodes if n.op == "call_module")
    paths = {n.name: str(n.target) for n in graph.graph.nodes if n.op == "call_module" and calls[n.target] == 1}
    others = {n.name for n in graph.graph.nodes} - paths.keys()
    return {n.name: p if (p := paths.get(n.name)) and p not in others else n.name for n in graph.graph.nodes}


def plain_form(plain: fx.GraphModule) -> None:
    """Take the quantizers out, in place, and fold every BatchNorm behind a layer that can take it into that.

    Args:
        plain: after `tensors`.
    """
    plain.eval()
    modules = dict(plain.named_modules())
    tied: dict[int, nn.Parameter] = {}
    for node in list(plain.graph.nodes):
        module = modules.get(node.target) if node.op == "call_module" else None
        if node.target is integer_add:
            node.target, node.args = operator.add, node.args[:2]
        elif isinstance(module, ActQuantizer | Follower):
            node.replace_all_uses_with(node.args[0])
            plain.graph.erase_node(node)
        elif module is not None and type(module) in MADE_FROM:
            node.args, node.kwargs = node.args[:1], {}
            new = float_layer(module)
            if module.bn is None:  # tied weights stay tied
                new.weight = tied.setdefault(id(module.weight), new.weight)
            plain.set_submodule(node.target, new)
    for conv, bn in conv_bn_pairs(plain):
        layer = plain.get_submodule(conv.target)
        taking = QUANT_LAYERS[type(layer)].from_float(layer, None, None, modules[bn.target], "running")
        plain.set_submodule(conv.target, float_layer(taking))
        bn.replace_all_uses_with(conv)
        plain.graph.erase_node(bn)
    plain.graph.eliminate_dead_code()  # scales that were handed to layers
    plain.delete_all_unused_submodules()
    plain.recompile()


def float_layer(layer: nn.Module) -> nn.Module:
    """The plain layer whose weight, BatchNorm folded, is what a layer of ours rounds."""
    new = copy.deepcopy(layer)
    new.__class__ = MADE_FROM[type(layer)]
    weight, bias = layer.folded()
    new.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    new.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
    for name in list(new._modules):
        delattr(new, name)
    return new


def unplaceable(plan: Plan, sites: Sites) -> dict[str, str]:
    """Quantized nodes whose formats have no place in the traced network → why."""
    found: dict[str, str] = {}
    readers, makers = users(plan, sites.model)
    for name, value in plan.values.items():
        if value.role != "act" or name in sites.values:
            continue
        for user in readers.get(name) or makers.get(name) or ():
            found.setdefault(user, f"value {name!r}, which it needs as integers, lies inside of {_inside(sites, user)}")
    for node in sites.model.nodes:
        verdict = plan.nodes.get(str(node.name))
        if verdict is None or not verdict.quantized or verdict.absorbed_by or "weight" not in verdict.roles:
            continue
        name, layer = str(node.name), sites.layer(str(node.name))
        if layer is None:
            found[name] = _no_layer(sites, name)
        elif sum(role == "weight" for role in verdict.roles) > 1 or same_weight(sites.model, name, layer) is None:
            found[name] = _merged(sites, name) or "its weight is not the layer's own"
    return found


def _inside(sites: Sites, node: str) -> str:
    """The place that an ONNX node lies in."""
    module, call = sites.module(node)
    if module is not None and has_hooks(module):
        return f"{str(call.target)!r}, to which a hook is attached"
    return repr(sites.nodes.get(node) or "forward")


def _no_layer(sites: Sites, node: str) -> str:
    """Why the weight of an ONNX node is none that could be rounded."""
    module, _ = sites.module(node)
    if isinstance(module, tuple(QUANT_LAYERS)) and (why := computed_weight(module)):
        return why
    return f"its weight is not that of a layer that can be trained: {', '.join(t.__name__ for t in QUANT_LAYERS)}"


def _merged(sites: Sites, node: str) -> str:
    """The BatchNorm that ends up in the weight of an ONNX node, though no layer could take it; or ""."""
    modules, call = dict(sites.graph.named_modules()), sites.module(node)[1]
    while call is not None and len(call.users) == 1:
        (call,) = call.users
        module = modules.get(str(call.target)) if call.op == "call_module" else None
        if isinstance(module, BATCHNORMS):
            return (
                f"BatchNorm {str(call.target)!r} ends up in its weight when exported, and not when trained: a layer "
                "takes in the one that stands directly behind it, and alone reads it"
            )
        if call.op == "call_module" and not isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd):
            return ""
    return ""


def users(plan: Plan, model: Model) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Value → quantized nodes that read it as an integer; value → the node that makes it, if all read it rounded."""
    readers: dict[str, list[str]] = {}
    makers: dict[str, list[str]] = {}
    for node in model.nodes:
        verdict = plan.nodes.get(str(node.name))
        if verdict is None or not verdict.quantized:
            continue
        for out in node.outputs if plan.rounds_output(str(node.name)) else ():
            makers.setdefault(str(out.name), []).append(verdict.absorbed_by or str(node.name))
        for value, role in zip(node.inputs, verdict.roles, strict=False):
            if value is not None and role == "act":
                readers.setdefault(str(value.name), []).append(str(node.name))
    return readers, makers


def weight_of(model: Model, node: str) -> tuple[str, Array]:
    """Name and numbers of the weight that a node of the ONNX graph reads."""
    found = model.node(node)
    value = found.inputs[weight_places(found)[0].index]
    data = const(value)
    assert data is not None and value is not None
    return str(value.name), data


def same_weight(model: Model, node: str, layer: nn.Module) -> bool | None:
    """Whether the ONNX weight is the layer's (False), its transpose (True), or neither (None)."""
    if not weight_places(model.node(node)):
        return None
    data, ours = weight_of(model, node)[1], layer.weight.detach().cpu().numpy()
    if np.array_equal(data, ours):
        return False
    return True if ours.ndim == 2 and np.array_equal(data, ours.T) else None
