"""`mx.gluon.data`: a dataset of arrays, and a loader of its batches. Any iterable of batches does as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fewbit.compat.mxnet.ndarray import NDArray, array
from fewbit.errors import UsageError, one_of


class ArrayDataset:
    """Samples out of arrays of equal length."""

    def __init__(self, *args: Any) -> None:
        self._arrays = [np.asarray(a) for a in args]
        counts = sorted({len(a) for a in self._arrays})
        if len(counts) != 1:
            raise UsageError(f"the arrays have {counts} samples; they must have equally many")

    def __len__(self) -> int:
        return len(self._arrays[0])

    def __getitem__(self, index: int) -> Any:
        rows = tuple(a[index] for a in self._arrays)
        return rows[0] if len(rows) == 1 else rows


class DataLoader:
    """Batches of a dataset: an array, or a list of arrays if a sample has several parts.

    Args:
        dataset: has a length and numbered samples. batch_size: samples in a batch.
        shuffle: in a random order, by numpy's global generator.
        last_batch: of samples that do not fill a batch: "keep", "discard", or "rollover" (kept for the next pass).
        num_workers and others that do not change the batches are taken and have no effect.
    """

    QUIET = frozenset(
        {"num_workers", "pin_memory", "pin_device_id", "prefetch", "thread_pool", "timeout", "try_nopython"}
    )

    def __init__(
        self, dataset: Any, batch_size: int, shuffle: bool = False, last_batch: str = "keep", **words: Any
    ) -> None:
        for word in words:
            if word not in self.QUIET:
                raise UsageError(f"DataLoader: fewbit does not know {word}={words[word]!r}; leave it out")
        self._dataset, self._batch_size, self._shuffle = dataset, batch_size, shuffle
        self._last = one_of("last_batch", last_batch, ("keep", "discard", "rollover"))
        self._left: list[int] = []

    def __len__(self) -> int:
        whole, rest = divmod(len(self._dataset) + len(self._left), self._batch_size)
        return whole + (1 if rest and self._last == "keep" else 0)

    def __iter__(self) -> Iterator[NDArray | list[NDArray]]:
        order = np.arange(len(self._dataset))
        if self._shuffle:
            np.random.shuffle(order)
        rows, self._left = [*self._left, *order.tolist()], []
        for start in range(0, len(rows), self._batch_size):
            part = rows[start : start + self._batch_size]
            if len(part) < self._batch_size and self._last != "keep":
                self._left = part if self._last == "rollover" else []
                return
            yield _stacked([self._dataset[i] for i in part])


def _stacked(samples: Sequence[Any]) -> NDArray | list[NDArray]:
    if isinstance(samples[0], (tuple, list)):
        return [_array([s[k] for s in samples]) for k in range(len(samples[0]))]
    return _array(samples)


def _array(samples: Sequence[Any]) -> NDArray:
    stacked = np.stack([np.asarray(s) for s in samples])
    return array(stacked, dtype=np.float32 if stacked.dtype == np.float64 else stacked.dtype)
