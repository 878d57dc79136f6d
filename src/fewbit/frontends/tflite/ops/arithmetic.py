"""Operators that go element by element, one, two or three inputs at a time.

Inputs of fewer axes go with the last axes of the others, in the order of the file. The result lies like the input with
the most axes; constants are turned to go with it, and so are other inputs, if they lie otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import NUMBER, Layer, op
from fewbit.frontends.tflite.layout import Perm, plain
from fewbit.frontends.tflite.ops.fused import fused
from fewbit.graph.build import Value

UNARY = {
    "ABS": "Abs", "CEIL": "Ceil", "COS": "Cos", "EXP": "Exp", "FLOOR": "Floor", "LOG": "Log", "LOGICAL_NOT": "Not",
    "NEG": "Neg", "ROUND": "Round", "SIGN": "Sign", "SIN": "Sin", "SQRT": "Sqrt",
}  # fmt: skip

BINARY = {
    "ADD": "Add", "DIV": "Div", "EQUAL": "Equal", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual",
    "LESS": "Less", "LESS_EQUAL": "LessOrEqual", "LOGICAL_AND": "And", "LOGICAL_OR": "Or", "MAXIMUM": "Max",
    "MINIMUM": "Min", "MUL": "Mul", "POW": "Pow", "SUB": "Sub",
}  # fmt: skip

FUSING = frozenset({"ADD", "DIV", "MUL", "SUB"})


@op(*UNARY)
def unary(layer: Layer) -> Laid:
    """One operator each."""
    x = layer.lies(0)
    return x.like(layer.main(UNARY[layer.operator.op], x.value))


@op("SQUARE")
def square(layer: Layer) -> Laid:
    """x·x."""
    x = layer.lies(0)
    return x.like(layer.main("Mul", x.value, x.value))


@op("RSQRT")
def rsqrt(layer: Layer) -> Laid:
    """1 / √x."""
    x = layer.lies(0)
    return x.like(layer.main("Reciprocal", layer.node("Sqrt", x.value)))


@op("QUANTIZE", "DEQUANTIZE")
def converter(layer: Layer) -> Laid:
    """Into integers or out of them: the value is what went in; see `scene.py` for the integers."""
    return layer.lies(0)


@op("CAST")
def cast(layer: Layer) -> Laid:
    """Cast to the type of the output."""
    x, kind = layer.lies(0), layer.scene.kind(layer.output())
    return x if layer.kind() == kind else x.like(layer.main("Cast", x.value, to=NUMBER[kind]))


@op(*BINARY)
def binary(layer: Layer) -> Laid:
    """One operator each."""
    (a, b), perm = together(layer, 0, 1)
    y = layer.main(BINARY[layer.operator.op], a, b)
    return Laid(fused(layer, y) if layer.operator.op in FUSING else y, perm)


@op("NOT_EQUAL")
def not_equal(layer: Layer) -> Laid:
    """Not of Equal."""
    (a, b), perm = together(layer, 0, 1)
    return Laid(layer.main("Not", layer.node("Equal", a, b)), perm)


@op("SQUARED_DIFFERENCE")
def squared_difference(layer: Layer) -> Laid:
    """(a - b)²."""
    (a, b), perm = together(layer, 0, 1)
    less = layer.node("Sub", a, b)
    return Laid(layer.main("Mul", less, less), perm)


@op("FLOOR_DIV")
def floor_div(layer: Layer) -> Laid:
    """⌊a / b⌋; ONNX rounds whole numbers towards zero."""
    (a, b), perm = together(layer, 0, 1)
    if layer.kind().kind == "f":
        return Laid(layer.main("Floor", layer.node("Div", a, b)), perm)
    rest = layer.node("Mod", a, b)  # has the sign of b
    return Laid(layer.main("Div", layer.node("Sub", a, rest), b), perm)


@op("FLOOR_MOD")
def floor_mod(layer: Layer) -> Laid:
    """The rest of ⌊a / b⌋, which has the sign of b."""
    (a, b), perm = together(layer, 0, 1)
    if layer.kind().kind != "f":
        return Laid(layer.main("Mod", a, b), perm)
    rest = layer.node("Mod", a, b, fmod=1)
    zero = layer.like(0, rest)
    other = layer.node("Less", layer.node("Mul", rest, b), zero)
    return Laid(layer.main("Where", other, layer.node("Add", rest, b), rest), perm)


@op("ADD_N")
def add_n(layer: Layer) -> Laid:
    """Sum."""
    values, perm = together(layer, *range(layer.count))
    return Laid(layer.main("Sum", *values), perm)


@op("SELECT", "SELECT_V2")
def select(layer: Layer) -> Laid:
    """Where; the older one takes one truth value for each row, too."""
    rows = layer.operator.op == "SELECT" and layer.rank(0) == 1 < layer.rank(1)
    if not rows:
        (c, a, b), perm = together(layer, 0, 1, 2)
        return Laid(layer.main("Where", c, a, b), perm)
    order = plain(layer.rank(1))
    c = layer.node("Unsqueeze", layer.value(0), layer.const(list(order[1:])))
    return Laid(layer.main("Where", c, layer.value(1, order), layer.value(2, order)), order)


@op("ZEROS_LIKE")
def zeros_like(layer: Layer) -> Laid:
    """Zeros of the shape of the input."""
    x = layer.lies(0)
    zero = np.zeros((), layer.kind())
    return x.like(layer.main("Expand", layer.const(zero), layer.node("Shape", x.value)))


def together(layer: Layer, *inputs: int) -> tuple[list[Value], Perm]:
    """Inputs so that they go with each other, and the order that the result has."""
    rank = max(layer.rank(i) for i in inputs)
    perm = _order(layer, inputs, rank)
    return [spread(layer, i, rank, perm) for i in inputs], perm


def _order(layer: Layer, inputs: Sequence[int], rank: int) -> Perm:
    """That of the computed inputs with the most axes; one that is not the file's goes first."""
    is_constant: Callable[[int], bool] = layer.scene.is_constant
    found = [layer.lies(i).perm for i in inputs if layer.rank(i) == rank and not is_constant(layer.index(i))]
    return next((p for p in found if p != plain(rank)), plain(rank))


def spread(layer: Layer, i: int, rank: int, perm: Perm) -> Value:
    """An input that goes with values of so many axes in this order."""
    have, index = layer.rank(i), layer.index(i)
    if layer.scene.is_constant(index):
        return layer.scene.spread(index, rank, perm)
    if have == rank:
        return layer.value(i, perm)
    value = layer.value(i)
    if have == 0 or perm == plain(rank):
        return value
    wide = layer.node("Unsqueeze", value, layer.const(list(range(rank - have))))
    return layer.turn(wide, plain(rank), perm)
