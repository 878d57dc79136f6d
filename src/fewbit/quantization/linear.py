"""A layer that is a matrix product: its weight as a matrix, and its input as rows of that product.

y[p, o] = Σ_k W[o, k] · x[p, k] + b[o]        p: a sample and a place in it; in groups, each group for itself

Conv (out, in/group, k…)    W[o, (in, k…)], x the patch in front of the kernel, zeros where it is padded
Gemm, MatMul (in, out)      W[o, in], x the last axis; of Gemm x is α·A, or α·Aᵀ with transA
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.plan import Plan
from fewbit.graph.bias import beta, bias_of, bias_place, sum_of
from fewbit.graph.model import Array, Model, attr, const, op_name

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Linear:
    """One quantized layer.

    Args:
        name: of the node. op: its operator. key: entry of its weight in the plan.
        x, y: names of the input, and of the sum with the bias, in the float network.
        weight: (group, out, K). bias: (group·out,), zeros if there is none. has_bias: whether there is a place
            for one that can be corrected.
        rounded: whether the integer network rounds the input.
        kernel, strides, dilations, pads, auto_pad: of a Conv, else empty.
        transposed: whether the weight is stored (in, out).
        turned: whether the first axis of the input is the one that is summed over. factor: of the input.
        shape: of the weight as stored.
    """

    name: str
    op: str
    key: str
    x: str
    y: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    has_bias: bool
    shape: tuple[int, ...]
    transposed: bool = False
    turned: bool = False
    factor: float = 1.0
    rounded: bool = True
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    auto_pad: str = "NOTSET"

    @property
    def groups(self) -> int:
        """Groups of a convolution, else 1."""
        return int(self.weight.shape[0])

    def stored(self, matrix: Array) -> Array:
        """A matrix (group, out, K) in the shape of the weight as stored."""
        flat = matrix.reshape(-1, matrix.shape[-1])
        return np.ascontiguousarray(flat.T if self.transposed else flat).reshape(self.shape)

    def matrix(self, stored: Array) -> Array:
        """Inverse of `stored`."""
        flat = stored.T if self.transposed else stored.reshape(self.shape[0], -1)
        return np.ascontiguousarray(flat).reshape(self.groups, -1, flat.shape[-1])


def linear_layers(model: Model, plan: Plan) -> list[Linear]:
    """The integer layers of a plan that are matrix products with a weight of their own, in graph order.

    Left out: weights that several nodes read, weights on the left side or of more than two axes of a matrix product,
    ConvTranspose, sums with anything that is no constant for each output, formats of 1 bit or of more than 8. Layers of
    which only the weight is integer are among them, see `Linear.rounded`.
    """
    found = []
    for node in model.nodes:
        verdict = plan.nodes.get(str(node.name))
        if verdict is None or not verdict.quantized or verdict.roles[1:2] != ("weight",) or verdict.absorbed_by:
            continue
        layer = _layer(node, plan)
        if layer is not None:
            found.append(layer)
    return found


def _layer(node: Any, plan: Plan) -> Linear | None:
    op, x, w = op_name(node), node.inputs[0], node.inputs[1]
    key = plan.weight_key(str(w.name), str(node.name))
    if key is None or op not in ("Conv", "Gemm", "MatMul") or len(w.uses()) != 1 or _adds_more(node):
        return None
    rounded = _rounded(node, plan)
    if not 2 <= plan.values[key].spec.bits <= 8 or rounded is None:
        return None
    data = const(w)
    if data is None or not data.size or (op == "MatMul" and data.ndim != 2):
        return None
    has_bias = _has_bias(node, plan)
    bias, y = (bias_of(node), sum_of(node)) if has_bias else (None, node.outputs[0])
    common: dict[str, Any] = {"name": str(node.name), "op": op, "key": key, "x": str(x.name), "y": str(y.name)}
    common |= {"has_bias": has_bias, "shape": tuple(data.shape), "rounded": rounded}
    data = np.asarray(data, np.float32)
    if op != "Conv":
        transposed = not attr(node, "transB", 0)
        matrix = np.ascontiguousarray(data.T if transposed else data)[None]
        factor = float(attr(node, "alpha", 1.0))
        common |= {"transposed": transposed, "turned": bool(attr(node, "transA", 0)), "factor": factor}
        return Linear(**common, weight=matrix, bias=_vector(bias, matrix.shape[1])) if factor else None
    groups, rank = int(attr(node, "group", 1)), data.ndim - 2
    matrix = data.reshape(groups, data.shape[0] // groups, -1)
    return Linear(
        **common,
        weight=matrix,
        bias=_vector(bias, data.shape[0]),
        kernel=tuple(int(k) for k in data.shape[2:]),
        strides=tuple(attr(node, "strides", (1,) * rank)),
        dilations=tuple(attr(node, "dilations", (1,) * rank)),
        pads=tuple(attr(node, "pads", (0,) * 2 * rank)),
        auto_pad=str(attr(node, "auto_pad", "NOTSET")),
    )


def _rounded(node: Any, plan: Plan) -> bool | None:
    """Whether a layer's input is rounded; None if it is to be, but how is not known before it runs.

    A layer with an integer weight alone reads what there is, which is rounded if an integer layer made it.
    """
    x = node.inputs[0]
    source, maker = plan.values.get(str(x.name)), x.producer()
    if plan.nodes[str(node.name)].roles[0] != "act":
        made = plan.nodes.get(str(maker.name)) if maker is not None else None
        return source is not None and source.calibrated and made is not None and made.quantized
    return True if source is not None and source.calibrated and not source.spec.dynamic else None


def _adds_more(node: Any) -> bool:
    """Whether a layer adds something to its product that is no bias."""
    return len(node.inputs) > 2 and node.inputs[2] is not None and bias_place(node) is None and beta(node) != 0


def _has_bias(node: Any, plan: Plan) -> bool:
    """Whether a layer's bias can be corrected: not if adding it is an integer operator of its own."""
    place = bias_place(node)
    if place is None:
        return False
    adds = plan.nodes.get(str(place[0].name))
    return place[0] is node or adds is None or not adds.quantized or bool(adds.absorbed_by)


def _vector(bias: Array | None, size: int) -> NDArray[np.float32]:
    return np.broadcast_to(np.zeros(1) if bias is None else bias.reshape(-1), (size,)).astype(np.float32)


def patches(layer: Linear, x: Floats, shape: tuple[int, ...], places: NDArray[np.int64]) -> Floats:
    """Rows of the product's input, as columns.

    Args:
        x: the input as the network has it. shape: of the sum. places: numbers of rows, below `count(layer, shape)`.

    Returns:
        (group, K, places).
    """
    if not layer.kernel:
        rows = (x.T if layer.turned else x.reshape(-1, x.shape[-1]))[places]
        rows = rows if layer.factor == 1 else rows * np.float32(layer.factor)
        return np.ascontiguousarray(rows.T, np.float32)[None]
    size, parts = prod(shape[2:]), []
    for n in range(shape[0]):
        at = np.unravel_index(places[(places >= n * size) & (places < (n + 1) * size)] - n * size, shape[2:])
        if at[0].size:
            where, inside = _under_kernel(layer, x.shape[2:], shape[2:], at)
            found = np.take(x[n].reshape(x.shape[1], -1), where, axis=1)  # (channels, k, places)
            parts.append(found if inside.all() else np.where(inside, found, np.float32(0)))
    picked = parts[0] if len(parts) == 1 else np.concatenate(parts, -1)
    return np.asarray(picked, np.float32).reshape(layer.groups, -1, len(places))


def _under_kernel(
    layer: Linear, size: tuple[int, ...], out: tuple[int, ...], at: tuple[Array, ...]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Flat numbers of the pixels under the kernel, (k, places), and whether they are not padding."""
    begin, rank = _begin(layer, size, out), len(size)
    flat: Array = np.zeros(1, np.int64)
    inside: Array = np.ones(1, bool)
    for axis, k in enumerate(layer.kernel):
        along = [1] * (rank + 1)
        along[axis] = k
        taps = (np.arange(k) * layer.dilations[axis]).reshape(along)
        where = at[axis] * layer.strides[axis] - begin[axis] + taps
        inside = inside & (where >= 0) & (where < size[axis])
        flat = flat * size[axis] + np.clip(where, 0, size[axis] - 1)
    count = at[0].size
    whole = (*layer.kernel, count)
    return np.broadcast_to(flat, whole).reshape(-1, count), np.broadcast_to(inside, whole).reshape(-1, count)


def sums(layer: Linear, y: Floats, places: NDArray[np.int64]) -> Floats:
    """Rows of the product itself, as columns: (group, out, places)."""
    if not layer.kernel:
        return np.ascontiguousarray(y.reshape(-1, y.shape[-1])[places].T, np.float32)[None]
    size, parts = prod(y.shape[2:]), []
    for n in range(y.shape[0]):
        mine = places[(places >= n * size) & (places < (n + 1) * size)] - n * size
        if mine.size:
            parts.append(np.take(y[n].reshape(y.shape[1], -1), mine, axis=1))
    return np.concatenate(parts, -1).reshape(layer.groups, -1, len(places))


def count(layer: Linear, shape: tuple[int, ...]) -> int:
    """How many rows a product of this shape has."""
    return prod(shape) // shape[1 if layer.kernel else -1]


def choose(layer: Linear, shape: tuple[int, ...], most: int, seed: int) -> NDArray[np.int64]:
    """Places of a product to look at: all, or `most` at random, the same for the same seed."""
    total = count(layer, shape)
    if total <= most:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False))


def size_of(batch: Any) -> int:
    """Samples in a batch."""
    return max(1, len(batch.names))


def _begin(layer: Linear, size: tuple[int, ...], out: tuple[int, ...]) -> list[int]:
    """Padding in front of each axis."""
    if layer.auto_pad in ("NOTSET", "VALID"):
        return [0] * len(size) if layer.auto_pad == "VALID" else list(layer.pads[: len(size)])
    found = []
    for i, s in enumerate(size):
        whole = max(0, (out[i] - 1) * layer.strides[i] + (layer.kernel[i] - 1) * layer.dilations[i] + 1 - s)
        found.append(whole // 2 if layer.auto_pad == "SAME_UPPER" else whole - whole // 2)
    return found
