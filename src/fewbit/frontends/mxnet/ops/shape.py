"""The same numbers in another order or shape: reshape, transpose, join, split, repeat.

Reshape's codes:   0 the same   -1 the rest   -2 all that are left   -3 two merged   -4, a, b one split into a and b
NumPy's codes:    -2 the same   -1 the rest   -3 drop an axis of one   -4 all that are left   -5 merged   -6 split
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.sizes import (
    ONE,
    Size,
    fixed,
    ints,
    known,
    product,
    reshape,
    shape_list,
    size,
    sizes,
    squeeze,
    unsqueeze,
)  # fmt: skip
from fewbit.graph.build import Value

SAME, REST, ALL, MERGE, SPLIT, DROP = "same", "rest", "all", "merge", "split", "drop"
OLD_CODES = {0: SAME, -1: REST, -2: ALL, -3: MERGE, -4: SPLIT}
NEW_CODES = {-1: REST, -2: SAME, -3: DROP, -4: ALL, -5: MERGE, -6: SPLIT}
PLAIN_CODES = {-1: REST}
"""What the codes in a new shape mean: in the old style, in NumPy's, and in plain NumPy."""


@op("Flatten", "flatten", "_npx_batch_flatten")
def flatten(layer: Layer) -> Value:
    """Two axes: the first, and all others."""
    return layer.main("Flatten", layer.x, axis=1)


@op("Reshape", "reshape")
def old_reshape(layer: Layer) -> Value:
    """With the old codes; `target_shape` and `keep_highest` are how they wrote it before there were any."""
    attrs = layer.attrs
    shape, back = attrs.wholes("shape", ()), attrs.flag("reverse", False)
    target, keep = attrs.wholes("target_shape", ()), attrs.flag("keep_highest", False)
    if shape or not target:
        return _reshaped(layer, shape, OLD_CODES, back)
    rest = [REST if n == 0 else n for n in target]
    return _reshaped(layer, [SAME, *rest[1:]] if keep else rest, {}, False)


@op("_npx_reshape", "_npi_reshape", "_np_reshape")
def numpy_reshape(layer: Layer) -> Value:
    """With NumPy's codes."""
    layer.attrs.word("order", "C", ("C",))
    plain = layer.op == "_np_reshape"
    back = False if plain else layer.attrs.flag("reverse", False)
    return _reshaped(layer, layer.attrs.wholes("newshape"), PLAIN_CODES if plain else NEW_CODES, back)


def _reshaped(layer: Layer, shape: Sequence[Any], codes: dict[int, str], back: bool) -> Value:
    own = sizes(layer)
    said = [codes.get(n, n) if isinstance(n, int) else n for n in shape]
    wanted = _decoded(layer, said[::-1], own[::-1])[::-1] if back else _decoded(layer, said, own)
    total, new = product(own).known, product(wanted).known
    if total is not None and new is not None and total != new:
        raise layer.misfit(f"{known(own)} cannot be reshaped to {tuple(shape)}")
    return reshape(layer, layer.x, wanted, layer.main)


def _decoded(layer: Layer, said: Sequence[Any], own: Sequence[Size]) -> list[Size]:
    """Codes → sizes."""
    found: list[Size | None] = []
    left, codes, total = list(own), iter(said), product(own)
    try:
        for code in codes:
            if code == SAME:
                found.append(left.pop(0))
            elif code == ALL:
                found += left
                left = []
            elif code == MERGE:
                found.append(left.pop(0) * left.pop(0))
            elif code == DROP:
                dropped = left.pop(0)
                if dropped.known not in (1, None):
                    raise layer.misfit(f"-3 drops an axis of size one; its input has {known(own)}")
                total /= dropped
            elif code == SPLIT:
                found += _halves(layer, left.pop(0), next(codes, REST), next(codes, REST))
            else:
                found.append(None if code == REST else _positive(layer, code))
                del left[:1]
        if found.count(None) > 1:
            raise layer.misfit("only one axis of its shape can be -1")
        rest = total / product([s for s in found if s is not None]) if None in found else ONE
    except (IndexError, ValueError, ZeroDivisionError):
        raise layer.misfit(f"its shape does not fit an input of {known(own)}") from None
    if not rest.axes and rest.number.denominator != 1:
        raise layer.misfit(f"its shape does not fit an input of {known(own)}")
    return [rest if s is None else s for s in found]


def _halves(layer: Layer, whole: Size, a: Any, b: Any) -> list[Size]:
    """One axis as two, of which one may be -1."""
    if a == b == REST:
        raise layer.misfit("only one of the two parts of an axis can be -1")
    if a == REST:
        return [whole / _positive(layer, b), _positive(layer, b)]
    return [_positive(layer, a), whole / _positive(layer, a) if b == REST else _positive(layer, b)]


def _positive(layer: Layer, number: Any) -> Size:
    if not isinstance(number, int) or number < 1:
        raise layer.unsupported(f"its shape has {number}; fewbit knows positive sizes and the codes of Reshape")
    return fixed(number)


@op("reshape_like", "_npx_reshape_like")
def reshape_like(layer: Layer) -> Value:
    """Axes lhs_begin…lhs_end take the sizes of the other's axes rhs_begin…rhs_end."""
    x, other = layer.takes(2)
    mine, its = _span(layer, "lhs", layer.rank(x)), _span(layer, "rhs", layer.rank(other))
    wanted = [*layer.shape(x)[: mine[0]], *layer.shape(other)[its[0] : its[1]], *layer.shape(x)[mine[1] :]]
    have = product(sizes(layer, x)).known
    if have is not None and None not in wanted and have != math.prod(d for d in wanted if d is not None):
        raise layer.misfit(f"{layer.shape(x)} cannot be reshaped to {tuple(wanted)}")
    if None not in wanted:
        return layer.main("Reshape", x, ints(layer, *(d for d in wanted if d is not None)))
    parts = [_part(layer, x, 0, mine[0]), _part(layer, other, *its), _part(layer, x, mine[1], layer.rank(x))]
    there = [p for p in parts if p is not None]
    shape = there[0] if len(there) == 1 else layer.node("Concat", *there, axis=0)
    return layer.told(layer.main("Reshape", x, shape), wanted)


def _span(layer: Layer, side: str, rank: int) -> tuple[int, int]:
    begin, end = layer.attrs.whole(f"{side}_begin", 0), layer.attrs.whole(f"{side}_end", rank)
    begin, end = begin + rank * (begin < 0), end + rank * (end < 0)
    if not 0 <= begin <= end <= rank:
        raise layer.misfit(f"{side}_begin and {side}_end are {begin} and {end}; that input has {rank} axes")
    return begin, end


def _part(layer: Layer, x: Value, begin: int, end: int) -> Value | None:
    return layer.node("Shape", x, start=begin, end=end) if begin < end else None


@op("transpose", "_np_transpose", "_npi_transpose")
def transpose(layer: Layer) -> Value:
    """Axes in another order; all of them turned round if none are given."""
    rank = layer.rank()
    axes = layer.axes("axes", ()) or list(range(rank))[::-1]
    return layer.main("Transpose", layer.x, perm=axes)


@op("SwapAxis", "swapaxes", "_npi_swapaxes")
def swap_axes(layer: Layer) -> Value:
    """Two axes change places."""
    axes = list(range(layer.rank()))
    a, b = layer.axis("dim1", 0), layer.axis("dim2", 0)
    axes[a], axes[b] = b, a
    return layer.main("Transpose", layer.x, perm=axes)


@op("_np_moveaxis", "_npi_moveaxis")
def move_axes(layer: Layer) -> Value:
    """Some axes to other places; the rest keep their order."""
    rank = layer.rank()
    source, places = layer.axes("source"), layer.axes("destination")
    if len(source) != len(places):
        raise layer.misfit(f"source is {source}, destination {places}; they must be of one length")
    axes = [a for a in range(rank) if a not in source]
    for place, axis in sorted(zip(places, source, strict=True)):
        axes.insert(place, axis)
    return layer.main("Transpose", layer.x, perm=axes)


@op("expand_dims", "_npi_expand_dims")
def expand_dims(layer: Layer) -> Value:
    """One more axis, of size one."""
    return unsqueeze(layer, layer.x, layer.attrs.whole("axis"), make=layer.main)


@op("squeeze", "_np_squeeze", "_npi_squeeze")
def squeeze_axes(layer: Layer) -> Value:
    """Without axes of size one: the given ones, or all (the old operator leaves one axis in any case).

    A free batch stays; any other free axis might be one or not, and is refused.
    """
    rank, shape = layer.rank(), layer.shape()
    if layer.attrs.has("axis"):
        axes = sorted(layer.axes("axis"))
    elif None in shape[1:]:
        axes = [i for i, d in enumerate(layer.fixed()) if d == 1]
    else:
        axes = [i for i, d in enumerate(shape) if d == 1]
    if len(axes) == rank and layer.op == "squeeze":
        axes = axes[1:]
    return squeeze(layer, layer.x, *axes, make=layer.main) if axes else layer.x


@op("Concat", "concat", "_sparse_concat")
def concat(layer: Layer) -> Value:
    """Side by side on one axis."""
    return layer.main("Concat", *layer.inputs, axis=layer.axis("dim", 1))


@op("_npi_concatenate")
def numpy_concat(layer: Layer) -> Value:
    """Side by side on one axis; all numbers in a row if it is None."""
    if layer.attrs.text("axis", "0") == "None":
        rows = [reshape(layer, x, [product(sizes(layer, x))], layer.node) for x in layer.inputs]
        return layer.main("Concat", *rows, axis=0)
    return layer.main("Concat", *layer.inputs, axis=layer.axis("axis", 0))


@op("stack", "_npi_stack")
def stack(layer: Layer) -> Value:
    """Side by side on a new axis."""
    rank, axis = layer.rank() + 1, layer.attrs.whole("axis", 0)
    if not -rank <= axis < rank:
        raise layer.misfit(f"axis is {axis}; its output has {rank} axes")
    axis %= rank
    return layer.main("Concat", *(unsqueeze(layer, x, axis) for x in layer.inputs), axis=axis)


@op("tile", "_npi_tile")
def tile(layer: Layer) -> Value:
    """The whole several times on each axis; missing axes come first."""
    reps, x = list(layer.attrs.wholes("reps")), layer.x
    rank = layer.rank()
    if len(reps) > rank:
        x = unsqueeze(layer, x, *range(len(reps) - rank))
    if any(n < 1 for n in reps):
        raise layer.misfit(f"reps is {tuple(reps)}; all must be at least 1")
    reps = [1] * (rank - len(reps)) + reps
    shape = [None if d is None else d * n for d, n in zip(layer.shape(x), reps, strict=True)]
    return layer.told(layer.main("Tile", x, ints(layer, *reps)), shape)


@op("repeat", "_np_repeat")
def repeat(layer: Layer) -> Value:
    """Every entry of an axis several times: (a, b) → (a, 1, b) → (a, n, b) → (a·n, b)."""
    x, count = layer.x, layer.positive("repeats")
    if not layer.attrs.has("axis"):
        x, axis = reshape(layer, x, [product(sizes(layer))], layer.node), 0
    else:
        axis = layer.axis("axis", 0)
    rank = layer.rank(x)
    times = [1] * (rank + 1)
    times[axis + 1] = count
    wide = layer.node("Tile", unsqueeze(layer, x, axis + 1), ints(layer, *times))
    layer.told(wide, [*layer.shape(x)[: axis + 1], count, *layer.shape(x)[axis + 1 :]])
    own = sizes(layer, wide)
    return reshape(layer, wide, [*own[:axis], own[axis] * own[axis + 1], *own[axis + 2 :]], layer.main)


@op("broadcast_to", "_npi_broadcast_to")
def broadcast_to(layer: Layer) -> Value:
    """Axes of size one grow; 0 leaves an axis as it is."""
    shape, own = layer.attrs.wholes("shape", ()), layer.shape()
    if len(shape) < len(own):
        raise layer.misfit(f"shape is {shape}; its input has {len(own)} axes")
    behind = (*(None,) * (len(shape) - len(own)), *own)
    wanted = [n if n > 0 else d for n, d in zip(shape, behind, strict=True)]
    return layer.told(layer.main("Expand", layer.x, ints(layer, *(max(n, 1) for n in shape))), wanted)


@op("broadcast_axis", "broadcast_axes")
def broadcast_axis(layer: Layer) -> Value:
    """These axes of size one grow to these sizes."""
    rank, shape = layer.rank(), list(layer.shape())
    axes, lengths = layer.axes("axis", ()), layer.attrs.wholes("size", ())
    if len(axes) != len(lengths):
        raise layer.misfit(f"axis is {axes}, size {lengths}; they must be of one length")
    grown = dict(zip(axes, lengths, strict=True))
    wide = layer.main("Expand", layer.x, ints(layer, *(grown.get(a, 1) for a in range(rank))))
    return layer.told(wide, [grown.get(a, d) for a, d in enumerate(shape)])


@op("broadcast_like")
def broadcast_like(layer: Layer) -> Value:
    """Axes of size one grow to the sizes of another value."""
    x, other = layer.takes(2)
    rank, shape = layer.rank(x), layer.shape(other)
    if not layer.attrs.has("lhs_axes"):
        return layer.told(layer.main("Expand", x, shape_list(layer, other)), shape)
    axes, others = layer.axes("lhs_axes"), layer.axes("rhs_axes", None, other)
    if len(axes) != len(others):
        raise layer.misfit(f"lhs_axes is {axes}, rhs_axes {others}; they must be of one length")
    like = dict(zip(axes, others, strict=True))
    parts = [size(layer, other, like[a]) if a in like else ints(layer, 1) for a in range(rank)]
    wide = layer.main("Expand", x, layer.node("Concat", *parts, axis=0))
    return layer.told(wide, [shape[like[a]] if a in like else d for a, d in enumerate(layer.shape(x))])


@op("depth_to_space")
def depth_to_space(layer: Layer) -> Value:
    """Channels become blocks of pixels."""
    block = layer.positive("block_size")
    channels = layer.shape()[1] if layer.rank() == 4 else 0
    if channels is not None and (not channels or channels % block**2):
        raise layer.misfit(f"its input of {layer.shape()} does not have 4 axes and a multiple of {block}² channels")
    return layer.main("DepthToSpace", layer.x, blocksize=block, mode="DCR")


@op("space_to_depth")
def space_to_depth(layer: Layer) -> Value:
    """Blocks of pixels become channels."""
    return layer.main("SpaceToDepth", layer.x, blocksize=layer.positive("block_size"))


@op("shape_array", "_npx_shape_array")
def shape_array(layer: Layer) -> Value:
    """The sizes, as int64."""
    return layer.main("Shape", layer.x)


@op("size_array")
def size_array(layer: Layer) -> Value:
    """How many numbers, as int64."""
    return reshape(layer, layer.node("Size", layer.x), [ONE], layer.main)
