"""Shapes: other axes for the same numbers, several values joined, and sizes as numbers.

What moves no number is no node, or one that moves none: TRANSPOSE is another order of axes, a RESHAPE by axes of size 1
keeps the order that there is. A picture that is flattened for FULLY_CONNECTED alone is flattened as it lies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op
from fewbit.frontends.tflite.layout import Perm, in_order, plain, reordered, turned, with_axis, without
from fewbit.frontends.tflite.ops.dense import can_mix, mixed
from fewbit.frontends.tflite.ops.fused import fused
from fewbit.graph.build import Dims, Value


@op("RESHAPE")
def reshape(layer: Layer) -> Laid:
    """Reshape to a shape that is an input, or stands in the options."""
    wanted = _wanted(layer)
    x, sizes = layer.lies(0), layer.shape(0)
    if wanted is None:
        value = x.value if in_order(x.perm, sizes) else layer.value(0)
        return Laid(layer.main("Reshape", value, layer.longs(1)), plain(len(layer.output().shape)))
    new = _batch_free(layer, sizes, _filled(layer, sizes, wanted))
    order = reordered(x.perm, sizes, [None if d == -1 else d for d in new])
    if order is not None and 0 not in new:
        return _as_it_lies(layer, x, sizes, new, order)
    if len(new) == 2 and can_mix(x.perm, sizes, new[1]) and _for_dense_alone(layer):
        return Laid(layer.main("Flatten", x.value, axis=1), plain(2), mixed(x.perm, sizes))
    value = x.value if in_order(x.perm, sizes) else layer.value(0)
    return Laid(layer.main("Reshape", value, layer.const(new)), plain(len(new)))


def _wanted(layer: Layer) -> list[int] | None:
    """The new shape; None if it is computed."""
    if layer.has(1):
        known = layer.array(1)
        return None if known is None else layer.wholes(1, "shape")
    return list(layer.options.wholes("NewShape") or layer.output().shape)


def _filled(layer: Layer, sizes: Dims, wanted: Sequence[int]) -> list[int]:
    """The shape with its -1 replaced, if all sizes are known."""
    new = list(wanted)
    if new.count(-1) > 1 or any(d < -1 for d in new):
        raise layer.misfit(f"its shape is {new}; one size may be -1, the others not negative")
    if None in sizes:
        return new
    have, rest = int(np.prod([int(d or 0) for d in sizes])), int(np.prod([d for d in new if d != -1]))
    if -1 in new and rest and have % rest == 0:
        new[new.index(-1)] = have // rest
    elif rest != have or -1 in new:
        raise layer.misfit(f"its shape is {list(wanted)}; its input has the shape {sizes}")
    return new


def _batch_free(layer: Layer, sizes: Dims, new: list[int]) -> list[int]:
    """The shape with its batch free, where that of the input is now and the file has a number for it."""
    old = layer.tensor(0).shape
    if -1 in new or not sizes or sizes[0] is not None or None in sizes[1:] or not new or new[0] != old[0]:
        return new
    same = np.prod([int(d or 0) for d in sizes[1:]]) == np.prod(new[1:])
    return [-1, *new[1:]] if same else new


def _as_it_lies(layer: Layer, x: Laid, sizes: Dims, new: Sequence[int], order: Perm) -> Laid:
    if list(sizes) == [None if d == -1 else d for d in new]:
        return x
    return Laid(layer.main("Reshape", x.value, layer.const([new[a] for a in order])), order)


def _for_dense_alone(layer: Layer) -> bool:
    """Whether all readers of the result are FULLY_CONNECTED with constant weights."""
    scene, index = layer.scene, layer.output().index
    readers = scene.readers.get(index, [])
    fits = all(
        r.op == "FULLY_CONNECTED" and r.inputs.count(index) == 1 and r.inputs[0] == index and len(r.inputs) > 1
        and r.inputs[1] >= 0 and scene.is_constant(r.inputs[1]) for r in readers
    )  # fmt: skip
    return fits and bool(readers) and index not in scene.graph.outputs


@op("SQUEEZE")
def squeeze(layer: Layer) -> Laid:
    """Squeeze; without axes all of size 1."""
    x, old = layer.lies(0), layer.tensor(0).shape
    sizes = [o if d is None else d for d, o in zip(layer.shape(0), old, strict=True)]
    given = layer.options.wholes("SqueezeDims")
    axes = sorted({layer.axis_of(a) for a in given}) if given else [a for a, d in enumerate(sizes) if d == 1]
    if not axes:
        return x
    places = sorted(x.axis(a) for a in axes)
    return Laid(layer.main("Squeeze", x.value, layer.const(places)), without(x.perm, axes))


@op("EXPAND_DIMS")
def expand_dims(layer: Layer) -> Laid:
    """Unsqueeze, where the axis goes best with the order of the others."""
    (axis,) = layer.wholes(1, "axis")
    x = layer.lies(0)
    order, place = with_axis(x.perm, layer.axis_of(axis, len(x.perm) + 1))
    return Laid(layer.main("Unsqueeze", x.value, layer.const([place])), order)


@op("TRANSPOSE")
def transpose(layer: Layer) -> Laid:
    """No node: another order."""
    x, by = layer.lies(0), [layer.axis_of(a) for a in layer.wholes(1, "order of axes")]
    if sorted(by) != list(range(len(x.perm))):
        raise layer.misfit(f"its order of axes is {by}; its input has {len(x.perm)}")
    return Laid(x.value, turned(x.perm, by))


@op("CONCATENATION")
def concatenation(layer: Layer) -> Laid:
    """Concat, in the order of the first computed input that lies otherwise than in the file."""
    perm = _common(layer)
    axis = layer.axis_of(layer.options.whole("Axis"))
    values = [layer.value(i, perm) for i in range(layer.count)]
    return Laid(fused(layer, layer.main("Concat", *values, axis=perm.index(axis))), perm)


@op("PACK")
def pack(layer: Layer) -> Laid:
    """Unsqueeze each, and Concat."""
    perm = _common(layer)
    axis = layer.axis_of(layer.options.whole("Axis"), len(perm) + 1)
    order, place = with_axis(perm, axis)
    where = layer.const([place])
    wide = [layer.node("Unsqueeze", layer.value(i, perm), where) for i in range(layer.count)]
    return Laid(layer.main("Concat", *wide, axis=place), order)


def _common(layer: Layer) -> Perm:
    """An order for all inputs, which have as many axes."""
    ranks = {layer.rank(i) for i in range(layer.count)}
    if len(ranks) != 1:
        raise layer.misfit(f"its inputs have {sorted(ranks)} axes; they must have as many")
    computed = [layer.lies(i).perm for i in range(layer.count) if not layer.scene.is_constant(layer.index(i))]
    order = plain(ranks.pop())
    return next((p for p in computed if p != order), order)


@op("UNPACK")
def unpack(layer: Layer) -> tuple[Laid, ...]:
    """Split, and Squeeze each."""
    x, axis = layer.lies(0), layer.axis_of(layer.options.whole("Axis"))
    count, place = len(layer.operator.outputs), x.axis(axis)
    if layer.shape()[axis] not in (None, count):
        raise layer.misfit(f"it has {count} outputs for an axis of {layer.shape()[axis]}")
    parts = layer.nodes("Split", x.value, outputs=count, axis=place) if count > 1 else (x.value,)
    where, order = layer.const([place]), without(x.perm, [axis])
    return tuple(Laid(layer.main("Squeeze", p, where), order) for p in parts)


@op("SHAPE")
def shape(layer: Layer) -> Value:
    """A constant if all sizes are known, else Shape, in the file's order."""
    x, sizes = layer.lies(0), layer.shape(0)
    if None not in sizes:
        return layer.const(np.asarray(sizes, layer.output().dtype))
    found = layer.main("Shape", x.value)
    places = [x.axis(a) for a in range(len(sizes))]
    return found if places == sorted(places) else layer.node("Gather", found, layer.const(places), axis=0)


@op("RANK")
def rank(layer: Layer) -> Value:
    """A constant."""
    return layer.const(np.asarray(layer.rank(), np.int32))


@op("FILL")
def fill(layer: Layer) -> Value:
    """Expand of one number."""
    return layer.main("Expand", layer.value(1), layer.longs(0))


@op("BROADCAST_TO")
def broadcast_to(layer: Layer) -> Value:
    """Expand."""
    return layer.main("Expand", layer.value(0), layer.longs(1))


@op("TILE")
def tile(layer: Layer) -> Laid:
    """Tile."""
    x, known = layer.lies(0), layer.array(1)
    if known is None:
        return Laid(layer.main("Tile", layer.value(0), layer.longs(1)), plain(len(x.perm)))
    times = layer.wholes(1, "numbers of times")
    if len(times) != len(x.perm):
        raise layer.misfit(f"its numbers of times are {times}; its input has {len(x.perm)} axes")
    return x.like(layer.main("Tile", x.value, layer.const([times[a] for a in x.perm])))


@op("RANGE")
def range_(layer: Layer) -> Value:
    """Range."""
    ends = [layer.node("Reshape", layer.value(i), layer.const(np.zeros(0, np.int64))) if layer.rank(i) else
            layer.value(i) for i in range(3)]  # fmt: skip
    return layer.main("Range", *ends)
