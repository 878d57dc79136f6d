"""Let a scale pass the shift behind it, into a convolution that sets zeros beside its input.

    x → Mul(s) → Add(t) → padded Conv(W) → y   ⇒   x → Add(t / s) → padded Conv(W·s) → y

    W (s·x + t) = (W s) (x + t/s), and a padded zero stays a zero under any scale

The shift itself cannot move (see affine.py), but one operator between two convolutions costs less than two.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import dims, is_const, op_name
from fewbit.graph.rewrite import Edit, Rule, why_not_private
from fewbit.graph.rules import linear
from fewbit.graph.rules.affine import F64, Affine, before_weights, coefficients, operand
from fewbit.graph.rules.values import arg, maker


class Shifted(NamedTuple):
    """A shift in front of weights, and the scale in front of the shift."""

    shift: Affine
    scale: ir.Node
    x: ir.Value


def pattern(node: ir.Node) -> Shifted | None:
    """Mul or Div, then Add or Sub, then a convolution with padding."""
    shift = before_weights(node)
    scale = maker(shift.x, "Mul", "Div") if shift is not None else None
    x = operand(scale) if scale is not None else None
    if shift is None or scale is None or x is None or (is_const(arg(node, 0)) and op_name(node) == "Sub"):
        return None
    return Shifted(shift, scale, x) if op_name(shift.host) == "Conv" and linear.pads_zeros(shift.host) else None


def _numbers(match: Shifted) -> tuple[F64, F64] | str:
    """Find s and t / s."""
    host = match.shift.host
    channels, right = linear.inputs(host), linear.channel_from_right(host)
    shape = dims(match.x)
    if shape is None or len(shape) != right + 2 or shape[1] != channels:
        return f"{str(match.x.name)!r} is not known to have {channels} channels"
    both = [coefficients(n, channels, right, right + 2) for n in (match.scale, match.shift.node)]
    for found in both:
        if isinstance(found, str):
            return found
    (s, _), (_, t) = (f for f in both if not isinstance(f, str))
    with np.errstate(all="ignore"):
        moved = (t / s).astype(np.float32)
    return (s, moved.astype(np.float64)) if np.isfinite(moved).all() else f"{match.scale.name!r} scales by 0"


def check(edit: Edit, match: Shifted) -> str:
    """Constant weights and numbers, one for each channel, and nobody else who reads the values between."""
    reason = linear.why_not_linear(match.shift.host) or why_not_private(match.shift.x, match.shift.node)
    if reason:
        return reason
    found = _numbers(match)
    return found if isinstance(found, str) else ""


def replace(edit: Edit, match: Shifted) -> str:
    """Scale the weights, divide the shift."""
    found = _numbers(match)
    assert not isinstance(found, str)
    s, moved = found
    node, host, right = match.shift.node, match.shift.host, linear.channel_from_right(match.shift.host)
    value = moved[:1].reshape(()) if (moved == moved[0]).all() else moved.reshape(-1, *[1] * right)
    if op_name(node) == "Sub":  # x - c, so that t is -c
        value = -value
    c = edit.constant(f"{node.name}.shift", value.astype(np.float32))
    edit.rename(node.outputs[0], "unscaled")
    edit.set_input(node, 0 if is_const(arg(node, 0)) else 1, c)
    index = next(i for i, v in enumerate(match.scale.inputs) if v is match.x)
    edit.bypass(match.scale, index, into=host)
    linear.scale_inputs(edit, host, s, np.zeros_like(s), op_name(match.scale).lower())
    return f"{op_name(match.scale)} {match.scale.name!r} passes it and is folded into {host.name!r}"


SHIFT = Rule("shift", ("Add", "Sub"), pattern, check, replace)
