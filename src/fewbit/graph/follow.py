"""Follow the channels of a value to all who read them: where may they be divided, and who has to multiply?

    maker ─ v (N, C, H, W) ─ Relu ─ GlobalAveragePool ─ Flatten ─ (N, C) ─ Gemm reads channel k of v at place k

makers    Conv, ConvTranspose, Gemm, MatMul by a constant, LayerNormalization, BatchNormalization, Mul by one constant
          a channel (the γ of a normalization in small operators)
passes    what is homogeneous, f(s·x) = s·f(x) for s > 0: Relu, LeakyRelu, PRelu, pools, Mul by anything that is not v,
          Div by the same, moves of axes, the values' side of an attention; Clip(0, hi) is noted in `Site.clips`
shifts    Add and Sub of constants: divided along with the value
readers   Conv, ConvTranspose, Gemm, MatMul by a constant that nobody else uses

Where channels lie is an array of channel numbers that broadcasts against the value from the right: (C, 1, 1) for
(N, C, H, W), (C,) for (N, C), (heads, 1, size) for a value of an attention that is cut into heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.model import attr, const, dims, is_const, op_name
from fewbit.graph.rewrite import BIAS_KEY, PATTERN_KEY
from fewbit.graph.rules import linear
from fewbit.graph.rules.clip import interval
from fewbit.graph.rules.values import arg, const_dtype, const_shape, other_input, rank

F64 = NDArray[np.float64]
Index = NDArray[np.int64]

FLOAT = ir.DataType.FLOAT
KEEPS = ("Relu", "LeakyRelu", "Identity")
SPATIAL = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
MOVES = ("Flatten", "Reshape", "Transpose")


@dataclass(frozen=True)
class Read:
    """One layer that multiplies.

    Args:
        node: its name. value: what it reads. axis: of the channels in there, counted from the right (negative).
        index: channel of the site at each place of that axis.
    """

    node: str
    value: str
    axis: int
    index: tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """A value whose channels may be divided by positive factors.

    Args:
        value: its name. channels: how many. axis: of the channels in it, counted from the right (negative).
        maker: the layer that divides; empty if a Mul is put in, see `fewbit.graph.between`.
        reads: the layers that multiply.
        clips: Clip nodes on the way → (what goes in, its channel axis, upper bound).
    """

    value: str
    channels: int
    axis: int
    maker: str
    reads: tuple[Read, ...] = ()
    clips: dict[str, tuple[str, int, float]] = field(default_factory=dict)

    @property
    def watched(self) -> dict[str, int]:
        """Values whose ranges corrections look at → axis: the value, what goes into clips, what is read."""
        clips = {value: axis for value, axis, _ in self.clips.values()}
        return {self.value: self.axis} | clips | {r.value: r.axis for r in self.reads}


@dataclass
class Reader:
    """A node that multiplies, and the channel at each place that it reads."""

    node: ir.Node
    value: ir.Value
    index: Index


@dataclass
class Trail:
    """A site, with the nodes of the graph.

    Args:
        site: the same by names. maker, reads: its ends. through: what is passed.
        shifts: Add and Sub of constants on the way, and the channels of the constant.
    """

    site: Site
    maker: ir.Node
    reads: list[Reader]
    through: list[ir.Node]
    shifts: list[tuple[ir.Node, Index]]


def follow(maker: ir.Node) -> Trail | str | None:
    """The site that a node makes, why there is none, or None if it is no maker."""
    start = _channels(maker)
    if start is None or isinstance(start, str):
        return start
    if start.size < 2:
        return f"{maker.name!r} has one channel only"
    value = maker.outputs[0]
    trail = Trail(Site("", 0, 0, ""), maker, [], [], [])
    seen: dict[ir.Value, Index] = {value: start}
    stack, clips = [value], dict[str, tuple[str, int, float]]()
    while stack:
        at = stack.pop()
        if at.is_graph_output():
            return f"{at.name!r} is an output of the network"
        for use in at.uses():
            node = use.node
            if node.graph is not maker.graph:
                return f"{at.name!r} is read inside of a body"
            found = _step(trail, node, use.idx, at, seen)
            if isinstance(found, str):
                return found
            cut, axis = interval(node) if op_name(node) == "Clip" else None, _axis(seen[at])
            if cut is not None and axis is not None:
                clips[str(node.name)] = str(at.name), axis, cut.hi
            for out in found:
                seen[out] = found[out]
                stack.append(out)
    if not trail.reads:
        return f"no layer with weights reads {value.name!r}"
    reads = tuple(
        Read(str(r.node.name), str(r.value.name), -1 - linear.channel_from_right(r.node), tuple(r.index.tolist()))
        for r in trail.reads
    )
    trail.site = Site(str(value.name), start.size, -start.ndim, str(maker.name), reads, clips)
    return trail


def _axis(index: Index) -> int | None:
    """The axis of the channels, from the right, if it is one."""
    wide = [i - index.ndim for i, d in enumerate(index.shape) if d != 1]
    return wide[0] if len(wide) == 1 else None


# -- makers ----------------------------------------------------------------------------------------------------------


def _channels(node: ir.Node) -> Index | str | None:
    """Where a maker puts its channels."""
    op = op_name(node)
    if op in linear.OPS:
        if op == "MatMul" and not any(is_const(v) for v in node.inputs):
            return None
        reason = linear.why_not_linear(node) or _shared(node, 1)
        return reason or np.arange(linear.outputs(node)).reshape(-1, *[1] * linear.channel_from_right(node))
    if op == "BatchNormalization":
        n = rank(arg(node, 0))
        fixed = all(const_dtype(v) == FLOAT for v in node.inputs[1:5])
        if n is None or n < 2 or not fixed or len(node.outputs) > 1:
            return f"{node.name!r} is in training mode, or the number of its axes is unknown"
        return np.arange(const_shape(node.inputs[1])[0]).reshape(-1, *[1] * (n - 2))  # type: ignore[arg-type]
    if op == "LayerNormalization":
        gamma, beta = arg(node, 1), arg(node, 2)
        if const_dtype(gamma) != FLOAT or gamma is None or (beta is not None and const_dtype(beta) != FLOAT):
            return f"γ or β of {node.name!r} is not a float32 constant"
        shape = const_shape(gamma)
        if len(shape) != 1 or (beta is not None and const_shape(beta) != shape):
            return f"{node.name!r} normalizes more than the last axis"
        return np.arange(shape[0])
    return _product(node) if op == "Mul" else None


def _product(node: ir.Node) -> Index | None:
    """A Mul by one constant a channel."""
    constants = [v for v in node.inputs if const_dtype(v) == FLOAT]
    if len(constants) != 1 or constants[0] is None:
        return None
    shape = const_shape(constants[0])
    index = np.arange(int(np.prod(shape))).reshape(shape)
    known = rank(node.outputs[0])
    return index if index.size > 1 and _axis(index) is not None and known is not None and known >= len(shape) else None


def _shared(node: ir.Node, i: int) -> str:
    """Why a weight cannot be changed for one node."""
    weight = node.inputs[i]
    if weight is not None and (len(weight.uses()) > 1 or weight.is_graph_output()):
        return f"the weight {weight.name!r} of {node.name!r} is used elsewhere too"
    return ""


# -- one step --------------------------------------------------------------------------------------------------------


def _step(
    trail: Trail, node: ir.Node, i: int, value: ir.Value, seen: dict[ir.Value, Index]
) -> dict[ir.Value, Index] | str:
    """What a node that reads a value at input `i` gives on, or why the value cannot be rescaled because of it."""
    index, op = seen[value], op_name(node)
    if op == "Shape" or not any(v.uses() or v.is_graph_output() for v in node.outputs):
        return {}
    if any(v is not value and v in seen for v in node.inputs) or sum(v is value for v in node.inputs) > 1:
        return f"{node.name!r} ({op}) reads it twice"
    if op in linear.OPS and i == 0 and is_const(arg(node, 1)):
        return _read(trail, node, value, index)
    pattern = node.metadata_props.get(PATTERN_KEY)
    if pattern is not None and pattern != trail.maker.metadata_props.get(PATTERN_KEY):
        return f"{node.name!r} is part of a {pattern.split(':')[0]}"
    out = _passed(node, i, value, index)
    if isinstance(out, str):
        return out
    if op in ("Add", "Sub"):
        trail.shifts.append((node, index))
    trail.through.append(node)
    return {node.outputs[0]: out}


def _is_shift(node: ir.Node) -> bool:
    return len(node.inputs) == 2 and any(const_dtype(v) == FLOAT for v in node.inputs)


def why_not_read(node: ir.Node) -> str:
    """Why a layer with weights cannot multiply; "" if it can."""
    transposed = op_name(node) == "Gemm" and attr(node, "transA", 0)
    return (
        linear.why_not_linear(node)
        or _shared(node, 1)
        or (f"{node.name!r} takes its input transposed" if transposed else "")
    )


def _read(trail: Trail, node: ir.Node, value: ir.Value, index: Index) -> dict[ir.Value, Index] | str:
    """A layer that multiplies."""
    reason = why_not_read(node)
    if reason:
        return reason
    count = linear.inputs(node)
    if _axis(index) != -1 - linear.channel_from_right(node):
        return f"{node.name!r} sums along another axis"
    flat = index.reshape(-1)
    if flat.size != count:
        return f"{node.name!r} reads {count} channels, not {flat.size}"
    trail.reads.append(Reader(node, value, flat))
    return {}


def _passed(node: ir.Node, i: int, value: ir.Value, index: Index) -> Index | str:
    """Channels of what a homogeneous node gives."""
    op = op_name(node)
    if op in KEEPS or (op == "PRelu" and i == 0):
        return index
    if op in SPATIAL:
        n = rank(value)
        used = len([v for v in node.outputs if v.uses() or v.is_graph_output()])
        fits = n is not None and used == 1 and all(d == 1 for d in index.shape[max(index.ndim - n + 2, 0) :])
        return index if fits else f"{node.name!r} ({op}) mixes channels, or the number of its axes is unknown"
    if op == "Clip":
        cut = interval(node)
        if cut is None or cut.lo != 0:
            return f"{node.name!r} is a Clip whose lower end is not 0"
        return index if _axis(index) is not None else f"{node.name!r} is a Clip of channels along several axes"
    if op in ("Add", "Sub"):
        return _aligned(node, value, index) if _is_shift(node) else f"{node.name!r} ({op}) adds another value"
    if op == "Mul" or (op == "Div" and i == 0):
        return _aligned(node, value, index)
    if op == "MatMul" and i == 1:
        flat = index.ndim < 2 or index.shape[-2] == 1
        deep = all((rank(v) or 0) >= 2 for v in node.inputs)
        return index if flat and deep else f"{node.name!r} sums over channels"
    if op in MOVES:
        return _moved(node, value, index)
    return f"{node.name!r} ({op}) reads it"


def _aligned(node: ir.Node, value: ir.Value, index: Index) -> Index | str:
    """Of an operator that broadcasts: channels stay where they are, from the right, if nothing is stretched to them."""
    shape = dims(value)
    if shape is None or rank(node.outputs[0]) != len(shape):
        return f"{node.name!r} ({op_name(node)}) may add axes"
    return index


def _moved(node: ir.Node, value: ir.Value, index: Index) -> Index | str:
    """Flatten and Reshape keep the order of numbers, so a known end of the shape is enough."""
    op, shape = op_name(node), dims(value)
    reason = f"where {node.name!r} ({op}) puts the channels is unknown"
    if shape is None:
        return reason
    full = index.reshape(*[1] * (len(shape) - index.ndim), *index.shape)
    if op == "Transpose":
        order = attr(node, "perm", tuple(range(len(shape)))[::-1])
        return _trimmed(full.transpose(order))
    out = dims(node.outputs[0])
    first = next((k for k, d in enumerate(full.shape) if d != 1), len(shape) - 1)
    tail = shape[first:]
    if out is None or None in tail:
        return reason
    size = int(np.prod([d for d in tail if d is not None]))
    for k in range(len(out) - 1, -1, -1):
        if out[k] is None:
            break
        if int(np.prod(out[k:])) == size:  # type: ignore[arg-type]
            return _trimmed(np.broadcast_to(full[(0,) * first], tail).reshape(out[k:]))  # type: ignore[arg-type]
    return reason


def _trimmed(index: Index) -> Index:
    """Without axes along which the channel is the same: these broadcast."""
    for k in range(index.ndim):
        if index.shape[k] > 1 and (index == index.take([0], k)).all():
            index = index.take([0], k)
    while index.ndim > 1 and index.shape[0] == 1:
        index = index[0]
    return index


# -- shifts ----------------------------------------------------------------------------------------------------------

SHIFT_PASSES: dict[str, Callable[[ir.Node], bool]] = {
    "Relu": lambda n: True,
    "Clip": lambda n: True,  # it becomes a Relu, or `rescaled` refuses
    "LeakyRelu": lambda n: True,
    "PRelu": lambda n: True,
    "Identity": lambda n: True,
    "MaxPool": lambda n: True,
    "GlobalMaxPool": lambda n: True,
    "GlobalAveragePool": lambda n: True,
    "AveragePool": lambda n: not attr(n, "count_include_pad", 0),
    "Add": lambda n: True,
    "Sub": lambda n: is_const(arg(n, 1)),
    "Flatten": lambda n: True,
    "Reshape": lambda n: True,
    "Transpose": lambda n: True,
}
"""Operators with f(x - c) = f(x) - c for x ≥ c ≥ 0, and when."""


def why_no_shift(trail: Trail) -> str:
    """Why an amount cannot be taken out of a value and put into the biases behind it; "" if it can."""
    for node in trail.through:
        passes = SHIFT_PASSES.get(op_name(node))
        if passes is None or not passes(node):
            return f"{node.name!r} ({op_name(node)}) does not pass it"
    if op_name(trail.maker) in ("MatMul", "Mul") and own_shift(trail) is None:
        return f"{trail.maker.name!r} has no bias to take it from"
    for read in trail.reads:
        node = read.node
        if linear.pads_zeros(node):
            return f"{node.name!r} sets zeros beside what it reads"
        if op_name(node) == "MatMul" and bias_of(node) is None:
            return f"{node.name!r} has no bias to put it into"
    return ""


def own_shift(trail: Trail) -> tuple[ir.Node, Index] | None:
    """The Add right behind a maker that holds its bias."""
    users = {use.node for use in trail.maker.outputs[0].uses()}
    return next((s for s in trail.shifts if users == {s[0]}), None)


def bias_of(matmul: ir.Node) -> ir.Node | None:
    """The Add that is the bias of a MatMul."""
    users = [use.node for use in matmul.outputs[0].uses()]
    if len(users) != 1 or matmul.outputs[0].is_graph_output():
        return None
    other = other_input(users[0], matmul.outputs[0])
    return users[0] if users[0].metadata_props.get(BIAS_KEY) == matmul.name and const(other) is not None else None
