"""The two loops that see every value: the range of an array, and its bins on a grid. Compiled, one thread, no GIL.

    key(x)    the bits of a float32 as an int32 that sorts as the float does (-0 just below +0, NaN outside of ±inf),
              so min, max and the search for NaN and inf are one integer min/max, which vectorises
    bin(x)    trunc(x / w) for x ≥ 0, trunc(x / w) - 1 for x < 0;   w a power of two, so x / w is exact

Counting goes in chunks: bins of 4,096 values first (vectorises), then +1 into LANES interleaved tables, as equal
neighbours (the zeros after a ReLU) would wait for each other's store in a single one.
Importing this module imports numba; the rest of fewbit.calib imports it when the first value arrives.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

CHUNK = 4096
LANES = 4
INF_BITS = 0x7F800000
LOWEST, HIGHEST = np.int32(-(2**31)), np.int32(2**31 - 1)
MAGNITUDE, SIGN_SHIFT = np.int32(0x7FFFFFFF), np.int32(31)


def compiled(signature: str) -> Callable[[Any], Any]:
    """Compile at import, once for all threads, and keep the machine code on disk if there is a folder to write to."""

    def compile_(function: Any) -> Any:
        try:
            return numba.njit(signature, nogil=True, cache=True)(function)
        except RuntimeError:  # neither this folder nor the user's cache can be written
            return numba.njit(signature, nogil=True)(function)

    return compile_


@compiled("UniTuple(int32, 2)(int32[::1])")
def key_range(bits):  # type: ignore[no-untyped-def]  # typed by the signature above
    """Smallest and largest key of an array of float32 bits; not empty."""
    lo, hi = HIGHEST, LOWEST
    for i in range(bits.size):
        b = bits[i]
        k = np.int32(b ^ np.int32(np.int32(b >> SIGN_SHIFT) & MAGNITUDE))
        lo = min(lo, k)
        hi = max(hi, k)
    return lo, hi


@compiled("Tuple((int64, int32, int32))(float32[::1], int32[::1], int64, float32, int32, uint32[::1])")
def fill(x, bits, start, inverse_width, bound, tables):  # type: ignore[no-untyped-def]
    """Count x[start:] into `tables`, chunk by chunk, up to the first chunk that leaves the grid.

    Args:
        x, bits: the values, and the same memory seen as int32.
        start: where to begin.
        inverse_width: 1 / width of a bin.
        bound: bits of the first magnitude that is off the grid.
        tables: LANES interleaved tables, shape (2·half·LANES,).

    Returns:
        where it stopped (x.size, or the start of a chunk with a value off the grid, a NaN or an inf), and the
        smallest and largest key of what was counted.
    """
    bins = np.empty(CHUNK, np.uint16)
    half = np.int32(tables.size // (2 * LANES))
    lowest, highest = HIGHEST, LOWEST
    while start < x.size:
        stop = min(start + CHUNK, x.size)
        v, u = x[start:stop], bits[start:stop]
        lo, hi = HIGHEST, LOWEST
        for i in range(v.size):
            b = u[i]
            sign = np.int32(b >> SIGN_SHIFT)
            k = np.int32(b ^ np.int32(sign & MAGNITUDE))
            lo = min(lo, k)
            hi = max(hi, k)
            bins[i] = np.uint16(np.int32(np.int32(v[i] * inverse_width) + half) - np.int32(v[i] < 0))
        if max(hi, np.int32(~lo)) >= bound:
            break
        lowest, highest = min(lowest, lo), max(highest, hi)
        whole = v.size - v.size % LANES
        for i in range(0, whole, LANES):
            for lane in range(LANES):
                tables[np.uintp(bins[i + lane]) * np.uintp(LANES) + np.uintp(lane)] += np.uint32(1)
        for i in range(whole, v.size):
            tables[np.uintp(bins[i]) * np.uintp(LANES)] += np.uint32(1)
        start = stop
    return start, lowest, highest


@compiled("void(uint32[::1], int64[::1])")
def flush(tables, counts):  # type: ignore[no-untyped-def]
    """Move the tables' counts into `counts`, shape (2·half,), and leave the tables at 0."""
    for i in range(counts.size):
        total = np.int64(0)
        for lane in range(LANES):
            total += np.int64(tables[i * LANES + lane])
            tables[i * LANES + lane] = 0
        counts[i] += total


@compiled("int64(int32[::1], int32)")
def count_tiny(bits, bound):  # type: ignore[no-untyped-def]
    """How many float32 have a magnitude up to the one with the bits `bound`."""
    n = np.int64(0)
    for i in range(bits.size):
        n += np.int64(np.int32(bits[i] & MAGNITUDE) <= bound)
    return n


def to_float(key: int) -> float:
    """The float32 of a key; -0 becomes 0."""
    bits = key if key >= 0 else key ^ 0x7FFFFFFF
    value: float = struct.unpack("<f", struct.pack("<i", bits))[0]
    return value + 0.0


def all_finite(lo: int, hi: int) -> bool:
    """Whether an array with these extreme keys is free of NaN and inf."""
    return hi < INF_BITS and ~lo < INF_BITS
