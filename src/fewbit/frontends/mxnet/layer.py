"""One MXNet layer on its way to ONNX, and the table of what can go there.

    @op("Convolution")
    def convolution(layer: Layer) -> Value:
        return layer.main("Conv", layer.inputs[0], layer.inputs[1], kernel_shape=layer.attrs.wholes("kernel"))

A rule returns the layer's value, or a tuple if it has several. `main` makes the node that is the layer: it has the
layer's name, so that excluded names mean what they meant; `node` makes helpers, named `<layer>/<operator>`. The value
that the rule returns is called `<layer>_output` as in MXNet, whether the main node or a helper behind it gives it. A
rule that returns an input as it is leaves no node behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewbit.errors import ModelFormatError, UnsupportedModel
from fewbit.frontends.base import registering, shapes_wanted
from fewbit.frontends.mxnet.attrs import Attrs
from fewbit.graph.build import Builder, Dims, Value, shape_of, told, type_of
from fewbit.graph.model import SOURCE_OP, Array

Rule = Callable[["Layer"], "Value | tuple[Value, ...]"]
OPS: dict[str, Rule] = {}
"""MXNet operator → its rule."""

op = registering(OPS)


@dataclass
class Layer:
    """What a rule sees.

    Args:
        op, name, attrs: of the layer.
        inputs: in MXNet's order, parameters and auxiliary states included; labels that nobody feeds are missing.
        build: the graph in the making.
        taken: whether the main node is there already. made: what it gives.
    """

    op: str
    name: str
    attrs: Attrs
    inputs: tuple[Value, ...]
    build: Builder
    taken: bool = False
    made: tuple[Value, ...] = ()

    @property
    def what(self) -> str:
        """The layer, for messages."""
        return f"layer {self.name!r} ({self.op})"

    @property
    def x(self) -> Value:
        """The first input."""
        if not self.inputs:
            raise ModelFormatError(f"{self.what} has no input")
        return self.inputs[0]

    def main(self, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        """The node that is this layer, with one output."""
        return self.mains(op, *inputs, outputs=1, **attrs)[0]

    def mains(self, op: str, *inputs: Value | None, outputs: int | Sequence[str], **attrs: Any) -> tuple[Value, ...]:
        """The node that is this layer, with several outputs (or with outputs of these names)."""
        assert not self.taken, f"{self.what} has two main nodes"
        self.taken = True
        if isinstance(outputs, int):
            outputs = [f"{self.name}_output{i if outputs > 1 else ''}" for i in range(outputs)]
        meta = {SOURCE_OP: self.op}
        self.made = self.build.node(op, inputs, name=self.name, outputs=outputs, meta=meta, **attrs)
        return self.made

    def each(self, op: str, inputs: Sequence[Sequence[Value | None]], **attrs: Any) -> tuple[Value, ...]:
        """A layer of several outputs, one node for each of them; the first is the layer."""
        if len(inputs) == 1:
            return (self.main(op, *inputs[0], **attrs),)
        assert not self.taken, f"{self.what} has two main nodes"
        self.taken = True
        found: list[Value] = []
        for i, values in enumerate(inputs):
            name, outputs = f"{self.name}/{i}" if i else self.name, [f"{self.name}_output{i}"]
            found += self.build.node(op, values, name=name, outputs=outputs, meta={SOURCE_OP: self.op}, **attrs)
        self.made = tuple(found)
        return self.made

    def node(self, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        """A helper node with one output."""
        return self.nodes(op, *inputs, outputs=1, **attrs)[0]

    def nodes(self, op: str, *inputs: Value | None, outputs: int | Sequence[str], **attrs: Any) -> tuple[Value, ...]:
        """A helper node with several outputs."""
        return self.build.node(op, inputs, name=f"{self.name}/{op}", outputs=outputs, **attrs)

    def const(self, array: Any) -> Value:
        """A constant: Python floats are float32, whole numbers int64."""
        return self.build.constant(array)

    def like(self, number: float, value: Value) -> Value:
        """A number in the type of `value`, rounded towards zero if that is whole."""
        kind = type_of(value) or np.dtype(np.float32)
        if kind.kind in "iu" and not np.iinfo(kind).min <= number <= np.iinfo(kind).max:
            raise self.misfit(f"{number} is beyond its input's type, {kind}")
        return self.build.constant(np.asarray(number, kind))

    def array(self, i: int) -> Array | None:
        """The data of an input that is a parameter, or computed from parameters alone; None if it depends on a feed."""
        return self.build.data(self.inputs[i]) if i < len(self.inputs) else None

    def param(self, i: int, what: str) -> Array:
        """The data of an input that must be a parameter."""
        found = self.array(i)
        if found is None:
            raise UnsupportedModel(f"{self.what}: its {what} is computed; fewbit needs it as a parameter")
        return found

    def shape(self, value: Value | None = None) -> Dims:
        """Sizes of a value (default: of the first input), None where free; at least the rank must be known.

        Raises:
            UnsupportedModel: it is not.
        """
        found = shape_of(self.x if value is None else value)
        if found is None:
            raise UnsupportedModel(f"{self.what} needs to know how many axes its input has; {shapes_wanted('data')}")
        return found

    def fixed(self, value: Value | None = None) -> tuple[int, ...]:
        """Sizes of a value, all of them known.

        Raises:
            UnsupportedModel: some are free.
        """
        found = self.shape(value)
        if any(d is None for d in found):
            raise UnsupportedModel(
                f"{self.what} needs an input of fixed shape, and has {found}; {shapes_wanted('data')}"
            )
        return tuple(int(d) for d in found if d is not None)

    def rank(self, value: Value | None = None) -> int:
        """How many axes a value has."""
        return len(self.shape(value))

    def axis(self, key: str, default: int, value: Value | None = None) -> int:
        """An axis attribute, counted from the front."""
        rank, axis = self.rank(value), self.attrs.whole(key, default)
        if not -rank <= axis < rank:
            raise ModelFormatError(f"{self.what}: {key} is {axis}; its input has {rank} axes")
        return axis % rank

    def axes(self, key: str, default: Sequence[int] | None = None, value: Value | None = None) -> list[int]:
        """Axes of an attribute, each once, counted from the front."""
        rank, axes = self.rank(value), self.attrs.wholes(key, default)
        for axis in axes:
            if not -rank <= axis < rank:
                raise self.misfit(f"{key} is {axis}; its input has {rank} axes")
        found = [a % rank for a in axes]
        if len(set(found)) < len(found):
            raise self.misfit(f"{key} is {axes}, which names an axis twice")
        return found

    def takes(self, count: int) -> tuple[Value, ...]:
        """All inputs of a layer that must have so many."""
        if len(self.inputs) != count:
            raise self.misfit(f"number of inputs is {len(self.inputs)}; it must be {count}")
        return self.inputs

    def positive(self, key: str, default: int | None = None) -> int:
        """A whole number of at least one."""
        number = self.attrs.whole(key, default)
        if number < 1:
            raise self.misfit(f"{key} is {number}; it must be at least 1")
        return number

    def told(self, value: Value, shape: Sequence[int | None]) -> Value:
        """Say a shape that inference could not find out."""
        return told(value, shape)

    def misfit(self, why: str) -> ModelFormatError:
        """The error for attributes that do not fit the inputs."""
        return ModelFormatError(f"{self.what}: {why}")

    def unsupported(self, why: str) -> UnsupportedModel:
        """The error for what this layer asks and ONNX cannot say."""
        return UnsupportedModel(f"{self.what}: {why}")
