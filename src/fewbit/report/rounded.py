"""Values that a quantized network rounds, and how to read their integers from any engine.

    v ─ Q ─ [Clip] ─ q ─ DQ ─ readers          q = clip(round(v / s) + z)

Engines that keep integers show q itself, which leaves their kernels as they are; engines that compute in float between
layers show v, and q is computed from it here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.graph.model import Model, const, is_const, op_name
from fewbit.report.pairs import LIMITS


@dataclass(frozen=True)
class Rounded:
    """One rounded value.

    Args:
        name: of the float value v. integers: of q. op, node: what makes v ("Input" for what is fed).
        scale, zero: scalars of the Q. least, most: smallest and largest integer.
    """

    name: str
    integers: str
    op: str
    node: str
    scale: float
    zero: int
    least: int
    most: int

    def of(self, x: NDArray[Any]) -> NDArray[np.int32]:
        """The integers of a float array v, or q as it is."""
        if x.dtype.kind in "iu":
            return x.astype(np.int32)
        with np.errstate(invalid="ignore", over="ignore"):
            q = np.rint(x.astype(np.float32) / np.float32(self.scale)) + self.zero
        return np.clip(np.nan_to_num(q, nan=self.least), self.least, self.most).astype(np.int32)


def rounded_values(model: Model) -> list[Rounded]:
    """All values with scalar, constant scales that are rounded, once each, in the order of the graph."""
    found: dict[str, Rounded] = {}
    for node in model.nodes:
        for value in _read(node):
            if value.name not in found:
                found[str(value.name)] = value
    return list(found.values())


def _read(node: Any) -> Iterator[Rounded]:
    """What a Q rounds, if a DQ reads it."""
    if node.op_type != "QuantizeLinear" or is_const(node.inputs[0]):
        return
    last, least, most = _behind(node)
    if not any(u.node.op_type == "DequantizeLinear" and u.idx == 0 for u in last.uses()):
        return
    scale, zero = const(node.inputs[1]), const(node.inputs[2]) if len(node.inputs) > 2 else None
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        return
    kind = "uint8" if zero is None else zero.dtype.name
    if kind not in LIMITS:
        return
    lo, hi = LIMITS[kind]
    value = node.inputs[0]
    maker = value.producer()
    yield Rounded(
        str(value.name), str(last.name), op_name(maker) if maker is not None else "Input",
        str(maker.name) if maker is not None else str(value.name), float(scale.reshape(())),
        0 if zero is None else int(zero.reshape(())), max(lo, least), min(hi, most),
    )  # fmt: skip


def _behind(node: Any) -> tuple[Any, int, int]:
    """The integers that readers get: behind the Q, or behind the Clip of integers that follows it; and its bounds."""
    value = node.outputs[0]
    uses = list(value.uses())
    if len(uses) != 1 or uses[0].node.op_type != "Clip" or uses[0].idx != 0:
        return value, -(2**31), 2**31
    clip = uses[0].node
    ends = [const(v) if v is not None else None for v in (*clip.inputs[1:3], None, None)][:2]
    lo, hi = (None if e is None else int(e.reshape(())) for e in ends)
    return clip.outputs[0], -(2**31) if lo is None else lo, 2**31 if hi is None else hi
