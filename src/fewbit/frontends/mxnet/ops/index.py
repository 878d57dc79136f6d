"""Looking things up by their place, and sequences of given lengths.

MXNet's places are floats as a rule; they are cut to whole numbers first, and then moved into the axis (`clip`), counted
round it (`wrap`), or taken as they are (`raise`).
"""

from __future__ import annotations

import numpy as np

from fewbit.frontends.mxnet.kinds import FLOAT, LONG, asked, cast
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.sizes import MOST, allowed, ints, product, reshape, size, sizes, squeeze, unsqueeze
from fewbit.graph.build import Value


def _places(layer: Layer, index: Value, x: Value, axis: int, mode: str) -> Value:
    """Whole places within an axis of x."""
    index = cast(layer, index, LONG)
    if mode == "raise":
        return index
    length, zero, one = layer.shape(x)[axis], layer.const(LONG.type(0)), layer.const(LONG.type(1))
    whole = layer.const(LONG.type(length)) if length is not None else squeeze(layer, size(layer, x, axis), 0)
    if mode == "wrap":
        return layer.node("Mod", index, whole)
    last = layer.const(LONG.type(length - 1)) if length is not None else layer.node("Sub", whole, one)
    return layer.node("Min", layer.node("Max", index, zero), last)


@op("Embedding", "_npx_embedding", "_sparse_Embedding", "_contrib_SparseEmbedding")
def embedding(layer: Layer) -> Value:
    """Rows of a table; places beyond it mean its first or last row."""
    layer.attrs.skip("input_dim", "output_dim", "deterministic")
    asked(layer, FLOAT)  # the table's own type decides
    index, table = layer.takes(2)
    return layer.main("Gather", table, _places(layer, index, table, 0, "clip"), axis=0)


@op("take", "_npi_take")
def take(layer: Layer) -> Value:
    """Entries of an axis."""
    x, index = layer.takes(2)
    axis, mode = layer.axis("axis", 0), layer.attrs.word("mode", "clip", ("clip", "wrap", "raise"))
    return layer.main("Gather", x, _places(layer, index, x, axis, mode), axis=axis)


@op("batch_take")
def batch_take(layer: Layer) -> Value:
    """One entry of every row."""
    x, index = layer.takes(2)
    index = unsqueeze(layer, _places(layer, index, x, 1, "clip"), 1)
    return squeeze(layer, layer.node("GatherElements", x, index, axis=1), 1, make=layer.main)


@op("pick", "_npx_pick", "choose_element_0index")
def pick(layer: Layer) -> Value:
    """One entry along an axis for each of the other places; of all numbers if no axis is given."""
    x, index = layer.takes(2)
    keep, mode = layer.attrs.flag("keepdims", False), layer.attrs.word("mode", "clip", ("clip", "wrap"))
    if layer.attrs.text("axis", "-1") == "None":
        if keep:
            raise layer.unsupported("keepdims without an axis is not known to fewbit")
        x = reshape(layer, x, [product(sizes(layer))], layer.node)
        return layer.main("Gather", x, _places(layer, index, x, 0, mode), axis=0)
    axis = layer.axis("axis", -1)
    index = _places(layer, index, x, axis, mode)
    if layer.rank(index) < layer.rank(x):
        index = unsqueeze(layer, index, axis)
    if keep:
        return layer.main("GatherElements", x, index, axis=axis)
    return squeeze(layer, layer.node("GatherElements", x, index, axis=axis), axis, make=layer.main)


def _rows(layer: Layer, index: Value) -> Value:
    """Places (axis, …) → (…, axis), as ONNX has them."""
    rank = layer.rank(index)
    return layer.node("Transpose", cast(layer, index, LONG), perm=[*range(1, rank), 0])


@op("gather_nd", "_npi_gather_nd", "_npx_gather_nd")
def gather_nd(layer: Layer) -> Value:
    """x[index[0], index[1], …]."""
    x, index = layer.takes(2)
    return layer.main("GatherND", x, _rows(layer, index))


@op("scatter_nd")
def scatter_nd(layer: Layer) -> Value:
    """Zeros of a given shape, with the numbers at index[0], index[1], …."""
    x, index = layer.takes(2)
    shape = layer.attrs.wholes("shape")
    if any(n < 1 for n in shape):
        raise layer.misfit(f"shape is {shape}; all sizes must be at least 1")
    zeros = layer.node("Expand", layer.like(0, x), ints(layer, *shape))
    return layer.main("ScatterND", zeros, _rows(layer, index), x)


@op("one_hot", "_npx_one_hot")
def one_hot(layer: Layer) -> Value:
    """on_value at a place, off_value elsewhere; nothing is on for places beyond the depth."""
    attrs = layer.attrs
    (depth,), kind = allowed(layer, layer.positive("depth")), asked(layer, FLOAT)
    on, off = (layer.const(np.array(attrs.number(k, d), kind)) for k, d in (("on_value", 1.0), ("off_value", 0.0)))
    index = unsqueeze(layer, cast(layer, layer.x, LONG), -1)
    return layer.main("Where", layer.node("Equal", index, ints(layer, *range(depth))), on, off)


def _lengths(layer: Layer) -> Value | None:
    """How long each sequence is; None if they all are whole."""
    return layer.inputs[1] if layer.attrs.flag("use_sequence_length", False) else None


def _time(layer: Layer) -> int:
    axis = layer.attrs.whole("axis", 0)
    if axis not in (0, 1):
        raise layer.misfit(f"axis is {axis}; it must be 0 or 1")
    return axis


@op("SequenceMask", "_npx_sequence_mask")
def sequence_mask(layer: Layer) -> Value:
    """`value` behind the end of each sequence."""
    lengths, time, number = _lengths(layer), _time(layer), layer.attrs.number("value", 0.0)
    if lengths is None:
        return layer.x
    whole, rank = layer.shape()[time], layer.rank()
    if whole is not None and whole <= MOST:
        steps = ints(layer, *range(whole))
    else:
        end = squeeze(layer, size(layer, layer.x, time), 0)
        steps = layer.node("Range", layer.const(LONG.type(0)), end, layer.const(LONG.type(1)))
    steps = unsqueeze(layer, steps, *(a for a in range(rank) if a != time))
    ends = unsqueeze(layer, cast(layer, lengths, LONG), *(a for a in range(rank) if a != 1 - time))
    kept = layer.main("Where", layer.node("Less", steps, ends), layer.x, layer.like(number, layer.x))
    return layer.told(kept, layer.shape())


@op("SequenceLast", "_npx_sequence_last")
def sequence_last(layer: Layer) -> Value:
    """The last entry of each sequence."""
    lengths, time = _lengths(layer), _time(layer)
    if lengths is None:
        return layer.main("Gather", layer.x, layer.const(LONG.type(-1)), axis=time)
    x = layer.x if time == 1 else layer.node("Transpose", layer.x, perm=[1, 0, *range(2, layer.rank())])
    last = layer.node("Sub", cast(layer, lengths, LONG), layer.const(LONG.type(1)))
    return layer.main("GatherND", x, unsqueeze(layer, last, 1), batch_dims=1)


@op("SequenceReverse", "_npx_sequence_reverse")
def sequence_reverse(layer: Layer) -> Value:
    """Each sequence from its end; what stands behind the end stays."""
    lengths = _lengths(layer)
    if _time(layer):
        raise layer.misfit("axis is 1; only 0 is known for this operator")
    if lengths is not None:
        return layer.main("ReverseSequence", layer.x, cast(layer, lengths, LONG), time_axis=0, batch_axis=1)
    first, last = -int(np.iinfo(np.int64).max), int(np.iinfo(np.int64).max)
    turned = layer.main("Slice", layer.x, *(ints(layer, n) for n in (last, first, 0, -1)))
    return layer.told(turned, layer.shape())
