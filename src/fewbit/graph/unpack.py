"""Write a weight of any width into a graph, as bytes and the arithmetic that turns them into float.

    before   W ─ Conv
    after    bytes ─ Cast ─ Gather(table) ─┐
             bytes ─ Cast ─ Gather(table) ─ Add ─ Reshape ─ Cast ─ [Sub z] ─ Mul s ─ [Add m] ─ W ─ Conv

Engines do this once, when they load the network: all of it is constant. Standard ONNX, nothing of fewbit's.

b bits are cut into planes of 8, 4, 2 and 1 bits (3 = 2 + 1; 13 = 8 + 4 + 1), so that a byte holds whole fields and the
file no slack. One look into a table of 256 rows unpacks the 2, 4 or 8 fields of a byte, shifted to their place. Eight
values are a group of shape (2, 2, 2), in every plane, so that the planes add up without being reshaped. All is done in
int8 (int16 over 8 bits) up to the last Cast: ONNX Runtime keeps what it folds until the whole network is folded, so
that small types are what bounds its memory. Looking up is right in all engines; masking is not (OpenVINO 2026.4).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.stored import StoredWeight
from fewbit.graph.model import Model

Ints = NDArray[Any]

GROUP = 8
"""Values that are packed together: 8 of them fill whole bytes in every plane."""

FLOAT, INT16, INT32 = ir.DataType.FLOAT, ir.DataType.INT16, ir.DataType.INT32

FIELDS = {4: (2,), 2: (2, 2), 1: (2, 2, 2)}
"""Bits of a plane → shape of the fields in one of its bytes."""


@dataclass
class Unpacking:
    """Where weights are written to.

    Args:
        model: the network. taken: its names.
        shared: tables and shapes that are there already, by content.
    """

    model: Model
    taken: set[str]
    shared: dict[tuple[str, bytes], ir.Value] = field(default_factory=dict)
    made: int = 0
    weights: int = 0

    def constant(self, data: NDArray[Any], name: str = "u") -> ir.Value:
        """An initializer; those without a name of their own are shared by content."""
        key = (f"{data.dtype}{data.shape}", data.tobytes() if name == "u" else name.encode())
        if key not in self.shared:
            self.shared[key] = self.model.add_initializer(self.model.fresh(name, self.taken), data)
        return self.shared[key]

    def node(self, op: str, inputs: list[ir.Value], **attrs: Any) -> ir.Value:
        """A node with one output. Names are short and types left to inference: a file has thousands of them."""
        self.made += 1
        node = ir.node(op, inputs, attributes=attrs, name=self.model.fresh(f"u{self.made}", self.taken))
        node.outputs[0].name = node.name
        self.model.graph.append(node)
        return node.outputs[0]

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """A value in another type."""
        return self.node("Cast", [value], to=dtype)

    def sizes(self, *sizes: int) -> ir.Value:
        """A constant of whole numbers, for Reshape and Slice."""
        return self.constant(np.array(sizes, np.int64))


def unpack(w: Unpacking, stored: StoredWeight) -> ir.Value:
    """Write one weight, and return its value; names are short, and the caller may give that value another one.

    Args:
        w: where to. stored: integers and scales; not empty.
    """
    spec, shape = stored.params.spec, stored.q.shape
    q, view, axis = stored.q, shape, 0
    w.weights += 1
    own = f"u{w.weights}"  # of its constants; names of weights are long, and each would stand there twice
    if spec.granularity == "group":
        assert spec.axis is not None and spec.group_size is not None
        axis, size = spec.axis % len(shape), spec.group_size
        groups = -(-shape[axis] // size)
        q = _padded(q, axis, groups * size)
        view = (*shape[:axis], groups, size, *shape[axis + 1 :])
    spread = _spread(stored, len(view))
    steps = [("Mul", _scales(w, stored.step.reshape(spread), f"{own}.s"))]
    zero = stored.params.zero_point
    if zero.any():
        tight = zero.reshape(spread).astype(spec.storage if spec.signed else np.int32)
        steps.insert(0, ("Sub", w.cast(w.constant(tight, f"{own}.z"), FLOAT)))
    if stored.offset is not None and stored.offset.any():
        steps.append(("Add", _scales(w, stored.offset.reshape(spread), f"{own}.m")))
    found = _real(w, f"{own}.q", q, stored, view)
    for op, value in steps:
        found = w.node(op, [found, value])
    if view != shape:
        found = w.node("Reshape", [found, w.sizes(*q.shape)])
    if q.shape != shape:
        found = w.node("Slice", [found, w.sizes(0), w.sizes(shape[axis]), w.sizes(axis)])
    found.type, found.shape = ir.TensorType(FLOAT), ir.Shape(shape)
    return found


def _scales(w: Unpacking, numbers: NDArray[np.float32], name: str) -> ir.Value:
    """A constant of float32; stored in half the room if float16 holds it to the last bit."""
    with np.errstate(over="ignore"):
        half = numbers.astype(np.float16)
    if numbers.size < 2 * GROUP or not np.array_equal(half.astype(np.float32), numbers):
        return w.constant(numbers, name)
    return w.cast(w.constant(half, name), FLOAT)


def _spread(stored: StoredWeight, rank: int) -> tuple[int, ...]:
    """Shape in which scales meet the integers, which have `rank` axes; groups have one more than the weight."""
    spec, shape = stored.params.spec, stored.params.scale.shape
    if spec.granularity == "tensor":
        return ()
    assert spec.axis is not None
    if spec.granularity == "channel":
        return (-1, *[1] * (rank - 1 - spec.axis % rank))
    axis = spec.axis % (rank - 1)
    return (*shape[: axis + 1], 1, *shape[axis + 1 :])


def _real(w: Unpacking, name: str, q: Ints, stored: StoredWeight, view: tuple[int, ...]) -> ir.Value:
    """The integers as float32 of shape `view`."""
    spec = stored.params.spec
    if spec.bits in (8, 16):
        return _float(w, w.constant(q.astype(spec.storage).reshape(view), name), wide=spec.bits > 8)
    found = _from_planes(w, name, q.reshape(-1), spec.bits, bool(spec.signed))
    if q.size % GROUP:
        found = w.node("Slice", [w.node("Reshape", [found, w.sizes(-1)]), w.sizes(0), w.sizes(q.size)])
    found = w.node("Reshape", [found, w.sizes(*view)])
    return _float(w, found, wide=spec.bits > 8)


def _float(w: Unpacking, q: ir.Value, *, wide: bool) -> ir.Value:
    """Integers as float32, by way of int16.

    OpenVINO takes `int8 → float → Mul` in front of a matrix product as an order to keep the weight in int8, and then
    rounds the activations to 8 bits as well.
    """
    return w.cast(q if wide else w.cast(q, INT16), FLOAT)


def _from_planes(w: Unpacking, name: str, q: Ints, bits: int, signed: bool) -> ir.Value:
    """The integers, (groups, 2, 2, 2): planes from the lowest bits up, added."""
    kind = (np.int8 if signed else np.uint8) if bits <= 8 else np.int16
    dtype = ir.DataType.from_numpy(np.dtype(kind))
    u, (step, base) = levels(q, bits, signed)
    u = np.append(u, np.zeros(-len(u) % GROUP, u.dtype)).reshape(-1, 2, 2, 2)
    found, shift = None, 0
    for width in widths(bits):
        plane = (u >> shift) & ((1 << width) - 1)
        last = shift + width == bits
        if width == 8:
            held = w.constant(plane.astype(np.uint8), f"{name}8")
            value = w.cast(held, dtype)
        else:
            held = w.constant(_packed(plane, width), f"{name}{width}")
            table = _table(width, shift, step, base if last else 0).astype(kind)
            value = w.node("Gather", [w.constant(table), w.cast(held, INT32)])
        found = value if found is None else w.node("Add", [value, found])
        shift += width
    assert found is not None
    return found


def levels(q: Ints, bits: int, signed: bool) -> tuple[NDArray[np.int32], tuple[int, int]]:
    """Integers as bit patterns u ≥ 0 with q = step · u + base; → u, (step, base)."""
    wide = q.astype(np.int32)
    if not signed:
        return wide, (1, 0)
    if bits == 1:  # -1 and 1
        return (wide + 1) // 2, (2, -1)
    base = -(1 << (bits - 1))
    return wide - base, (1, base)


def widths(bits: int) -> list[int]:
    """Planes of a width, lowest bits first: 8 before all, then 4, 2, 1."""
    return [x for x in (8, 4, 2, 1) if bits & x]


def _packed(plane: NDArray[np.int32], width: int) -> NDArray[np.uint8]:
    """(groups, 2, 2, 2) fields → bytes, (groups, 2, 2), (groups, 2) or (groups,)."""
    fields = FIELDS[width]
    lead = plane.shape[: plane.ndim - len(fields)]
    flat = plane.reshape(*lead, -1)
    packed: NDArray[np.uint8] = (flat << (width * np.arange(flat.shape[-1]))).sum(-1).astype(np.uint8)
    return packed


def _table(width: int, shift: int, step: int, base: int) -> NDArray[np.int32]:
    """What the fields of each byte stand for, (256, *fields)."""
    count = 8 // width
    fields = (np.arange(256)[:, None] >> (width * np.arange(count))) & ((1 << width) - 1)
    return ((fields << shift) * step + base).reshape(256, *FIELDS[width]).astype(np.int32)


def _padded(q: Ints, axis: int, size: int) -> Ints:
    """Zeros behind the end of an axis, so that its last group is whole; they are cut off again."""
    more = [(0, 0)] * q.ndim
    more[axis] = (0, size - q.shape[axis])
    return np.pad(q, more) if more[axis][1] else q
