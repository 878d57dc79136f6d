"""Weights that were rounded before: the steps that they lie on.

    channel of a weight, |w| ≤ m;   w = s·q with whole q for s = m / k, one of k = 127, 126, …, 64   →   its scale is s

An old checkpoint holds integers, with one scale for the whole weight. A channel's own largest magnitude is then seldom
127 steps, and rounding to 127 of its own would round a second time. On the old steps nothing is lost. Larger ones than
64 steps to the largest magnitude need not be tried: half of such a step, a quarter … will do, and the bias, which is
counted in the same steps, is the better for it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.graph.model import Model, const

Array = NDArray[Any]

OFF = 1e-3
"""Share of a step by which float32 arithmetic may have moved a weight."""

PROBED = 64
"""Values of a channel that are looked at first."""

COUNTS = np.arange(127, 63, -1)
"""Steps to the largest magnitude: a weight that was stored with 8 bits has up to 127."""


def on_old_steps(model: Model, plan: Plan) -> Plan:
    """The plan, with the scales of weights that lie on steps already."""
    values, found = model.values(), dict(plan.values)
    for name, v in plan.values.items():
        data = const(values.get(name.split("@")[0])) if v.role == "weight" and not v.scale else None
        if data is not None and (scale := old_scales(v.spec, data)) is not None:
            found[name] = replace(v, scale=tuple(float(s) for s in scale), reason=f"{v.reason}; steps kept")
    return replace(plan, values=found)


def old_scales(spec: QuantSpec, weight: Array) -> Array | None:
    """The steps that all channels of a weight lie on, by channel or a single one; None if some lie on none."""
    if spec.bits != 8 or not (spec.signed and spec.symmetric) or spec.granularity == "group":
        return None
    axis = 0 if spec.axis is None or spec.granularity == "tensor" else spec.axis % weight.ndim
    rows = weight.reshape(1, -1) if spec.granularity == "tensor" else np.moveaxis(weight, axis, 0)
    scales = [_step(row.astype(np.float64).reshape(-1)) for row in rows]
    if any(s is None for s in scales):
        return None
    return np.array(scales, np.float64)


def _step(row: Array) -> float | None:
    """The smallest of the steps of which every number is a multiple; 1 if all are 0."""
    most = np.abs(row).max(initial=0.0)
    if most == 0:
        return 1.0
    steps = most / COUNTS
    some = row[np.flatnonzero(row)][:PROBED]
    for step in steps[_whole(some / steps[:, None])]:
        if _whole(row[None] / step)[0]:
            return float(step)
    return None


def _whole(numbers: Array) -> Array:
    """Which rows hold whole numbers only."""
    found: Array = (np.abs(numbers - np.rint(numbers)) < OFF).all(-1)
    return found
