"""Shapes of a network's inputs. MXNet's files rarely hold them; the layers that read an input tell most.

data → (layers that keep the shape) → Convolution with weight (64, 3, 7, 7)   →   (None, 3, None, None)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewbit.errors import ModelFormatError
from fewbit.frontends.base import shapes_wanted
from fewbit.frontends.mxnet.attrs import Attrs
from fewbit.frontends.mxnet.symbol import SymbolGraph, SymbolNode
from fewbit.graph.build import Dims
from fewbit.graph.model import Array

DTYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")
"""MXNet's numbers of types."""

SAME_CHANNELS = frozenset(
    """
BatchNorm BatchNorm_v1 InstanceNorm GroupNorm L2Normalization LRN Activation LeakyReLU relu sigmoid tanh clip Dropout
identity _copy Cast cast amp_cast _plus_scalar _minus_scalar _rminus_scalar _mul_scalar _div_scalar elemwise_add
elemwise_sub elemwise_mul elemwise_div broadcast_add broadcast_sub broadcast_mul broadcast_div Pooling Pooling_v1 Pad
UpSampling _contrib_BilinearResize2D _contrib_AdaptiveAvgPooling2D
""".split()
)
"""Operators whose output has as many axes, and as many channels, as their first input."""

SAME_RANK = frozenset(
    "SwapAxis transpose slice slice_axis Concat SequenceMask SequenceReverse LayerNorm softmax reverse".split()
)
"""Operators whose output has as many axes as their first input."""

IMAGES = frozenset(
    """
UpSampling _contrib_BilinearResize2D _contrib_AdaptiveAvgPooling2D LRN ROIPooling _contrib_ROIAlign SpatialTransformer
BilinearSampler
""".split()
)
"""Operators whose first input has four axes."""


def input_shapes(
    graph: SymbolGraph, params: Mapping[str, Array], feeds: Mapping[int, str], given: Mapping[str, Sequence[int | None]]
) -> dict[int, Dims]:
    """The shape of every input: as given, as the file says, or as its readers tell.

    Args:
        feeds: index of the node → its name.

    Raises:
        ModelFormatError: an input whose number of axes cannot be told.
    """
    found: dict[int, Dims] = {}
    for i, name in feeds.items():
        shape = _given(name, given) or _noted(graph.nodes[i]) or _told(graph, params, i)
        if shape is None:
            raise ModelFormatError(f"the shape of input {name!r} cannot be told from the file; {shapes_wanted(name)}")
        found[i] = shape
    return found


def flattened(
    graph: SymbolGraph, found: Mapping[int, Dims], feeds: Mapping[int, str], given: Mapping[str, Sequence[int | None]]
) -> list[str]:
    """Notes on inputs that are taken to be flat because a FullyConnected layer that flattens them reads them."""
    told = {i: name for i, name in feeds.items() if name not in given and _noted(graph.nodes[i]) is None}
    return [
        f"input {name!r} is taken as {found[i]}, flat, as the FullyConnected layer behind it tells; for pictures say "
        f"so: input_shapes={{{name!r}: (None, 3, 32, 32)}}, or fewbit convert --input-shapes {name}:0,3,32,32"
        for i, name in told.items()
        if len(found[i]) == 2 and found[i][1] is not None
    ]


def input_type(node: SymbolNode) -> Any:
    """The numpy type of an input; half and double precision are fed as float32."""
    noted = Attrs({"dtype": node.attrs.get("__dtype__", "0")}, f"input {node.name!r}").whole("dtype", 0)
    name = DTYPES[noted] if 0 <= noted < len(DTYPES) else "float32"
    return np.dtype("float32" if name in ("float16", "float64") else name)


def _given(name: str, given: Mapping[str, Sequence[int | None]]) -> Dims | None:
    return tuple(d if d else None for d in given[name]) if name in given else None


def _noted(node: SymbolNode) -> Dims | None:
    """`__shape__` of the variable; sizes of 0 and -1 are free, and so is the batch."""
    text = node.attrs.get("__shape__", "()")
    dims = Attrs({"shape": text}, f"input {node.name!r}").wholes("shape", ())
    return (None, *(d if d > 0 else None for d in dims[1:])) if dims else None


def _told(graph: SymbolGraph, params: Mapping[str, Array], start: int) -> Dims | None:
    """Walk towards the heads through layers that keep the axes, to one that tells their number and the channels."""
    best: Dims | None = None
    same = {start: True}  # node with as many axes → has it the same channels, too?
    for i, node in enumerate(graph.nodes):
        for k, entry in enumerate(node.inputs):
            if entry.node not in same:
                continue
            shape = _reader(graph, node, params, k)
            if shape is not None and not same[entry.node]:
                shape = (None,) * len(shape)
            if shape is not None and (best is None or len(best) == len(shape)):
                best = shape
            if best is not None and any(best):
                return best
            if node.op in SAME_CHANNELS or node.op in SAME_RANK:
                same[i] = same[entry.node] and node.op in SAME_CHANNELS
    return best


def _reader(graph: SymbolGraph, node: SymbolNode, params: Mapping[str, Array], k: int) -> Dims | None:
    """What a layer tells about its input `k`."""
    attrs = Attrs(node.attrs, f"layer {node.name!r} ({node.op})")
    if node.op == "RNN":
        return (None, None, None) if k == 0 else _states(attrs) if k > 1 else None
    if k:
        return None
    weight = params.get(graph.nodes[node.inputs[1].node].name) if len(node.inputs) > 1 else None
    if node.op in ("Convolution", "Convolution_v1", "Deconvolution"):
        return _image(attrs, node.op, weight)
    if node.op in ("Pooling", "Pooling_v1") and attrs.wholes("kernel", ()):
        return (None,) * (len(attrs.wholes("kernel")) + 2)
    if node.op == "FullyConnected" and weight is not None and weight.ndim == 2:
        return (None, weight.shape[1]) if attrs.flag("flatten", True) else None
    if node.op in ("Pad", "transpose"):
        axes = len(attrs.wholes("axes", ())) if node.op == "transpose" else len(attrs.wholes("pad_width", ())) // 2
        return (None,) * axes or None
    return (None,) * 4 if node.op in IMAGES else None


def _states(attrs: Attrs) -> Dims:
    """First states of an RNN: (levels·directions, N, H)."""
    directions = 2 if attrs.flag("bidirectional", False) else 1
    return (attrs.whole("num_layers") * directions, None, attrs.whole("state_size"))


def _image(attrs: Attrs, op: str, weight: Array | None) -> Dims:
    """What a convolution reads: as many axes as its kernel has, and two; the channels of its weight."""
    axes = (None,) * len(attrs.wholes("kernel"))
    last = attrs.text("layout", "None").endswith("C")
    channels = None
    if weight is not None and weight.ndim == len(axes) + 2:
        wide = weight.shape[-1 if last else 1] * attrs.whole("num_group", 1)
        channels = weight.shape[0] if op == "Deconvolution" else wide
    return (None, *axes, channels) if last else (None, channels, *axes)
