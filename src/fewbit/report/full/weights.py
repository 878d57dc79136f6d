"""What integers do to the weights of a layer, channel by channel: do they use their range, are any cut off?

    channel    0      1      2      …
    largest   0.9   0.02    1.7            of the float weights
    limit     1.0    1.0    1.0            of what the integers hold: channel 1 gets 2 of 127 steps on each side

Weights are read from where they are in the quantized network, behind a DequantizeLinear; those in another form (packed,
or in operators that take integers) from the plan.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.core.stored import StoredWeight
from fewbit.errors import PlanError
from fewbit.graph.emit import stored_weight
from fewbit.graph.model import Model, attr, const, is_const, is_float
from fewbit.report.pairs import LIMITS, SATURATE, held_width

Array = NDArray[Any]

MOST = 4096
"""Channels that are told one by one; of more, neighbours are told together."""


@dataclass(frozen=True)
class WeightFacts:
    """The weights of one layer; lists have one number a channel (for granularity group: one a group of weights).

    Args:
        name: of the weights in the float network.
        format: such as int8; "int4 in int8" if no more than the integers themselves tells that they need 4 bits.
        bits: of an integer.
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

    Where groups do not fill the axis, nan fills the last one. steps: from the lowest to the highest integer.
    """

    format: str
    bits: int
    granularity: str
    original: Array
    real: Array
    lows: Array
    highs: Array
    steps: int


def weight_facts(
    quantized: Model | Mapping[str, Any], plan: Plan | None, node: Any, end: str = ""
) -> WeightFacts | None:
    """The first integer weight of a layer; None if it has none.

    Args:
        quantized: the network that is looked at, or its values by name, which many layers can share.
        plan: what it follows, if known.
        node: the layer in the float network. end: the value that it makes together with what is merged into it.
    """
    values = quantized.values() if isinstance(quantized, Model) else quantized
    for index, value in enumerate(node.inputs):
        if value is None or not is_const(value) or not is_float(value):
            continue
        data = const(value)
        if data is None or data.ndim < 2 or not data.size:
            continue
        held = _planned(plan, node, str(value.name), data)
        parts = _in_graph(values, node, index, data, end, held)
        if parts is None and held is not None:
            parts = _in_plan(held, node, index, data)
        if parts is not None:
            return _facts(str(value.name), parts)
    return None


def _planned(plan: Plan | None, node: Any, name: str, data: Array) -> StoredWeight | None:
    """The weight as the plan has it; None if it has none, or one that these weights cannot have become."""
    key = plan.weight_key(name, str(node.name)) if plan is not None else None
    if plan is None or key is None or plan.values[key].role != "weight":
        return None
    try:
        return stored_weight(plan, key, data)
    except PlanError:
        return None


def _in_graph(
    values: Mapping[str, Any], node: Any, index: int, data: Array, end: str, held: StoredWeight | None
) -> Parts | None:
    """The weight behind the DequantizeLinear that the same layer of the quantized network reads it from.

    Some tools merge an activation in the file already: the layer makes its value then. held: as the plan has it, which
    knows the format that was meant.
    """
    twin = _twin(values, node, end)
    value = twin.inputs[index] if twin is not None and index < len(twin.inputs) else None
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
    spec = held.params.spec if held is not None and _follows(held, q, scale) else None
    format, bits, least, most = _seen(kind, q, zero) if spec is None else (_word(spec), spec.bits, spec.qmin, spec.qmax)
    lows, highs = ((n - zero.astype(np.float64)) * scale for n in (least, most))
    steps = max(most - least, 1) if bits > 1 else 1
    return _cut(format, bits, granularity, data, real, lows, highs, axis, block, steps)


def _twin(values: Mapping[str, Any], node: Any, end: str) -> Any | None:
    """The same layer in the quantized network: it makes a value of this name, or what becomes it behind Q and DQ."""
    for name in (str(node.outputs[0].name), end):
        value = values.get(name)
        maker = value.producer() if value is not None else None
        while maker is not None and maker.op_type != node.op_type and maker.op_type in (*SATURATE, "DequantizeLinear"):
            before = maker.inputs[0]
            maker = before.producer() if before is not None else None
        if maker is not None and maker.op_type == node.op_type:
            return maker
    return None


def _follows(held: StoredWeight, q: Array, scale: Array) -> bool:
    """Whether integers and scales of a file are what the plan says; a scale may be enlarged beside an int32 bias."""
    spec, planned = held.params.spec, np.ravel(held.params.scale)
    if planned.size != scale.size or q.min() < spec.qmin or q.max() > spec.qmax:
        return False
    return bool(2 * np.count_nonzero(np.isclose(planned, np.ravel(scale), 1e-5, 0)) >= planned.size)


def _seen(kind: str, q: Array, zero: Array) -> tuple[str, int, int, int]:
    """Format, bits, smallest and largest integer, as far as integers tell."""
    word, bits, least, most = held_width(q, zero)
    return word if word == kind else f"{word} in {kind}", bits, least, most


def _word(spec: QuantSpec) -> str:
    return f"{'int' if spec.signed else 'uint'}{spec.bits}"


def _in_plan(held: StoredWeight, node: Any, index: int, data: Array) -> Parts:
    """The weight as the plan has it."""
    spec, z = held.params.spec, held.params.zero_point.astype(np.float64)
    lows, highs = ((n - z) * held.step for n in (spec.qmin, spec.qmax))
    if held.offset is not None:
        lows, highs = lows + held.offset, highs + held.offset
    axis = _out_axis(node, index, data.ndim) if spec.axis is None else spec.axis % data.ndim
    block = spec.group_size or 0 if spec.granularity == "group" else 0
    steps = spec.qmax - spec.qmin if spec.bits > 1 else 1
    return _cut(_word(spec), spec.bits, spec.granularity, data, held.real(), lows, highs, axis, block, steps)


def _out_axis(node: Any, index: int, ndim: int) -> int:
    """The axis of output channels of a weight: what a layer shows apart even if all share a scale."""
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attr(node, "transB", 0) else 1
    return ndim - 1 if node.op_type == "MatMul" and index == 1 else 0


def _cut(
    kind: str, bits: int, granularity: str, data: Array, real: Array, lows: Array, highs: Array, axis: int, block: int,
    steps: int,
) -> Parts:  # fmt: skip
    """Channels, or groups of weights along an axis, one after the other."""
    ours, theirs = (_rows(x, axis, block) for x in (data, real))
    lows, highs = (np.moveaxis(x, axis, 0).reshape(-1) if block else np.ravel(x) for x in (lows, highs))
    lows, highs = (np.broadcast_to(x, (len(ours),)) for x in (lows, highs))
    return Parts(kind, bits, granularity, ours, theirs, lows, highs, steps)


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
    slack = 0.5 * (parts.highs - parts.lows) / parts.steps  # what is rounded to the last integer
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
