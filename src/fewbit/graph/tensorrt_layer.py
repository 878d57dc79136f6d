"""Layers with a constant weight: where it comes from, and where its scales lie when it arrives.

W (8, 4) ─ Q ─ DQ(axis 0) ─ Transpose ─ MatMul      the DQ counts; its scales lie along axis 1 of what MatMul reads
W (5, 8) ─ Q ─ DQ(axis 0) ─ MatMul(W, x)            a weight on the left: its rows are the output channels
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fewbit.graph.facts import weight_axis
from fewbit.graph.model import Model, attr, dims, op_name
from fewbit.graph.tensorrt_rule import WEIGHTED, dequantized, everywhere, maker, numbers, of, stored

RESHAPES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
MOVED = ("Gather", "Identity", "Slice", "Split", "Transpose", *RESHAPES)
"""Operators that a weight may pass on its way."""

PRODUCTS = ("Gemm", "MatMul")
"""Layers that may have their weight on either side."""


@dataclass(frozen=True)
class Layer:
    """A layer with a constant weight.

    Args:
        node: the layer. side: which input is the weight. way: what it passes behind its DQ, in this order.
        dq: the DQ that makes it; None for one in float. constant: what it all began with.
    """

    node: ir.Node
    side: int
    way: tuple[ir.Node, ...]
    dq: ir.Node | None
    constant: ir.Value

    @property
    def data(self) -> ir.Value | None:
        """The other input."""
        return of(self.node, 1 - self.side)

    @property
    def scales(self) -> int:
        """How many scales the weight has; 0 in float, and if they are computed, or lie in blocks."""
        s = numbers(self.dq, 1) if self.dq is not None else None
        return 0 if s is None or s.ndim > 1 else s.size

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """That of the weight as the layer reads it."""
        known = dims(of(self.node, self.side))
        return known if known is not None or self.way else dims(self.constant)


def layer(node: ir.Node | None) -> Layer | None:
    """What there is to know of a layer; None if it is none, or its weight is computed."""
    if node is None or op_name(node) not in WEIGHTED:
        return None
    for side in (1, 0) if op_name(node) in PRODUCTS else (1,):
        way, value = [], of(node, side)
        while (before := maker(value)) is not None and op_name(before) in MOVED:
            way.append(before)
            value = of(before, 0)
        constant = stored(value)
        if constant is not None:
            return Layer(node, side, tuple(reversed(way)), dequantized(value), constant)
    return None


def layers(model: Model) -> Iterator[Layer]:
    """All layers with constant weights, as they are or behind Q and DQ."""
    return (found for n in everywhere(model) if (found := layer(n)) is not None)


def wanted_axis(found: Layer) -> int | None:
    """Axis of the output channels in the weight as the layer reads it; None if its rank is not known."""
    if found.side == 1 and op_name(found.node) != "MatMul":
        return weight_axis(found.node)
    if op_name(found.node) == "Gemm":
        return 1 if attr(found.node, "transA", 0) else 0
    rank = len(found.shape) if found.shape is not None else 0
    return rank - (1 if found.side == 1 else 2) if rank >= 2 else None


def arriving_axis(found: Layer) -> int | None:
    """Axis of the weight as the layer reads it along which the scales of its DQ lie; None if it is lost on the way."""
    shape: tuple[int | None, ...] | None = dims(found.constant)
    if found.dq is None or shape is None:
        return None
    axis: int | None = int(attr(found.dq, "axis", 1)) % len(shape)
    for node in found.way:
        after = dims(node.outputs[0])
        if op_name(node) == "Transpose" and axis is not None:
            perm = attr(node, "perm", tuple(reversed(range(len(shape or after or ())))))
            axis = perm.index(axis) if axis in perm else None
            after = tuple(shape[p] for p in perm) if shape is not None else after
        elif op_name(node) in RESHAPES:
            axis = _same_axis(shape, after, axis)
        elif op_name(node) != "Identity":
            axis = None
        shape = after
    return axis


def _same_axis(
    before: tuple[int | None, ...] | None, after: tuple[int | None, ...] | None, axis: int | None
) -> int | None:
    """Where an axis is after a change of shape: as long as it was, with as much in front of it."""
    if before is None or after is None or axis is None or None in before or None in after:
        return None
    one, two = ([int(d or 0) for d in shape] for shape in (before, after))
    same = (i for i, d in enumerate(two) if d == one[axis] and np.prod(two[:i]) == np.prod(one[:axis]))
    return next(same, None)
