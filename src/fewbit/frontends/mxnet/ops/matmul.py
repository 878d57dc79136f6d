"""Products of matrices, and MXNet's interleaved attention.

dot(a, b)   →   sum over the last axis of a and the first of b: MatMul, Gemm, or Einsum for more than two axes
selfatt_qk(qkv)   →   (T, B·heads, 3, D)   →   q·kᵀ / √D for each of the B·heads
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence

from fewbit.frontends.mxnet.kinds import FLOAT, LONG, cast
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.sizes import Make, Size, fixed, product, reshape, size, sizes, squeeze
from fewbit.graph.build import Value


def _flags(layer: Layer) -> tuple[bool, bool]:
    return layer.attrs.flag("transpose_a", False), layer.attrs.flag("transpose_b", False)


def _matrices(layer: Layer, *values: Value) -> None:
    for v in values:
        if layer.rank(v) < 2:
            raise layer.misfit(f"it multiplies matrices, and an input has shape {layer.shape(v)}")


def _turned(layer: Layer, x: Value, turn: bool = True) -> Value:
    """The last two axes swapped."""
    rank = layer.rank(x)
    return layer.node("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2]) if turn else x


@op("dot", "_sparse_dot")
def dot(layer: Layer) -> Value:
    """Sum over a's last axis and b's first; transpose_a: a's first axis, transpose_b: b's last."""
    a, b = layer.takes(2)
    ta, tb = _flags(layer)
    layer.attrs.skip("forward_stype")
    ranks = layer.rank(a), layer.rank(b)
    if ranks == (1, 1):
        return layer.main("ReduceSum", layer.node("Mul", a, b), layer.const([0]), keepdims=1)
    if ranks == (2, 2):
        return layer.main("Gemm", a, b, transA=int(ta), transB=int(tb)) if ta or tb else layer.main("MatMul", a, b)
    if ranks[1] == 2 and not ta:
        return layer.main("MatMul", a, _turned(layer, b, tb))
    return _einsum(layer, a, b, [0 if ta else ranks[0] - 1], [ranks[1] - 1 if tb else 0])


def _einsum(layer: Layer, a: Value, b: Value, axes_a: Sequence[int], axes_b: Sequence[int]) -> Value:
    """Sum over some axes of each; a's other axes come first."""
    sums = [[layer.shape(v)[i] for i in axes] for v, axes in ((a, axes_a), (b, axes_b))]
    fits = len(sums[0]) == len(sums[1]) and all(m == n for m, n in zip(*sums, strict=True) if None not in (m, n))
    if not fits:
        raise layer.misfit(f"inputs of {layer.shape(a)} and {layer.shape(b)} do not fit each other")
    letters = iter(string.ascii_letters)
    first, second = ([next(letters) for _ in range(layer.rank(v))] for v in (a, b))
    for i, k in zip(axes_a, axes_b, strict=True):
        second[k] = first[i]
    out = [c for c in first if c not in second] + [c for c in second if c not in first]
    return layer.main("Einsum", a, b, equation=f"{''.join(first)},{''.join(second)}->{''.join(out)}")


@op("_np_dot", "_npi_dot")
def numpy_dot(layer: Layer) -> Value:
    """Sum over a's last axis and b's last but one; numbers multiply."""
    a, b = layer.takes(2)
    ranks = layer.rank(a), layer.rank(b)
    if 0 in ranks:
        return layer.main("Mul", a, b)
    return layer.main("MatMul", a, b) if ranks[1] <= 2 else _einsum(layer, a, b, [ranks[0] - 1], [ranks[1] - 2])


@op("_npi_tensordot", "_npi_tensordot_int_axes")
def tensordot(layer: Layer) -> Value:
    """Sum over pairs of axes, or over a's last and b's first few."""
    a, b = layer.takes(2)
    ranks = layer.rank(a), layer.rank(b)
    if layer.op == "_npi_tensordot":
        return _einsum(layer, a, b, *(layer.axes(f"{k}_axes_summed", None, v) for k, v in (("a", a), ("b", b))))
    count = layer.attrs.whole("axes")
    if not 0 <= count <= min(ranks):
        raise layer.misfit(f"axes is {count}; its inputs have {ranks[0]} and {ranks[1]} axes")
    return _einsum(layer, a, b, range(ranks[0] - count, ranks[0]), range(count))


@op("_npi_matmul")
def matmul(layer: Layer) -> Value:
    """As NumPy's."""
    return layer.main("MatMul", *layer.inputs)


@op("batch_dot", "_npx_batch_dot")
def batch_dot(layer: Layer) -> Value:
    """One product for each entry of the axes before the last two."""
    a, b = layer.takes(2)
    ta, tb = _flags(layer)
    layer.attrs.skip("forward_stype")
    _matrices(layer, a, b)
    return layer.main("MatMul", _turned(layer, a, ta), _turned(layer, b, tb))


@op("linalg_gemm2", "_linalg_gemm2", "linalg_gemm", "_linalg_gemm")
def gemm(layer: Layer) -> Value:
    """alpha·a·b, and + beta·c."""
    a, b, *rest = layer.takes(2 if layer.op.endswith("2") else 3)
    ta, tb = _flags(layer)
    _matrices(layer, a, b)
    if layer.attrs.whole("axis", -2) not in (-2, layer.rank() - 2):
        raise layer.unsupported("axis is not -2; swap the axes before and after it instead")
    alpha = layer.attrs.number("alpha", 1.0)
    beta = layer.attrs.number("beta", 1.0) if rest else 0.0
    if layer.rank() == 2:
        return layer.main("Gemm", a, b, *rest, transA=int(ta), transB=int(tb), alpha=alpha, beta=beta if rest else None)
    scaled, added = alpha != 1, bool(rest) and beta != 0
    found = _step(layer, scaled or added)("MatMul", _turned(layer, a, ta), _turned(layer, b, tb))
    if scaled:
        found = _step(layer, added)("Mul", found, layer.like(alpha, found))
    if not added:
        return found
    return layer.main("Add", found, rest[0] if beta == 1 else layer.node("Mul", rest[0], layer.like(beta, found)))


def _step(layer: Layer, more: bool) -> Make:
    return layer.node if more else layer.main


@op("_npi_einsum")
def einsum(layer: Layer) -> Value:
    """As the subscripts say."""
    layer.attrs.skip("optimize")
    return layer.main("Einsum", *layer.inputs, equation=layer.attrs.text("subscripts"))


@op("_contrib_div_sqrt_dim", "_npx_div_sqrt_dim")
def div_sqrt_dim(layer: Layer) -> Value:
    """Divided by √(size of the last axis)."""
    last = layer.shape()[-1]
    if last is not None:
        return layer.main("Div", layer.x, layer.like(math.sqrt(last), layer.x))
    free = squeeze(layer, size(layer, layer.x, layer.rank() - 1), 0)
    return layer.main("Div", layer.x, layer.node("Sqrt", cast(layer, free, FLOAT)))


def _heads(layer: Layer, x: Value, kinds: int) -> tuple[list[Value], int | None]:
    """(T, B, heads·kinds·D)   →   for each kind (B·heads, T, D); and D."""
    heads = layer.positive("heads")
    if layer.rank(x) != 3:
        raise layer.misfit(f"an input has {layer.rank(x)} axes; it must have 3: time, batch, heads")
    time, batch, width = sizes(layer, x)
    deep = width / fixed(heads * kinds)
    if width.known is not None and width.known % (heads * kinds):
        raise layer.misfit(f"heads is {heads}; the last axis has {width.known}, which is not {kinds}·{heads}·D")
    parts: list[Size] = [time, batch * fixed(heads), *([fixed(kinds)] if kinds > 1 else []), deep]
    split = reshape(layer, x, parts, layer.node)
    if kinds == 1:
        return [layer.node("Transpose", split, perm=[1, 0, 2])], deep.known
    found = []
    for i in range(kinds):
        one = layer.node("Gather", split, layer.const(LONG.type(i)), axis=2)
        found.append(layer.node("Transpose", one, perm=[1, 0, 2]))
    return found, deep.known


def _scores(layer: Layer, q: Value, k: Value, deep: int | None) -> Value:
    """q·kᵀ / √D."""
    if deep is None:
        layer.fixed()
    scaled = layer.node("Div", q, layer.like(math.sqrt(deep or 1), q))
    return layer.main("MatMul", scaled, _turned(layer, k))


def _joined(layer: Layer, attention: Value, v: Value) -> Value:
    """(B·heads, T, D)   →   (T, B, heads·D)."""
    heads = fixed(layer.attrs.whole("heads"))
    found = layer.node("Transpose", layer.node("MatMul", attention, v), perm=[1, 0, 2])
    time, batch, deep = sizes(layer, found)
    return reshape(layer, found, [time, batch / heads, product([heads, deep])], layer.main)


@op("_contrib_interleaved_matmul_selfatt_qk")
def selfatt_qk(layer: Layer) -> Value:
    """Scores of a sequence against itself."""
    (q, k, _), deep = _heads(layer, layer.x, 3)
    return _scores(layer, q, k, deep)


@op("_contrib_interleaved_matmul_selfatt_valatt")
def selfatt_valatt(layer: Layer) -> Value:
    """Attention times the values of the same sequence."""
    return _joined(layer, layer.inputs[1], _heads(layer, layer.x, 3)[0][2])


@op("_contrib_interleaved_matmul_encdec_qk")
def encdec_qk(layer: Layer) -> Value:
    """Scores of a sequence against another."""
    (q,), deep = _heads(layer, layer.x, 1)
    return _scores(layer, q, _heads(layer, layer.inputs[1], 2)[0][0], deep)


@op("_contrib_interleaved_matmul_encdec_valatt")
def encdec_valatt(layer: Layer) -> Value:
    """Attention times the values of another sequence."""
    return _joined(layer, layer.inputs[1], _heads(layer, layer.x, 2)[0][1])
