"""Fake quantization of tensors, with the gradients that training needs.

    forward     y = (clip(round_half_even(x / s) + z, qmin, qmax) - z) · s        the numbers of core QuantParams.fake
    plain       dy/dx = 1
    clipped     dy/dx = 1 where x / s + z lies in (qmin - ½, qmax + ½), else 0
    lsq         dy/dx = 1 where x / s + z lies in (qmin, qmax), else 0; there dy/ds = q - z - x / s, else q - z.
                What s gets is multiplied by 1 / √(n · qmax), n the elements that share it

1-bit signed is its own case, as in core/params.py: y = -s if x < 0 else s. NaN stays NaN.
Everything is computed in float32, whatever x is (float16 and bfloat16 of mixed precision, float64). Memory traffic is
what this costs, so passes work in place on buffers of their own, and nothing but x is kept for the way back.
Source of lsq: Esser et al., "Learned Step Size Quantization", 2020.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, one_of

FIXED: tuple[str, ...] = ("plain", "clipped")
"""Gradients where scales are fixed."""

STES = (*FIXED, "lsq")


def fake_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, spec: QuantSpec, ste: str = "clipped", shared: int | None = None
) -> Tensor:
    """Quantize and dequantize: what the integer network sees of `x`.

    Args:
        x: any shape and floating type.
        scale: over 0; broadcasts against `x` (torch/spread.py).
        zero_point: the same shape; not looked at for symmetric formats, where it is 0.
        spec: the format; its sign must be settled.
        ste: "plain", "clipped" or "lsq".
        shared: for lsq, how many elements share one scale; worked out from the shapes if not given.

    Returns:
        The type and shape of `x`.
    """
    one_of("ste", ste, STES)
    settled(spec)
    s = scale.float()
    zero = None if always_zero(spec) else zero_point.float()
    lowest, highest, binary = spec.qmin, spec.qmax, spec.bits == 1 and bool(spec.signed)
    if ste == "plain":
        y = _Plain.apply(x.float(), s, zero, lowest, highest, binary)
    elif ste == "clipped":
        y = _Clipped.apply(x.float(), s, zero, lowest, highest, binary)
    else:
        n = shared or max(x.numel() // max(s.numel(), 1), 1) * (spec.group_size or 1)
        y = _Learned.apply(x.float(), s, zero, lowest, highest, binary, 1 / math.sqrt(n * highest))
    return y.to(x.dtype)


def settled(spec: QuantSpec) -> QuantSpec:
    """Return the format, or refuse it if its sign is open: a network needs it before data comes.

    Raises:
        ConfigError: `signed` is None.
    """
    if spec.signed is None:
        raise ConfigError("signed is None; simulation needs True or False (QuantSpec.resolve settles it from data)")
    return spec


def always_zero(spec: QuantSpec) -> bool:
    """Whether the zero point of the format is 0, whatever the data."""
    return spec.symmetric or (spec.bits == 1 and bool(spec.signed))


def _rounded(x: Tensor, s: Tensor, zero: Tensor | None, lowest: int, highest: int, binary: bool) -> Tensor:
    """The forward formula; one new buffer."""
    if binary:
        y = torch.where(x < 0, -s, s)
        return torch.where(x.isnan(), x, y)
    y = torch.div(x, s).round_()
    if zero is None:
        return y.clamp_(lowest, highest).mul_(s)
    return y.add_(zero).clamp_(lowest, highest).sub_(zero).mul_(s)


def _inside(grad: Tensor, r: Tensor, low: float, high: float) -> Tensor:
    """`grad` where low < r < high, else 0; in one pass."""
    return torch.ops.aten.hardtanh_backward(grad, r, low, high)


def _position(x: Tensor, s: Tensor, zero: Tensor | None) -> Tensor:
    """X on the scale of integers, not rounded."""
    r = torch.div(x, s)
    return r if zero is None else r.add_(zero)


class _Plain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, s: Tensor, zero: Tensor | None, lowest: int, highest: int, binary: bool) -> Tensor:
        return _rounded(x, s, zero, lowest, highest, binary)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad, None, None, None, None, None


class _Clipped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, s: Tensor, zero: Tensor | None, lowest: int, highest: int, binary: bool) -> Tensor:
        ctx.save_for_backward(x, s, zero)
        ctx.bounds = lowest - 0.5, highest + 0.5
        return _rounded(x, s, zero, lowest, highest, binary)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        low, high = ctx.bounds
        return _inside(grad, _position(*ctx.saved_tensors), low, high), None, None, None, None, None


class _Learned(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, s: Tensor, zero: Tensor | None, lowest: int, highest: int, binary: bool, gain: float
    ) -> Tensor:
        ctx.save_for_backward(x, s, zero)
        ctx.format = lowest, highest, binary, gain
        return _rounded(x, s, zero, lowest, highest, binary)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, s, zero = ctx.saved_tensors
        lowest, highest, binary, gain = ctx.format
        r = _position(x, s, zero)
        back = _inside(grad, r, lowest, highest) if ctx.needs_input_grad[0] else None
        slope = None
        if ctx.needs_input_grad[1]:
            # q - r inside and q - z outside, summed as such: Σ grad·q - Σ grad·r would lose the digits of 16 bits
            d = torch.where(r < 0, -1.0, 1.0).float() if binary else r.round().clamp_(lowest, highest)
            inner = _inside(r, r, lowest, highest)
            if zero is not None:
                d.sub_(zero)
                inner.sub_(_inside(zero.expand_as(r), r, lowest, highest))
            slope = d.sub_(inner).mul_(grad).sum_to_size(s.shape).mul_(gain)
        return back, slope, None, None, None, None, None
