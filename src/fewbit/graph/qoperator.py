"""QDQ form → QOperator form: integer operators written out, for engines that do not merge Q/DQ pairs themselves.

    before   x_q ─ DQ ─ Conv(DQ(W_q), DQ(b_q)) ─ Relu ─ Q ─ y_q
    after    x_q ─ QLinearConv(W_q, b_q) ─ y_q

    Conv                                  QLinearConv
    MatMul                                QLinearMatMul; before floats, or with a bias: MatMulIntegerToFloat
    Gemm                                  QGemm
    Add Mul                               QLinearAdd QLinearMul
    AveragePool GlobalAveragePool         QLinearAveragePool QLinearGlobalAveragePool
    LeakyRelu Sigmoid Concat              QLinearLeakyRelu QLinearSigmoid QLinearConcat
    MaxPool Reshape Transpose …           themselves, on integers, if Q has the parameters of DQ

All but QLinearConv and QLinearMatMul are ONNX Runtime's own (com.microsoft). What fits no row keeps its Q and DQ. A
Relu or Clip between a layer and its Q goes: Q(clip(x, a, b)) = clip(Q(x), Q(a), Q(b)), and where Q cuts off there
anyway, nothing is left of it. Softmax has no row: its integer kernel overflows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.graph.model import Model, attr, const, dims, op_name

OWN = "com.microsoft"
SMALL = (ir.DataType.UINT8, ir.DataType.INT8)
PAIRS = {(SMALL[0], SMALL[0]), (SMALL[0], SMALL[1]), (SMALL[1], SMALL[1])}
"""Types of the two sides of a product that have kernels."""

MOVES = frozenset("MaxPool Reshape Transpose Flatten Squeeze Unsqueeze Slice Gather Identity DepthToSpace".split())
CLAMPS = ("Relu", "Clip")
SAME_SCALE = 1e-6


@dataclass(frozen=True)
class Converted:
    """What came of it.

    Args:
        model: the new network. made: integer operator → how many. left: layers that still stand between DQ and Q.
    """

    model: Model
    made: Counter[str]
    left: Counter[str]


@dataclass(frozen=True)
class Integers:
    """A tensor as integers with what turns them back: inputs and attributes of a DQ, or of a Q with its output."""

    q: ir.Value
    scale: ir.Value
    zero: ir.Value
    axis: int
    s: NDArray[np.float32]
    z: NDArray[Any]

    @property
    def single(self) -> bool:
        """One scale for the whole tensor."""
        return self.s.size == 1

    def like(self, other: Integers) -> bool:
        """Of the same type, scale and zero point, one each."""
        alike = self.single and other.single and self.q.dtype == other.q.dtype
        return alike and bool(self.s.ravel()[0] == other.s.ravel()[0] and self.z.ravel()[0] == other.z.ravel()[0])


@dataclass
class _Site:
    """A layer between DQ and Q: who feeds it, what cuts off behind it, and the Q."""

    model: Model
    taken: set[str]
    node: ir.Node
    inputs: list[Integers | None]
    output: Integers | None
    lo: float = -np.inf
    hi: float = np.inf
    """What Relu and Clip between the layer and its Q leave."""

    def constant(self, name: str, data: Any) -> ir.Value:
        return self.model.add_initializer(self.model.fresh(f"{self.node.name}_{name}", self.taken), np.asarray(data))

    def attrs(self, *names: str) -> dict[str, Any]:
        return {n: attr(self.node, n) for n in names if n in self.node.attributes}


New = tuple[str, list[ir.Value | None], dict[str, Any]]
"""Operator, inputs, attributes."""


def to_qoperator(model: Model) -> Converted:
    """Write out the integer operators of a QDQ network.

    Args:
        model: as `emit_qdq` makes it, or from elsewhere; it is not changed.
    """
    out = model.clone()
    taken, made = out.names(), Counter[str]()
    for node in out.nodes:
        rule = RULES.get(op_name(node))
        if rule is None or not node.outputs:
            continue
        site = _site(out, taken, node)
        new = rule(site)
        if new is not None:
            made[new[0]] += 1
            _put(site, new)
    out.drop_unused()
    out.graph.sort()
    if any(n.domain == OWN for n in out.nodes):
        out.ir.opset_imports[OWN] = 1
    return Converted(out, made, Counter(op_name(n) for n in out.nodes if _between(n)))


# -- reading ----------------------------------------------------------------------------------------------------------


def _site(model: Model, taken: set[str], node: ir.Node) -> _Site:
    inputs = [_behind_dq(model, taken, v) for v in node.inputs]
    lo, hi, value = -np.inf, np.inf, node.outputs[0]
    while (user := _only_user(value)) is not None and user.op_type in CLAMPS:
        ends = _ends(user)
        if ends is None:
            break
        lo, hi, value = max(lo, ends[0]), min(hi, ends[1]), user.outputs[0]
    user = _only_user(value)
    output = (
        _integers(model, taken, user, user.outputs[0]) if user is not None and _is(user, "QuantizeLinear") else None
    )
    return _Site(model, taken, node, inputs, output, lo, hi)


def _only_user(value: ir.Value) -> ir.Node | None:
    users = value.uses()
    return next(iter(users))[0] if len(users) == 1 and not value.is_graph_output() else None


def _is(node: ir.Node, op: str) -> bool:
    return node.op_type == op and node.domain == ""


def _ends(node: ir.Node) -> tuple[float, float] | None:
    """What a Relu or Clip leaves; None if that is computed."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    found = []
    for i, default in ((1, -np.inf), (2, np.inf)):
        given = node.inputs[i] if i < len(node.inputs) else None
        data = const(given)
        if given is not None and data is None:
            return None
        found.append(float(data) if data is not None else default)
    return found[0], found[1]


def _behind_dq(model: Model, taken: set[str], value: ir.Value | None) -> Integers | None:
    maker = value.producer() if value is not None else None
    if maker is None or not _is(maker, "DequantizeLinear") or maker.inputs[0] is None:
        return None
    return _integers(model, taken, maker, maker.inputs[0])


def _integers(model: Model, taken: set[str], node: ir.Node, q: ir.Value) -> Integers | None:
    """What a Q or DQ says; None if its scale is computed, or if it has groups."""
    s, zero = const(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    if s is None or attr(node, "block_size", 0) or q.dtype is None or node.inputs[1] is None:
        return None
    if zero is None:
        name = model.fresh(f"{node.name}_zero", taken)
        zero = model.add_initializer(name, np.zeros(s.shape, q.dtype.numpy()))
    z = const(zero)
    return Integers(q, node.inputs[1], zero, int(attr(node, "axis", 1)), s, z) if z is not None else None


def _between(node: ir.Node) -> bool:
    """Whether a layer that computes in float stands between DQ and Q."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") or not node.inputs or not node.outputs:
        return False
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    user = _only_user(node.outputs[0])
    return maker is not None and user is not None and _is(maker, "DequantizeLinear") and _is(user, "QuantizeLinear")


# -- writing ----------------------------------------------------------------------------------------------------------


def _put(site: _Site, new: New) -> None:
    """Put the new operator in; it makes the output of the Q, or, if there is none, that of the old operator."""
    op, inputs, attrs = new
    standard = op in ("QLinearConv", "QLinearMatMul") or op in MOVES
    node = ir.node(op, inputs, attributes=attrs, domain="" if standard else OWN, name=site.node.name)
    old = site.output.q if site.output is not None else site.node.outputs[0]
    result = node.outputs[0]
    result.type, result.shape = old.type, old.shape
    site.model.graph.append(node)
    if site.output is not None:
        result = _clipped(site, site.output, result)
    name, old.name = old.name, site.model.fresh(f"{old.name}_before", site.taken)
    result.name = name
    for user, index in list(old.uses()):
        user.replace_input_with(index, result)
    for i, v in enumerate(site.model.graph.outputs):
        if v is old:
            site.model.graph.outputs[i] = result


def _clipped(site: _Site, out: Integers, value: ir.Value) -> ir.Value:
    """What Relu and Clip left, on integers; nothing where the type ends there anyway."""
    least, most = np.iinfo(out.z.dtype).min, np.iinfo(out.z.dtype).max
    s, z = out.s.ravel()[0], int(out.z.ravel()[0])
    lo, hi = (int(np.clip(np.rint(np.float32(x) / s) + z, least, most)) for x in (site.lo, site.hi))
    if (lo, hi) == (least, most):
        return value
    value.name = site.model.fresh(f"{site.node.name}_unclipped", site.taken)
    ends = [site.constant(word, np.asarray(q, out.z.dtype)) for word, q in (("least", lo), ("most", hi))]
    node = ir.node("Clip", [value, *ends], name=site.model.fresh(f"{site.node.name}_clip", site.taken))
    node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    site.model.graph.append(node)
    return node.outputs[0]


# -- rules: the new operator, or None where the layer does not fit it -------------------------------------------------


def _parts(x: Integers) -> list[ir.Value | None]:
    return [x.q, x.scale, x.zero]


def _activation(site: _Site, index: int) -> Integers | None:
    """An input in 8 bits with one scale."""
    x = site.inputs[index] if index < len(site.inputs) else None
    return x if x is not None and x.q.dtype in SMALL and x.single else None


def _result(site: _Site) -> Integers | None:
    """The output, if it has 8 bits and one scale."""
    y = site.output
    return y if y is not None and y.q.dtype in SMALL and y.single else None


def _weight(site: _Site, x: Integers, axis: int) -> Integers | None:
    """Input 1, if there is a kernel for its type beside `x` and its scales lie along `axis`."""
    w = site.inputs[1] if len(site.inputs) > 1 else None
    if w is None or (x.q.dtype, w.q.dtype) not in PAIRS:
        return None
    rank = len(dims(w.q) or ())
    return w if w.single or (w.s.ndim == 1 and rank and w.axis % rank == axis % rank) else None


def _bias(site: _Site, x: Integers, w: Integers) -> tuple[bool, ir.Value | None]:
    """int32 with the scale of the accumulator, and whether that could be had; (True, None): there is no bias."""
    if len(site.node.inputs) < 3 or site.node.inputs[2] is None:
        return True, None
    scale = x.s.ravel()[0].astype(np.float64) * w.s.ravel().astype(np.float64)
    b, data = site.inputs[2], const(site.node.inputs[2])
    ints = const(b.q) if b is not None else None
    if b is not None and ints is not None:
        close = b.s.size in (1, scale.size) and np.allclose(b.s.ravel(), scale, rtol=SAME_SCALE, atol=0)
        if close and ints.dtype == np.int32 and not b.z.any():
            return True, b.q
        data = (ints.astype(np.float64) - b.z) * b.s.astype(np.float64)
    if data is None or data.ndim != 1:
        return False, None
    q = np.rint(data / scale)
    return (
        (False, None)
        if np.abs(q).max(initial=0) > np.iinfo(np.int32).max
        else (
            True,
            site.constant("bias", q.astype(np.int32)),
        )
    )


def _conv(site: _Site) -> New | None:
    x, y = _activation(site, 0), _result(site)
    w = _weight(site, x, 0) if x is not None else None
    if x is None or y is None or w is None or const(w.q) is None:
        return None
    known, bias = _bias(site, x, w)
    if not known:
        return None
    words = site.attrs("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    return "QLinearConv", [*_parts(x), *_parts(w), y.scale, y.zero, *([bias] if bias is not None else [])], words


def _matmul(site: _Site) -> New | None:
    x = _activation(site, 0)
    w = _weight(site, x, -1) if x is not None else None
    if x is None or w is None or (not w.single and len(dims(w.q) or ()) != 2):
        return None
    if (y := _result(site)) is not None:
        return "QLinearMatMul", [*_parts(x), *_parts(w), y.scale, y.zero], {}
    if site.output is not None:
        return None
    bias = _added(site)
    return "MatMulIntegerToFloat", [x.q, w.q, x.scale, w.scale, x.zero, w.zero, *bias], {}


def _added(site: _Site) -> list[ir.Value | None]:
    """The constant that the only reader of a product adds to it; the site is then that of the sum."""
    user = _only_user(site.node.outputs[0])
    if user is None or user.op_type not in ("Add", "Sum") or len(user.inputs) != 2:
        return []
    other = user.inputs[1] if user.inputs[0] is site.node.outputs[0] else user.inputs[0]
    shape, columns = dims(other), dims(site.node.inputs[1])
    if other is None or const(other) is None or not columns or shape != (columns[-1],):
        return []
    site.node = user
    return [other]


def _gemm(site: _Site) -> New | None:
    x = _activation(site, 0)
    w = _weight(site, x, 0 if attr(site.node, "transB", 0) else 1) if x is not None else None
    if x is None or w is None or attr(site.node, "alpha", 1.0) != 1.0 or attr(site.node, "beta", 1.0) != 1.0:
        return None
    known, bias = _bias(site, x, w)
    y = _result(site)
    if not known or (y is None and site.output is not None):
        return None
    ends = [y.scale, y.zero] if y is not None else []
    return "QGemm", [*_parts(x), *_parts(w), bias, *ends], site.attrs("transA", "transB")


def _pair(op: str) -> Callable[[_Site], New | None]:
    def rule(site: _Site) -> New | None:
        a, b, y = _activation(site, 0), _activation(site, 1), _result(site)
        if a is None or b is None or y is None or not a.q.dtype == b.q.dtype == y.q.dtype:
            return None
        return op, [*_parts(a), *_parts(b), y.scale, y.zero], {}

    return rule


def _one(op: str, *attrs: str) -> Callable[[_Site], New | None]:
    def rule(site: _Site) -> New | None:
        x, y = _activation(site, 0), _result(site)
        if x is None or y is None or x.q.dtype != y.q.dtype:
            return None
        return op, [*_parts(x), y.scale, y.zero], site.attrs(*attrs)

    return rule


def _pool(site: _Site) -> New | None:
    """An average; its integer kernel has no dilations, and with ceil_mode it miscounts the padding that is to count."""
    gaps, counts = attr(site.node, "dilations", ()), attr(site.node, "count_include_pad", 0)
    if any(d != 1 for d in gaps) or (counts and attr(site.node, "ceil_mode", 0)):
        return None
    words = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")
    return _one("QLinearAveragePool", *words)(site)


def _concat(site: _Site) -> New | None:
    y, parts = _result(site), [_activation(site, i) for i in range(len(site.inputs))]
    if y is None or any(x is None or x.q.dtype != y.q.dtype for x in parts):
        return None
    return (
        "QLinearConcat",
        [y.scale, y.zero, *(v for x in parts if x is not None for v in _parts(x))],
        site.attrs("axis"),
    )


def _move(site: _Site) -> New | None:
    x, y, node = _activation(site, 0), _result(site), site.node
    if x is None or y is None or not x.like(y) or any(v.uses() for v in node.outputs[1:]):
        return None
    return node.op_type, [x.q, *node.inputs[1:]], {k: a for k, a in node.attributes.items()}


def _names() -> Iterator[tuple[str, Callable[[_Site], New | None]]]:
    yield from (("Conv", _conv), ("MatMul", _matmul), ("Gemm", _gemm), ("Concat", _concat))
    yield from (("Add", _pair("QLinearAdd")), ("Mul", _pair("QLinearMul")))
    yield from (("AveragePool", _pool), ("Sigmoid", _one("QLinearSigmoid")))
    yield from (
        ("GlobalAveragePool", _one("QLinearGlobalAveragePool")),
        ("LeakyRelu", _one("QLinearLeakyRelu", "alpha")),
    )
    yield from ((op, _move) for op in MOVES)


RULES = dict(_names())
