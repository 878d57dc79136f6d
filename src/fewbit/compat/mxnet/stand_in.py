"""Shapes of a symbol whose parameters are not at hand: those that the inputs' shapes imply.

    data (1, 3, 224, 224) ─ Convolution(num_filter=64, kernel=(7, 7))   →   weight (64, 3, 7, 7), bias (64), output …

Channels are followed through the symbol. Where that is not possible (behind a Reshape, a Flatten), the part in front
is made into a network, with zeros for its parameters, and asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from fewbit.errors import UsageError, unknown
from fewbit.frontends.mxnet.attrs import Attrs
from fewbit.frontends.mxnet.convert import LEARNT, convert, used_inputs
from fewbit.frontends.mxnet.graph import Entry, SymbolGraph, SymbolNode
from fewbit.graph.model import dims

Shape = tuple[int | None, ...]

KEEP = frozenset(
    "Activation relu sigmoid tanh BatchNorm BatchNorm_v1 Pooling Pooling_v1 Dropout LeakyReLU clip identity _copy "
    "elemwise_add broadcast_add _plus _Plus elemwise_mul broadcast_mul _plus_scalar _mul_scalar LRN InstanceNorm "
    "_contrib_SyncBatchNorm _contrib_BatchNormWithReLU Cast amp_cast UpSampling".split()
)
"""Operators that leave the number of channels as it is."""


@dataclass(frozen=True)
class StandIn:
    """What shapes imply. `values`: name of an output → shape. `params`: name of a parameter → shape."""

    values: Mapping[str, Shape]
    params: Mapping[str, Shape]


def stand_in(graph: SymbolGraph, shape: Mapping[str, Sequence[int]]) -> StandIn:
    """Work out all shapes of a symbol.

    Args:
        shape: of inputs, the batch included.

    Raises:
        UnknownName: `shape` names no variable. UsageError: a layer whose parameters nothing tells the shape of.
        UnsupportedModel, ModelFormatError: it cannot be computed at all.
    """
    for name in shape:
        if name not in graph.variables:
            raise unknown("input", name, graph.variables)
    given = {k: tuple(int(d) for d in v) for k, v in shape.items()}
    zeros: dict[str, np.ndarray] = {}
    channels: dict[Entry, int | None] = {}
    for i in graph.order:
        node = graph.nodes[i]
        if node.op == "null":
            channels[Entry(i, 0)] = given[node.name][1] if len(given.get(node.name, ())) > 1 else None
            continue
        learnt = [graph.nodes[e.node].name for e in node.inputs[LEARNT.get(node.op, slice(0, 0))]]
        names = [n for n in learnt if n not in zeros]
        if names:
            found = _params(node, graph, zeros, given, channels, learnt)
            zeros |= {n: np.zeros([d or 0 for d in s], np.float32) for n, s in found.items()}
        channels[Entry(i, 0)] = _channels(node, [channels.get(e._replace(version=0)) for e in node.inputs])
    model = convert(graph, zeros, shapes=_free(given, graph))
    known = {name: dims(v) for name, v in model.values().items()}
    values = {name: _batched(s, given) for name, s in known.items() if s is not None}
    for name, entry in graph.internals().items():  # what a conversion leaves out has the shape of what it reads
        node = graph.nodes[entry.node]
        if name not in values and node.op in KEEP and node.inputs:
            first = _name(graph, node.inputs[0])
            if first in values:
                values[name] = values[first]
    return StandIn(values, {k: v.shape for k, v in zeros.items()})


def _free(given: Mapping[str, Shape], graph: SymbolGraph) -> dict[str, Shape]:
    used = {graph.nodes[e.node].name for n in graph.nodes for e in n.inputs[: used_inputs(n)]}
    return {k: (None, *v[1:]) for k, v in given.items() if k in used}


def _batched(shape: Shape, given: Mapping[str, Shape]) -> Shape:
    """With the batch in front that was asked for."""
    batch = next(iter(given.values()), (None,))[0]
    return (batch, *shape[1:]) if shape and shape[0] is None else shape


def _channels(node: SymbolNode, inputs: Sequence[int | None]) -> int | None:
    attrs = Attrs(node.attrs, f"layer {node.name!r} ({node.op})")
    if node.op in ("Convolution", "Convolution_v1", "Deconvolution"):
        return attrs.whole("num_filter")
    if node.op == "FullyConnected":
        return attrs.whole("num_hidden")
    if node.op in ("Concat", "concat") and attrs.whole("dim", 1) == 1:
        return sum(c for c in inputs if c is not None) if None not in inputs else None
    return inputs[0] if node.op in KEEP and inputs else None


def _params(
    node: SymbolNode, graph: SymbolGraph, zeros: Mapping[str, np.ndarray], given: Mapping[str, Shape],
    channels: Mapping[Entry, int | None], names: Sequence[str],
) -> dict[str, Shape]:  # fmt: skip
    """Shapes of the parameters of one layer."""
    attrs = Attrs(node.attrs, f"layer {node.name!r} ({node.op})")
    entry = node.inputs[0]._replace(version=0)

    def whole() -> Shape:
        return _shape_of(graph, entry, zeros, given)

    op = node.op
    if op in ("Convolution", "Convolution_v1", "Deconvolution"):
        out, group = attrs.whole("num_filter"), attrs.whole("num_group", 1)
        kernel = tuple(int(k) for k in attrs.text("kernel").strip("()[] ").replace("L", "").split(",") if k.strip())
        inner = channels.get(entry) or _size(whole(), 1, node)
        weight = (inner, out // group) if op == "Deconvolution" else (out, inner // group)
        shapes: list[Shape] = [(*weight, *kernel), (out,)]
    elif op == "FullyConnected":
        out, flat = attrs.whole("num_hidden"), attrs.flag("flatten", True)
        shape = whole()
        inner = prod(d or 0 for d in shape[1:]) if flat else _size(shape, -1, node)
        shapes = [(out, inner), (out,)]
    elif op == "Embedding":
        shapes = [(attrs.whole("input_dim"), attrs.whole("output_dim"))]
    elif op == "RNN":
        raise UsageError(f"{attrs._what} tells no shapes of its parameters; draw the network with them: fewbit.plot")
    else:
        axis = attrs.whole("axis", -1 if op == "LayerNorm" else 1)
        known = channels.get(entry) if axis == 1 else None
        size = known or _size(whole(), axis, node)
        shapes = [(size,)] * len(names)
    return dict(zip(names, shapes, strict=False))


def _size(shape: Shape, axis: int, node: SymbolNode) -> int:
    size = shape[axis] if -len(shape) <= axis < len(shape) else None
    if size is None:
        raise UsageError(f"shape leaves open what layer {node.name!r} ({node.op}) reads; give the shapes of all inputs")
    return size


def _shape_of(graph: SymbolGraph, entry: Entry, zeros: Mapping[str, np.ndarray], given: Mapping[str, Shape]) -> Shape:
    """Shape of a value, by making the part in front of it into a network."""
    node = graph.nodes[entry.node]
    if node.op == "null":
        if node.name not in given:
            raise UsageError(f"shape does not tell that of input {node.name!r}; give it: shape={{{node.name!r}: (…)}}")
        return given[node.name]
    part = replace(graph, heads=(entry,)).pruned()
    needed = {k: v for k, v in zeros.items() if k in part.variables}
    model = convert(part, needed, shapes=_free({k: v for k, v in given.items() if k in part.variables}, part))
    return _batched(dims(model.graph.outputs[0]) or (), given)


def _name(graph: SymbolGraph, entry: Entry) -> str:
    """What an output is called."""
    plain = entry._replace(version=0)
    found: Any = next((n for n, e in graph.internals().items() if e._replace(version=0) == plain), "")
    return str(found)
