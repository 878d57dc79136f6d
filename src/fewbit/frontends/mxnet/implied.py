"""Ranges that follow from those of other values, since integer operators that keep a range do not state it.

forwards     pooling, reshape, …    the range of what goes in             concat    all that goes in
             relu, clip             as far as it lets values through      embedding what its weights have
backwards    layers that do nothing at inference
             an input of the network that goes through a BatchNorm first
             inside of what was fused: what of a value matters to the known end of it

    a + s → relu, the end in [lo, hi]   ⇒   of a, what lies in [lo - s's highest, hi - s's lowest] matters

since what lies below that is cut off by the relu, and what lies above was not seen in calibration. Both highest and
lowest values seldom meet, so that this is too wide by far, and coarse steps cost more than a few values cut off: a
magnitude above those of both the sum and s is not counted on. A range with ends of the same magnitude says nothing of
the side that is smaller: a threshold of the entropy, not what was seen.

An average over a whole channel is much smaller than the values that it is made of. It has their range only where MXNet
computed it in integers, and so rounded it to their steps itself.
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
                     "max", "min", "_npx_reshape", "_npi_transpose", "tile", "repeat"}  # fmt: skip
"""Operators whose outputs lie within the range of their first input."""

JOINING = frozenset({"Concat", "concat", "stack", "_npi_concatenate"})
SUMS = frozenset({"elemwise_add", "broadcast_add", "_npi_add", "_plus", "_Plus"})


def union(*ranges: Range) -> Range:
    """The range that holds all of these."""
    return min(lo for lo, _ in ranges), max(hi for _, hi in ranges)


def imply(
    graph: SymbolGraph,
    stated: Mapping[Entry, Range],
    inner: Collection[int],
    integer: Collection[int],
    params: Mapping[str, Array],
) -> Ranges:
    """The ranges that are stated, and what follows from them.

    Args:
        stated: by output. inner: nodes that were fused into others, but for the last of each.
        integer: nodes that were computed in integers.
    """
    found = dict(stated)
    if not found:
        return found
    for i, node in enumerate(graph.nodes):
        told = _forwards(graph, node, found, params)
        if told is not None and (i in integer or not _averages(node)):
            for k in range(_outputs(node)):
                found.setdefault(Entry(i, k), told)
    for i in reversed(range(len(graph.nodes))):
        _backwards(graph, i, found, inner)
        _normalized(graph, graph.nodes[i], found, params, found.get(Entry(i, 0)))
    return found


def _forwards(graph: SymbolGraph, node: SymbolNode, found: Ranges, params: Mapping[str, Array]) -> Range | None:
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
                found[a] = _addend(told, found[s])
    elif inputs[0].node in inner and _limits(node):
        found.setdefault(inputs[0], told)
    elif inputs[0].node in inner and (slope := _slope(node)):
        low = told[0] if told[0] == -told[1] else min(told[0], told[0] / slope)
        found.setdefault(inputs[0], (low, told[1]))


def _addend(total: Range, other: Range) -> Range:
    """What matters of a value, from the range of a sum and that of the other value in it."""
    lo, hi = total[0] - other[1], total[1] - other[0]
    most = max(map(abs, (*total, *other)))
    near = max(lo, -most), min(hi, most)
    return near if near[0] < near[1] else (lo, hi)


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


def _averages(node: SymbolNode) -> bool:
    """Whether a node averages over whole channels."""
    if node.op not in ("Pooling", "Pooling_v1") or node.attrs.get("pool_type", "max") != "avg":
        return False
    return Attrs(node.attrs, f"layer {node.name!r} ({node.op})").flag("global_pool", False)


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
