"""`mx.nd`: numpy arrays with the methods that MXNet scripts call on theirs.

    arr.copyto(cpu()).asnumpy()      arr.as_in_context(ctx)      arr.asscalar()

Everything lies in this machine's memory, so copies between devices are copies or nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewbit.compat.mxnet.context import Context, cpu
from fewbit.compat.mxnet.missing import telling
from fewbit.errors import UsageError
from fewbit.frontends.mxnet.ndarray import load_ndarrays, save_ndarrays


class NDArray(np.ndarray):
    """A numpy array that answers to MXNet's methods."""

    @property
    def context(self) -> Context:
        """Where it lies: always the CPU."""
        return cpu()

    ctx = context

    def asnumpy(self) -> np.ndarray:
        """A plain numpy array of its own."""
        return np.array(self, copy=True, subok=False)

    def asscalar(self) -> Any:
        """The number in an array of one element."""
        if self.size != 1:
            raise UsageError(f"asscalar is for arrays of one element; this one has the shape {self.shape}")
        return self.reshape(-1)[0].item()

    def copyto(self, other: Context | NDArray) -> NDArray:
        """A copy; or the values written into another array."""
        if isinstance(other, Context):
            return array(self, dtype=self.dtype)
        other[...] = self
        return other

    def as_in_context(self, context: Context) -> NDArray:
        """The array itself: there is one place only."""
        return self

    as_in_ctx = as_in_device = as_in_context

    def wait_to_read(self) -> None:
        """Return at once: nothing is pending here."""


def array(source: Any, ctx: Context | None = None, dtype: Any = None) -> NDArray:
    """An array out of numbers; float32 unless it is an NDArray of another type or `dtype` says so, as in MXNet."""
    wanted = dtype if dtype is not None else source.dtype if isinstance(source, NDArray) else np.float32
    return np.array(np.asarray(source), dtype=wanted, order="C").view(NDArray)


def zeros(shape: int | Sequence[int], ctx: Context | None = None, dtype: Any = np.float32) -> NDArray:
    """An array of zeros."""
    return np.zeros(shape, dtype or np.float32).view(NDArray)


def ones(shape: int | Sequence[int], ctx: Context | None = None, dtype: Any = np.float32) -> NDArray:
    """An array of ones."""
    return np.ones(shape, dtype or np.float32).view(NDArray)


def concat(*data: NDArray, dim: int = 1) -> NDArray:
    """Arrays put together along an axis."""
    return np.concatenate(data, axis=dim).view(NDArray)


def load(fname: str | os.PathLike[str]) -> dict[str, NDArray] | list[NDArray]:
    """Read a file of arrays: a dict if they have names, else a list."""
    found = {k: v.view(NDArray) for k, v in load_ndarrays(fname).items()}
    return list(found.values()) if found and all(k == str(i) for i, k in enumerate(found)) else found


def save(fname: str | os.PathLike[str], data: NDArray | Sequence[NDArray] | Mapping[str, NDArray]) -> None:
    """Write one array, a list, or a dict of arrays."""
    if isinstance(data, np.ndarray):
        data = [data.view(NDArray)]
    save_ndarrays(fname, data if isinstance(data, Mapping) else {str(i): a for i, a in enumerate(data)})


def waitall() -> None:
    """Return at once: nothing is pending here."""


__getattr__ = telling("mx.nd", "an NDArray is a numpy array, so numpy's functions take it")
