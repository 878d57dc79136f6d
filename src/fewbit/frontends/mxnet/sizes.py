"""Sizes of which some are free: a number times the free axes of one value.

x (N, 3, H, W), reshaped to (0, -1)   →   sizes N and 3·H·W   →   Reshape(x, (0, -1))
x (N, 3, H, W), reshaped to (-3, 0, 0)   →   3·N, H and W   →   Reshape(x, (3·N, H, W)) computed from Shape(x)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import numpy as np

from fewbit.frontends.mxnet.layer import Layer
from fewbit.graph.build import Dims, Value

Make = Callable[..., Value]
"""`layer.main` or `layer.node`: who makes the last node of a rule."""


@dataclass(frozen=True)
class Size:
    """number × the product of these (free) axes."""

    number: Fraction
    axes: tuple[int, ...] = ()

    def __mul__(self, other: Size) -> Size:
        return Size(self.number * other.number, tuple(sorted(self.axes + other.axes)))

    def __truediv__(self, other: Size) -> Size:
        left = list(self.axes)
        for axis in other.axes:
            left.remove(axis)
        return Size(self.number / other.number, tuple(left))

    @property
    def known(self) -> int | None:
        """The size, if it does not depend on free axes."""
        return None if self.axes else int(self.number)


ONE = Size(Fraction(1))

MOST = 2**24
"""Numbers that a constant may have which the file does not hold but asks for."""


def allowed(layer: Layer, *lengths: int) -> list[int]:
    """The shape of a constant that the file asks for.

    Raises:
        UnsupportedModel: it is absurd.
    """
    if prod(lengths) > MOST:
        raise layer.unsupported(f"it makes {prod(lengths)} numbers; allowed are {MOST}")
    return list(lengths)


def fixed(number: int) -> Size:
    """A size that is known."""
    return Size(Fraction(number))


def sizes(layer: Layer, value: Value | None = None) -> list[Size]:
    """The sizes of a value (default: of the first input)."""
    return [Size(Fraction(1), (i,)) if d is None else fixed(d) for i, d in enumerate(layer.shape(value))]


def product(of: Sequence[Size]) -> Size:
    """All of them multiplied."""
    return prod(of, start=ONE)


def known(wanted: Sequence[Size]) -> Dims:
    """As a shape with None where free."""
    return tuple(s.known for s in wanted)


def reshape(layer: Layer, x: Value, wanted: Sequence[Size], make: Make) -> Value:
    """Reshape to sizes that are made of x's own; 0 and -1 say what is free if they can."""
    own = sizes(layer, x)
    said = [s.known if not s.axes else 0 if i < len(own) and s == own[i] else None for i, s in enumerate(wanted)]
    if said.count(None) <= 1 and not any(s.known == 0 for s in wanted):
        shape = layer.const(np.array([-1 if s is None else s for s in said], np.int64))
    else:
        shape = as_value(layer, x, wanted)
    return layer.told(make("Reshape", x, shape), known(wanted))


def as_value(layer: Layer, x: Value, wanted: Sequence[Size]) -> Value:
    """Sizes as a list of int64: a constant, or computed from the shape of x."""
    if all(s.known is not None for s in wanted):
        return layer.const(np.array([s.known for s in wanted], np.int64))
    parts: list[Value] = []
    for s in wanted:
        part: Value | None = None
        for axis in s.axes:
            free = size(layer, x, axis)
            part = free if part is None else layer.node("Mul", part, free)
        if part is None or s.number.numerator != 1:
            number = layer.const(np.array([s.number.numerator], np.int64))
            part = number if part is None else layer.node("Mul", part, number)
        if s.number.denominator != 1:
            part = layer.node("Div", part, layer.const(np.array([s.number.denominator], np.int64)))
        parts.append(part)
    return parts[0] if len(parts) == 1 else layer.node("Concat", *parts, axis=0)


def size(layer: Layer, x: Value, axis: int) -> Value:
    """One size as a list of one int64: a constant if it is known."""
    d = layer.shape(x)[axis]
    if d is not None:
        return layer.const(np.array([d], np.int64))
    return layer.told(layer.node("Shape", x, start=axis, end=axis + 1), (1,))


def shape_list(layer: Layer, x: Value) -> Value:
    """All sizes as a list of int64: a constant if they are known."""
    return as_value(layer, x, sizes(layer, x))


def ints(layer: Layer, *numbers: int) -> Value:
    """A list of int64 as a constant."""
    return layer.const(np.array(numbers, np.int64))


def squeeze(layer: Layer, x: Value, *axes: int, make: Make | None = None) -> Value:
    """Drop axes of size one."""
    return (make or layer.node)("Squeeze", x, ints(layer, *axes))


def unsqueeze(layer: Layer, x: Value, *axes: int, make: Make | None = None) -> Value:
    """Add axes of size one."""
    return (make or layer.node)("Unsqueeze", x, ints(layer, *axes))
