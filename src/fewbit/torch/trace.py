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
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from fewbit.errors import UnsupportedModel

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
    modes = {name: m.training for name, m in net.named_modules()}
    graphs = {mode: _trace(copy.deepcopy(net).train(mode)) for mode in (True, False)}
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


def _trace(net: nn.Module) -> fx.GraphModule:
    try:
        graph = fx.symbolic_trace(net)
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError, NotImplementedError, AttributeError) as e:
        why = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise UnsupportedModel(
            f"forward of {type(net).__name__} cannot be traced: {why}. Convert its layers one by one instead: "
            "fewbit.torch.convert_model"
        ) from e
    _dropouts_to_modules(graph)
    return graph


def _dropouts_to_modules(graph: fx.GraphModule) -> None:
    """Functions of dropout keep the mode in which they were traced; modules follow that of the network."""
    for i, node in enumerate(list(graph.graph.nodes)):
        if node.op != "call_function" or node.target not in DROPOUTS:
            continue
        training = node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True)
        p = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
        if training is True and not graph.training:  # dropout that never stops
            continue
        name = f"dropout_{i}"
        graph.add_submodule(name, DROPOUTS[node.target](p))
        x = node.args[0] if node.args else node.kwargs["input"]
        with graph.graph.inserting_before(node):
            new = graph.graph.call_module(name, (x,))
        node.replace_all_uses_with(new)
        graph.graph.erase_node(node)
    graph.recompile()


def tensors(graph: fx.GraphModule, sample: Sequence[Any]) -> list[fx.Node]:
    """The nodes that give a float tensor, in order.

    Args:
        sample: what forward takes; the network runs on it, in evaluation mode.
    """
    training = [m for m in graph.modules() if m.training]
    graph.eval()
    try:
        with torch.no_grad():
            ShapeProp(graph).propagate(*sample)
    finally:
        for m in training:
            m.training = True
    return [n for n in graph.graph.nodes if n.op != "output" and _is_float(n.meta.get("tensor_meta"))]


def _is_float(meta: Any) -> bool:
    return isinstance(getattr(meta, "dtype", None), torch.dtype) and meta.dtype.is_floating_point


def conv_bn_pairs(graph: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """Convolutions, each with the BatchNorm that alone reads it; modules that are called once."""
    modules = dict(graph.named_modules())
    calls = Counter(n.target for n in graph.graph.nodes if n.op == "call_module")
    found = []
    for bn in graph.graph.nodes:
        if bn.op != "call_module" or type(modules[bn.target]) not in BATCHNORMS or calls[bn.target] > 1:
            continue
        conv = bn.args[0]
        if not (isinstance(conv, fx.Node) and conv.op == "call_module" and calls[conv.target] == 1):
            continue
        plain = type(modules[conv.target]) in CONVS and modules[bn.target].track_running_stats
        if plain and len(conv.users) == 1 and not _shares(modules, conv.target):
            found.append((conv, bn))
    return found


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


def is_tensor(x: Any) -> bool:
    """Whether this is a tensor of floats."""
    return isinstance(x, Tensor) and x.is_floating_point()
