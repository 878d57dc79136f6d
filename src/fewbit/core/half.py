"""Scales that half precision holds: a group of 32 weights in 4 bits pays 16 bits for its scale instead of 32.

    s → the next float16 that is no smaller        0.05 % more on average, 0.1 % at most

No smaller, so that the largest weights stay inside of the format. Below float16's normal range (about 6e-5) its steps
are coarse: a scale there is taken if it grows by a quarter at most, or if it is `DEAD` beside the largest one of its
weight, as in channels that training switched off. Others, and those over 65504, keep all their bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.params import QuantParams

HALF = np.finfo(np.float16)

DEAD = 2.0**-14
"""Of the largest scale of a weight: what is smaller cannot be told from nothing."""

GROWTH = 1.25


def half_up(scale: NDArray[Any]) -> NDArray[np.float32]:
    """Scales as float32 numbers that float16 holds exactly, rounded up; those that do not fit as they are."""
    s = np.asarray(scale, np.float32)
    near = np.where(s <= HALF.max, s, np.float32(1)).astype(np.float16)
    up = np.where(near.astype(np.float32) < s, np.nextafter(near, np.float16(np.inf)), near).astype(np.float32)
    fits = (s <= HALF.max) & ((up <= GROWTH * s) | (s < DEAD * s.max(initial=0.0)))
    return np.where(fits, up, s).astype(np.float32)


def half_scales(params: QuantParams) -> QuantParams:
    """The same format and zero points with scales that float16 holds."""
    return replace(params, scale=half_up(params.scale))
