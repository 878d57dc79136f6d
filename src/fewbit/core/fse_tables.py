"""The tables of finite state entropy: how T = 2^log states are shared among symbols.

    spread     the k-th of all occurrences lies at state k·(T/2 + T/8 + 3) mod T
    number     a symbol of frequency f has f states, which are numbered x = f … 2f − 1 in order of the states
    decode     bits = log − floor(log2 x);  next state = (x << bits) − T + the bits taken
    encode     the inverse: a state in T … 2T − 1 gives as many low bits as leave f … 2f − 1

Source: Collet, "Finite State Entropy", after Duda, "Asymmetric numeral systems", 2013.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

LEAST_LOG, MOST_LOG = 4, 16
"""Below 4 the spread does not reach every state; a state in a mark has 16 bits."""


def table_log(n: int) -> int:
    """The size of table that the format prescribes for n different values: min(16, floor(log2 n) + 4)."""
    return min(MOST_LOG, max(n, 1).bit_length() - 1 + LEAST_LOG)


def normalize(counts: Int64, log: int) -> Int64:
    """Frequencies that sum up to T = 2^log, at least 1 each, near to the shares of the counts.

    f = max(1, floor(½ + count·T/total)). What is too much is taken from whichever is the largest, one by one; what is
    too little goes to the largest.

    Args:
        counts: 1 or more each; no more than T of them.
    """
    size = 1 << log
    f: Int64 = np.maximum(1, np.floor(0.5 + counts * size / counts.sum())).astype(np.int64)
    rest = size - int(f.sum())
    if rest >= 0:
        f[np.argmax(f)] += rest
        return f
    heap = [(-int(x), i) for i, x in enumerate(f)]
    heapq.heapify(heap)
    for _ in range(-rest):
        x, i = heap[0]
        f[i] -= 1
        heapq.heapreplace(heap, (x + 1, i))
    return f


def _spread(f: Int64, log: int) -> tuple[NDArray[np.uint16], Int64]:
    """Which symbol each state stands for; and the states of symbol 0, of symbol 1 …, in order."""
    size = 1 << log
    symbols = np.empty(size, np.uint16)  # sorted by their digits, which is several times faster than by comparing
    symbols[(np.arange(size) * ((size >> 1) + (size >> 3) + 3)) & (size - 1)] = np.repeat(
        np.arange(f.size, dtype=np.uint16), f
    )
    return symbols, np.argsort(symbols, kind="stable")


def encoding(f: Int64, log: int) -> tuple[Int64, Int64, Int64]:
    """What `fse_kernels.put_bits` needs: width and shift, one a symbol, and codes, one a state."""
    m = log + 1 - np.frexp(np.maximum(f - 1, 1))[1].astype(np.int64)
    width = np.where(f > 1, (m << 16) - (f << m), (log << 16) - (1 << log))
    return width, np.cumsum(f) - 2 * f, _spread(f, log)[1] + (1 << log)


def decoding(f: Int64, log: int) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """What `fse_kernels.take_bits` needs: the symbol of each state, and its move."""
    symbols, order = _spread(f, log)
    x = np.arange(1 << log) - np.repeat(np.cumsum(f) - 2 * f, f)
    bits = log + 1 - np.frexp(x)[1].astype(np.int64)
    moves = np.empty(x.size, np.uint32)
    moves[order] = ((x << bits) - x.size) << 5 | bits
    return symbols, moves
