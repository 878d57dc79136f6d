"""Compute once what does not depend on the input.

    constants → Concat, Cast, Slice, Transpose … → y   ⇒  y (constant)
    x of known shape → Shape → y                       ⇒  y (constant)
    x → Shape → Gather or Slice of known axes → y      ⇒  y (constant)

ONNX's reference evaluator computes, one node at a time. How large a result may become is worked out beforehand: one
that is over 1 MB and over four times its inputs stays computed, so that a small file cannot become a large one.
Only operators of the table below are folded; random ones and those with bodies are not among them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import Array, attr, const, dims, is_const, op_name
from fewbit.graph.rewrite import Edit, Rule
from fewbit.graph.rules.values import arg, const_dtype, const_shape, maker

LIMIT, GROWTH = 1 << 20, 4
"""Bytes that a result may always have; how many times its inputs a larger one may be."""

UNKNOWN = 7 - 2**31
"""Stands for a free dimension while a part of a shape is picked."""

Shapes = Sequence[tuple[int, ...]]
Bound = Callable[[ir.Node, Shapes], int]


def _broadcast(node: ir.Node, shapes: Shapes) -> int:
    return math.prod(np.broadcast_shapes(*shapes))


def _total(node: ir.Node, shapes: Shapes) -> int:
    return sum(math.prod(s) for s in shapes)


def _gathered(node: ir.Node, shapes: Shapes) -> int:
    data, index = shapes[:2]
    return math.prod(data) // max(data[int(attr(node, "axis", 0))], 1) * math.prod(index)


def _filled(node: ir.Node, shapes: Shapes) -> int:
    return math.prod(_numbers(node, 0))


def _expanded(node: ir.Node, shapes: Shapes) -> int:
    return math.prod(np.broadcast_shapes(shapes[0], tuple(_numbers(node, 1))))


def _tiled(node: ir.Node, shapes: Shapes) -> int:
    return math.prod(shapes[0]) * math.prod(_numbers(node, 1))


def _counted(node: ir.Node, shapes: Shapes) -> int:
    start, limit, delta = (float(np.asarray(const(v)).reshape(())) for v in node.inputs[:3])
    return max(math.ceil((limit - start) / delta), 0)


def _padded(node: ir.Node, shapes: Shapes) -> int:
    pads = _numbers(node, 1)
    half = len(pads) // 2
    grown = [d + a + b for d, a, b in zip(shapes[0], pads[:half], pads[half:], strict=True)]
    return math.prod(max(d, 0) for d in grown)


def _numbers(node: ir.Node, i: int) -> list[int]:
    """A small integer input; a long one is not a shape."""
    value = node.inputs[i]
    if value is None or math.prod(const_shape(value)) > 64:
        raise ValueError("no shape is given")
    return [int(n) for n in np.asarray(const(value)).ravel()]


MOVES = "Cast CastLike Flatten Identity Reshape Slice Split Squeeze Transpose Trilu Unsqueeze".split()
REDUCES = "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare".split()
MATHS = (
    "Abs Add And Ceil Clip Cos Div Equal Erf Exp Floor Greater GreaterOrEqual Less LessOrEqual Log Max Min Mod Mul Neg "
    "Not Or Pow Reciprocal Relu Round Sigmoid Sign Sin Sqrt Sub Tanh Where Xor"
).split()
BOUNDS: dict[str, Bound] = {
    **dict.fromkeys((*MOVES, *REDUCES), _total),
    **dict.fromkeys(MATHS, _broadcast),
    "Concat": _total,
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "Gather": _gathered,
    "Pad": _padded,
    "Range": _counted,
    "Tile": _tiled,
}
"""Operator → how many elements its result has at most, from the shapes of its inputs."""

PLAIN = frozenset(
    getattr(ir.DataType, n)
    for n in ("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FLOAT", "DOUBLE")
)
"""Types that numpy computes in as engines do."""

NO_RESULT = (ValueError, IndexError, KeyError, TypeError, AttributeError, RuntimeError, ArithmeticError)
"""What the evaluator raises on nodes that no engine could run either, or that it does not know."""


@dataclass
class Foldable:
    """A node and what its outputs are; `check` computes them, since only then is it known that they can be."""

    node: ir.Node
    inputs: tuple[ir.Value | None, ...]
    results: list[Array] = field(default_factory=list)


def pattern(node: ir.Node) -> Foldable | None:
    """A node that reads constants alone."""
    if not any(v is not None for v in node.inputs) or not all(v is None or is_const(v) for v in node.inputs):
        return None
    return Foldable(node, tuple(node.inputs))


def check(edit: Edit, match: Foldable) -> str:
    """Plain numbers, a result that is not too large, and not an output of the network."""
    node, given = match.node, [v for v in match.inputs if v is not None]
    for value in node.outputs:
        if value.is_graph_output():
            return f"{value.name!r} is an output of the network"
    types = PLAIN | {ir.DataType.FLOAT16} if op_name(node) in MOVES else PLAIN
    strange = sorted({str(const_dtype(v)) for v in given if const_dtype(v) not in types})
    if strange:
        return f"it computes in {', '.join(strange)}"
    try:
        count = BOUNDS[op_name(node)](node, [const_shape(v) for v in given])
        size = count * max(v.dtype.itemsize if v.dtype is not None else 8 for v in node.outputs)
        if size > max(LIMIT, GROWTH * sum(int(v.const_value.nbytes) for v in given if v.const_value is not None)):
            return f"its result may have {size:,.0f} bytes"
        match.results[:] = evaluate(node, [const(v) for v in match.inputs], edit.model.opset)
    except NO_RESULT as e:
        return f"it cannot be computed ({str(e).splitlines()[0] if str(e) else type(e).__name__})"
    return "" if all(a.dtype.kind in "biuf" for a in match.results) else "its result is not numbers"


def replace(edit: Edit, match: Foldable) -> str:
    """Put the results in its place."""
    freeze(edit, match.node, match.results)
    return f"{op_name(match.node)} of constants is computed once"


def freeze(edit: Edit, node: ir.Node, results: Sequence[Array]) -> None:
    """Replace a node by its results; types that inference knows stay as they are."""
    for value, array in zip(list(node.outputs), results, strict=True):
        if value.uses():
            with np.errstate(invalid="ignore"):
                array = array if value.dtype is None else array.astype(value.dtype.numpy(), copy=False)
            edit.freeze(value, array)
    if node.graph is not None:  # nobody read it in the first place
        edit.drop(node)


def evaluate(node: ir.Node, inputs: Sequence[Array | None], opset: int) -> list[Array]:
    """Outputs of a node for given inputs."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    proto = ir.serde.serialize_node(node)
    names = [f"i{i}" if a is not None else "" for i, a in enumerate(inputs)]
    outs = [f"o{i}" for i in range(len(node.outputs))]
    del proto.input[:], proto.output[:]
    proto.input.extend(names)
    proto.output.extend(outs)
    feeds = {n: a for n, a in zip(names, inputs, strict=True) if a is not None}
    opsets = [onnx.helper.make_opsetid("", opset)]
    body = onnx.helper.make_function("fewbit", "fold", list(feeds), outs, [proto], opsets)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Any = ReferenceEvaluator(body).run(None, feeds, attributes={})
    return [np.asarray(a) for a in found]


class Known(NamedTuple):
    """A node whose result follows from shapes, and that result."""

    node: ir.Node
    result: Array


def known_shape(node: ir.Node) -> Known | None:
    """Shape of something of which all axes are known."""
    shape = _axes(node)
    return None if shape is None or UNKNOWN in shape else Known(node, np.array(shape, np.int64))


def known_axes(node: ir.Node) -> Known | None:
    """Gather or Slice that picks known axes of a shape, of which others are free."""
    x = arg(node, 0)
    cast = maker(x, "Cast")
    shape = maker(arg(cast, 0) if cast is not None else x, "Shape")
    axes = _axes(shape) if shape is not None else None
    if axes is None or x is None or x.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    if not all(v is None or is_const(v) for v in node.inputs[1:]):
        return None
    data = np.array(axes, x.dtype.numpy())
    try:
        (found,) = evaluate(node, [data, *(const(v) for v in node.inputs[1:])], 17)
    except NO_RESULT:
        return None
    return None if UNKNOWN in found else Known(node, found)


def _axes(shape: ir.Node) -> list[int] | None:
    """What a Shape node gives, free dimensions as UNKNOWN."""
    whole = dims(arg(shape, 0)) if shape.inputs else None
    if whole is None:
        return None
    part = whole[attr(shape, "start", 0) : attr(shape, "end", None)]
    return [UNKNOWN if d is None else d for d in part]


def check_known(edit: Edit, match: Known) -> str:
    """Outputs of the network stay."""
    y = match.node.outputs[0]
    return f"{y.name!r} is an output of the network" if y.is_graph_output() else ""


def replace_known(edit: Edit, match: Known) -> str:
    """Put the numbers in its place."""
    freeze(edit, match.node, [match.result])
    return f"{op_name(match.node)} gives {match.result.tolist()} always"


CONSTANTS = Rule("constants", tuple(BOUNDS), pattern, check, replace)
SHAPES = Rule("shapes", ("Shape",), known_shape, check_known, replace_known)
AXES = Rule("shapes", ("Gather", "Slice"), known_axes, check_known, replace_known)
