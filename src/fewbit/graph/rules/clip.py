"""One form for everything that cuts off values.

Clip with constant bounds, Relu, Max(x, c), Min(x, c)   are intervals [lo, hi]
[0, ∞) ⇒ Relu    [lo, hi] ⇒ Clip(lo, hi)    (-∞, ∞) ⇒ nothing
x → [a, b] → [c, d] → y  ⇒  x → [clip(a, c, d), clip(b, c, d)] → y        Relu → Clip(0, 6) ⇒ Clip(0, 6)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import op_name
from fewbit.graph.rewrite import Edit, Rule, is_tagged, why_not_private
from fewbit.graph.rules.values import HALF, arg, const_dtype, const_shape, one_constant, same_rank, scalar

INF = float("inf")
HUGE = float(np.finfo(np.float32).max)


class Interval(NamedTuple):
    """y = clip(x, lo, hi)."""

    node: ir.Node
    x: ir.Value
    lo: float
    hi: float


def interval(node: ir.Node) -> Interval | None:
    """Read a node as an interval; None if its bounds are not constants or it is something else."""
    op, x = op_name(node), arg(node, 0)
    if op == "Relu" and x is not None:
        return Interval(node, x, 0.0, INF)
    if op == "Clip" and x is not None:
        bounds = [scalar(v) if v is not None else default for v, default in _clip_bounds(node)]
        lo, hi = bounds
        if lo is None or hi is None or not lo <= hi:
            return None
        return Interval(node, x, -INF if lo <= -HUGE else lo, INF if hi >= HUGE else hi)
    if op in ("Max", "Min"):
        found = one_constant(node)
        if found is None or np.isnan(found[1]):
            return None
        x, c, left = found
        bound = node.inputs[0 if left else 1]
        if bound is not None and len(const_shape(bound)) > 0 and not same_rank(x, node.outputs[0]):
            return None
        return Interval(node, x, c, INF) if op == "Max" else Interval(node, x, -INF, c)
    return None


def _clip_bounds(node: ir.Node) -> list[tuple[ir.Value | None, float]]:
    lo, hi = (*node.inputs[1:3], None, None)[:2]
    return [(lo, -INF), (hi, INF)]


class Cut(NamedTuple):
    """What a node, of which input `at` is cut off, and the one before it come to together."""

    node: ir.Node
    before: Interval | None
    merged: Interval
    at: int
    reason: str


def pattern(node: ir.Node) -> Cut | None:
    """An interval that is not in normal form, or that follows another one."""
    if is_tagged(node):
        return None
    own = interval(node)
    if own is None:
        return _half(node)
    maker = own.x.producer()
    before = interval(maker) if maker is not None and not is_tagged(maker) else None
    if before is not None:
        lo, hi = (min(max(v, own.lo), own.hi) for v in (before.lo, before.hi))
        return Cut(node, before, Interval(node, before.x, lo, hi), _index(own), why_not_private(own.x, node))
    return None if _is_normal(own) else Cut(node, None, own, _index(own), "")


def _index(own: Interval) -> int:
    return next(i for i, v in enumerate(own.node.inputs) if v is own.x)


def _half(node: ir.Node) -> Cut | None:
    """A Clip whose bounds are constants of another float type is recognised, to say why it stays."""
    bounds = [v for v, _ in _clip_bounds(node)] if op_name(node) == "Clip" and node.inputs else []
    x = arg(node, 0)
    types = [const_dtype(v) for v in bounds if v is not None]
    if x is None or not types or not all(t in HALF for t in types):
        return None
    return Cut(node, None, Interval(node, x, -INF, INF), 0, f"its bounds are {types[0]}; only float32 is rewritten")


def _is_normal(own: Interval) -> bool:
    op = op_name(own.node)
    if op != "Clip" or (own.lo, own.hi) in ((0.0, INF), (-INF, INF)):
        return op == "Relu"
    given = [None if v is None else const_shape(v) for v, _ in _clip_bounds(own.node)]
    return given == [() if own.lo > -INF else None, () if own.hi < INF else None]


def check(edit: Edit, match: Cut) -> str:
    """The value between two must not be needed by anybody else."""
    if match.reason:
        return match.reason
    if match.merged.lo == -INF and match.merged.hi == INF:
        return edit.why_not_bypass(match.node, match.at)
    return ""


def replace(edit: Edit, match: Cut) -> str:
    """Put one node in normal form in place of both."""
    node, lo, hi = match.node, match.merged.lo, match.merged.hi
    what = f"{op_name(match.before.node)} and {op_name(node)}" if match.before else op_name(node)
    if lo == -INF and hi == INF:
        edit.bypass(node, match.at)
        return f"{what} cuts nothing off"
    if lo == 0.0 and hi == INF:
        edit.replace(node, "Relu", [match.merged.x])
        return f"{what} is Relu"
    name = str(node.name)
    bounds = [
        edit.constant(f"{name}.{key}", np.array(v, np.float32)) if abs(v) < INF else None
        for key, v in (("min", lo), ("max", hi))
    ]
    edit.replace(node, "Clip", [match.merged.x, *(bounds if bounds[1] is not None else bounds[:1])])
    return f"{what} is Clip({lo:g}, {hi:g})"


CLIP = Rule("clip", ("Clip", "Relu", "Max", "Min"), pattern, check, replace)
