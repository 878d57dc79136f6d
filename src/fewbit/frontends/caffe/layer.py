"""One Caffe layer on its way to ONNX, and the table of what can go there.

    @op("InnerProduct", settings="inner_product_param")
    def inner_product(layer: Layer) -> Value:
        size = layer.settings.whole("num_output")
        return layer.main("Gemm", layer.x, layer.weight(0, (size, None), "weight"), transB=1)

A rule returns the layer's value, or a tuple if it has several tops. `main` makes the node that is the layer: it has the
layer's name, so that excluded names mean what they meant; `node` makes helpers, named `<layer>/<operator>`. A rule that
returns an input as it is leaves no node behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np

from fewbit.errors import ModelFormatError, UnsupportedModel
from fewbit.frontends.base import shapes_wanted
from fewbit.frontends.caffe.net import Spec
from fewbit.frontends.caffe.settings import Settings
from fewbit.frontends.caffe.weights import Weights
from fewbit.graph.build import Builder, Dims, Value, shape_of, told
from fewbit.graph.model import SOURCE_OP, Array
from fewbit.graph.rewrite import tag_pattern

Rule = Callable[["Layer"], "Value | tuple[Value, ...]"]


@dataclass(frozen=True)
class Op:
    """A rule, and the message that holds the settings of its layers ("" if they have none)."""

    rule: Rule
    settings: str


OPS: dict[str, Op] = {}
"""Type of a layer → its rule."""


def op(*types: str, settings: str = "") -> Callable[[Rule], Rule]:
    """Register a rule under every type that it is for."""

    def add(rule: Rule) -> Rule:
        for name in types:
            assert name not in OPS, f"two rules for {name!r}"
            OPS[name] = Op(rule, settings)
        return rule

    return add


@dataclass
class Layer:
    """What a rule sees.

    Args:
        spec: the layer. settings: its own message. inputs: its bottoms. weights: of all layers.
        batch: the size that the file gives the first axis of its inputs, and that is free here; None if it is not.
        taken: whether the main node is there already. made: what it gives.
    """

    spec: Spec
    settings: Settings
    inputs: tuple[Value, ...]
    build: Builder
    weights: Weights
    batch: int | None
    taken: bool = False
    made: tuple[Value, ...] = ()

    @property
    def name(self) -> str:
        """As in the file."""
        return self.spec.name

    @property
    def what(self) -> str:
        """The layer, for messages."""
        return self.spec.what

    @property
    def x(self) -> Value:
        """The first bottom."""
        if not self.inputs:
            raise ModelFormatError(f"{self.what} has no bottom")
        return self.inputs[0]

    @property
    def tops(self) -> int:
        """How many values the layer has."""
        return len(self.spec.tops)

    def main(self, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        """The node that is this layer, with one output."""
        return self.mains(op, *inputs, outputs=1, **attrs)[0]

    def mains(self, op: str, *inputs: Value | None, outputs: int, **attrs: Any) -> tuple[Value, ...]:
        """The node that is this layer, with several outputs."""
        assert not self.taken, f"{self.what} has two main nodes"
        self.taken = True
        meta = {SOURCE_OP: self.spec.type}
        self.made = self.build.node(op, inputs, name=self.name, outputs=outputs, meta=meta, **attrs)
        return self.made

    def node(self, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        """A helper node with one output."""
        return self.nodes(op, *inputs, outputs=1, **attrs)[0]

    def nodes(self, op: str, *inputs: Value | None, outputs: int, **attrs: Any) -> tuple[Value, ...]:
        """A helper node with several outputs."""
        return self.build.node(op, inputs, name=f"{self.name}/{op}", outputs=outputs, **attrs)

    def const(self, array: Any, name: str = "") -> Value:
        """A constant: Python floats are float32, whole numbers int64. A named one is a weight of the layer."""
        return self.build.constant(array, f"{self.name}/{name}" if name else "")

    def blobs(self) -> int:
        """How many weights the layer has."""
        return self.weights.count(self.spec)

    def weight(
        self, i: int, shape: Sequence[int | None], role: str, filler: str = "", *, plain: float | None = None
    ) -> Array:
        """A weight of the layer, float32.

        Args:
            shape: that it must have; None is any size.
            filler: the setting that says what stands there if the file with the weights lacks it.
            plain: what stands there without that setting; None: a weight that must be in the file.
        """
        return self.weights.get(self.spec, i, shape, role, self.settings.message(filler) if filler else None, plain)

    def shape(self, value: Value | None = None) -> Dims:
        """Sizes of a value (default: of the first bottom), None where free; at least the rank must be known.

        Raises:
            UnsupportedModel: it is not.
        """
        found = shape_of(self.x if value is None else value)
        if found is None:
            raise UnsupportedModel(f"{self.what} needs to know how many axes its input has; {shapes_wanted('data')}")
        return found

    def size(self, axis: int, value: Value | None = None) -> int:
        """The size of an axis, which must be known."""
        shape = self.shape(value)
        if axis >= len(shape):
            raise self.misfit(f"its input has shape {shape}; it must have at least {axis + 1} axes")
        found = shape[axis]
        if found is None:
            raise UnsupportedModel(f"{self.what} needs to know axis {axis} of its input; {shapes_wanted('data')}")
        return found

    def rank(self, value: Value | None = None) -> int:
        """How many axes a value has."""
        return len(self.shape(value))

    def axis(self, default: int = 1, key: str = "axis", *, end: int = 0) -> int:
        """An axis setting, counted from the front; with `end=1` it may lie behind the last."""
        rank, axis = self.rank(), self.settings.whole(key, default)
        if not -rank - end <= axis < rank + end:
            raise self.misfit(f"{key} is {axis}; its input has {rank} axes")
        return axis if axis >= 0 else axis + rank + end

    def takes(self, least: int, most: int | None = None) -> tuple[Value, ...]:
        """All bottoms of a layer that must have so many."""
        count, most = len(self.inputs), least if most is None else most
        if not least <= count <= most:
            said = str(least) if least == most else f"{least} to {most}" if most < 1000 else f"at least {least}"
            raise self.misfit(f"it has {count} bottom{'s' * (count != 1)}; there must be {said}")
        return self.inputs

    def told(self, value: Value, shape: Sequence[int | None]) -> Value:
        """Say a shape that inference could not find out."""
        return told(value, shape)

    def cut(self, value: Value, start: int, end: int, axis: int = -1) -> Value:
        """A part of one axis, by default of the last."""
        return self.node("Slice", value, self.const([start]), self.const([end]), self.const([axis]))

    def column(self, value: Value, axis: int = -1) -> Value:
        """One more axis, of size 1."""
        return self.node("Unsqueeze", value, self.const([axis]))

    def misfit(self, why: str) -> ModelFormatError:
        """The error for settings that do not fit the inputs."""
        return ModelFormatError(f"{self.what}: {why}")

    def unsupported(self, why: str) -> UnsupportedModel:
        """The error for what this layer asks and ONNX cannot say."""
        return UnsupportedModel(f"{self.what}: {why}")


def whole(rule: Rule) -> Rule:
    """Tag everything that a rule makes as one operator, computed in float: no part of it may become integer alone."""

    @wraps(rule)
    def tagged(layer: Layer) -> Value | tuple[Value, ...]:
        found = rule(layer)
        made = found if isinstance(found, tuple) else (found,)
        tag_pattern(made, layer.inputs, f"{layer.spec.type}:{layer.name}")
        return found

    return tagged


def spread(array: Array, rank: int, axis: int) -> Array:
    """An array along `axis` and the axes behind it, shaped so that it goes with a value of so many axes."""
    return np.ascontiguousarray(array).reshape(array.shape + (1,) * (rank - axis - array.ndim))
