"""The buffer of an entropy-coded weight, as MindSpore Lite reads it.

    u16 n | u16 log | u32 chunks | u32 frequency[n] | zeros up to a multiple of 8
    i32 value[n], or f32 | zeros up to a multiple of 8
    u64 chunk[chunks], the last one left-aligned | u8 bits used in the last one
    with segments: zeros up to a multiple of 4 | u32 segments | u64 mark[segments]

All little-endian. The frequencies, 1 or more each, sum up to T = 2^log. Values are distinct and ascend. What the
format leaves open is settled as follows:

* `chunks` counts the chunk in work too, so that the last full one has the index chunks − 2. A chunk counts as full
  when a bit is put that it has no room for, so the one in work has 1 to 64 bits.
* mark k = full chunks << 32 | (state − T) << 16 | bits in the chunk in work, after segment k was encoded. Segment k
  holds symbols count·k/segments to count·(k+1)/segments, rounded down. The last mark is where the final state is put.
* no value at all: n = 0, log = 4, one chunk with 0 bits. One value: log = 4 and no bits but those of the final state.

How many integers it holds does not stand in it: that is known from the weight's shape.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.fse_tables import LEAST_LOG, MOST_LOG, Int64
from fewbit.errors import ModelFormatError


@dataclass(frozen=True, eq=False)
class Coded:
    """A buffer taken apart.

    Args:
        log: bits of a state. f: frequencies. values: int32 or float32, one a frequency.
        chunks: the stream. used: bits of its last chunk.
        marks: (position in bits, state) where each segment ends; of one segment: none.
    """

    log: int
    f: Int64
    values: NDArray[Any]
    chunks: NDArray[np.uint64]
    used: int
    marks: tuple[tuple[int, int], ...] = ()

    @property
    def bits(self) -> int:
        """Bits of the stream, those of the final state included."""
        return 64 * (self.chunks.size - 1) + self.used

    @property
    def end(self) -> tuple[int, int]:
        """Position and value of the final state."""
        at = self.bits - self.log
        pair = [int(c) for c in self.chunks[at >> 6 : (at >> 6) + 2]] + [0]
        return at, (pair[0] << 64 | pair[1]) >> (128 - self.log - (at & 63)) & ((1 << self.log) - 1)


def broken(why: str) -> ModelFormatError:
    """The error for data that no encoder writes."""
    return ModelFormatError(f"the entropy-coded data is damaged: {why}")


def to_buffer(coded: Coded, marks: NDArray[np.uint64]) -> bytes:
    """Write a buffer; `marks` as they stand in it, empty for one segment."""
    head = struct.pack("<HHI", coded.values.size, coded.log, coded.chunks.size) + coded.f.astype("<u4").tobytes()
    values = _padded(coded.values.astype("<i4").tobytes(), 8)
    body = _padded(head, 8) + values + coded.chunks.astype("<u8").tobytes() + struct.pack("<B", coded.used)
    if not marks.size:
        return body
    return _padded(body, 4) + struct.pack("<I", marks.size) + marks.astype("<u8").tobytes()


def _padded(data: bytes, to: int) -> bytes:
    return data + bytes(-len(data) % to)


def from_buffer(data: bytes, kind: type[np.int32] | type[np.float32]) -> Coded:
    """Take a buffer apart and check every size, frequency and mark.

    Raises:
        ModelFormatError: it is truncated, or says impossible things.
    """
    n, log, chunks = struct.unpack("<HHI", _part(data, 0, 8, "its head"))
    if not LEAST_LOG <= log <= MOST_LOG or n > 1 << log:
        raise broken(f"2^{log} states for {n} values; 2^{LEAST_LOG} to 2^{MOST_LOG}, and one a value, are possible")
    at = 8 + 4 * n
    f = np.frombuffer(_part(data, 8, at, "the frequencies"), "<u4").astype(np.int64)
    if n and ((f < 1).any() or f.sum() != 1 << log):
        raise broken(f"frequencies are 1 or more and sum up to {1 << log}; here they sum up to {f.sum()}")
    at += -at % 8
    values = np.frombuffer(_part(data, at, at + 4 * n, "the values"), np.dtype(kind).newbyteorder("<")).astype(kind)
    at += 4 * n + (-4 * n) % 8
    stream = np.frombuffer(_part(data, at, at + 8 * chunks, "the bits"), "<u8").astype(np.uint64)
    at += 8 * chunks
    used = _part(data, at, at + 1, "the bits")[0]
    if not chunks or used > 64 or 64 * (chunks - 1) + used < (log if n else 0):
        raise broken(f"{chunks} chunks of bits, {used} bits in the last one, hold no state")
    coded = Coded(log, f, values, stream, used)
    if at + 1 == len(data):
        return coded
    return Coded(log, f, values, stream, used, _marks(data, at + 1, coded))


def _marks(data: bytes, at: int, coded: Coded) -> tuple[tuple[int, int], ...]:
    at += -at % 4
    (n,) = struct.unpack("<I", _part(data, at, at + 4, "the number of segments"))
    if not n or len(data) != at + 4 + 8 * n:
        raise broken(f"{n} segments need {8 * n} bytes of marks; it has {len(data) - at - 4}")
    words = np.frombuffer(data, "<u8", n, at + 4)
    position = ((words >> 32) * 64 + (words & 0xFFFF)).astype(np.int64)
    state = (words >> 16 & 0xFFFF).astype(np.int64)
    if (np.diff(position, prepend=0) < 0).any() or (state >= 1 << coded.log).any():
        raise broken("a mark of a segment points backwards, or to a state that is not there")
    marks = tuple(zip(position.tolist(), state.tolist(), strict=True))
    if coded.f.size and marks[-1] != coded.end:
        raise broken(f"the last segment ends at bit and state {marks[-1]}, the stream at {coded.end}")
    return marks


def _part(data: bytes, start: int, stop: int, what: str) -> memoryview:
    if stop > len(data):
        raise broken(f"it ends inside of {what}: it has {len(data)} bytes and needs at least {stop}")
    return memoryview(data)[start:stop]
