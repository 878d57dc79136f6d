"""Entropy coding of integers by finite state entropy (tANS): a value of share p takes about log2(1/p) bits.

    encode:  integers → buffer          decode: buffer, how many → integers

`fse_buffer` gives the layout, which is that of MindSpore Lite; `fse_tables` the tables; `fse_kernels` the loops. The
encoder goes forwards, the decoder backwards: its first integer comes last. The encoder starts from the state that
coding the first integer leads to, so the decoder, when all is read, stands in a state of its first integer; that and
the bits left, which must be none, tell it that nothing was damaged on the way.

The size of the table is what the format prescribes (`fse_tables.table_log`) where that comes within 0.25 % of the
entropy or of what the largest table gives; else the smallest that does. Every decoder reads it from the buffer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fewbit.core.fse_buffer import Coded, broken, from_buffer, to_buffer
from fewbit.core.fse_tables import LEAST_LOG, MOST_LOG, Int64, decoding, encoding, normalize
from fewbit.core.fse_tables import table_log as prescribed
from fewbit.core.params import IntArray
from fewbit.errors import ConfigError

MOST_VALUES = 65_535
"""Different integers that a buffer can hold."""

SLACK = 0.0025
"""Share by which a smaller table may take more bits than a larger one: small tables decode faster."""

SLAB = 1 << 20
SPAN = 1 << 20
"""Integers whose range is wider than this are sorted instead of counted."""

UInt16 = NDArray[np.uint16]


# -- encoding --------------------------------------------------------------------------------------------------------


def encode(q: IntArray, table_log: int | None = None, segments: int = 1) -> bytes:
    """Code integers.

    Args:
        q: any shape and integer type; each fits in 32 bits, and no more than 65,535 are different.
        table_log: 4 to 16, with a state for every value; None chooses.
        segments: parts that can be decoded at the same time; more than one makes the form with marks.

    Raises:
        ConfigError: one of these is not so.
    """
    flat = np.ascontiguousarray(q).reshape(-1)
    low, high = (int(flat.min()), int(flat.max())) if flat.size else (0, 0)
    if low < -(2**31) or high >= 2**31:
        raise ConfigError(f"integers from {low} to {high} cannot be entropy-coded; they must fit in 32 bits")
    values, counts, places = _histogram(flat)
    if values.size > MOST_VALUES:
        raise ConfigError(f"{values.size:,} different integers cannot be entropy-coded; at most {MOST_VALUES:,} can")
    if segments < 1:
        raise ConfigError(f"segments is {segments}; it must be 1 or more")
    least = max(LEAST_LOG, (values.size - 1).bit_length())
    if table_log is not None and not least <= table_log <= MOST_LOG:
        raise ConfigError(
            f"table_log is {table_log}; for {values.size:,} different integers it is {least} … {MOST_LOG}"
        )
    if not values.size:
        nothing = Coded(LEAST_LOG, counts, values, np.zeros(1, np.uint64), 0)
        return to_buffer(nothing, np.zeros(segments if segments > 1 else 0, np.uint64))
    symbols = np.empty(flat.size, np.uint16)
    for at in range(0, flat.size, SLAB):
        symbols[at : at + SLAB] = places(flat[at : at + SLAB])
    log, bits = _best_log(symbols, counts) if table_log is None else (table_log, _bits(symbols, counts, table_log))
    return _coded(symbols, values, normalize(counts, log), log, bits, segments)


def _coded(symbols: UInt16, values: Int64, f: Int64, log: int, bits: int, segments: int) -> bytes:
    from fewbit.core.fse_kernels import put_bits

    ends = np.array([_until(symbols.size, k, segments) for k in range(segments)], np.int64)
    chunks = np.zeros(-(-(bits + log) // 64), np.uint64)
    marks = np.zeros(segments, np.uint64)
    used = int(put_bits(symbols, *encoding(f, log), log, ends, chunks, marks))
    return to_buffer(Coded(log, f, values, chunks, used), marks if segments > 1 else marks[:0])


def _until(count: int, k: int, segments: int) -> int:
    """Where segment k ends."""
    return count * (k + 1) // segments


def _bits(symbols: UInt16, counts: Int64, log: int) -> int:
    """Bits that a table of this size takes, the final state not counted."""
    from fewbit.core.fse_kernels import count_bits

    return int(count_bits(symbols, *encoding(normalize(counts, log), log)))


def _best_log(symbols: UInt16, counts: Int64) -> tuple[int, int]:
    """The size of table, and the bits that it takes."""
    log = prescribed(counts.size)
    bits = _bits(symbols, counts, log)
    if log == MOST_LOG or bits + log <= symbols.size * entropy_of(counts) * (1 + SLACK):
        return log, bits
    most = _bits(symbols, counts, MOST_LOG)
    while bits + log > (most + MOST_LOG) * (1 + SLACK):
        log += 1
        bits = _bits(symbols, counts, log)
    return log, bits


def entropy(q: IntArray) -> float:
    """Bits an integer below which no coder gets that knows nothing but how often each value occurs; 0 of none."""
    return entropy_of(counts_of(q))


def counts_of(q: IntArray) -> Int64:
    """How often each integer occurs that does."""
    return _histogram(np.asarray(q).reshape(-1))[1]


def entropy_of(counts: Int64) -> float:
    """The same, from how often each value occurs; every count over 0."""
    share = counts / max(counts.sum(), 1)
    return abs(float((share * np.log2(share)).sum()))


def _histogram(flat: IntArray) -> tuple[Int64, Int64, Callable[[IntArray], Int64]]:
    """The distinct values, ascending; how often each occurs; and what finds the place of each among them."""
    low, high = (int(flat.min()), int(flat.max())) if flat.size else (0, -1)
    if high - low >= SPAN:
        found, times = np.unique(flat, return_counts=True)
        return found.astype(np.int64), times.astype(np.int64), lambda part: np.searchsorted(found, part)
    counts = np.zeros(high - low + 1, np.int64)
    for at in range(0, flat.size, SLAB):
        counts += np.bincount(flat[at : at + SLAB].astype(np.int64) - low, minlength=counts.size)
    there = np.flatnonzero(counts)
    places = np.cumsum(counts > 0) - 1
    return there + low, counts[there], lambda part: places[part.astype(np.int64) - low]


# -- decoding --------------------------------------------------------------------------------------------------------


def decode(data: bytes, count: int, dtype: DTypeLike = np.int32, threads: int | None = None) -> IntArray:
    """Inverse of `encode`; the result is flat.

    Args:
        data: the buffer; it is not trusted.
        count: how many integers it holds. So many are allocated: bound the number first if it is not trusted.
        dtype: type of the result, 8 to 32 bits wide.
        threads: for buffers of several segments; None takes one a core.

    Raises:
        ModelFormatError: the buffer is damaged, holds more or fewer integers, or one that `dtype` cannot hold.
    """
    coded = from_buffer(data, np.int32)
    if (np.diff(coded.values.astype(np.int64)) <= 0).any():
        raise broken("its values do not ascend")
    to = np.dtype(dtype)
    limits = np.iinfo(to)
    if coded.values.size and not limits.min <= int(coded.values[0]) <= int(coded.values[-1]) <= limits.max:
        raise broken(f"its values from {coded.values[0]} to {coded.values[-1]} are beyond {to}")
    return _decode(coded, count, to, threads)


def decode_real(data: bytes, count: int, threads: int | None = None) -> NDArray[np.float32]:
    """Decode a buffer whose values are float32, which gives real weights at once. The rest is as in `decode`."""
    coded = from_buffer(data, np.float32)
    if not np.isfinite(coded.values).all():
        raise broken("one of its values is not finite")
    return _decode(coded, count, np.dtype(np.float32), threads)


def _decode(coded: Coded, count: int, dtype: np.dtype[Any], threads: int | None) -> NDArray[Any]:
    """Decode segment by segment, each on a thread of its own."""
    if not coded.f.size or not count:
        if coded.f.size or count or coded.bits:
            raise broken(f"it holds {'some' if coded.bits else 'no'} integers; {count:,} are expected")
        return np.empty(0, dtype)
    symbols, moves = decoding(coded.f, coded.log)
    least = int((moves & 31).min()) * count
    if least > coded.bits:
        raise broken(f"{count:,} integers take {least:,} bits at least; it has {coded.bits:,}")
    values = coded.values.astype(dtype)[symbols]
    out = np.empty(count, dtype)
    marks = coded.marks or (coded.end,)

    def segment(k: int) -> int:
        stop = (0, None) if k == 0 else marks[k - 1]
        part = out[_until(count, k - 1, len(marks)) : _until(count, k, len(marks))]
        return _fill(coded, part, moves, values, marks[k], stop)

    workers = max(1, min(len(marks), threads or os.cpu_count() or 1))
    if workers == 1:
        first, *_ = map(segment, range(len(marks)))
    else:
        with ThreadPoolExecutor(workers) as pool:
            first, *_ = pool.map(segment, range(len(marks)))
    if values[first] != out[0]:
        raise broken("the state in which it ends is not one of its first integer")
    return out


def _fill(
    coded: Coded, out: NDArray[Any], moves: NDArray[np.uint32], values: NDArray[Any],
    start: tuple[int, int], stop: tuple[int, int | None],
) -> int:  # fmt: skip
    """Decode from one mark back to the one before it; gives the state there."""
    from fewbit.core.fse_kernels import take_bits

    bare = np.dtype(f"u{out.itemsize}")  # one compiled loop for each width, whatever its bits mean
    state, left = take_bits(coded.chunks, *start, moves, values.view(bare), out.view(bare))
    if left != stop[0] or state != (state if stop[1] is None else stop[1]):
        what = "too few bits" if left < stop[0] else "bits left over" if left > stop[0] else "the wrong state"
        raise broken(f"{what} after {out.size:,} integers")
    return int(state)
