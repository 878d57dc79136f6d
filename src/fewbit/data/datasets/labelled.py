"""Labelled: images with class numbers, and what a network needs to be fed with them.

    images(i)      uint8   (n, height, width, channels)
    normalized(i)  float32 (n, channels, height, width)     (pixel / 255 − mean) / std

A byte has 256 values, so normalizing is a look-up in a table of 256 numbers a channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.data.arrays import UNNAMED
from fewbit.data.base import Array
from fewbit.data.datasets.found import Pixels, readers
from fewbit.data.regroup import read_ahead
from fewbit.data.signature import counted
from fewbit.errors import ConfigError, DataError

Indices = slice | Sequence[int] | NDArray[Any] | None

CHUNK = 2048
"""Images that are normalized at once."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """A labelled set of images, or a part of one.

    Args:
        name, split: as they were given to `open_dataset`.
        pixels: where the images come from; `rows`: which of them, in this order.
        labels: int64, one a sample. classes: name of class 0, 1, ….
        mean, std: of each channel, for pixels 0…1. shape: channels, height, width.
        source: file or folder. note: what to know of it; may be empty.
    """

    name: str
    split: str
    pixels: Pixels = field(repr=False)
    rows: NDArray[np.intp] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int]
    source: str
    note: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, indices: Indices = None) -> NDArray[np.uint8]:
        """Images as bytes, (n, height, width, channels); None: all of them."""
        return np.ascontiguousarray(self.pixels.take(self._rows(indices)))

    def normalized(self, indices: Indices = None) -> NDArray[np.float32]:
        """Images as a network takes them, (n, channels, height, width); None: all of them."""
        rows, tables = self._rows(indices), self._tables()
        out = np.empty((len(rows), *self.shape), np.float32)
        for a in range(0, len(rows), CHUNK):
            images = self.pixels.take(rows[a : a + CHUNK])
            for channel, table in enumerate(tables):
                out[a : a + CHUNK, channel] = table[images[..., channel]]
        return out

    def subset(self, per_class: int | None = None, limit: int | None = None, seed: int = 0) -> Labelled:
        """A part with the same number of samples of each class, as far as there are so many.

        Classes take turns, each in an order drawn by the seed, so that the first samples of the part are balanced as
        well, and a smaller limit gives the begin of what a larger one gives.

        Args:
            per_class: exactly so many of each class. limit: at most so many in all.

        Raises:
            ConfigError: a number below 1.
            DataError: a class has too few.
        """
        for word, value in (("per_class", per_class), ("limit", limit)):
            if value is not None and value < 1:
                raise ConfigError(f"{word} is {value}; it must be 1 or more")
        if per_class is None and limit is None:
            return self
        order, turn = _taking_turns(self.labels, seed)
        if per_class is not None:
            counts = np.bincount(self.labels, minlength=len(self.classes))
            short = int(np.argmin(counts))
            if counts[short] < per_class:
                has = counted(int(counts[short]), "sample")
                advice = f"use at most {counts[short]}" if counts[short] else "use limit instead"
                raise DataError(
                    f"per_class is {per_class}, and class {short} ({self.classes[short]}) of {self.name} {self.split} "
                    f"has {has}; {advice}"
                )
            order = order[turn < per_class]
        order = order[:limit]
        return replace(self, rows=self.rows[order], labels=self.labels[order])

    def feeds(self) -> Mapping[str, Array] | Stream:
        """All samples and their labels, as what `fewbit.evaluate`, `calibrate` and others take as data.

        Arrays for sets in memory; for image files a stream that reads them when they are wanted.
        """
        if self.pixels.lazy:
            return Stream(self)
        return {UNNAMED: self.normalized(), "labels": self.labels}

    def _rows(self, indices: Indices) -> NDArray[np.intp]:
        if indices is None:
            return self.rows
        at = indices if isinstance(indices, slice) else np.asarray(indices)
        if isinstance(at, np.ndarray):
            if at.ndim != 1 or (at.size and at.dtype.kind not in "iu"):
                raise DataError(f"indices of dtype {at.dtype} and {at.ndim} axes; hand a list of whole numbers")
            if at.size and not (at.min() >= -len(self) and at.max() < len(self)):
                raise DataError(
                    f"index {at.max() if at.max() >= len(self) else at.min()} is out of range: {self.name} "
                    f"{self.split} has {counted(len(self), 'sample')}"
                )
            at = at.astype(np.intp)
        return self.rows[at]

    def _tables(self) -> NDArray[np.float32]:
        """The number that each byte becomes, (channels, 256)."""
        mean, std = (np.asarray(x, np.float32)[:, None] for x in (self.mean, self.std))
        return ((np.arange(256, dtype=np.float32) / np.float32(255) - mean) / std).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Stream:
    """Samples with their labels, one after the other, as often as wanted; each is read when its turn comes."""

    data: Labelled

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        workers = readers(len(self))
        images = read_ahead(lambda i: self.data.normalized([i])[0], range(len(self)), workers, 4 * workers)
        for image, label in zip(images, self.data.labels, strict=True):
            yield {UNNAMED: image, "labels": label}


def _taking_turns(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """An order in which classes take turns, and the turn at each place: 0 0 0, 1 1 1, and so on."""
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(len(labels))
    by_class = mixed[np.argsort(labels[mixed], kind="stable")]
    starts = np.searchsorted(labels[by_class], labels[by_class])
    turn = np.arange(len(labels)) - starts
    order = np.lexsort((rng.random(len(labels)), turn))  # within a turn the classes come in random order
    return by_class[order], turn[order]
