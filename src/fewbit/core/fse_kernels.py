"""The three loops of the entropy coder that see every symbol. Compiled, one thread, no GIL.

    encode   nb = (state + width[s]) >> 16;  put the low nb bits of state;  state = codes[(state >> nb) + shift[s]]
    decode   s = values[state];  state = (moves[state] >> 5) + get(moves[state] & 31)

Bits are put MSB first into 64-bit chunks and taken from the end. What indexes an array here is safe for every input:
`state` stays below the table's size if its frequencies sum up to that size (`fse` checks it), and a chunk is taken only
after it was seen to be there. Importing this module imports numba; `fse` does so when the first symbol arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

ONE, WIDTH, LOW, CHUNK = np.uint64(1), np.uint64(5), np.uint64(31), np.uint64(64)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile when first called, and keep the machine code on disk if there is a folder to write to."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return numba.njit(nogil=True)(function)


@compiled
def count_bits(symbols, width, shift, codes):  # type: ignore[no-untyped-def]
    """Bits that `put_bits` would put, the state at the end not counted.

    Args:
        symbols: uint16, at least one. width, shift: int64, one a symbol. codes: int64, one a state.
    """
    state = np.int64(codes.size)
    s = symbols[0]
    state = codes[(state >> ((state + width[s]) >> 16)) + shift[s]]
    total = np.int64(0)
    for i in range(symbols.size):
        s = symbols[i]
        nb = (state + width[s]) >> 16
        total += nb
        state = codes[(state >> nb) + shift[s]]
    return total


@compiled
def put_bits(symbols, width, shift, codes, log, ends, chunks, marks):  # type: ignore[no-untyped-def]
    """Fill `chunks` and return how many bits of the last one are used; it is left-aligned.

    Args:
        symbols, width, shift, codes: as of `count_bits`.
        log: bits of the state, which is put last.
        ends: int64, where each segment ends; the last one is symbols.size.
        chunks: uint64, exactly as many as the bits take.
        marks: uint64, as long as `ends`: full chunks << 32 | state << 16 | bits in the chunk, at each end.
    """
    size = np.int64(codes.size)
    s = symbols[0]
    state = codes[(size >> ((size + width[s]) >> 16)) + shift[s]]
    chunk, used, place, i = np.uint64(0), np.uint64(0), np.int64(0), np.int64(0)
    for segment in range(ends.size + 1):
        stop = ends[segment] if segment < ends.size else i + 1
        while i < stop:
            if segment < ends.size:
                s = symbols[i]
                nb = np.uint64((state + width[s]) >> 16)
                bits = np.uint64(state) & ((ONE << nb) - ONE)
                state = codes[(state >> np.int64(nb)) + shift[s]]
            else:  # the state itself, after all symbols
                nb, bits = np.uint64(log), np.uint64(state - size)
            i += 1
            if used + nb <= CHUNK:
                chunk, used = (chunk << nb) | bits, used + nb
            else:
                rest = used + nb - CHUNK
                chunks[place] = (chunk << (CHUNK - used)) | (bits >> rest)
                place += 1
                chunk, used = bits & ((ONE << rest) - ONE), rest
        if segment < ends.size:
            marks[segment] = np.uint64(place) << np.uint64(32) | np.uint64(state - size) << np.uint64(16) | used
    chunks[place] = chunk << (CHUNK - used)
    return np.int64(used)


@compiled
def take_bits(chunks, start, state, moves, values, out):  # type: ignore[no-untyped-def]
    """Fill `out` from its end; return the state and the bits left before it, −1 if there were too few.

    Args:
        chunks: uint64. start: how many bits lie before the place to begin at; less than 64 · chunks.size.
        state: to begin with, less than values.size.
        moves: uint32, one a state: the next state without its bits << 5 | how many bits it takes.
        values: one a state, of the type of `out`.
    """
    place, n = start >> 6, np.uint64(start & 63)
    chunk = chunks[place] >> (CHUNK - n) if n > 0 else np.uint64(0)
    at = np.uint64(state)
    for i in range(out.size - 1, -1, -1):
        out[i] = values[at]
        move = np.uint64(moves[at])
        nb = move & LOW
        if nb <= n:
            bits = chunk & ((ONE << nb) - ONE)
            chunk >>= nb
            n -= nb
        else:
            if place == 0:
                return np.int64(at), np.int64(-1)
            place -= 1
            older, more = chunks[place], nb - n
            bits = chunk | (older & ((ONE << more) - ONE)) << n
            chunk = older >> more
            n = CHUNK - more
        at = (move >> WIDTH) + bits
    return np.int64(at), place * 64 + np.int64(n)
