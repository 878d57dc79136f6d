"""What the tensors of a file are in the ONNX graph so far.

float (default)      integers stand for real numbers from the start; where a tensor has a scale its range is kept:
                     (qmin - z)·s … (qmax - z)·s
integers             x ─ QuantizeLinear ─ x_q ─ DequantizeLinear ─ x_dq, with the scale and zero point of the file
                     (16 bits: Div, Round, Clip, Cast, and back by Cast, Mul); constants are integers behind a
                     DequantizeLinear

In both forms inputs and outputs are the real numbers, so that one can be compared with the other on the same data; and
OpenVINO takes no Conv behind a DequantizeLinear with a zero point that reads an input instead of a QuantizeLinear.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fewbit.errors import ModelFormatError, UnsupportedModel
from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layout import Perm, plain, turning
from fewbit.frontends.tflite.schema import INT4, LiteGraph, Operator, Quant, Tensor
from fewbit.graph.build import Builder, Dims, Value, shape_of, told, type_of
from fewbit.graph.model import Array

if TYPE_CHECKING:
    from fewbit.frontends.tflite.layer import Layer

INTEGERS = frozenset({"INT8", "UINT8", "INT16", INT4})
"""Types whose tensors stand for real numbers if they have a scale."""

WIDE = frozenset({"INT16"})
"""Types that QuantizeLinear has from opset 21 on."""

SINGLE, SHORT = 1, 5
"""ONNX's numbers of float32 and int16."""

MOST_ZEROS = 1 << 24
"""Elements of a tensor that starts as zeros and keeps its numbers from run to run."""


@dataclass(frozen=True)
class Integers:
    """The integers behind a value: what was rounded to get them, and how."""

    source: Value
    quant: Quant
    type: str


@dataclass
class Scene:
    """The graph in the making.

    Args:
        graph: of the file. build: of the ONNX graph. integers: whether the file's integers are written.
        trusted: whether sizes that the file says of inner tensors hold: nobody gave an input another shape.
        ranges: of the calibration. at: tensor → where it is. turned: the same in other orders.
        behind: value → integers that it was dequantized from.
        same: tensor → the constant that it is, by way of DEQUANTIZE.
        makers: tensor → the operator that made it. zeros: states that start as zeros.
        widened: constants of fewer axes. answers: values that are outputs.
    """

    graph: LiteGraph
    build: Builder
    integers: bool
    trusted: bool = True
    makers: dict[int, Operator] = field(default_factory=dict)
    ranges: dict[Value, tuple[float, float]] = field(default_factory=dict)
    at: dict[int, Laid] = field(default_factory=dict)
    turned: dict[tuple[int, Perm], Value] = field(default_factory=dict)
    behind: dict[Value, Integers] = field(default_factory=dict)
    same: dict[int, int] = field(default_factory=dict)
    widened: dict[tuple[int, int, Perm], Value] = field(default_factory=dict)
    zeros: list[str] = field(default_factory=list)
    answers: set[Value] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.tensors: tuple[Tensor, ...] = self.graph.tensors
        self.open = any(None in self.tensors[i].free for i in self.graph.inputs)
        self.readers: dict[int, list[Operator]] = {}
        for operator in self.graph.operators:
            for i in operator.inputs:
                self.readers.setdefault(i, []).append(operator)
            if operator.op == "DEQUANTIZE" and len(operator.inputs) == len(operator.outputs) == 1:
                stored, real = self.tensors[operator.inputs[0]], self.tensors[operator.outputs[0]]
                if stored.data is not None and real.type == "FLOAT32" and real.shape == stored.shape:
                    self.same[real.index] = stored.index

    # -- asking ---------------------------------------------------------------------------------------------------

    def laid(self, index: int, layer: Layer | None = None) -> Laid:
        """A tensor as it lies."""
        if index not in self.at:
            order = plain(len(self.tensors[index].shape))
            self.at[index] = Laid(self.constant(index, order, layer), order)
        return self.at[index]

    def value(self, index: int, perm: Perm, layer: Layer) -> Value:
        """A tensor in an order."""
        index = self.same.get(index, index)
        if self.is_constant(index):
            return self.constant(index, perm, layer)
        laid = self.laid(index, layer)
        if laid.columns is not None:
            raise layer.misfit(f"it reads {self.tensors[index].name!r}, whose columns are mixed")
        if laid.perm == perm:
            return laid.value
        if (index, perm) not in self.turned:
            self.turned[index, perm] = self.turn(laid.value, turning(laid.perm, perm), self.tensors[index].name)
        return self.turned[index, perm]

    def turn(self, value: Value, turn: Perm, name: str) -> Value:
        """A value with its axes in another order; by a Reshape if only axes of size 1 move."""
        known = self.build.data(value)
        if known is not None:
            return self.build.constant(_own(known.transpose(turn)))
        sizes = shape_of(value) or ()
        kept = [a for a in turn if sizes[a] != 1]
        if kept == sorted(kept) and sizes.count(None) <= 1 and 0 not in sizes:
            shape = self.build.constant([-1 if sizes[a] is None else int(sizes[a] or 0) for a in turn])
            return self.build.node("Reshape", [value, shape], name=f"{name}/Reshape")[0]
        return self.build.node("Transpose", [value], name=f"{name}/Transpose", perm=turn)[0]

    def shape(self, index: int, layer: Layer) -> Dims:
        """Sizes of a tensor in the file's order."""
        if index not in self.at and self.is_constant(index):
            return self.tensors[index].shape
        laid = self.laid(index, layer)
        sizes = layer.sizes(laid.value)
        return tuple(sizes[laid.perm.index(a)] for a in range(len(sizes)))

    def array(self, index: int, layer: Layer) -> Array | None:
        """The data of what depends on constants alone, in the file's order; real numbers."""
        index = self.same.get(index, index)
        tensor = self.tensors[index]
        if self.is_constant(index):
            stored = self.stored(tensor)
            return tensor.quant.real(stored) if tensor.quant and tensor.type in INTEGERS else stored
        laid = self.laid(index, layer)
        found = self.build.data(laid.value)
        return None if found is None else found.transpose([laid.perm.index(a) for a in range(found.ndim)])

    def is_constant(self, index: int) -> bool:
        """Whether the file has the tensor's numbers."""
        return self.tensors[self.same.get(index, index)].data is not None

    def is_integer(self, tensor: Tensor) -> bool:
        """Whether a tensor's integers stand for real numbers."""
        return tensor.type in INTEGERS and tensor.quant is not None

    def label(self, tensor: Tensor) -> str:
        """What a constant is called; the name of an output stays free for what answers."""
        return f"{tensor.name}/constant" if tensor.index in self.graph.outputs else tensor.name

    # -- constants --------------------------------------------------------------------------------------------------

    def stored(self, tensor: Tensor) -> Array:
        """The numbers of a constant; half precision is single here."""
        found = tensor.array()
        return found.astype(np.float32) if found.dtype == np.float16 else found

    def constant(self, index: int, perm: Perm, layer: Layer | None) -> Value:
        """A constant in an order."""
        if (index, perm) not in self.turned:
            self.turned[index, perm] = self._constant(self.tensors[index], perm, layer)
        return self.turned[index, perm]

    def _constant(self, tensor: Tensor, perm: Perm, layer: Layer | None) -> Value:
        if tensor.data is None:
            return self.build.constant(self._zeros(tensor, layer).transpose(perm))
        array = self.stored(tensor)
        if len(perm) != array.ndim:
            raise ModelFormatError(f"constant {tensor.name!r} has the shape {array.shape}; {len(perm)} axes are needed")
        return self.number(tensor, array.transpose(perm), perm)

    def spread(self, index: int, rank: int, perm: Perm) -> Value:
        """A constant of fewer axes that goes with values of so many in this order."""
        index = self.same.get(index, index)
        tensor = self.tensors[index]
        if (index, rank, perm) not in self.widened:
            array = self.stored(tensor)
            if tensor.quant is not None and self.is_integer(tensor) and not tensor.quant.per_tensor:
                array = tensor.quant.real(array)
            wide = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(perm)
            while wide.ndim and wide.shape[0] == 1:
                wide = wide[0]
            whole = array.dtype == tensor.dtype and tensor.quant is not None and tensor.quant.per_tensor
            made = self.number(tensor, wide, ()) if whole else self.build.constant(_own(wide), self.label(tensor))
            self.widened[index, rank, perm] = made
        return self.widened[index, rank, perm]

    def number(self, tensor: Tensor, array: Array, perm: Perm) -> Value:
        """The integers or numbers of a constant, put into an order, as a value."""
        if tensor.quant is None or not self.is_integer(tensor):
            return self.build.constant(_own(array), self.label(tensor))
        quant = tensor.quant
        axis = perm.index(quant.axis) if not quant.per_tensor else 0
        placed = Quant(quant.scale, quant.zero, axis)
        if not self.integers or tensor.type in WIDE:
            return self.build.constant(placed.real(array), self.label(tensor))
        check_zero(tensor)
        return self.dequantized(_own(array), placed, tensor.name)

    def dequantized(self, q: Array, quant: Quant, name: str) -> Value:
        """Constant integers behind a DequantizeLinear."""
        zero = None if q.dtype == np.int32 else _zero(quant, q.dtype)
        inputs = [self.build.constant(q, f"{name}_q"), self.build.constant(_scale(quant))]
        if zero is not None:
            inputs.append(self.build.constant(zero))
        axis = None if quant.per_tensor else quant.axis
        return self.build.node("DequantizeLinear", inputs, name=f"{name}_dq", outputs=[f"{name}_dq"], axis=axis)[0]

    def _zeros(self, tensor: Tensor, layer: Layer | None) -> Array:
        """What a tensor without data holds: nothing, or the zeros that a state starts with."""
        if prod(tensor.shape) == 0:
            return np.zeros(tensor.shape, tensor.dtype)
        if not tensor.variable:
            who = f"{layer.what} reads" if layer is not None else "an output is"
            raise ModelFormatError(f"{who} {tensor.name!r}, which nothing makes; the file is damaged")
        if prod(tensor.shape) > MOST_ZEROS:
            raise UnsupportedModel(f"the state {tensor.name!r} of shape {tensor.shape} is larger than fewbit takes")
        self.zeros.append(tensor.name)
        return np.zeros(tensor.shape, np.float32 if self.is_integer(tensor) else tensor.dtype)

    # -- what is made -----------------------------------------------------------------------------------------------

    def settle(self, layer: Layer, tensor: Tensor, laid: Laid) -> None:
        """Take what a rule made as a tensor of the file: its name, type, sizes, and its range or integers."""
        if tensor.index in self.at or tensor.data is not None:
            raise layer.misfit(f"it makes {tensor.name!r}, which is there already; the file is damaged")
        laid = self._typed(layer, tensor, laid)
        self._sized(layer, tensor, laid)
        if laid.value in layer.made:
            layer.made.discard(laid.value)
            laid.value.name = tensor.name  # unique among the file's; names of nodes are apart
        if self.is_integer(tensor):
            laid = self._integer(layer, tensor, laid)
        self.at[tensor.index] = laid

    def _typed(self, layer: Layer, tensor: Tensor, laid: Laid) -> Laid:
        wanted = self.kind(tensor)
        have = type_of(laid.value)
        return laid if have is None or have == wanted else laid.like(layer.cast(laid.value, wanted))

    def kind(self, tensor: Tensor) -> np.dtype[Any]:
        """The type that a tensor has between operators."""
        real = self.is_integer(tensor) or tensor.type == "FLOAT16"
        return np.dtype(np.float32) if real else tensor.dtype

    def _sized(self, layer: Layer, tensor: Tensor, laid: Laid) -> None:
        have = shape_of(laid.value)
        if have is not None and sorted(laid.perm) != list(range(len(have))):
            raise layer.misfit(f"it makes {len(have)} axes; {len(laid.perm)} were expected")
        if not self.trusted or len(tensor.free) != len(laid.perm) or laid.columns is not None:
            return
        if have is None or None in have:
            holds = tensor.signed or not self.open
            told(laid.value, [tensor.free[a] if holds else None for a in laid.perm])

    def _integer(self, layer: Layer, tensor: Tensor, laid: Laid) -> Laid:
        quant = tensor.quant
        assert quant is not None
        if not quant.per_tensor:
            raise layer.unsupported(f"{tensor.name!r} has {quant.scale.size} scales; values between layers have one")
        check_zero(tensor)
        if not self.integers:
            self.ranges.setdefault(laid.value, span(tensor))
            return laid
        old = self.behind.get(laid.value)
        if old is not None and old.type == tensor.type and quant.same(old.quant):
            return laid
        return laid.like(self.rounded(laid.value, tensor))

    def rounded(self, value: Value, tensor: Tensor) -> Value:
        """A value that was rounded to the integers of a tensor."""
        assert tensor.quant is not None
        scale, zero = _scale(tensor.quant), _zero(tensor.quant, tensor.dtype)
        given, name = [self.build.constant(scale), self.build.constant(zero)], tensor.name
        if tensor.type in WIDE:
            q = self._rounded_wide(value, given[0], tensor)
        else:
            (q,) = self.build.node("QuantizeLinear", [value, *given], name=f"{name}_q", outputs=[f"{name}_q"])
        dq = self._read(q, tensor)
        self.behind[dq] = Integers(value, tensor.quant, tensor.type)
        return dq

    def _rounded_wide(self, value: Value, scale: Value, tensor: Tensor) -> Value:
        """Clip(Round(x / s)), since QuantizeLinear has 16 bits from opset 21 on only."""
        name, ends = f"{tensor.name}_q", np.iinfo(tensor.dtype)
        if tensor.quant is None or tensor.quant.zero.any():
            raise UnsupportedModel(
                f"tensor {tensor.name!r} is of type {tensor.type} with a zero point; TFLite has none"
            )
        (steps,) = self.build.node("Div", [value, scale], name=f"{name}/Div")
        (near,) = self.build.node("Round", [steps], name=f"{name}/Round")
        limits = [self.build.constant(float(e)) for e in (ends.min, ends.max)]
        (held,) = self.build.node("Clip", [near, *limits], name=f"{name}/Clip")
        return self.build.node("Cast", [held], name=name, outputs=[name], to=SHORT)[0]

    def _read(self, q: Value, tensor: Tensor) -> Value:
        """The real numbers that the integers of a tensor stand for."""
        assert tensor.quant is not None
        given = [self.build.constant(_scale(tensor.quant)), self.build.constant(_zero(tensor.quant, tensor.dtype))]
        name = f"{tensor.name}_dq"
        if tensor.type in WIDE:
            (real,) = self.build.node("Cast", [q], name=f"{name}/Cast", to=SINGLE)
            (dq,) = self.build.node("Mul", [real, given[0]], name=name, outputs=[name])
        else:
            (dq,) = self.build.node("DequantizeLinear", [q, *given], name=name, outputs=[name])
        return dq


def _own(array: Array) -> Array:
    return np.array(array, order="C")


def span(tensor: Tensor) -> tuple[float, float]:
    """The real numbers that the integers of a tensor reach."""
    assert tensor.quant is not None
    ends, scale, zero = np.iinfo(tensor.dtype), float(tensor.quant.scale[0]), int(tensor.quant.zero[0])
    return (ends.min - zero) * scale, (ends.max - zero) * scale


def check_zero(tensor: Tensor) -> None:
    """Raise if a zero point is not among the integers."""
    assert tensor.quant is not None
    ends = np.iinfo(tensor.dtype)
    if not ((tensor.quant.zero >= ends.min) & (tensor.quant.zero <= ends.max)).all():
        zero = int(tensor.quant.zero[np.abs(tensor.quant.zero).argmax()])
        raise ModelFormatError(
            f"tensor {tensor.name!r} has the zero point {zero}, which {tensor.type} does not reach; the file is damaged"
        )


def _scale(quant: Quant) -> Array:
    return quant.scale.reshape(()) if quant.per_tensor else quant.scale


def _zero(quant: Quant, dtype: np.dtype[Any]) -> Array:
    return quant.zero.astype(dtype).reshape(()) if quant.per_tensor else quant.zero.astype(dtype)
