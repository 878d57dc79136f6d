"""Let convolutions and poolings do their own padding.

    x → Pad(0) → Conv(pads=p)                                  ⇒  x → Conv(pads=p + pad)
    x → Pad(0) → AveragePool(no pads, or counted)              ⇒  x → AveragePool(pads=p + pad, count_include_pad=1)
    x → Pad(-∞) → MaxPool    x ≥ 0 → Pad(0) → MaxPool          ⇒  x → MaxPool(pads=p + pad)

Each reader of the Pad is rewritten on its own; the Pad goes when none is left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import attr, dims, is_const, is_float, op_name
from fewbit.graph.rewrite import Edit, Rule
from fewbit.graph.rules.clip import interval
from fewbit.graph.rules.values import arg, const_dtype, integers, maker, scalar

LOWEST = float(np.finfo(np.float32).min)

NOT_NEGATIVE = frozenset("Abs Exp HardSigmoid ReduceL2 Sigmoid Softmax Softplus Sqrt".split())
"""Operators whose result is never below 0."""

KEEPS_SIGN = frozenset("AveragePool Flatten GlobalAveragePool GlobalMaxPool MaxPool Reshape Transpose".split())
"""Operators whose result is not below 0 if their input is not."""


class Padded(NamedTuple):
    """A node behind a Pad."""

    node: ir.Node
    pad: ir.Node


def pattern(node: ir.Node) -> Padded | None:
    """The node's first input comes from a Pad."""
    pad = maker(arg(node, 0), "Pad")
    return Padded(node, pad) if pad is not None and pad.inputs and arg(pad, 0) is not None else None


def check(edit: Edit, match: Padded) -> str:
    """Constant zeros on spatial axes, and a node whose own padding means the same."""
    node, pad = match
    mode = attr(pad, "mode", "constant")
    if mode != "constant":
        return f"Pad {pad.name!r} has mode {mode!r}, not 'constant'"
    both = spatial_pads(pad)
    if isinstance(both, str):
        return both
    begin, end = both
    if attr(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return f"its auto_pad is {attr(node, 'auto_pad')!r}"
    n = _spatial_rank(node)
    if n != len(begin):
        return f"Pad {pad.name!r} has {len(begin)} spatial axes, the node {n if n is not None else 'unknown ones'}"
    fill = _fill(pad)
    if fill is None:
        return f"Pad {pad.name!r} pads with something that is not a float32 constant"
    return _why_not_conv(node, pad, fill) if op_name(node) == "Conv" else _why_not_pool(node, pad, fill, begin, end)


def spatial_pads(pad: ir.Node) -> tuple[list[int], list[int]] | str:
    """Pads of the spatial axes, at begin and end; or why there are none to move."""
    name = repr(pad.name)
    given = integers(arg(pad, 1))
    axes = integers(arg(pad, 3)) if len(pad.inputs) > 3 and arg(pad, 3) is not None else None
    if given is None or (axes is None and len(pad.inputs) > 3 and arg(pad, 3) is not None):
        return f"the amount that Pad {name} pads is not a constant"
    pads = np.array(given)
    if axes is not None:
        shape = dims(arg(pad, 0))
        if shape is None or len(given) != 2 * len(axes) or not all(-len(shape) <= a < len(shape) for a in axes):
            return f"Pad {name} pads axes of a value of unknown rank"
        pads = np.zeros((2, len(shape)), np.int64)
        pads[:, axes] = np.array(given).reshape(2, -1)
    if pads.size % 2 or pads.size < 4:
        return f"Pad {name} has {pads.size} pads"
    begin, end = pads.reshape(2, -1).tolist()
    if min(begin + end) < 0:
        return f"Pad {name} cuts off"
    if any(begin[:2] + end[:2]):
        return f"Pad {name} pads the batch or the channels"
    return begin[2:], end[2:]


def _fill(pad: ir.Node) -> float | None:
    """The number that is padded with; None if it is no float32 constant."""
    value = arg(pad, 2)
    if value is not None:
        return scalar(value)
    return 0.0 if is_float(arg(pad, 0)) or is_float(pad.outputs[0]) else None


def _spatial_rank(node: ir.Node) -> int | None:
    kernel = attr(node, "kernel_shape")
    if kernel is not None:
        return len(kernel)
    weight = dims(arg(node, 1)) if op_name(node) == "Conv" and len(node.inputs) > 1 else None
    return None if weight is None else len(weight) - 2


def _why_not_conv(node: ir.Node, pad: ir.Node, fill: float) -> str:
    if fill != 0:
        return f"Pad {pad.name!r} pads with {fill:g}, a convolution with 0"
    weight = arg(node, 1)
    half = is_const(weight) and const_dtype(weight) != ir.DataType.FLOAT
    return f"its weight is {const_dtype(weight)}" if half else ""


def _why_not_pool(node: ir.Node, pad: ir.Node, fill: float, begin: list[int], end: list[int]) -> str:
    if attr(node, "ceil_mode", 0):
        return "its ceil_mode rounds the size up, which padding of its own would change"
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        return "its indices are in use, and count padded values"
    own = _own_pads(node, len(begin))
    kernel = attr(node, "kernel_shape")
    total = [a + b for a, b in zip(own, begin + end, strict=True)]
    if any(p >= k for p, k in zip(total, (*kernel, *kernel), strict=True)):
        return "a window would lie in the padding as a whole"
    if op_name(node) == "MaxPool":
        if fill <= LOWEST or (fill == 0 and is_not_negative(arg(pad, 0))):
            return ""
        return f"Pad {pad.name!r} pads with {fill:g}, which may be larger than the values; MaxPool pads with -∞"
    if fill != 0:
        return f"Pad {pad.name!r} pads with {fill:g}, AveragePool with 0"
    if any(own) and not attr(node, "count_include_pad", 0):
        return "it does not count its own padding, but counts that of the Pad"
    return ""


def is_not_negative(value: ir.Value | None, steps: int = 4) -> bool:
    """Whether a value is known to be 0 or more everywhere."""
    node = value.producer() if value is not None else None
    if node is None or steps == 0:
        return False
    op = op_name(node)
    if op in NOT_NEGATIVE:
        return True
    cut = interval(node)
    if cut is not None and cut.lo >= 0:
        return True
    return op in KEEPS_SIGN and is_not_negative(arg(node, 0), steps - 1)


def _own_pads(node: ir.Node, n: int) -> list[int]:
    pads = list(attr(node, "pads", ()) or [0] * 2 * n)
    return pads if len(pads) == 2 * n and attr(node, "auto_pad", "NOTSET") == "NOTSET" else [0] * 2 * n


def replace(edit: Edit, match: Padded) -> str:
    """Add the pads to the node's own."""
    node, pad = match
    both = spatial_pads(pad)
    assert not isinstance(both, str)
    begin, end = both
    pads = [a + b for a, b in zip(_own_pads(node, len(begin)), begin + end, strict=True)]
    node.attributes.pop("auto_pad", None)
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    if op_name(node) == "AveragePool":
        node.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    name = str(pad.name)
    edit.set_input(node, 0, arg(pad, 0))
    return f"Pad {name!r} becomes pads {pads}"


PAD = Rule("pad", ("Conv", "AveragePool", "MaxPool"), pattern, check, replace)
