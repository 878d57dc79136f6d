"""The cells of debug tables: two lines for a tensor, original and dequantized, and one for each of its scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from fewbit.core.stored import StoredWeight
from fewbit.errors import ModelError
from fewbit.report.debug_rows import Array, Entry
from fewbit.report.debug_stats import at_run_time, change, stats

Row = list[Any]
Made = tuple[Row, Row]
"""The cells of a tensor behind its names: original and dequantized."""


def compared(e: Entry, original: Array, seen: Array) -> Made:
    """An activation in both networks."""
    same(e.tensor, original, seen)
    return made(original, at_run_time(e.dynamic, seen) if e.dynamic else seen, weight=False)


def same(name: str, original: Array, seen: Array) -> None:
    """Raise ModelError if a value has another shape in the quantized network."""
    if original.shape != seen.shape:
        raise ModelError(
            f"value {name!r} has shape {original.shape} in the float network and {seen.shape} in the quantized one; "
            "it is not the same value, and no debug table can tell of it"
        )


def made(original: Array, dequantized: Array, *, weight: bool) -> Made:
    """A tensor before and after."""
    kind = "Weight" if weight else "Activation"
    clip, angle = change(original, dequantized)
    return (
        ["Origin", kind, *stats(original).cells(), 0.0, 1.0],
        ["Dequant", kind, *stats(dequantized).cells(), clip, angle],
    )


def scales(e: Entry, shape: Sequence[int], kept: StoredWeight) -> Iterator[Row]:
    """The lines of one tensor, one for each scale; free axes are -1, and then so is the number of elements."""
    elements = prod(shape) if -1 not in shape else -1
    names = [e.node, e.op, e.tensor, elements, "".join(f"{d} " for d in shape)]
    params = kept.params
    count = params.scale.size
    gains: Array = np.ones(count) if kept.gain is None else kept.gain.ravel()
    offsets: Array = np.zeros(count) if kept.offset is None else kept.offset.ravel()
    for s, z, g, m in zip(params.scale.ravel(), params.zero_point.ravel(), gains, offsets, strict=True):
        yield [*names, float(s), int(z), params.spec.bits, float(g), float(m)]
