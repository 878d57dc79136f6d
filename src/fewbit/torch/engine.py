"""Rounding exactly as engines do it: in evaluation the simulation has the integers of the engine, not nearly.

    layer    q_y = round(acc · M) + z_y        acc = Σ q_w·(q_x − z_x) + q_b, exact
                                               M = s_x·s_w ÷ s_y, one float32 number for each output
    sum      q_y = round(q_a·R_a + (q_b·R_b + C)), R_a = s_a ÷ s_y, C = z_y − (R_a·z_a + R_b·z_b), products not rounded

A float sum instead of acc, or factors in another order, round one value in 10⁴ or 10⁵ to the integer next to it, and
the layers behind multiply that. The formulas are those of ONNX Runtime's kernels, found by comparing with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fewbit.core.params import TINY
from fewbit.torch.quantizer import ActQuantizer

MOST_BITS = 8
"""Bits of formats that engines compute with in integers; their sums are exact in float32."""


def counts() -> bool:
    """Whether this is evaluation: nobody asks for gradients, or for another precision."""
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"))


def known_scale(scale: Any) -> Tensor | None:
    """The scale that values have, given as such or by their quantizer; None where they are not rounded."""
    if not isinstance(scale, nn.Module):
        return scale
    return scale.scale_in_use() if scale.enabled and not scale.online else None


def integer_layer(layer: Any, x: Tensor, s_x: Tensor, s_y: Tensor, *more: Any) -> Tensor:
    """A layer of ours, computed over integers.

    Args:
        layer: its weights are rounded, and so is x, to multiples of s_x. s_y: scale of what is behind it.
        more: what else its computation takes.

    Returns:
        multiples of s_y, not limited to the range of a format yet.
    """
    w, b = layer.folded()
    q_w = torch.round(layer._rounded(w) / layer.weight_quantizer.wide_scale(w))
    acc = layer._compute(torch.round(x / s_x), q_w, None, *more)
    s_w = layer._output_scales(w)
    if b is not None:
        acc = (acc.double() + _along(layer, bias_integers(b, s_x * s_w), acc)).float()
    return torch.round(acc * _along(layer, s_x * s_w / s_y, acc)) * s_y


def bias_integers(b: Tensor, step: Tensor) -> Tensor:
    """A bias as int32 multiples of s_x·s_w, in double precision; steps grow where int32 would overflow."""
    b = b.detach().double()
    return torch.round(b / step.clamp_min(TINY).double()).clamp(-(2.0**31 - 1), 2.0**31 - 1)


def _along(layer: nn.Module, numbers: Tensor, y: Tensor) -> Tensor:
    """One number for each output, shaped to meet y."""
    return numbers if numbers.dim() == 0 or isinstance(layer, nn.Linear) else numbers.reshape(-1, *[1] * (y.dim() - 2))


def integer_add(x: Tensor, y: Tensor, left: ActQuantizer, right: ActQuantizer, out: ActQuantizer) -> Tensor:
    """X + y; in evaluation over integers.

    Args:
        x, y: rounded; any shapes that broadcast. left, right, out: quantizers of x, y and of the result.
    """
    parts = (left, right, out)
    if not counts() or not all(p.enabled and not p.online for p in parts):
        return x + y
    (s_a, z_a), (s_b, z_b), (s_c, z_c) = ((p.scale_in_use(), p.zero_point) for p in parts)
    r_a, r_b = s_a / s_c, s_b / s_c
    c = z_c - _fused(r_a, z_a, r_b * z_b)
    q_a, q_b = torch.round(x / s_a) + z_a, torch.round(y / s_b) + z_b
    return (torch.round(_fused(q_a, r_a, _fused(q_b, r_b, c))) - z_c) * s_c


def _fused(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """x·y + z, rounded once: products of two float32 numbers are exact in double precision."""
    return (x.double() * y.double() + z.double()).float()
