"""Images in batches for training: kept in memory if they fit, changed at random, the same stream for the same seed.

    uint8 (n, H, W, C) → uint8 (n, C, H, W) → cropped and flipped → (x / 255 − mean) / std, float32

The order and the changes of an epoch follow from (seed, number of the epoch) alone, so that training which goes on in
its fifth epoch sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from fewbit.data.datasets.found import PlanePixels
from fewbit.data.datasets.labelled import Labelled
from fewbit.data.regroup import read_ahead
from fewbit.errors import DataError

MARGIN = 8
"""A crop moves an image by up to one of so many parts of its height."""
AHEAD = 2
"""Batches that each worker may read ahead."""


def image_set(
    images: np.ndarray, labels: np.ndarray, mean: Sequence[float], std: Sequence[float], name: str = "images"
) -> Labelled:
    """Images in memory as a set to train on.

    Args:
        images: uint8 (n, H, W, C). labels: class numbers (n,). mean, std: of each channel, for pixels 0…1.

    Raises:
        DataError: other types or shapes, or not as many labels as images.
    """
    x, y = np.asarray(images), np.asarray(labels)
    if x.dtype != np.uint8 or x.ndim != 4:
        raise DataError(f"images are {x.dtype} of shape {x.shape}; they must be uint8 (n, height, width, channels)")
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu" or (y.size and y.min() < 0):
        raise DataError(f"labels are {y.dtype} of shape {y.shape}; they must be {len(x)} class numbers from 0 on")
    if not len(mean) == len(std) == x.shape[3]:
        raise DataError(f"mean and std have {len(mean)} and {len(std)} numbers; images have {x.shape[3]} channels")
    classes = tuple(str(k) for k in range(int(y.max()) + 1 if y.size else 0))
    return Labelled(
        name, "all", PlanePixels(x.transpose(0, 3, 1, 2)), np.arange(len(x), dtype=np.intp), y.astype(np.int64),
        classes, tuple(mean), tuple(std), (x.shape[3], x.shape[1], x.shape[2]), "memory",
    )  # fmt: skip


class Pictures:
    """The images of a set as uint8 tensors, from memory or from disk."""

    def __init__(self, data: Labelled, workers: int = 0) -> None:
        self.data = data
        self.workers = workers
        self.labels = torch.from_numpy(np.array(data.labels, np.int64))
        self.held = None if data.pixels.lazy else tensor(data.images())

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, places: torch.Tensor) -> torch.Tensor:
        """uint8 (n, C, H, W)."""
        return self.held[places] if self.held is not None else tensor(self.data.images(places.numpy()))

    def batches(self, places: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Images at the places of each batch, in order.

        Workers are threads: pillow and numpy let others run while they decode, and a process would start anew each
        epoch and hand over images through shared memory, of which containers have little.
        """
        workers = self.workers if self.held is None else 0
        yield from read_ahead(self.__getitem__, places, workers, AHEAD * workers)


def tensor(images: np.ndarray) -> torch.Tensor:
    """(n, H, W, C) → (n, C, H, W), uint8."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@dataclass(frozen=True)
class Loader:
    """Batches of some images of a set.

    Args:
        places: of the images. shuffle, crop, flip: at random, by `seed` and the epoch.
        limit: batches at most. whole: leave a last batch out that is not full.
    """

    pictures: Pictures
    places: torch.Tensor
    batch_size: int
    shuffle: bool = False
    crop: bool = False
    flip: bool = False
    seed: int = 0
    limit: int | None = None
    whole: bool = False
    device: torch.device | str = "cpu"
    channels_last: bool = False

    def __len__(self) -> int:
        n = len(self.places)
        count = n // self.batch_size if self.whole and n >= self.batch_size else -(-n // self.batch_size)
        return count if self.limit is None else min(count, self.limit)

    @property
    def samples(self) -> int:
        """Images in all batches together."""
        return min(len(self.places), len(self) * self.batch_size)

    def epoch(self, number: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of images (n, C, H, W), normalized, and their labels (n,)."""
        random = generator(self.seed, number)
        order = torch.randperm(len(self.places), generator=random) if self.shuffle else torch.arange(len(self.places))
        chosen = self.places[order].split(self.batch_size)[: len(self)]
        for places, images in zip(chosen, self.pictures.batches(chosen), strict=True):
            if self.crop or self.flip:
                images = moved(images, random, crop=self.crop, flip=self.flip)
            x = normalized(images.to(self.device), self.pictures.data)
            if self.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            yield x, self.pictures.labels[places].to(self.device)


def generator(*seeds: int) -> torch.Generator:
    """A random generator that follows from some whole numbers."""
    state = np.random.SeedSequence(seeds).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def moved(images: torch.Tensor, random: torch.Generator, *, crop: bool, flip: bool) -> torch.Tensor:
    """Each image (of n, C, H, W) moved by some pixels, black from outside, and mirrored in half of the cases."""
    n, channels, height, width = images.shape
    margin = max(height // MARGIN, 1) if crop else 0
    shift = torch.randint(0, 2 * margin + 1, (2, n, 1), generator=random)
    rows, columns = torch.arange(height), torch.arange(width).expand(n, -1)
    if flip:
        mirrored = torch.randint(0, 2, (n, 1), generator=random).bool()
        columns = torch.where(mirrored, columns.flip(1), columns)
    wide = F.pad(images, (margin,) * 4)
    return wide[
        torch.arange(n)[:, None, None, None],
        torch.arange(channels)[None, :, None, None],
        (shift[0] + rows)[:, None, :, None],
        (shift[1] + columns)[:, None, None, :],
    ]


def normalized(images: torch.Tensor, data: Labelled) -> torch.Tensor:
    """(x / 255 − mean) / std for each channel, float32: the numbers of `Labelled.normalized`."""
    mean, std = (
        torch.tensor(v, dtype=torch.float32, device=images.device)[:, None, None] for v in (data.mean, data.std)
    )
    return (images.float() / 255 - mean) / std
