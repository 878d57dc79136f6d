"""Put activations that were written out in small operators together again.

    clip(x + 3, 0, 6) / 6, clip(x/6 + 0.5, 0, 1) …      ⇒ HardSigmoid(x)
    x · clip(x + 3, 0, 6) / 6, x · HardSigmoid(x) …     ⇒ HardSwish(x)
    0.5 · x · (1 + erf(x / √2))                         ⇒ Gelu(x), from opset 20; marked before
    0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))  ⇒ Gelu(x, tanh), from opset 20; marked before
    x · sigmoid(c · x)                                  marked as one Swish

The constants may stand anywhere in a product. Marked nodes carry PATTERN_KEY, so that nobody quantizes them one by one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from fewbit.graph.model import attr, op_name
from fewbit.graph.rewrite import Edit, Rule, is_tagged, tag, why_not_inside
from fewbit.graph.rules.clip import interval
from fewbit.graph.rules.product import Product, monomial, plus, product, total
from fewbit.graph.rules.values import arg, close, maker, rank

CUBIC = 0.044715


@dataclass
class Activation:
    """An activation in small operators.

    Args:
        op: what they are together. x: what they are applied to. nodes: all of them, the last one at the end.
        since: opset that has it as one operator; None if none does. attributes: of that operator.
    """

    op: str
    x: ir.Value
    nodes: list[ir.Node]
    since: int | None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Gate:
    """clip(a·x + b, 0, top)."""

    x: ir.Value
    a: float
    b: float
    top: float
    nodes: list[ir.Node]


def gate(value: ir.Value) -> Gate | None:
    """Read a value as a gate."""
    node = value.producer()
    if node is None or is_tagged(node):
        return None
    given = arg(node, 0)
    if op_name(node) == "HardSigmoid" and given is not None:
        return Gate(given, attr(node, "alpha", 0.2), attr(node, "beta", 0.5), 1.0, [node])
    cut = interval(node)
    shifted = plus(cut.x) if cut is not None else None
    if cut is None or shifted is None or cut.lo != 0 or not math.isfinite(cut.hi) or cut.hi == 0:
        return None
    term, b, add = shifted
    scaled = product(term, 1, root=False)
    x, a, inner = (scaled.factors[0], scaled.number, scaled.nodes) if len(scaled.factors) == 1 else (term, 1.0, [])
    return Gate(x, a, b, cut.hi, [*inner, add, node])


# -- HardSigmoid, HardSwish -------------------------------------------------------------------------------------------


def hard_sigmoid(node: ir.Node) -> Activation | None:
    """A number times a gate, with a top of 1; a Clip alone only where x is scaled: others belong to what is before."""
    if is_tagged(node):
        return None
    found = product(node.outputs[0])
    if len(found.factors) != 1:
        return None
    part = gate(found.factors[0])
    if part is None or op_name(part.nodes[-1]) == "HardSigmoid" or not close(part.top * found.number, 1.0):
        return None
    if not found.nodes and part.a == 1:
        return None
    coefficients = {"alpha": part.a * found.number, "beta": part.b * found.number}
    return Activation("HardSigmoid", part.x, [*part.nodes, *found.nodes], 6, coefficients)


def hard_swish(node: ir.Node) -> Activation | None:
    """A number times x times a gate of the same x, with the slopes of HardSwish."""
    found = _two(node)
    if found is None:
        return None
    for x, other in (found.factors, found.factors[::-1]):
        part = gate(other)
        if part is None or part.x is not x:
            continue
        k = found.number
        if close(part.top * k, 1.0) and close(part.a * k, 1 / 6) and close(part.b * k, 0.5):
            return Activation("HardSwish", x, [*part.nodes, *found.nodes], 14)
    return None


def _two(node: ir.Node) -> Product | None:
    """A product of two factors."""
    found = product(node.outputs[0]) if not is_tagged(node) else None
    return found if found is not None and len(found.factors) == 2 else None


# -- Swish, Gelu ------------------------------------------------------------------------------------------------------


def swish(node: ir.Node) -> Activation | None:
    """Read x · sigmoid(c · x)."""
    found = _two(node)
    if found is None or found.number != 1.0:
        return None
    for x, other in (found.factors, found.factors[::-1]):
        sigmoid = maker(other, "Sigmoid")
        inner = monomial(arg(sigmoid, 0), x) if sigmoid is not None else None
        if sigmoid is not None and inner is not None and inner.power == 1:
            return Activation("Swish", x, [*inner.nodes, sigmoid, *found.nodes], None)
    return None


def gelu(node: ir.Node) -> Activation | None:
    """0.5 · x · (1 + erf or tanh)."""
    found = _two(node)
    if found is None or not close(found.number, 0.5):
        return None
    for x, other in (found.factors, found.factors[::-1]):
        shifted = plus(other)
        bend = maker(shifted[0], "Erf", "Tanh") if shifted is not None else None
        bent = arg(bend, 0) if bend is not None else None
        if shifted is None or bend is None or bent is None or shifted[1] != 1.0:
            continue
        erf = op_name(bend) == "Erf"
        inner = _erf_argument(bent, x) if erf else _tanh_argument(bent, x)
        if inner is not None:
            kind = {"approximate": "none" if erf else "tanh"}
            return Activation("Gelu", x, [*inner, bend, shifted[2], *found.nodes], 20, kind)
    return None


def _erf_argument(value: ir.Value, x: ir.Value) -> list[ir.Node] | None:
    """Read x / √2: the nodes, or None if it is something else."""
    found = monomial(value, x)
    return found.nodes if found is not None and found.power == 1 and close(found.number, math.sqrt(0.5)) else None


def _tanh_argument(value: ir.Value, x: ir.Value) -> list[ir.Node] | None:
    """√(2/π)·(x + 0.044715 x³), also as √(2/π)·x·(1 + 0.044715 x²): the nodes, or None if it is something else."""
    found = product(value)
    rest = [f for f in found.factors if f is not x]
    lead = len(found.factors) - len(rest)
    add = maker(rest[0], "Add") if len(rest) == 1 and lead <= 1 else None
    terms = total(add)
    if add is None or terms is None or not close(found.number, math.sqrt(2 / math.pi)):
        return None
    for first, second in (terms, terms[::-1]):
        low, high = monomial(first, x), monomial(second, x)
        if low is None or high is None:
            return None
        if low.number == 1 and (low.power, high.power) == (1 - lead, 3 - lead) and close(high.number, CUBIC):
            return [*low.nodes, *high.nodes, add, *found.nodes]
    return None


# -- all --------------------------------------------------------------------------------------------------------------


def check(edit: Edit, match: Activation) -> str:
    """Values inside must not be needed outside; constants must not have added axes."""
    reason = why_not_inside(match.nodes)
    if reason:
        return reason
    a, b = rank(match.x), rank(match.nodes[-1].outputs[0])
    return "its constants add axes" if a is not None and b is not None and a != b else ""


def replace(edit: Edit, match: Activation) -> str:
    """Put the one operator there, or mark the small ones where the opset has none."""
    if match.since is None or edit.model.opset < match.since:
        return tag(match.op, match.nodes)
    edit.replace(match.nodes[-1], match.op, [match.x], match.attributes)
    return f"{len(match.nodes)} nodes are one {match.op}"


HARD_SIGMOID = Rule("hardsigmoid", ("Mul", "Div", "Clip"), hard_sigmoid, check, replace)
HARD_SWISH = Rule("hardswish", ("Mul", "Div"), hard_swish, check, replace)
SWISH = Rule("swish", ("Mul",), swish, check, replace)
GELU = Rule("gelu", ("Mul", "Div"), gelu, check, replace)
