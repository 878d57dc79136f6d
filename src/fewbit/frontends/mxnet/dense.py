"""What the readers of parameters share: limits, bfloat16 to float32, sparse arrays to dense ones.

    row_sparse    values (k, *rest), rows (k,)       out[rows[i]] = values[i]
    csr           values (n,), starts (rows + 1,),   out[r, columns[j]] = values[j] for starts[r] <= j < starts[r + 1]
                  columns (n,)

A few bytes can speak of a huge dense array; a file may unfold to `MOST_BYTES` in all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import ModelFormatError, UnsupportedModel

Array = NDArray[Any]

MOST_BYTES = 4 << 30
MOST_AXES = 32
MOST_VALUES = 2**48
"""More than fit into any memory, and few enough for numpy."""


def widen(bfloat16: Array) -> Array:
    """The float32 values whose upper halves these are."""
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)


def raw_bytes(array: Array) -> memoryview:
    """The bytes of a C-contiguous array, in place."""
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def plausible(shape: tuple[int, ...]) -> bool:
    """Whether an array can have this shape at all."""
    return min(shape, default=0) >= 0 and len(shape) <= MOST_AXES and math.prod(d for d in shape if d) <= MOST_VALUES


@dataclass
class Allowance:
    """What the sparse arrays of one file may still take when they are unfolded."""

    left: int

    def zeros(self, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> Array:
        """A dense array of zeros, if there is room for it."""
        size = math.prod(shape) * dtype.itemsize
        if size > self.left:
            raise UnsupportedModel(
                f"{what} is sparse and would unfold to {size} bytes as shape {shape}; fewbit unfolds at most "
                f"{MOST_BYTES} bytes in one file. Save it dense (tostype('default')) where there is the memory for it"
            )
        self.left -= size
        return np.zeros(shape, dtype)


def from_rows(values: Array, rows: Array, shape: tuple[int, ...], room: Allowance, what: str) -> Array:
    """The dense form of a row_sparse array."""
    if not shape or rows.ndim != 1 or values.shape != (len(rows), *shape[1:]):
        raise _damaged(what, f"{rows.shape} row numbers and values of shape {values.shape} for an array of {shape}")
    _check_index(rows, shape[0], "row", what)
    out = room.zeros(shape, values.dtype, what)
    out[rows] = values
    return out


def from_csr(values: Array, starts: Array, columns: Array, shape: tuple[int, ...], room: Allowance, what: str) -> Array:
    """The dense form of a csr array."""
    if len(shape) != 2 or values.ndim != 1 or columns.shape != values.shape or starts.shape != (shape[0] + 1,):
        raise _damaged(
            what,
            f"{values.shape} values, {columns.shape} columns and {starts.shape} row starts for an array of {shape}",
        )
    _check_index(starts, len(values) + 1, "row start", what)
    counts: NDArray[np.int64] = starts[1:].astype(np.int64) - starts[:-1].astype(np.int64)
    if (counts < 0).any() or starts[0] != 0 or starts[-1] != len(values):
        raise _damaged(what, f"row starts that do not rise from 0 to {len(values)}")
    _check_index(columns, shape[1], "column", what)
    out = room.zeros(shape, values.dtype, what)
    out[np.repeat(np.arange(shape[0]), counts), columns] = values
    return out


def _check_index(index: Array, end: int, kind: str, what: str) -> None:
    if index.dtype.kind not in "iu":
        raise _damaged(what, f"{kind} numbers of type {index.dtype}, which must be whole numbers")
    if index.size and not 0 <= int(index.min()) <= int(index.max()) < end:
        raise _damaged(what, f"{kind} numbers from {index.min()} to {index.max()}, allowed are 0 to {end - 1}")


def _damaged(what: str, has: str) -> ModelFormatError:
    return ModelFormatError(f"{what} is damaged: its sparse storage has {has}")
