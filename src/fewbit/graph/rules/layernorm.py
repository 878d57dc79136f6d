"""Put normalizations that were written out in small operators together again.

    d = x - mean(x)      y = d / √(mean(d²) + ε) · γ + β     ⇒ LayerNormalization(x, γ, β), from opset 17
    y = x / √(mean(x²) + ε) · γ                              marked as one RMSNorm

d² may be Pow(d, 2) or d·d; the division may be a product with a reciprocal; γ and β may be missing. Where the mean is
not over the last axes, γ or β are not constants of their size, or the opset is older, the nodes are marked with
PATTERN_KEY, so that nobody quantizes them one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import attr, const, dims, op_name
from fewbit.graph.rewrite import Edit, Rule, is_tagged, tag, why_not_inside
from fewbit.graph.rules.product import plus
from fewbit.graph.rules.values import arg, const_dtype, const_shape, integers, maker, other_input, scalar

FLOAT = ir.DataType.FLOAT


@dataclass
class Norm:
    """A normalization in small operators.

    Args:
        x: what is normalized. axes: over which axes. epsilon: ε. centred: whether the mean is taken off.
        nodes: all of them, the last one at the end. gamma, beta: what it is scaled and shifted by.
    """

    x: ir.Value
    axes: list[int]
    epsilon: float
    centred: bool
    nodes: list[ir.Node] = field(default_factory=list)
    gamma: ir.Value | None = None
    beta: ir.Value | None = None


def pattern(node: ir.Node) -> Norm | None:
    """The division or product that ends the core, and γ and β where they follow at once."""
    if is_tagged(node):
        return None
    norm = _core(node)
    if norm is None:
        return None
    for op in ("Mul", "Add"):
        y = norm.nodes[-1].outputs[0]
        uses = y.uses()
        if len(uses) != 1 or y.is_graph_output():
            break
        ((user, _),) = uses
        other = other_input(user, y) if op_name(user) == op and len(user.inputs) == 2 else None
        if user.graph is not node.graph or other is None or const_dtype(other) != FLOAT:
            continue
        norm.nodes.append(user)
        norm.gamma, norm.beta = (other, None) if op == "Mul" else (norm.gamma, other)
    return norm


def _core(node: ir.Node) -> Norm | None:
    """Read d / √(mean(d²) + ε), or d · (1 / √…)."""
    if len(node.inputs) != 2:
        return None
    for d, scale in (node.inputs, node.inputs[::-1]):
        if d is None:
            continue
        root, inner = (scale, []) if op_name(node) == "Div" else _reciprocal(scale)
        found = _deviation(root, d)
        if found is not None:
            found.nodes += [*inner, node]
            return found
        if op_name(node) == "Div":
            break
    return None


def _reciprocal(value: ir.Value | None) -> tuple[ir.Value | None, list[ir.Node]]:
    """What a value is 1 over."""
    node = maker(value, "Reciprocal", "Div", "Pow")
    if node is None:
        return None, []
    if op_name(node) == "Reciprocal":
        return arg(node, 0), [node]
    if op_name(node) == "Div" and scalar(arg(node, 0)) == 1.0:
        return arg(node, 1), [node]
    return None, []


def _deviation(root: ir.Value | None, d: ir.Value) -> Norm | None:
    """Read √(mean(d²) + ε)."""
    sqrt = maker(root, "Sqrt")
    shifted = plus(arg(sqrt, 0)) if sqrt is not None else None
    mean = maker(shifted[0], "ReduceMean") if shifted is not None else None
    square = maker(arg(mean, 0), "Pow", "Mul") if mean is not None else None
    axes = _axes(mean) if mean is not None else None
    if sqrt is None or shifted is None or mean is None or square is None or axes is None:
        return None
    base, exponent = (*square.inputs, None, None)[:2]
    if base is None or not (exponent is base if op_name(square) == "Mul" else scalar(exponent) == 2.0):
        return None
    centre = _centre(d, axes)
    own = _centre(base, axes) if base is not d else centre
    if base is not d and (centre is None or own is None or own[0] is not centre[0]):
        return None
    head = list(dict.fromkeys([*(centre[1] if centre else []), *(own[1] if own else [])]))
    nodes = [*head, square, mean, shifted[2], sqrt]
    return Norm(centre[0] if centre else d, axes, shifted[1], centre is not None, nodes)


def _centre(d: ir.Value, axes: list[int]) -> tuple[ir.Value, list[ir.Node]] | None:
    """Read x - mean(x): x and the nodes."""
    sub = maker(d, "Sub")
    mean = maker(arg(sub, 1), "ReduceMean") if sub is not None and len(sub.inputs) == 2 else None
    x = arg(sub, 0) if sub is not None else None
    if sub is None or mean is None or x is None or arg(mean, 0) is not x:
        return None
    return (x, [mean, sub]) if _axes(mean) == axes else None


def _axes(mean: ir.Node) -> list[int] | None:
    """Axes of a ReduceMean that keeps them; None if they are not constants."""
    if not attr(mean, "keepdims", 1):
        return None
    axes = attr(mean, "axes")
    found = list(axes) if axes is not None else integers(arg(mean, 1))
    return sorted(found) if found else None


def check(edit: Edit, match: Norm) -> str:
    """Values inside must not be needed outside."""
    return why_not_inside(match.nodes)


def replace(edit: Edit, match: Norm) -> str:
    """Put the one operator there, or mark the small ones."""
    if not match.centred:
        return tag("RMSNorm", match.nodes)
    reason = why_not_one(match, edit.model.opset)
    if reason:
        return f"{tag('LayerNormalization', match.nodes)}, but not one operator: {reason}"
    shape = _normalized(match)
    assert shape is not None
    last, name = match.nodes[-1], str(match.nodes[-1].name)
    gamma = np.ones(shape) if match.gamma is None else np.broadcast_to(_flat(match.gamma, shape), shape)
    inputs: list[ir.Value | None] = [match.x, edit.constant(f"{name}.gamma", gamma.astype(np.float32))]
    if match.beta is not None:
        beta = np.broadcast_to(_flat(match.beta, shape), shape)
        inputs.append(edit.constant(f"{name}.beta", beta.astype(np.float32)))
    attributes = {"axis": -len(shape), "epsilon": match.epsilon}
    edit.replace(last, "LayerNormalization", inputs, attributes)
    return f"{len(match.nodes)} nodes are one LayerNormalization"


def why_not_one(match: Norm, opset: int) -> str:
    """Why it cannot be one operator; "" if it can."""
    if opset < 17:
        return f"opset {opset} has none"
    shape = dims(match.x)
    if shape is None and match.axes != [-1]:
        return "the number of axes is unknown"
    n = 0 if shape is None else len(shape)
    last = [a - n if a >= 0 else a for a in match.axes]
    if sorted(last) != list(range(-len(last), 0)):
        return f"it normalizes axes {match.axes}, not the last ones"
    sizes = _normalized(match)
    if sizes is None:
        return "the size of what it normalizes is unknown"
    for value in (match.gamma, match.beta):
        if value is not None and not _fits(const_shape(value), sizes, n):
            return f"{str(value.name)!r} has shape {const_shape(value)}, not {sizes}"
    return ""


def _normalized(match: Norm) -> tuple[int, ...] | None:
    """Sizes of the axes that are normalized, from x; None if one is free."""
    shape = dims(match.x)
    sizes = shape[-len(match.axes) :] if shape is not None else (None,)
    return None if None in sizes else tuple(d for d in sizes if d is not None)


def _fits(shape: tuple[int, ...], sizes: tuple[int, ...], rank: int) -> bool:
    """Whether a constant has one number for each normalized element, and adds no axis."""
    core = shape[-len(sizes) :] if shape else ()
    outer = shape[: len(shape) - len(core)]
    inner = all(a in (1, b) for a, b in zip(reversed(core), reversed(sizes), strict=False))
    return len(shape) <= rank and set(outer) <= {1} and inner


def _flat(value: ir.Value, sizes: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A constant without its outer axes of size 1."""
    array = np.asarray(const(value), np.float32)
    return array.reshape(array.shape[max(array.ndim - len(sizes), 0) :])


LAYERNORM = Rule("layernorm", ("Div", "Mul"), pattern, check, replace)
