"""Put the quantizers of a plan into a traced network.

    x → conv → bn → relu → y      ⇒      x → [Q] → QuantConv(bn inside) → relu → [Q] → y

Where the ONNX form will have a QuantizeLinear, the traced network has an `ActQuantizer`; the layers that will be
integer become layers whose weights are rounded on every forward. Who reads a value that an integer node makes reads the
rounded one; else only integer readers do: what the engine will see is what training sees.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from fewbit.core.plan import NodePlan, Plan
from fewbit.core.spec import QuantSpec
from fewbit.graph.model import Model
from fewbit.torch.engine import MOST_BITS, integer_add
from fewbit.torch.follower import Follower
from fewbit.torch.layers import QUANT_LAYERS
from fewbit.torch.prepared import KEY, Prepared, PreparedNetwork
from fewbit.torch.quantizer import ActQuantizer, WeightQuantizer
from fewbit.torch.sites import PREFIX, Sites, same_weight, users, weight_of
from fewbit.torch.trace import conv_bn_pairs, free_name, insert_module

MOVES = frozenset(
    "MaxPool Reshape Flatten Transpose Squeeze Unsqueeze Slice Split Gather Identity Expand DepthToSpace".split()
)
"""Operators that hand on rounded values as they are: rounding them again would change nothing."""


ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
"""What a sum is in a traced network."""


def place(graph: fx.GraphModule, sites: Sites, plan: Plan, *, learned: bool, ste: str, fake_bn: str) -> fx.GraphModule:
    """Put quantizers into a traced network.

    Args:
        graph: traced, without quantizers; what comes back takes its parts.
        sites: where the parts of the plan's network lie in it.
        plan: calibrated, and placeable.
        learned: steps are parameters (LSQ); else ranges follow the data.
        ste: straight-through estimator, see `fewbit.torch.rounding`. fake_bn: see `fewbit.torch.layers`.
    """
    nodes = {n.name: n for n in graph.graph.nodes}
    layers = _layers(graph, nodes, sites, plan, learned, "lsq" if learned else ste, fake_bn)
    ends = nodes | {conv.name: bn for conv, bn in conv_bn_pairs(graph)}  # of pairs that stay float
    quantizers = _activations(graph, ends, sites, plan, learned, "lsq" if learned else ste)
    prepared = Prepared(plan, learned, ste, fake_bn, quantizers, layers)
    makers = _made_by(sites.model, plan)
    _hand_scales(graph, nodes, sites, makers, prepared)
    _integer_sums(graph, nodes, sites, makers, prepared)
    graph.graph.lint()
    net = PreparedNetwork(graph, graph.graph, type(graph).__name__)
    net.meta[KEY] = prepared  # attributes do not go along into deep copies
    return net


def _activations(
    graph: fx.GraphModule, nodes: Mapping[str, fx.Node], sites: Sites, plan: Plan, learned: bool, ste: str
) -> dict[str, str]:
    """Quantizers behind values; returns group → name of the module."""
    makers = {str(v.name): n for n in sites.model.nodes for v in n.outputs}
    readers, integer = users(plan, sites.model)
    names: dict[str, str] = {}
    wanted = [k for k, v in plan.values.items() if v.role == "act" and not _moved(makers.get(k), plan)]
    several, folder = Counter(plan.values[k].group for k in wanted), free_name(graph, PREFIX)
    for name in sorted(wanted, key=lambda k: plan.values[k].group != k):
        value, node = plan.values[name], nodes[sites.values[name]]
        # what an integer node makes, everybody reads rounded
        asking = None if name in integer else {sites.nodes[n] for n in readers.get(name, ())}
        found = _readers(node, asking, sites.passing)
        if not found and not _feeds_output(node):
            continue
        if value.group not in names:
            names[value.group] = f"{folder}.{node.name}"
            module: nn.Module = _quantizer(plan, value.group, learned, ste, _device(graph), several[value.group] == 1)
            where = names[value.group]
        else:
            module, where = Follower(graph.get_submodule(names[value.group])), f"{folder}.{node.name}_too"
        new = insert_module(graph, where, module.train(graph.training), behind=node)
        for user, through in found:
            user.replace_input_with(through, new)
    return names


def _moved(maker: Any, plan: Plan) -> bool:
    """Whether a value holds nothing but rounded values that were moved."""
    verdict = plan.nodes.get(str(maker.name)) if maker is not None else None
    return verdict is not None and verdict.quantized and "same" in verdict.outputs and maker.op_type in MOVES


def _readers(node: fx.Node, readers: set[str] | None, passing: frozenset[str]) -> list[tuple[fx.Node, fx.Node]]:
    """Who is to read the rounded value, and through which node it reads the value now.

    Args:
        readers: names of those that read integers; None: everybody. passing: nodes that hand on what they read.
    """
    found = []
    for user in node.users:
        if readers is None or user.name in readers:
            found.append((user, node))
        elif user.name in passing:
            behind = _readers(user, readers, passing)
            every = len(behind) == len(user.users) and all(through is user for _, through in behind)
            found += [(user, node)] if every else behind
    return found


def _feeds_output(node: fx.Node) -> bool:
    return any(u.op == "output" for u in node.users)


def _device(graph: nn.Module) -> torch.device:
    first = next((p for p in (*graph.parameters(), *graph.buffers())), None)
    return first.device if first is not None else torch.device("cpu")


def _quantizer(plan: Plan, group: str, learned: bool, ste: str, device: torch.device, tracks: bool) -> ActQuantizer:
    """A quantizer with the range of the plan; constants and groups of several values keep it, or learn it."""
    value = plan.values[group]
    assert value.lo is not None and value.hi is not None
    made = ActQuantizer(value.spec, ste=ste, learned=learned, average="batch").to(device)
    made.set_range(value.lo, value.hi)
    made.observing = made.tracking = tracks and not learned and value.observe
    return made


def _layers(
    graph: fx.GraphModule, nodes: Mapping[str, fx.Node], sites: Sites, plan: Plan, learned: bool, ste: str, fake_bn: str
) -> dict[str, tuple[str, ...]]:
    """Layers with rounded weights; returns name of the module → nodes of the ONNX graph that it became."""
    behind = dict(conv_bn_pairs(graph))
    weights: dict[str, WeightQuantizer] = {}
    layers: dict[str, tuple[str, ...]] = {}
    for onnx_node in sites.model.nodes:
        name = str(onnx_node.name)
        verdict, layer = plan.nodes.get(name), sites.layer(name)
        if verdict is None or not verdict.quantized or layer is None or "weight" not in verdict.roles:
            continue
        call = nodes[sites.nodes[name]]
        layers[str(call.target)] = (*layers.get(str(call.target), ()), name)
        module = graph.get_submodule(call.target)
        if type(module) not in QUANT_LAYERS:  # called twice
            continue
        key = plan.weight_key(weight_of(sites.model, name)[0], name)
        assert key is not None
        if key not in weights:
            spec = layer_spec(plan.values[key].spec, sites.model, name, layer)
            weights[key] = WeightQuantizer(spec, tuple(module.weight.shape), ste=ste, learned=learned)
            weights[key].to(module.weight.device)
        bn = behind.get(call)
        made = QUANT_LAYERS[type(module)].from_float(
            module, weights[key], None, graph.get_submodule(bn.target) if bn is not None else None, fake_bn
        )
        graph.set_submodule(call.target, made)
        if bn is not None:
            bn.replace_all_uses_with(call)
            graph.graph.erase_node(bn)
            graph.delete_submodule(bn.target)
    return layers


def layer_spec(spec: QuantSpec, model: Model, node: str, layer: nn.Module, turned: bool | None = None) -> QuantSpec:
    """The format of a weight in the layer's own axes, or the other way around.

    Args:
        turned: the ONNX weight is the layer's, transposed (default: looked up).
    """
    if spec.granularity == "tensor":
        return spec
    assert spec.axis is not None
    turned = same_weight(model, node, layer) if turned is None else turned
    rank = len(layer.weight.shape)
    return replace(spec, axis=1 - spec.axis % rank if turned else spec.axis % rank)


def _hand_scales(
    graph: fx.GraphModule, nodes: Mapping[str, fx.Node], sites: Sites, makers: Mapping[str, str], prepared: Prepared
) -> None:
    """Hand each layer the scale of its input, which its bias is rounded with, and that of what it puts out."""
    model, plan = sites.model, prepared.plan
    for name in (n for several in prepared.layers.values() for n in several):
        x = model.node(name).inputs[0]
        ends = {"input_scale": str(x.name) if x is not None else "", "output_scale": makers.get(name, "")}
        groups = {word: plan.values[v].group for word, v in ends.items() if v in plan.values}
        narrow = all(plan.values[g].spec.bits <= MOST_BITS for g in groups.values())
        narrow &= _adds_integers(graph, nodes[sites.nodes[name]], plan.nodes[name])
        call = nodes[sites.nodes[name]]
        graph.get_submodule(call.target).round_bias = narrow
        with graph.graph.inserting_before(call):
            call.kwargs = {
                word: graph.graph.get_attr(prepared.quantizers[group])
                for word, group in groups.items()
                if narrow and group in prepared.quantizers
            }


def _adds_integers(graph: fx.GraphModule, call: fx.Node, verdict: NodePlan) -> bool:
    """Whether the bias is added as an integer, if there is one; behind a MatMul it is a float sum of its own."""
    layer = graph.get_submodule(str(call.target))
    return "bias" in verdict.roles or (layer.bias is None and layer.bn is None)


def _integer_sums(
    graph: fx.GraphModule, nodes: Mapping[str, fx.Node], sites: Sites, makers: Mapping[str, str], prepared: Prepared
) -> None:
    """Let sums of two rounded values round as engines do."""
    plan = prepared.plan
    for node in sites.model.nodes:
        call, name = nodes.get(sites.nodes[str(node.name)]), str(node.name)
        if node.op_type != "Add" or name not in makers or call is None:
            continue
        if call.target not in ADDS or len(call.args) != 2:
            continue
        values = [*(str(v.name) for v in node.inputs if v is not None), makers[name]]
        groups = [plan.values[v].group for v in values if v in plan.values]
        narrow = all(plan.values[g].spec.bits <= MOST_BITS and g in prepared.quantizers for g in groups)
        if len(groups) != 3 or not narrow or not all(isinstance(a, fx.Node) for a in call.args):
            continue
        with graph.graph.inserting_before(call):
            parts = [graph.graph.get_attr(prepared.quantizers[g]) for g in groups]
        call.op, call.target, call.args = "call_function", integer_add, (*call.args, *parts)
        call.meta["is_wrapped"] = True  # traced anew, as pickle does, it stays one step


def _made_by(model: Model, plan: Plan) -> dict[str, str]:
    """Node → the value of the plan that it makes, itself or through what it absorbs."""
    found: dict[str, str] = {}
    for node in model.nodes:
        verdict = plan.nodes.get(str(node.name))
        if verdict is None or not verdict.quantized or not plan.rounds_output(str(node.name)):
            continue
        for out in node.outputs:
            if str(out.name) in plan.values:
                found[verdict.absorbed_by or str(node.name)] = str(out.name)
    return found
