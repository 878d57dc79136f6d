"""A network as a graph of its own modules and functions, which quantizers can be put into.

    Net(…).forward: relu(bn(conv(x))) + x        ⇒        x → conv → bn → relu → add

`torch.fx` does it: modules stay the same modules, under the same names, and train as before; functions, operators and
methods become nodes. What forward decides by the values that it sees cannot be traced.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from fewbit.errors import UnsupportedModel
from fewbit.torch.inplace import Tracer, out_of_place
from fewbit.torch.reads import in_mode
from fewbit.torch.tree import computed_weight, reason

DROPOUTS: dict[Any, type[nn.Module]] = {
    F.dropout: nn.Dropout, F.alpha_dropout: nn.AlphaDropout, F.dropout1d: nn.Dropout1d, F.dropout2d: nn.Dropout2d,
    F.dropout3d: nn.Dropout3d, F.feature_alpha_dropout: nn.FeatureAlphaDropout,
}  # fmt: skip

BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def traced(net: nn.Module) -> fx.GraphModule:
    """A traced deep copy of a network, in the mode that the network is in.

    Raises:
        UnsupportedModel: forward cannot be traced, or does something else in training than in evaluation.
    """
    if net._forward_hooks or net._forward_pre_hooks:
        raise UnsupportedModel(
            f"a hook is attached to the {type(net).__name__} itself, which a traced network would lose; remove it, and "
            "attach it to what comes back, or do in forward what it does"
        )
    modes = {name: m.training for name, m in net.named_modules()}
    graphs = {mode: _trace(copied(net).train(mode)) for mode in (True, False)}
    _dropouts_to_modules(graphs[True], graphs[False])
    forms = [[(n.op, str(n.target), str(n.args), str(n.kwargs)) for n in g.graph.nodes] for g in graphs.values()]
    if forms[0] != forms[1]:
        raise UnsupportedModel(
            f"forward of {type(net).__name__} takes another way in training than in evaluation, and a traced network "
            "has one; train it without what is for training only (auxiliary heads), or convert its layers one by one: "
            "fewbit.torch.convert_model"
        )
    found = graphs[True]
    for name, m in found.named_modules():
        m.training = modes.get(name, net.training)
    return found


def copied(net: nn.Module) -> nn.Module:
    """A deep copy.

    Raises:
        UnsupportedModel: it cannot be made.
    """
    try:
        return copy.deepcopy(net)
    except Exception as e:  # whatever the network's own parts raise
        raise UnsupportedModel(f"{type(net).__name__} cannot be copied: {reason(e)}") from e


def _trace(net: nn.Module) -> fx.GraphModule:
    tracer = Tracer()
    try:
        graph = fx.GraphModule(net, tracer.trace(net), type(net).__name__)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError) as e:
        raise UnsupportedModel(
            f"forward of {type(net).__name__} cannot be traced: {reason(e)}. Convert its layers one by one instead: "
            "fewbit.torch.convert_model"
        ) from e
    for node in graph.graph.nodes:
        node.type = None  # hints in forward, which pickle would look for if they are written as text
    out_of_place(graph, tracer.lines)
    return graph


def _dropouts_to_modules(training: fx.GraphModule, evaluation: fx.GraphModule) -> None:
    """Functions of dropout keep the mode in which they were traced; modules follow that of the network.

    Args:
        training, evaluation: the network traced in either mode. What drops in both stays a function, which never
            stops; what drops in none goes.
    """
    both = [[n for n in g.graph.nodes if n.target in DROPOUTS] for g in (training, evaluation)]
    if len(both[0]) != len(both[1]):
        return
    names = [f"dropout_{list(training.graph.nodes).index(n)}" for n in both[0]]
    names = [free_name(training, name) for name in names]
    for graph, found, others in ((training, *both), (evaluation, *both[::-1])):
        flags = [(_flag(n), _flag(o)) for n, o in zip(found, others, strict=True)]
        for node, name, flag in zip(found, names, flags, strict=True):
            p = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
            x = node.args[0] if node.args else node.kwargs["input"]
            if flag == (False, False):
                new = x
            elif set(flag) == {True, False} and isinstance(p, int | float):
                graph.add_submodule(name, DROPOUTS[node.target](p))
                with graph.graph.inserting_before(node):
                    new = graph.graph.call_module(name, (x,))
            else:
                continue
            node.replace_all_uses_with(new)
            graph.graph.erase_node(node)
        graph.recompile()


def _flag(node: fx.Node) -> Any:
    return node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)


def free_name(net: nn.Module, name: str) -> str:
    """The name, or the first one with a number that the network has no use for."""
    found, i = name, 1
    while hasattr(net, found):
        i += 1
        found = f"{name}_{i}"
    return found


def tensors(graph: fx.GraphModule, sample: Sequence[Any]) -> list[fx.Node]:
    """The nodes that give a float tensor, in order.

    Args:
        sample: what forward takes; the network runs on it, in evaluation mode.
    """
    with in_mode(graph, False), torch.no_grad():
        ShapeProp(graph).propagate(*sample)
    return [n for n in graph.graph.nodes if n.op != "output" and _is_float(n.meta.get("tensor_meta"))]


def _is_float(meta: Any) -> bool:
    return isinstance(getattr(meta, "dtype", None), torch.dtype) and meta.dtype.is_floating_point


def conv_bn_pairs(graph: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """Convolutions, and Linear layers over (N, features), each with the BatchNorm that alone reads it.

    Args:
        graph: after `tensors`, which tells the shapes. Its modules that are called once count.
    """
    modules = dict(graph.named_modules())
    calls = Counter(n.target for n in graph.graph.nodes if n.op == "call_module")
    found = []
    for bn in graph.graph.nodes:
        if bn.op != "call_module" or type(modules[bn.target]) not in BATCHNORMS or calls[bn.target] > 1:
            continue
        layer = bn.args[0] if bn.args else None
        if not (isinstance(layer, fx.Node) and layer.op == "call_module" and calls[layer.target] == 1):
            continue
        if len(layer.users) == 1 and not _apart(modules, layer, modules[bn.target]):
            found.append((layer, bn))
    return found


def _apart(modules: dict[str, nn.Module], call: fx.Node, bn: nn.Module) -> bool:
    """Whether a layer cannot take in the BatchNorm behind it."""
    layer: Any = modules[str(call.target)]
    if type(layer) is nn.Linear:
        meta = call.meta.get("tensor_meta")
        fits = len(getattr(meta, "shape", ())) == 2 and layer.out_features == bn.num_features
    else:
        fits = type(layer) in CONVS and layer.out_channels == bn.num_features
    if not fits or not bn.track_running_stats or computed_weight(layer):
        return True
    return has_hooks(layer) or has_hooks(bn) or _shares(modules, str(call.target))


def has_hooks(module: nn.Module) -> bool:
    """Whether something may change what goes into a module, or comes out of it."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _shares(modules: dict[str, nn.Module], name: str) -> bool:
    """Whether a layer's weight is another layer's, too: it cannot take in what is behind one of them."""
    weight = modules[name].weight
    return sum(any(p is weight for p in m.parameters(recurse=False)) for m in modules.values()) > 1


def insert_module(graph: fx.GraphModule, name: str, module: nn.Module, behind: fx.Node) -> fx.Node:
    """Put a module behind a node, for nobody to read yet.

    Args:
        name: of the module in the network; dots make folders.
    """
    graph.add_submodule(name, module)
    place = behind
    while place.next.op == "placeholder":
        place = place.next
    with graph.graph.inserting_after(place):
        return graph.graph.call_module(name, (behind,))
