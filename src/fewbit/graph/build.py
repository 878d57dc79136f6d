"""Builder: make a Model node by node, as front ends do.

    b = Builder("net")
    x = b.input("data", (None, 3, 224, 224))
    y, = b.node("Conv", [x, b.constant(w)], name="conv0", kernel_shape=(3, 3))
    model = b.finish([(y, "conv0_output")])

Types and shapes are inferred at once, so that they can be asked; so can the data of what depends on constants alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import defs, helper, shape_inference

from fewbit.errors import ModelFormatError
from fewbit.graph.model import Array, Model, const, dims, free_name, is_const
from fewbit.graph.normalize import FAILURES, LEAST_IR, PLAIN_IR, WANTED, ir_for, normalize
from fewbit.graph.padding import keep_zeros

Value = ir.Value
Dims = tuple[int | None, ...]

HUGE = 1 << 26
"""Elements above which nothing is computed while the graph is made; a file of a few bytes can ask for that."""

SMALL = 64
"""Constants of up to this many elements are shown to shape inference, and equal ones are kept once."""


class Builder:
    """A graph in the making.

    Args:
        name: of the graph.
    """

    def __init__(self, name: str) -> None:
        self._inputs: list[Value] = []
        self._nodes: list[ir.Node] = []
        self._initializers: dict[str, Value] = {}
        self._small: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._derived: dict[Value, Array | None] = {}  # computed from constants alone → its data, once asked for
        self._asked: set[Value] = set()
        self._taken: set[str] = set()
        self._name = name
        self.aliases: dict[str, str] = {}
        """Layers that need no node → the layer that does their work ("" if none)."""

    def input(self, name: str, shape: Sequence[int | str | None], dtype: Any = np.float32) -> Value:
        """A graph input; free dimensions are None or a name."""
        value = ir.Value(name=self._fresh(name), shape=ir.Shape(list(shape)), type=_type(dtype))
        self._inputs.append(value)
        return value

    def constant(self, array: Any, name: str = "") -> Value:
        """A constant; a Python number is float32, whole numbers in lists are int64 (shapes, axes)."""
        data = np.asarray(array)
        if not isinstance(array, (np.ndarray, np.generic)) and data.dtype == np.float64:
            data = data.astype(np.float32)
        key = (data.dtype.str, data.shape, data.tobytes()) if not name and data.size <= SMALL else None
        if key in self._small:
            return self._small[key]
        unique = self._fresh(name or "constant")
        kept, shape = ir.tensor(data, name=unique), ir.Shape(list(data.shape))
        value = ir.Value(name=unique, shape=shape, type=_type(data.dtype), const_value=kept)
        self._initializers[unique] = value
        if key is not None:
            self._small[key] = value
        return value

    def node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        *,
        name: str,
        outputs: int | Sequence[str] = 1,
        domain: str = "",
        meta: Mapping[str, str] | None = None,
        **attrs: Any,
    ) -> tuple[Value, ...]:
        """Add an ONNX node.

        Args:
            op, inputs, attrs: as ONNX has them; attributes that are None are left out, and inputs at the end.
            outputs: how many, or their names. meta: free text kept with the node.

        Raises:
            ModelFormatError: the shapes of the inputs do not fit the operator.
        """
        while inputs and inputs[-1] is None:  # left out, not empty: OpenVINO refuses the latter
            inputs = inputs[:-1]
        own = self._fresh(name)
        names = [f"{own}_out{i or ''}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
        given = [ir.convenience.convert_attribute(k, v) for k, v in attrs.items() if v is not None]
        values = [ir.Value(name=self._fresh(n) if n else "") for n in names]
        node = ir.Node(domain, op, list(inputs), given, outputs=values, name=own)
        if meta:
            node.metadata_props.update(meta)
        _infer(node)
        self._nodes.append(node)
        if inputs and all(v is None or v in self._derived or is_const(v) for v in inputs):
            self._derived |= dict.fromkeys(values)
        return tuple(values)

    def data(self, value: Value) -> Array | None:
        """The data of a constant, or of what is computed from constants alone; None for all else, or if it is huge."""
        if value not in self._derived:
            return const(value)
        waiting = [value]
        while waiting:
            node = waiting[-1].producer()
            assert node is not None
            ahead = [v for v in node.inputs if v is not None and v in self._derived and v not in self._asked]
            if ahead and waiting[-1] not in self._asked:
                waiting += ahead
                continue
            if waiting.pop() not in self._asked:
                self._asked.update(node.outputs)
                self._compute(node)
        return self._derived[value]

    def _compute(self, node: ir.Node) -> None:
        """Keep the data of a node's outputs, if that of its inputs is known."""
        known = [None if v is None else self._derived.get(v, const(v)) for v in node.inputs]
        if _huge(node) or any(v is not None and a is None for v, a in zip(node.inputs, known, strict=True)):
            return
        for made, array in zip(node.outputs, _computed(node, known), strict=False):
            self._derived[made] = array

    def rename(self, value: Value, name: str) -> None:
        """Give a value another name, which no other value has."""
        value.name = self._fresh(name)

    def finish(self, outputs: Sequence[tuple[Value, str]], *, notes: Sequence[str] = ()) -> Model:
        """The model that answers with these values under these names; what none of them needs is left out.

        Names that inputs or outputs before have are numbered: `fc_output`, `fc_output_2`. An input that is an answer
        as it is keeps its name.
        """
        answers: list[Value] = []
        taken = {str(v.name) for v in self._inputs}
        for value, wish in outputs:
            if value in self._inputs and value not in answers and value.name == wish:
                answers.append(value)
                continue
            name, n = wish, 1
            while name in taken:
                n += 1
                name = f"{wish}_{n}"
            taken.add(name)
            if value.producer() is None or value in answers or value.name != name:
                (value,) = self.node("Identity", [value], name=f"{name}/output", outputs=[name])
                value.name = name  # `name` may be taken by a layer of that name: values and nodes are apart
            answers.append(value)
        graph = ir.Graph(
            self._inputs,
            answers,
            nodes=self._nodes,
            initializers=list(self._initializers.values()),
            opset_imports={"": WANTED},
            name=self._name,
        )
        model = Model(ir.Model(graph, ir_version=min(max(LEAST_IR, ir_for(WANTED)), PLAIN_IR), producer_name="fewbit"))
        model.notes += notes
        model.drop_unused()
        model.aliases = dict(self.aliases)
        normalize(model, self._name)
        keep_zeros(model)
        return model

    def _fresh(self, name: str) -> str:
        return free_name(name, self._taken)


def shape_of(value: Value) -> Dims | None:
    """Sizes of a value, None where free; None altogether if even the rank is unknown."""
    return dims(value)


def data_of(value: Value) -> Array | None:
    """The data of a constant; None for values that are computed or fed."""
    return const(value)


def type_of(value: Value) -> np.dtype[Any] | None:
    """The numpy type of a value, if it is known."""
    return np.dtype(value.dtype.numpy()) if value.dtype is not None else None


def told(value: Value, shape: Sequence[int | None]) -> Value:
    """Say what shape inference could not find out; sizes that are known already win."""
    have = dims(value) or (None,) * len(shape)
    value.shape = ir.Shape([a if a is not None else b for a, b in zip(have, shape, strict=True)])
    return value


def _type(dtype: Any) -> ir.TensorType:
    return ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))


def _huge(node: ir.Node) -> bool:
    """Whether an output is too large, or of unknown size, to be computed here."""
    shapes = [dims(v) for v in node.outputs]
    return any(s is None or None in s or prod(d or 0 for d in s) > HUGE for s in shapes)


def _computed(node: ir.Node, inputs: Sequence[Array | None]) -> Sequence[Array]:
    """Outputs of one node for these inputs; none if they do not fit."""
    from onnx.reference import ReferenceEvaluator

    names = [f"i{i}" if a is not None else "" for i, a in enumerate(inputs)]
    light = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=names)
    light.output.extend(f"o{i}" for i in range(len(node.outputs)))
    light.attribute.extend(ir.serde.serialize_attribute(a) for a in node.attributes.values())
    fed = {n: a for n, a in zip(names, inputs, strict=True) if a is not None}
    try:
        return list(ReferenceEvaluator(light, opsets={"": WANTED}).run(None, fed))
    except (
        ValueError,
        TypeError,
        IndexError,
        RuntimeError,
        ArithmeticError,
    ):  # what NumPy says of inputs that do not fit
        return []


def _infer(node: ir.Node) -> None:
    """Types and shapes of a node's outputs by ONNX's own inference, as far as it goes."""
    schema = defs.get_schema(node.op_type, WANTED, node.domain)
    names = [f"i{i}" if v is not None else "" for i, v in enumerate(node.inputs)]
    fed = [(n, v) for n, v in zip(names, node.inputs, strict=True) if v is not None]
    types = {n: _proto(v) for n, v in fed if v.type is not None}
    data = {
        n: ir.serde.serialize_tensor(v.const_value)
        for n, v in fed
        if v.const_value is not None and is_const(v) and v.const_value.size <= SMALL
    }
    light = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=names)
    light.output.extend(f"o{i}" for i in range(len(node.outputs)))
    light.attribute.extend(ir.serde.serialize_attribute(a) for a in node.attributes.values())
    imports = [helper.make_opsetid("", WANTED)]
    try:
        found = shape_inference.infer_node_outputs(schema, light, types, data, opset_imports=imports)
    except FAILURES as e:
        said = (str(e).strip() or type(e).__name__).splitlines()[0]
        shapes = ", ".join(str(dims(v)) if v is not None else "-" for v in node.inputs)
        what = f"layer {node.name!r}: {node.op_type}"
        raise ModelFormatError(f"{what} cannot take inputs of shapes {shapes} ({said})") from e
    for i, value in enumerate(node.outputs):
        proto = found.get(f"o{i}")
        if proto is not None:
            value.type = ir.serde.deserialize_type_proto_for_type(proto)
            value.shape = ir.serde.deserialize_type_proto_for_shape(proto)


def _proto(value: Value) -> onnx.TypeProto:
    proto = onnx.TypeProto()
    assert value.type is not None
    ir.serde.serialize_type_into(proto, value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return proto
