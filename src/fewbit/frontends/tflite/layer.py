"""One TFLite operator on its way to ONNX, and the table of what can go there.

    @op("HARD_SWISH")
    def hard_swish(layer: Layer) -> Laid:
        x = layer.lies(0)
        return x.like(layer.main("HardSwish", x.value))

A rule returns the operator's values with the order of their axes (`layout.py`), or one value in the order of the file.
`main` makes the node that is the operator: it has the name of the first tensor that the operator makes; `node` makes
helpers. `lies` gives an input as it lies, `value` in the order that is asked for, by a Transpose if need be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fewbit.errors import ModelFormatError, UnsupportedModel
from fewbit.frontends.base import registering
from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layout import Perm, first, plain, turning
from fewbit.graph.build import Dims, Value, shape_of, told, type_of
from fewbit.graph.model import SOURCE_OP, Array

if TYPE_CHECKING:
    from fewbit.frontends.tflite.scene import Scene
    from fewbit.frontends.tflite.schema import Operator, Tensor

NUMBER = {np.dtype(k): v for k, v in {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float64": 11,
    "uint32": 12, "uint64": 13,
}.items()}  # fmt: skip
"""Type → ONNX's number for it."""

LONG = np.dtype("int64")


Made = Laid | Value | tuple[Laid, ...]
Rule = Callable[["Layer"], Made]
OPS: dict[str, Rule] = {}
"""TFLite operator → its rule; custom operators by their own name."""

op = registering(OPS)


@dataclass
class Layer:
    """What a rule sees.

    Args:
        operator: of the file. name: of its first output. scene: all tensors, and what they are so far.
        taken: whether the main node is there already. made: what its nodes give.
    """

    operator: Operator
    name: str
    scene: Scene
    taken: bool = False

    def __post_init__(self) -> None:
        self.options, self.build = self.operator.options, self.scene.build
        self.made: set[Value] = set()

    @property
    def what(self) -> str:
        """The operator, for messages."""
        return f"{self.operator.op} that makes {self.name!r}"

    # -- inputs ---------------------------------------------------------------------------------------------------

    def has(self, i: int) -> bool:
        """Whether there is such an input."""
        return i < len(self.operator.inputs) and self.operator.inputs[i] >= 0

    def index(self, i: int) -> int:
        """The number of an input's tensor.

        Raises:
            ModelFormatError: there is no such input.
        """
        if not self.has(i):
            raise self.misfit(f"it has {len(self.operator.inputs)} inputs; input {i} is needed")
        return self.operator.inputs[i]

    def tensor(self, i: int) -> Tensor:
        """An input as the file has it."""
        return self.scene.tensors[self.index(i)]

    def output(self, i: int = 0) -> Tensor:
        """An output as the file has it."""
        if i >= len(self.operator.outputs):
            raise self.misfit(f"it has {len(self.operator.outputs)} outputs; output {i} is needed")
        return self.scene.tensors[self.operator.outputs[i]]

    @property
    def count(self) -> int:
        """How many inputs there are."""
        return len(self.operator.inputs)

    def lies(self, i: int) -> Laid:
        """An input as it lies; never one whose columns are mixed."""
        found = self.scene.laid(self.index(i), self)
        assert found.columns is None
        return found

    def value(self, i: int, perm: Perm | None = None) -> Value:
        """An input in an order (default: that of the file)."""
        return self.scene.value(self.index(i), perm if perm is not None else plain(self.rank(i)), self)

    def first(self, i: int) -> Laid:
        """An input with its channels behind the batch."""
        perm = first(self.rank(i))
        return Laid(self.value(i, perm), perm)

    def shape(self, i: int = 0) -> Dims:
        """Sizes of an input in the file's order, None where free."""
        return self.scene.shape(self.index(i), self)

    def rank(self, i: int = 0) -> int:
        """How many axes an input has."""
        return len(self.shape(i))

    def array(self, i: int) -> Array | None:
        """The data of an input, if it depends on constants alone; real numbers."""
        return self.scene.array(self.index(i), self) if self.has(i) else None

    def param(self, i: int, what: str) -> Array:
        """The data of an input that must be a constant."""
        found = self.array(i) if self.has(i) else None
        if found is None:
            self.index(i)
            raise UnsupportedModel(f"{self.what}: its {what} is computed; fewbit needs it as a constant")
        return found

    def wholes(self, i: int, what: str) -> list[int]:
        """Whole numbers that must be a constant."""
        found = self.param(i, what)
        if found.dtype.kind not in "iu" or found.ndim > 2:
            raise self.misfit(f"its {what} is {found.dtype} of shape {found.shape}; it must be whole numbers")
        return [int(n) for n in found.reshape(-1)]

    def longs(self, i: int) -> Value:
        """Whole numbers as int64, one axis, as ONNX wants shapes."""
        known = self.array(i)
        if known is not None:
            return self.const([int(n) for n in known.reshape(-1)])
        long = self.cast(self.value(i), LONG)
        return long if self.rank(i) == 1 else self.node("Reshape", long, self.const([-1]))

    def axes(self, i: int, what: str = "axes") -> list[int]:
        """Axes of the first input, each once, counted from the front."""
        return [self.axis_of(a) for a in dict.fromkeys(self.wholes(i, what))]

    def axis_of(self, axis: int, rank: int | None = None) -> int:
        """An axis counted from the front."""
        rank = self.rank() if rank is None else rank
        if not -rank <= axis < rank:
            raise self.misfit(f"axis {axis} is asked for; there are {rank}")
        return axis % rank

    def kind(self, i: int = 0) -> np.dtype[Any]:
        """NumPy's type of what an input is in ONNX."""
        found = type_of(self.scene.laid(self.index(i), self).value)
        return found if found is not None else self.tensor(i).dtype

    # -- nodes ----------------------------------------------------------------------------------------------------

    def main(self, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        """The node that is this operator, with one output."""
        return self.mains(op, *inputs, outputs=1, **attrs)[0]

    def mains(self, op: str, *inputs: Value | None, outputs: int, **attrs: Any) -> tuple[Value, ...]:
        """The node that is this operator, with several outputs; a second one is a helper."""
        if self.taken:
            return self.nodes(op, *inputs, outputs=outputs, **attrs)
        self.taken = True
        names = [f"{self.name}/{op}{i or ''}" for i in range(outputs)]
        meta = {SOURCE_OP: self.operator.op}
        found = self.build.node(op, inputs, name=self.name, outputs=names, meta=meta, **attrs)
        self.made.update(found)
        return found

    def node(self, op: str, *inputs: Value | None, **attrs: Any) -> Value:
        """A helper node with one output."""
        return self.nodes(op, *inputs, outputs=1, **attrs)[0]

    def nodes(self, op: str, *inputs: Value | None, outputs: int, **attrs: Any) -> tuple[Value, ...]:
        """A helper node with several outputs."""
        found = self.build.node(op, inputs, name=f"{self.name}/{op}", outputs=outputs, **attrs)
        self.made.update(found)
        return found

    def const(self, array: Any) -> Value:
        """A constant: Python floats are float32, whole numbers int64."""
        return self.build.constant(array)

    def like(self, number: float, value: Value) -> Value:
        """A number in the type of `value`."""
        return self.build.constant(np.asarray(number, type_of(value) or np.float32))

    def cast(self, value: Value, kind: np.dtype[Any]) -> Value:
        """A value in another type, if it is of another."""
        return value if type_of(value) == kind else self.node("Cast", value, to=NUMBER[kind])

    def turn(self, value: Value, have: Perm, want: Perm) -> Value:
        """A value in another order."""
        return value if have == want else self.node("Transpose", value, perm=turning(have, want))

    def told(self, value: Value, shape: Sequence[int | None]) -> Value:
        """Say a shape that inference could not find out."""
        return told(value, shape)

    def sizes(self, value: Value) -> Dims:
        """Sizes of an ONNX value."""
        found = shape_of(value)
        if found is None:
            raise UnsupportedModel(f"{self.what}: the number of axes of its input cannot be told")
        return found

    # -- errors ---------------------------------------------------------------------------------------------------

    def misfit(self, why: str) -> ModelFormatError:
        """The error for options that do not fit the inputs."""
        return ModelFormatError(f"{self.what}: {why}")

    def unsupported(self, why: str) -> UnsupportedModel:
        """The error for what this operator asks and fewbit cannot say in ONNX."""
        return UnsupportedModel(f"{self.what}: {why}")
