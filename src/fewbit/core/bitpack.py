"""Integers of 1 to 16 bits without a gap between them, as MindSpore Lite packs them.

    u = q + 2^(bits − 1)                             0 … 2^bits − 1
    bits = 3:   u0 u1 u2 …   →   bytes  u2₁u2₀ u1₂u1₁u1₀ u0₂u0₁u0₀ …

The bits of each u follow those of the one before, lowest first, and fill bytes (up to 8 bits) or little-endian 16-bit
words (above), lowest first; what is left of the last one is 0. Eight integers take `bits` whole bytes, so byte j of
each eight is made from those u that reach into it, for all eights at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fewbit.core.params import IntArray
from fewbit.errors import ConfigError, ModelFormatError

SLAB = 1 << 17
"""Eights that are turned at a time, so that what lies between stays in the cache."""


def packed_size(bits: int, count: int) -> int:
    """Bytes that `count` integers take."""
    if not 1 <= bits <= 16:
        raise ConfigError(f"bits is {bits}; integers of 1 to 16 bits can be packed")
    word = 8 if bits <= 8 else 16
    return -(-bits * count // word) * (word // 8)


def pack_bits(q: IntArray, bits: int) -> bytes:
    """Pack signed integers.

    Args:
        q: any shape; −2^(bits−1) to 2^(bits−1) − 1.
        bits: 1 to 16.

    Raises:
        ConfigError: an integer or `bits` is out of range.
    """
    flat = np.asarray(q).reshape(-1)
    size, half = packed_size(bits, flat.size), 1 << (bits - 1)
    if flat.size and not -half <= int(flat.min()) <= int(flat.max()) < half:
        raise ConfigError(f"integers from {flat.min()} to {flat.max()} do not fit in {bits} bits")
    eights = -(-flat.size // 8)
    out = np.zeros((eights, bits), np.uint8)
    for at in range(0, eights, SLAB):
        part = flat[8 * at : 8 * (at + SLAB)]
        u = np.zeros((min(SLAB, eights - at), 8), np.uint16)
        u.reshape(-1)[: part.size] = part.astype(np.int32) + half
        for j, k, shift in _overlaps(bits):
            piece = u[:, k] >> shift if shift >= 0 else u[:, k] << -shift
            out[at : at + SLAB, j] |= piece.astype(np.uint8)
    return out.reshape(-1)[:size].tobytes().ljust(size, b"\0")


def unpack_bits(data: bytes, bits: int, count: int) -> IntArray:
    """Inverse of `pack_bits`; flat, int8 for up to 8 bits and int16 above.

    Args:
        data: not trusted; `packed_size(bits, count)` bytes.

    Raises:
        ModelFormatError: `data` has another size.
    """
    size = packed_size(bits, count)
    if count < 0 or len(data) != size:
        raise ModelFormatError(f"{count:,} integers of {bits} bits take {size:,} bytes; here are {len(data):,}")
    eights, half, mask = -(-count // 8), 1 << (bits - 1), (1 << bits) - 1
    raw = np.frombuffer(data, np.uint8)
    found: IntArray = np.empty(count, np.int8 if bits <= 8 else np.int16)
    for at in range(0, eights, SLAB):
        part = raw[bits * at : bits * (at + SLAB)]
        lines = np.zeros((min(SLAB, eights - at), bits), np.uint8)
        lines.reshape(-1)[: part.size] = part[: lines.size]  # the last word may reach beyond the last eight
        u = np.zeros((len(lines), 8), np.uint16)
        for j, k, shift in _overlaps(bits):
            piece = lines[:, j].astype(np.uint16)
            u[:, k] |= piece << shift if shift >= 0 else piece >> -shift
        whole = ((u & mask).astype(np.int32) - half).reshape(-1)
        found[8 * at : 8 * (at + SLAB)] = whole[: count - 8 * at]
    return found


def _overlaps(bits: int) -> Iterator[tuple[int, int, int]]:
    """(byte, integer, shift): which of eight integers reach into which byte; u >> shift has byte's lowest bit first."""
    for j in range(bits):
        for k in range(8 * j // bits, min(8, -(-(8 * j + 8) // bits))):
            yield j, k, 8 * j - bits * k
