"""Ranges that follow from those of other values, since integer operators that keep a range do not state it.

forwards     pooling, reshape, …    the range of what goes in             concat    all that goes in
             relu, clip             as far as it lets values through      embedding what its weights have
backwards    layers that do nothing at inference
             an input of the network that goes through a BatchNorm first
             inside of what was fused: what of a value matters to the known end of it

    a + s → relu, the end in [lo, hi]   ⇒   of a, what lies in [lo - s's highest, hi - s's lowest] matters

since what lies below that is cut off by the relu, and what lies above was not seen in calibration.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.attrs import Attrs
from fewbit.frontends.mxnet.graph import Entry, SymbolGraph, SymbolNode
from fewbit.graph.model import Array

Range = tuple[float, float]
Ranges = dict[Entry, Range]

NOTHING = frozenset({"Dropout", "identity", "_copy", "BlockGrad", "stop_gradient", "_npx_dropout"})
"""Operators that leave a value as it is when nobody trains."""

KEEPING = NOTHING | {"Pooling", "Pooling_v1", "Flatten", "flatten", "Reshape", "reshape", "transpose", "SwapAxis",
                     "swapaxes", "expand_dims", "squeeze", "slice", "slice_axis", "SliceChannel", "split", "UpSampling",
                     "max", "min", "mean", "_npx_reshape", "_npi_transpose", "tile", "repeat"}  # fmt: skip
"""Operators whose outputs lie within the range of their first input."""

JOINING = frozenset({"Concat", "concat", "stack", "_npi_concatenate"})
SUMS = frozenset({"elemwise_add", "broadcast_add", "_npi_add", "_plus", "_Plus"})


def union(*ranges: Range) -> Range:
    """The range that holds all of these."""
    return min(lo for lo, _ in ranges), max(hi for _, hi in ranges)


def imply(
    graph: SymbolGraph, stated: Mapping[Entry, Range], inner: Collection[int], params: Mapping[str, Array]
) -> Ranges:
    """The ranges that are stated, and what follows from them.

    Args:
        stated: by output. inner: nodes that were fused into others, but for the last of each.
    """
    found = dict(stated)
    if not found:
        return found
    for i, node in enumerate(graph.nodes):
        told = _forwards(graph, i, node, found, params)
        if told is not None:
            for k in range(_outputs(node)):
                found.setdefault(Entry(i, k), told)
    for i in reversed(range(len(graph.nodes))):
        _backwards(graph, i, found, inner)
        _normalized(graph, graph.nodes[i], found, params, found.get(Entry(i, 0)))
    return found


def _forwards(graph: SymbolGraph, i: int, node: SymbolNode, found: Ranges, params: Mapping[str, Array]) -> Range | None:
    """The range of a node's outputs, if it follows from those of its inputs."""
    ranges = [found.get(e._replace(version=0)) for e in node.inputs]
    known = [r for r in ranges if r is not None]
    if node.op == "Embedding" and len(node.inputs) > 1:
        weight = params.get(graph.nodes[node.inputs[1].node].name)
        return (float(weight.min()), float(weight.max())) if weight is not None and weight.size else None
    if node.op in JOINING:
        return union(*known) if known and len(known) == len(ranges) else None
    if not ranges or ranges[0] is None:
        return None
    lo, hi = ranges[0]
    if node.op in KEEPING:
        summed = node.attrs.get("pool_type") in ("sum", "lp") or node.attrs.get("sample_type") == "bilinear"
        return None if summed else (lo, hi)
    limits = _limits(node)
    return (_within(lo, limits), _within(hi, limits)) if limits else None


def _backwards(graph: SymbolGraph, i: int, found: Ranges, inner: Collection[int]) -> None:
    """Tell the ranges of a node's inputs from that of its output."""
    node, told = graph.nodes[i], found.get(Entry(i, 0))
    inputs = [e._replace(version=0) for e in node.inputs]
    if told is None or not inputs:
        return
    if node.op in NOTHING:
        found.setdefault(inputs[0], told)
    elif node.op in SUMS and len(inputs) == 2:
        for a, s in (inputs, inputs[::-1]):
            if a.node in inner and a not in found and s in found:
                found[a] = told[0] - found[s][1], told[1] - found[s][0]
    elif inputs[0].node in inner and _limits(node):
        found.setdefault(inputs[0], told)
    elif inputs[0].node in inner and (slope := _slope(node)):
        found.setdefault(inputs[0], (min(told[0], told[0] / slope), told[1]))


def _normalized(
    graph: SymbolGraph, node: SymbolNode, found: Ranges, params: Mapping[str, Array], told: Range | None
) -> None:
    """Tell the range of an input of the network from that behind the BatchNorm that it goes through first.

    y = s·x + t, s and t by channel   ⇒   x lies between the least and the greatest (y - t) / s
    """
    if node.op != "BatchNorm" or told is None or len(node.inputs) != 5:
        return
    names = [graph.nodes[e.node].name for e in node.inputs]
    if graph.nodes[node.inputs[0].node].op != "null" or names[0] in params or not params.keys() >= set(names[1:]):
        return
    gamma, beta, mean, var = (params[name].astype(np.float64) for name in names[1:])
    if {gamma.shape, beta.shape, mean.shape} != {var.shape}:
        return  # its rule tells
    attrs = Attrs(node.attrs, f"layer {node.name!r} (BatchNorm)")
    with np.errstate(all="ignore"):
        scale = (1.0 if attrs.flag("fix_gamma", True) else gamma) / np.sqrt(var + attrs.number("eps", 1e-3))
        ends = np.stack([(y - beta) / scale + mean for y in told])
    if np.isfinite(ends).all() and ends.size:
        found.setdefault(node.inputs[0]._replace(version=0), (float(ends.min()), float(ends.max())))


def _outputs(node: SymbolNode) -> int:
    """How many outputs may have a range."""
    if node.op in ("SliceChannel", "split"):
        return max(1, min(Attrs(node.attrs, f"layer {node.name!r} ({node.op})").whole("num_outputs", 1), 1024))
    return 1


def _limits(node: SymbolNode) -> Range | None:
    """What an operator cuts values to."""
    if node.op == "relu" or (node.op == "Activation" and node.attrs.get("act_type") == "relu"):
        return 0.0, float("inf")
    if node.op != "clip":
        return None
    attrs = Attrs(node.attrs, f"layer {node.name!r} (clip)")
    try:
        return attrs.number("a_min"), attrs.number("a_max")
    except ModelFormatError:  # of a clip without limits its rule tells
        return None


def _slope(node: SymbolNode) -> float:
    """What a LeakyReLU multiplies negative values by; 0 if the node is something else."""
    if node.op != "LeakyReLU" or node.attrs.get("act_type", "leaky") != "leaky":
        return 0.0
    slope = Attrs(node.attrs, f"layer {node.name!r} (LeakyReLU)").number("slope", 0.25)
    return slope if 0 < slope < 1 else 0.0


def _within(x: float, limits: Range) -> float:
    return min(max(x, limits[0]), limits[1])
