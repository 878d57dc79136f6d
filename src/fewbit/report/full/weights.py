"""What integers do to the weights of a layer, channel by channel: do they use their range, are any cut off?

    channel    0      1      2      …
    largest   0.9   0.02    1.7            of the float weights
    limit     1.0    1.0    1.0            of what the integers hold: channel 1 gets 2 of 127 steps on each side

Weights are read from where they are in the quantized network, behind a DequantizeLinear; those in another form (packed,
or in operators that take integers) from the plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.plan import Plan
from fewbit.graph.emit import stored_weight
from fewbit.graph.model import Model, attr, const, is_const, is_float
from fewbit.report.pairs import LIMITS

Array = NDArray[Any]

MOST = 4096
"""Channels that are told one by one; of more, neighbours are told together."""


@dataclass(frozen=True)
class WeightFacts:
    """The weights of one layer; lists have one number a channel (for granularity group: one a group of weights).

    Args:
        name: of the weights in the float network. format: such as int8. bits: of an integer.
        granularity: what shares a scale: tensor, channel or group. channels: how many there are.
        together: neighbours that one number of the lists stands for.
        low, high: smallest and largest float weight. limit_low, limit_high: what the integers can hold.
        sqnr: in dB; inf where nothing is lost. sparsity: share of integers that are 0. clip: share beyond the limits.
    """

    name: str
    format: str
    bits: int
    granularity: str
    channels: int
    together: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    limit_low: tuple[float, ...]
    limit_high: tuple[float, ...]
    sqnr: tuple[float, ...]
    sparsity: float
    clip: float


@dataclass(frozen=True)
class Parts:
    """One weight, cut into what is told apart: `original` and `real` (parts, numbers), limits (parts,).

    Where groups do not fill the axis, nan fills the last one.
    """

    format: str
    bits: int
    granularity: str
    original: Array
    real: Array
    lows: Array
    highs: Array


def weight_facts(quantized: Model, plan: Plan | None, node: Any, end: str = "") -> WeightFacts | None:
    """The first integer weight of a layer; None if it has none.

    Args:
        quantized: the network that is looked at. plan: what it follows, if known.
        node: the layer in the float network. end: the value that it makes together with what is merged into it.
    """
    for index, value in enumerate(node.inputs):
        if value is None or not is_const(value) or not is_float(value):
            continue
        data = const(value)
        if data is None or data.ndim < 2 or not data.size:
            continue
        parts = _in_graph(quantized, node, index, data, end) or _in_plan(plan, node, index, str(value.name), data)
        if parts is not None:
            return _facts(str(value.name), parts)
    return None


def _in_graph(quantized: Model, node: Any, index: int, data: Array, end: str) -> Parts | None:
    """The weight behind the DequantizeLinear that the same layer of the quantized network reads it from.

    Some tools merge an activation in the file already: the layer makes its value then.
    """
    values = quantized.values()
    makers = (v.producer() for v in map(values.get, (str(node.outputs[0].name), end)) if v is not None)
    twin = next((m for m in makers if m is not None and m.op_type == node.op_type), None)
    if twin is None or index >= len(twin.inputs):
        return None
    value = twin.inputs[index]
    dq = value.producer() if value is not None else None
    if dq is None or dq.op_type != "DequantizeLinear":
        return None
    found = [const(v) if v is not None else None for v in dq.inputs]
    q, scale, zero = found[0], found[1], found[2] if len(found) > 2 else None
    if q is None or scale is None or q.shape != data.shape:
        return None
    kind = q.dtype.name
    if kind not in LIMITS:
        return None
    bits = int("".join(c for c in kind if c.isdigit()))
    zero = np.zeros_like(scale, np.int32) if zero is None else zero.astype(np.int32)
    block, axis = attr(dq, "block_size", 0), attr(dq, "axis", 1) % max(q.ndim, 1)
    if scale.size == 1:
        granularity, axis = "tensor", _out_axis(node, index, q.ndim)
        s, z = scale.reshape(()), zero.reshape(())
    elif block:
        granularity, upto = "group", tuple(slice(n) for n in q.shape)
        s, z = (np.repeat(x, block, axis)[upto] for x in (scale, zero))
    else:
        granularity, view = "channel", [-1 if i == axis else 1 for i in range(q.ndim)]
        s, z = scale.reshape(view), zero.reshape(view)
    real = (q.astype(np.int32) - z).astype(np.float32) * s.astype(np.float32)
    lows, highs = ((n - zero.astype(np.float64)) * scale for n in LIMITS[kind])
    return _cut(kind, bits, granularity, data, real, lows, highs, axis, block)


def _in_plan(plan: Plan | None, node: Any, index: int, name: str, data: Array) -> Parts | None:
    """The weight as the plan has it."""
    key = plan.weight_key(name, str(node.name)) if plan is not None else None
    if plan is None or key is None or plan.values[key].role != "weight":
        return None
    held = stored_weight(plan, key, data)
    spec, z = held.params.spec, held.params.zero_point.astype(np.float64)
    lows, highs = ((n - z) * held.step for n in (spec.qmin, spec.qmax))
    if held.offset is not None:
        lows, highs = lows + held.offset, highs + held.offset
    axis = _out_axis(node, index, data.ndim) if spec.axis is None else spec.axis % data.ndim
    kind = f"{'int' if spec.signed else 'uint'}{spec.bits}"
    block = spec.group_size or 0 if spec.granularity == "group" else 0
    return _cut(kind, spec.bits, spec.granularity, data, held.real(), lows, highs, axis, block)


def _out_axis(node: Any, index: int, ndim: int) -> int:
    """The axis of output channels of a weight: what a layer shows apart even if all share a scale."""
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attr(node, "transB", 0) else 1
    return ndim - 1 if node.op_type == "MatMul" and index == 1 else 0


def _cut(
    kind: str, bits: int, granularity: str, data: Array, real: Array, lows: Array, highs: Array, axis: int, block: int
) -> Parts:
    """Channels, or groups of weights along an axis, one after the other."""
    ours, theirs = (_rows(x, axis, block) for x in (data, real))
    lows, highs = (np.moveaxis(x, axis, 0).reshape(-1) if block else np.ravel(x) for x in (lows, highs))
    lows, highs = (np.broadcast_to(x, (len(ours),)) for x in (lows, highs))
    return Parts(kind, bits, granularity, ours, theirs, lows, highs)


def _rows(x: Array, axis: int, block: int) -> Array:
    """What is told apart, a row each: (channels, numbers), or (blocks · rest, block)."""
    moved = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)
    if not block:
        return moved
    missing = -moved.shape[0] % block
    filled = np.pad(moved.astype(np.float32), ((0, missing), (0, 0)), constant_values=np.nan)
    return filled.reshape(-1, block, moved.shape[1]).transpose(0, 2, 1).reshape(-1, block)


def _facts(name: str, parts: Parts) -> WeightFacts:
    """Numbers of each part."""
    w, r = parts.original.astype(np.float32), parts.real
    count, size = len(w), int(np.count_nonzero(~np.isnan(w)))
    slack = 0.5 * (parts.highs - parts.lows) / (2**parts.bits - 1)  # what is rounded to the last integer
    with np.errstate(invalid="ignore"):
        outside = (w < (parts.lows - slack)[:, None]) | (w > (parts.highs + slack)[:, None])
    together = math.ceil(count / MOST)
    fold = np.arange(0, count, together)

    def powers(x: Array) -> Array:
        return np.add.reduceat(np.nansum(np.square(x), 1, dtype=np.float64), fold)

    return WeightFacts(
        name=name, format=parts.format, bits=parts.bits, granularity=parts.granularity, channels=count,
        together=together,
        low=_told(np.minimum.reduceat(np.nanmin(w, 1), fold)),
        high=_told(np.maximum.reduceat(np.nanmax(w, 1), fold)),
        limit_low=_told(np.maximum.reduceat(parts.lows, fold)),
        limit_high=_told(np.minimum.reduceat(parts.highs, fold)),
        sqnr=tuple(_sqnr(s, n) for s, n in zip(powers(w), powers(w - r), strict=True)),
        sparsity=np.count_nonzero(r == 0) / size, clip=np.count_nonzero(outside) / size,
    )  # fmt: skip


def _told(x: Array) -> tuple[float, ...]:
    """Four digits: a page of thousands of channels is read by the eye."""
    return tuple(float(f"{v:.4g}") for v in x.tolist())


def _sqnr(signal: float, noise: float) -> float:
    """In dB, two decimals."""
    if not noise:
        return math.inf
    return round(10 * math.log10(signal / noise), 2) if signal > 0 else -math.inf
