"""Read a tree of Mul and Div as one product: number × factor × factor.

    Div(Mul(x, Mul(0.5, u)), 3)   =   0.1667 · x · u

Exporters put the constants of an activation in any place and order; as a product they all look the same.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from fewbit.graph.model import op_name
from fewbit.graph.rewrite import is_tagged
from fewbit.graph.rules.values import arg, maker, scalar

DEPTH = 6
"""Nodes on the way down from the last one: more than any activation has."""


class Product(NamedTuple):
    """number · factors, and the nodes that multiply, the last one at the end."""

    number: float
    factors: list[ir.Value]
    nodes: list[ir.Node]


def product(value: ir.Value, depth: int = DEPTH, *, root: bool = True) -> Product:
    """Read a value as a product; it is its own only factor if it is none.

    Below the root only values with one use are taken apart: one that is read twice is a factor, the x of x·f(x).
    """
    node, c = maker(value, "Mul", "Div"), scalar(value)
    if c is not None:
        return Product(c, [], [])
    if node is None or depth == 0 or is_tagged(node) or len(node.inputs) != 2 or not (root or _once(value)):
        return Product(1.0, [value], [])
    a, b = node.inputs
    if a is None or b is None:
        return Product(1.0, [value], [])
    left = product(a, depth - 1, root=False)
    if op_name(node) == "Div":
        c = scalar(b)
        return Product(1.0, [value], []) if not c else Product(left.number / c, left.factors, [*left.nodes, node])
    right = product(b, depth - 1, root=False)
    nodes = [*left.nodes, *right.nodes, node]
    return Product(left.number * right.number, [*left.factors, *right.factors], nodes)


def _once(value: ir.Value) -> bool:
    return len(value.uses()) == 1 and not value.is_graph_output()


class Monomial(NamedTuple):
    """number · x ** power, and the nodes that compute it."""

    number: float
    power: float
    nodes: list[ir.Node]


def monomial(value: ir.Value | None, x: ir.Value) -> Monomial | None:
    """Read a value as a power of `x` times a number; None if anything else is in it."""
    if value is None:
        return None
    found = product(value)
    power, nodes = 0.0, list(found.nodes)
    for factor in found.factors:
        raised = maker(factor, "Pow")
        exponent = scalar(arg(raised, 1)) if raised is not None else None
        if factor is x:
            power += 1
        elif raised is not None and exponent is not None and arg(raised, 0) is x:
            power += exponent
            nodes.insert(0, raised)
        else:
            return None
    return Monomial(found.number, power, nodes)


def total(node: ir.Node | None) -> tuple[ir.Value, ir.Value] | None:
    """The two terms of an Add."""
    if node is None or op_name(node) != "Add" or len(node.inputs) != 2 or is_tagged(node):
        return None
    a, b = node.inputs
    return (a, b) if a is not None and b is not None else None


def plus(value: ir.Value | None) -> tuple[ir.Value, float, ir.Node] | None:
    """Read a value as term + number."""
    node = maker(value, "Add")
    terms = total(node)
    if terms is None or node is None:
        return None
    for term, other in (terms, terms[::-1]):
        c = scalar(other)
        if c is not None and scalar(term) is None:
            return term, c, node
    return None
