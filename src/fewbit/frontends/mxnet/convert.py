"""A symbol and its parameters → a Model.

unknown operators are all named at once → shapes of the inputs → layer by layer in the file's order, by the rules of
`ops/` → what the heads need is kept

Half and double precision parameters become float32, the type that everything is computed in here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fewbit.errors import ModelFormatError, UnsupportedModel, unknown
from fewbit.frontends.mxnet import ops
from fewbit.frontends.mxnet.attrs import Attrs
from fewbit.frontends.mxnet.inputs import flattened, input_shapes, input_type
from fewbit.frontends.mxnet.layer import OPS, Layer
from fewbit.frontends.mxnet.symbol import SymbolGraph, SymbolNode
from fewbit.graph.build import Builder, Value
from fewbit.graph.model import Array, Model

Shapes = Mapping[str, Sequence[int | None]]

assert ops.__all__, "importing the rules fills OPS"


def convert(
    graph: SymbolGraph, params: Mapping[str, Array], *, shapes: Shapes | None = None, name: str = "mxnet"
) -> Model:
    """Turn a symbol into a Model.

    Args:
        graph: upgraded, float. params: arguments and auxiliary states by name.
        shapes: of the inputs; those left out are told from the layers that read them, with a free batch.

    Raises:
        UnsupportedModel: operators that fewbit does not know, all of them; or something that ONNX cannot say.
        ModelFormatError: a parameter is missing, or shapes do not fit.
    """
    graph, notes = inference_heads(graph)
    needed = _needed(graph)
    check_operators(graph, needed)
    feeds = _feeds(graph, params, needed, shapes or {})
    variables = {n.name for n in graph.nodes if n.op == "null"} - set(params)  # labels may be given, and are not used
    for given in shapes or {}:
        if given not in variables:
            raise unknown("input", given, feeds.values())
    told = input_shapes(graph, params, feeds, shapes or {})
    notes += flattened(graph, told, feeds, shapes or {})
    build, values = Builder(name), dict[int, tuple[Value, ...]]()
    for i, node in enumerate(graph.nodes):
        if i not in needed:
            continue
        if node.op == "null":
            if node.name in params:
                values[i] = (build.constant(_single(params[node.name]), node.name),)
            elif i in told:
                values[i] = (build.input(node.name, told[i], input_type(node)),)
            continue
        values[i] = _layer(build, graph, node, values)
    names = graph.outputs
    heads = [(_value(graph, values, h.node, h.output), n) for h, n in zip(graph.heads, names, strict=True)]
    return build.finish(heads, notes=notes)


def _layer(
    build: Builder, graph: SymbolGraph, node: SymbolNode, values: Mapping[int, tuple[Value, ...]]
) -> tuple[Value, ...]:
    inputs = tuple(_value(graph, values, e.node, e.output) for e in node.inputs if e.node in values)
    layer = Layer(node.op, node.name, Attrs(node.attrs, f"layer {node.name!r} ({node.op})"), inputs, build)
    try:
        made = OPS[node.op](layer)
    except IndexError:
        raise ModelFormatError(f"{layer.what} has {len(inputs)} inputs, which are too few") from None
    layer.attrs.check()
    found = made if isinstance(made, tuple) else (made,)
    if not layer.taken:
        producer = found[0].producer()
        build.aliases[node.name] = str(producer.name) if producer is not None else ""
    elif not any(found[0] is v for v in (*layer.made, *inputs)):
        _pass_name(build, layer, found[0])
    return found


def _pass_name(build: Builder, layer: Layer, last: Value) -> None:
    """Helpers follow the main node: `<layer>_output` is what the last of them gives."""
    name = f"{layer.name}_output"
    holder = next((v for v in layer.made if v.name == name), None)
    if holder is None:
        build.rename(last, name)
    else:
        build.rename(holder, f"{layer.name}_inner")
        last.name = name


def _value(graph: SymbolGraph, values: Mapping[int, tuple[Value, ...]], node: int, output: int) -> Value:
    found = values[node]
    if output >= len(found):
        name = f"{graph.nodes[node].name!r} ({graph.nodes[node].op})"
        raise UnsupportedModel(f"output {output} of layer {name} is used; fewbit gives {len(found)} of its outputs")
    return found[output]


LABELLED = {
    "SoftmaxOutput": 1, "Softmax": 1, "LinearRegressionOutput": 1, "LogisticRegressionOutput": 1,
    "MAERegressionOutput": 1, "SVMOutput": 1,
}  # fmt: skip
"""Operators with labels → how many of their inputs count when nobody trains."""

LEARNT = {
    **dict.fromkeys(
        ("Convolution", "Convolution_v1", "Deconvolution", "FullyConnected", "BatchNorm", "BatchNorm_v1", "LayerNorm",
         "InstanceNorm", "GroupNorm", "_contrib_SyncBatchNorm", "_contrib_BatchNormWithReLU", "LeakyReLU", "Embedding"),
        slice(1, None)),
    "RNN": slice(1, 2),
}  # fmt: skip
"""Operators with parameters → which of their inputs those are."""

TRAINING = frozenset({"_contrib_MultiBoxTarget", "MultiBoxTarget"})
"""Operators that make targets out of labels: what depends on them has no meaning when nobody trains."""


def used_inputs(node: SymbolNode) -> int:
    """How many inputs of a layer count at inference."""
    return LABELLED.get(node.op.removeprefix("_sparse_"), len(node.inputs))


def inference_heads(graph: SymbolGraph) -> tuple[SymbolGraph, list[str]]:
    """The symbol without the heads that only training needs, and a note on what was left out.

    Raises:
        UnsupportedModel: no head is left.
    """
    trains = dict[int, str]()  # node → the layer that makes the targets
    for i, node in enumerate(graph.nodes):
        reads = [trains[e.node] for e in node.inputs[: used_inputs(node)] if e.node in trains]
        if node.op in TRAINING or reads:
            trains[i] = reads[0] if reads else f"{node.name!r} ({node.op})"
    lost = [(name, trains[h.node]) for name, h in zip(graph.outputs, graph.heads, strict=True) if h.node in trains]
    if not lost:
        return graph, []
    why = f"depends on {lost[0][1]}, which makes targets for training"
    if len(lost) == len(graph.heads):
        raise UnsupportedModel(
            f"output {_few([name for name, _ in lost])} {why}; nothing is left to infer. Load the symbol for inference"
        )
    kept = tuple(h for h in graph.heads if h.node not in trains)
    return replace(graph, heads=kept), [f"left out: output {name}, as it {why}" for name, _ in lost]


def _needed(graph: SymbolGraph) -> set[int]:
    """Nodes that the heads depend on at inference."""
    found, reach = set[int](), [h.node for h in graph.heads]
    while reach:
        i = reach.pop()
        if i not in found:
            found.add(i)
            node = graph.nodes[i]
            reach += [e.node for e in node.inputs[: used_inputs(node)]]
    return found


def check_operators(graph: SymbolGraph, needed: set[int]) -> None:
    """Raise if there are operators without a rule; the message has all of them, with their layers."""
    layers = defaultdict[str, list[str]](list)
    for i in sorted(needed):
        node = graph.nodes[i]
        if node.op != "null" and node.op not in OPS:
            layers[node.op].append(node.name)
    if layers:
        said = "; ".join(f"{op} in {_few(names)}" for op, names in layers.items())
        raise UnsupportedModel(
            f"{len(layers)} MXNet operator{'s' if len(layers) > 1 else ''} that fewbit does not know: {said}. "
            "Cut the network in front of them, or replace them and export it again"
        )


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more layers" if len(names) > most else "")


def _feeds(graph: SymbolGraph, params: Mapping[str, Array], needed: set[int], given: Collection[str]) -> dict[int, str]:
    """Inputs of the network: variables without parameters.

    Args:
        given: inputs whose shapes the caller says.

    Raises:
        ModelFormatError: one of them is no input, but a parameter that is missing.
    """
    feeds = {i: graph.nodes[i].name for i in sorted(needed) if graph.nodes[i].op == "null"}
    feeds = {i: name for i, name in feeds.items() if name not in params}
    learnt = {e.node for n in graph.nodes if n.op in LEARNT for e in n.inputs[LEARNT[n.op]]}
    missing = [name for i, name in feeds.items() if i in learnt and name not in given]
    if missing:
        raise ModelFormatError(f"the parameters lack {_few(missing)}; they belong to another network or epoch")
    return feeds


def _single(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype in (np.float16, np.float64) else array
