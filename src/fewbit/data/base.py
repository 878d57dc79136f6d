"""What data looks like from outside (DataSource, Batch) and from inside (Samples, Rows).

    origin ──read──> Rows (checked, in the input's dtype) ──regroup──> Batch ──> calibrate, compare, evaluate

An origin whose samples are numbered is a `Samples`: files and arrays, read in any order, begun anywhere.
Anything else is an iterable, taken as it comes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import DataError

Array = NDArray[Any]
Shape = tuple[int | str | None, ...]


class TensorInfo(Protocol):
    """An input of the model."""

    @property
    def name(self) -> str:
        """Its name in the graph."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its element type."""

    @property
    def shape(self) -> Shape:
        """Its axes; one that is not fixed is a name or None."""


@dataclass(frozen=True, eq=False)
class Rows:
    """A few samples, side by side along the first axis.

    Args:
        feeds: input name -> array. Inputs without a batch axis hold their one tensor as it is.
        labels: class numbers, `(len(names),)`, or None.
        names: what a message calls each sample: a file, or a position.
    """

    feeds: dict[str, Array]
    labels: Array | None
    names: list[str]

    def part(self, a: int, b: int) -> Rows:
        """Samples a … b - 1, without a copy."""
        if (a, b) == (0, len(self.names)):
            return self
        labels = None if self.labels is None else self.labels[a:b]
        return Rows({k: v[a:b] for k, v in self.feeds.items()}, labels, self.names[a:b])


@dataclass(frozen=True, eq=False)
class Batch:
    """What is fed to the model at once.

    Args:
        feeds: input name -> array, in the dtype and shape that the model wants; finite.
        labels: class numbers, one a sample, or None.
        index: the number of the batch in the data, from 0.
        names: file name or position of each sample.
    """

    feeds: dict[str, Array]
    labels: Array | None
    index: int
    names: list[str]


@runtime_checkable
class DataSource(Protocol):
    """Data in batches, always in the same order."""

    @property
    def batches(self) -> int | None:
        """Number of batches; None while unknown. Samples that `skip_bad` leaves out are counted until met."""

    @property
    def samples(self) -> int | None:
        """Number of samples; None while unknown."""

    def __len__(self) -> int:
        """Number of batches; TypeError where it is unknown."""

    def __iter__(self) -> Iterator[Batch]:
        """All batches."""

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """Batches from number `start` on, the same as in a full pass."""

    def digest(self) -> str | None:
        """SHA-256 of the data, in hex; of an iterable, what its latest pass gave so far (None: nothing yet)."""


class Samples(Protocol):
    """Samples that are numbered and can be read in any order.

    Attributes:
        workers: threads worth reading with; 0 = in the caller's own.
        single: whether reading one at a time is as good as reading many.
    """

    workers: int
    single: bool

    def __len__(self) -> int:
        """Number of samples."""

    def read(self, index: Sequence[int]) -> Rows:
        """Read these samples.

        Raises:
            BadSample: one of them is unusable.
        """

    def digest(self) -> str:
        """SHA-256 of what the samples are, in hex."""


def join(parts: Sequence[Rows]) -> Rows:
    """Put samples side by side.

    Raises:
        DataError: their shapes differ.
    """
    if len(parts) == 1:
        return parts[0]
    first, feeds = parts[0], {}
    for key, x in first.feeds.items():
        for other in parts[1:]:
            if other.feeds[key].shape[1:] != x.shape[1:]:
                raise DataError(
                    f"samples of different shapes cannot share a batch: input {key!r} is {x.shape[1:]} in "
                    f"{first.names[0]} and {other.feeds[key].shape[1:]} in {other.names[0]}; "
                    "use batch_size 1, or bring them to one size"
                )
        feeds[key] = np.concatenate([p.feeds[key] for p in parts])
    labels = [p.labels for p in parts if p.labels is not None]
    return Rows(
        feeds, np.concatenate(labels) if len(labels) == len(parts) else None, [n for p in parts for n in p.names]
    )
