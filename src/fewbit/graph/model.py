"""Model: an ONNX graph with names that can be relied on.

What holds for every Model, and after every rewrite of fewbit:

* every node and every value has a unique, non-empty name (but for outputs left out, which have none); nodes are in
  topological order;
* graph inputs and outputs keep their names, types and order;
* constants are initializers (no Constant nodes), model-local functions are inlined;
* large weights stay where they are (memory-mapped, if external) until somebody asks for them.

`If`, `Loop` and `Scan` bodies are carried along untouched; values that they use count as used.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx.defs
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.html import to_html
from fewbit.core.stored import StoredWeight
from fewbit.errors import unknown

Array = NDArray[Any]

MAX_PROTO = 2_000_000_000
"""Bytes above which a model cannot be one protobuf message (the limit is 2 GiB, names and nodes included)."""


PACKED = "fewbit.packed"
"""Metadata key: how many weights nodes unpack from integers."""


@dataclass(frozen=True)
class TensorInfo:
    """Name, numpy dtype and shape of a graph input or output; free dimensions are names or None."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype.name}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


class Model:
    """A float or quantized network.

    Args:
        irm: the onnx_ir model; taken over, not copied.
        path: where it was loaded from, if anywhere.
        notes: what could not be done while loading, and why.
    """

    def __init__(self, irm: ir.Model, path: Path | None = None, notes: Sequence[str] = ()) -> None:
        self.ir = irm
        self.path = path
        self.notes: list[str] = list(notes)
        self.aliases: dict[str, str] = {}
        """Layers that were fused away → the layer that does their work now."""
        self.ranges: dict[str, tuple[float, float]] = {}
        """Values → the range that an earlier calibration found, where the file that was loaded holds one."""
        self.stored: dict[str, StoredWeight] = {}
        """Weights that nodes unpack from integers, by the name of the float value → the integers."""

    # -- looking up ---------------------------------------------------------------------------------------------

    @property
    def graph(self) -> ir.Graph:
        """The onnx_ir main graph."""
        return self.ir.graph

    @property
    def nodes(self) -> list[ir.Node]:
        """Nodes of the main graph in topological order."""
        return list(self.ir.graph)

    @property
    def inputs(self) -> list[TensorInfo]:
        """What the network is fed with."""
        return [tensor_info(v) for v in self.graph.inputs if v.name not in self.graph.initializers]

    @property
    def outputs(self) -> list[TensorInfo]:
        """What the network answers."""
        return [tensor_info(v) for v in self.graph.outputs]

    @property
    def opset(self) -> int:
        """Version of the standard ONNX operator set in use."""
        return self.ir.opset_imports.get("", 0)

    def node(self, name: str) -> ir.Node:
        """Find a node of the main graph by name; an unknown one offers the nearest."""
        for node in self.graph:
            if node.name == name:
                return node
        raise unknown("layer", name, (str(n.name) for n in self.graph))

    def values(self) -> dict[str, ir.Value]:
        """Every value of the main graph by name: inputs, initializers, node outputs."""
        found = {str(v.name): v for v in self.graph.inputs}
        found |= {str(k): v for k, v in self.graph.initializers.items()}
        found |= {str(v.name): v for n in self.graph for v in n.outputs if v.name}
        return found

    def value(self, name: str) -> ir.Value:
        """Find a value of the main graph by name; an unknown one offers the nearest."""
        values = self.values()
        if name not in values:
            raise unknown("value", name, values)
        return values[name]

    def names(self) -> set[str]:
        """Names of all nodes and values, bodies of control flow included: what a new name must differ from."""
        found = {str(v.name) for v in (*self.graph.inputs, *self.weights())}
        for sub in self.graph.subgraphs():
            found |= {str(v.name) for v in sub.inputs}
        for node in self.graph.all_nodes():
            found |= {str(node.name), *(str(v.name) for v in node.outputs)}
        return found

    def op_counts(self) -> Counter[str]:
        """How often each operator type occurs, bodies of control flow included."""
        return Counter(op_name(n) for n in self.ir.graph.all_nodes())

    def weights(self) -> list[ir.Value]:
        """Initializers of the main graph and of all bodies."""
        found = list(self.graph.initializers.values())
        for sub in self.graph.subgraphs():
            if sub is not self.graph:
                found += sub.initializers.values()
        return found

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(int(v.const_value.size) for v in self.weights() if v.const_value is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights as stored."""
        return sum(int(v.const_value.nbytes) for v in self.weights() if v.const_value is not None)

    # -- editing --------------------------------------------------------------------------------------------------

    def clone(self) -> Model:
        """An independent graph; weight data is shared, since nothing ever writes into it."""
        copy = Model(self.ir.clone(), self.path, self.notes)
        copy.aliases, copy.ranges, copy.stored = dict(self.aliases), dict(self.ranges), dict(self.stored)
        return copy

    def with_outputs(self, names: Iterable[str]) -> Model:
        """A copy that also answers with these inner values, after the outputs it already has."""
        copy = self.clone()
        values = copy.values()
        have = {v.name for v in copy.graph.outputs}
        for name in dict.fromkeys(names):
            if name not in values:
                raise unknown("value", name, values)
            if name not in have:
                copy.graph.outputs.append(values[name])
        return copy

    def fresh(self, name: str, taken: set[str]) -> str:
        """A name not in `taken` that starts with `name`; it is added to `taken`."""
        return free_name(name, taken)

    def add_initializer(self, name: str, array: Array, dtype: ir.DataType | None = None) -> ir.Value:
        """Put a constant into the main graph. `dtype` is for types numpy lacks (4-bit)."""
        tensor = ir.tensor(np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array), dtype, name=name)
        shape, kind = ir.Shape(list(tensor.shape.numpy())), ir.TensorType(tensor.dtype)
        value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def set_weight(self, name: str, array: Array) -> None:
        """Give an initializer of the main graph other numbers, of the same type and shape."""
        self.graph.initializers[name].const_value = ir.tensor(np.ascontiguousarray(array), name=name)

    def drop_unused(self) -> int:
        """Remove nodes and initializers that no output needs; returns how many nodes went."""
        outputs, gone = set(self.graph.outputs), 0
        for node in reversed(self.nodes):
            if not any(v.uses() or v in outputs for v in node.outputs):
                for inner in _inner_nodes(node):  # values that only its bodies used are free now
                    for i in range(len(inner.inputs)):
                        inner.replace_input_with(i, None)
                self.graph.remove(node, safe=True)
                gone += 1
        for name, value in list(self.graph.initializers.items()):
            if not value.uses() and value not in outputs:
                del self.graph.initializers[name]
        return gone

    # -- identity -------------------------------------------------------------------------------------------------

    @property
    def metadata(self) -> dict[str, str]:
        """The model's free text properties, written into the file."""
        return self.ir.metadata_props

    def digest(self) -> str:
        """sha256 over the graph and the weights, independent of file layout and of free text."""
        sha = hashlib.sha256()
        for node in self.ir.graph.all_nodes():
            ins = [v.name if v is not None else "" for v in node.inputs]
            sha.update(repr((op_name(node), ins, [v.name for v in node.outputs])).encode())
            for key in sorted(node.attributes):
                attr = node.attributes[key]
                if attr.type not in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
                    sha.update(f"{key}={_attr_text(attr)}".encode())
        for value in sorted(self.weights(), key=lambda v: str(v.name)):
            if value.const_value is not None:
                sha.update(f"{value.name}{value.const_value.dtype}{value.const_value.shape}".encode())
                sha.update(value.const_value.tobytes())
        return sha.hexdigest()

    def __repr__(self) -> str:
        where = f" from {self.path.name}" if self.path else ""
        return f"<fewbit.Model{where}: {len(self.nodes)} nodes, {self.parameters:,} parameters, opset {self.opset}>"

    def _repr_html_(self) -> str:
        from fewbit.graph.shown import blocks

        return to_html(blocks(self))

    # -- files ----------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write an ONNX file, whole or not at all; above 2 GB the weights go into `<name>.data` beside it.

        A path that ends in `.fewbit` gives a container with entropy-coded weights.
        """
        from fewbit.graph.repack import save_any

        save_any(self, Path(path))


def free_name(name: str, taken: set[str]) -> str:
    """The name, or the first one with a number that is not in `taken`; it is added there."""
    unique, n = name, 1
    while unique in taken:
        n += 1
        unique = f"{name}_{n}"
    taken.add(unique)
    return unique


def _inner_nodes(node: ir.Node) -> Iterator[ir.Node]:
    """Nodes of a node's bodies, and of theirs."""
    for a in node.attributes.values():
        if a.type == ir.AttributeType.GRAPH:
            yield from a.as_graph().all_nodes()
        elif a.type == ir.AttributeType.GRAPHS:
            for body in a.as_graphs():
                yield from body.all_nodes()


def _attr_text(attr: ir.Attr) -> str:
    if attr.type == ir.AttributeType.TENSOR:
        return str(attr.as_tensor().tobytes().hex())
    return repr(attr.value)


SOURCE_OP = "fewbit.source_op"
"""Metadata key: the operator of the layer in the tool that the network came from, if it was not ONNX there."""


def op_names(node: ir.Node) -> set[str]:
    """What the operator of a node may be called: ONNX's name, and that of the tool that the network came from."""
    return {op_name(node), *filter(None, [node.metadata_props.get(SOURCE_OP)])}


def op_name(node: ir.Node) -> str:
    """Operator type; with its domain unless that is the standard one: `Conv`, `com.microsoft.FusedConv`."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def tensor_info(value: ir.Value) -> TensorInfo:
    """Describe a value; a type that was never inferred counts as float32, strings are objects."""
    dims: tuple[int | str | None, ...] = ()
    if value.shape is not None:
        dims = tuple(d if isinstance(d, int) else (str(d.value) if d.value is not None else None) for d in value.shape)
    dtype = (value.dtype or ir.DataType.FLOAT).numpy()
    return TensorInfo(str(value.name), np.dtype(dtype), dims)


def const(value: ir.Value | None) -> Array | None:
    """The data of a constant value, or None if it is computed or fed."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return np.asarray(value.const_value.numpy())


def is_const(value: ir.Value | None) -> bool:
    """Whether a value is a constant, without reading it."""
    return value is not None and value.const_value is not None and not value.is_graph_input()


def dims(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """Known shape of a value, free dimensions as None; None if even the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def is_float(value: ir.Value | None) -> bool:
    """Whether a value is known to be float32 – the only type that fewbit quantizes."""
    return value is not None and value.dtype == ir.DataType.FLOAT


def attr(node: ir.Node, name: str, default: Any = None) -> Any:
    """Value of an attribute, or `default`; strings are str, lists are tuples."""
    found = node.attributes.get(name)
    if found is None:
        return default
    return tuple(found.value) if isinstance(found.value, (list, tuple)) else found.value


def known_operators() -> frozenset[str]:
    """Names of all standard ONNX operators."""
    return frozenset(s.name for s in onnx.defs.get_all_schemas() if s.domain == "")
