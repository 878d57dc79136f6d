"""Scales of tensors, channels and groups: found from ranges, and shaped so that they broadcast.

    tensor    ()       one for all
    channel   (C,)     one for each index of the axis
    group     as x, ⌈L / group_size⌉ long on the axis: one for each run of group_size elements, the last one short

The torch twin of params_from_range, reduced and spread in core/params.py: the same numbers, on the tensors' device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewbit.core.params import TINY
from fewbit.core.spec import QuantSpec
from fewbit.torch.rounding import always_zero

LARGEST = torch.finfo(torch.float32).max


def from_range(spec: QuantSpec, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point, float32, of ranges; 0 is always represented exactly, and zeros alone give scale 1.

    Args:
        spec: the format, its sign settled.
        lo, hi: smallest and largest value, any shape.
    """
    lo, hi = lo.float(), hi.float()
    if always_zero(spec):
        top = torch.maximum(-lo, hi) if spec.signed else hi.clamp_min(0)
        # in float32: of two float32 numbers the quotient is the same one by way of float64
        return positive(top / spec.qmax, top == 0), torch.zeros_like(top)
    wide = torch.float32 if lo.device.type == "mps" else torch.float64  # that device has no float64
    low = lo.to(wide).clamp_max(0)
    span = hi.to(wide).clamp_min(0) - low
    scale = positive(span / (spec.qmax - spec.qmin), span == 0)
    zero = torch.round(spec.qmin - low / scale).clamp(spec.qmin, spec.qmax)
    return scale.float(), zero.float()


def positive(scale: Tensor, empty: Tensor) -> Tensor:
    """1 where there is nothing but zeros; never below the smallest normal float32."""
    return torch.where(empty, 1.0, scale.clamp(TINY, LARGEST))


def range_of(spec: QuantSpec, x: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each tensor, channel or group."""
    if spec.granularity == "tensor":
        lo, hi = torch.aminmax(x)
        return lo, hi
    if spec.granularity == "channel":
        others = _others(spec, x)
        return (x.amin(others), x.amax(others)) if others else (x, x)
    cells, axis = _cells(spec, x)
    return cells.amin(axis + 1), cells.amax(axis + 1)


def mean_magnitude(spec: QuantSpec, x: Tensor) -> Tensor:
    """Mean of |x| over each tensor, channel or group, float32."""
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    if spec.granularity == "tensor":
        return x.abs().mean(dtype=wide).float()
    if spec.granularity == "channel":
        others = _others(spec, x)
        return x.abs().mean(others, dtype=wide).float() if others else x.abs().float()
    cells, axis = _cells(spec, x)
    size = torch.full((cells.shape[axis],), spec.group_size, dtype=wide, device=x.device)
    size[-1] -= cells.shape[axis] * (spec.group_size or 1) - x.shape[axis]
    shape = [1] * x.dim()
    shape[axis] = -1
    return (cells.abs().sum(axis + 1, dtype=wide) / size.reshape(shape)).float()


def _others(spec: QuantSpec, x: Tensor) -> list[int]:
    """All axes but that of the channels."""
    assert spec.axis is not None
    return [i for i in range(x.dim()) if i != spec.axis % x.dim()]


def _cells(spec: QuantSpec, x: Tensor) -> tuple[Tensor, int]:
    """The axis cut in two, (groups, group_size), the last group filled up with zeros; and where it is."""
    assert spec.axis is not None and spec.group_size is not None
    axis, size = spec.axis % x.dim(), spec.group_size
    short = -x.shape[axis] % size
    if short:
        fill = list(x.shape)
        fill[axis] = short
        x = torch.cat((x, x.new_zeros(fill)), axis)
    return x.unflatten(axis, (-1, size)), axis


def spread(spec: QuantSpec, numbers: Tensor, shape: torch.Size) -> Tensor:
    """Numbers shaped so that each tensor, channel or group of `shape` meets its own."""
    if spec.granularity == "tensor":
        return numbers
    assert spec.axis is not None
    axis = spec.axis % len(shape)
    if spec.granularity == "channel":
        view = [1] * len(shape)
        view[axis] = -1
        return numbers.reshape(view)
    assert spec.group_size is not None
    return numbers.repeat_interleave(spec.group_size, axis).narrow(axis, 0, shape[axis])


def scale_shape(spec: QuantSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the scales of a tensor of this shape."""
    if spec.granularity == "tensor":
        return ()
    assert spec.axis is not None
    axis = spec.axis % len(shape)
    if spec.granularity == "channel":
        return (shape[axis],)
    assert spec.group_size is not None
    return (*shape[:axis], -(-shape[axis] // spec.group_size), *shape[axis + 1 :])


def first_step(spec: QuantSpec, magnitude: Tensor) -> Tensor:
    """Where a learned scale starts: 2·mean|x| / √qmax (Esser et al., 2020); for ±s the nearest, mean|x|."""
    share = 1.0 if spec.bits == 1 and spec.signed else 2 / math.sqrt(spec.qmax)
    return positive(magnitude * share, magnitude == 0)
