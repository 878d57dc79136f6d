"""What a reader finds: images that can be taken by their numbers, and a class number for each.

They are planes in memory, or image files that are read when they are taken.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fewbit.data.images import ImageRecipe, load_image
from fewbit.data.regroup import read_ahead
from fewbit.data.signature import counted
from fewbit.errors import DataError, EmptyData


def readers(count: int) -> int:
    """Threads worth reading so many image files with."""
    return min(4, os.cpu_count() or 1) if count > 1 else 0


class Pixels(Protocol):
    """Images that can be taken by their numbers. `lazy`: each is read when it is taken."""

    lazy: bool

    def __len__(self) -> int:
        """Number of images."""

    def take(self, index: NDArray[np.intp]) -> NDArray[np.uint8]:
        """These images, (n, height, width, channels)."""


@dataclass(frozen=True, eq=False)
class PlanePixels:
    """Images in memory, (N, channels, height, width). See `Pixels`."""

    planes: NDArray[np.uint8]
    lazy = False

    def __len__(self) -> int:
        return len(self.planes)

    def take(self, index: NDArray[np.intp]) -> NDArray[np.uint8]:
        """See `Pixels`."""
        return self.planes[index].transpose(0, 2, 3, 1)


@dataclass(frozen=True, eq=False)
class FilePixels:
    """Image files, resized and cropped by a recipe to one size. See `Pixels`."""

    root: Path
    files: Sequence[Path]
    recipe: ImageRecipe
    lazy = True

    def __len__(self) -> int:
        return len(self.files)

    def take(self, index: NDArray[np.intp]) -> NDArray[np.uint8]:
        """See `Pixels`.

        Raises:
            BadSample: a file is no readable image.
        """
        workers = readers(len(index))
        files = (self.root / self.files[i] for i in index.tolist())
        return np.stack(list(read_ahead(lambda f: load_image(f, self.recipe), files, workers, 4 * workers)))


@dataclass(frozen=True, eq=False)
class Found:
    """What a reader found.

    Args:
        source: where. classes: their names, if the files tell. note: what the user should know of them.
    """

    pixels: Pixels
    labels: NDArray[np.int64]
    source: str
    classes: tuple[str, ...] = ()
    note: str = ""


def check_classes(labels: NDArray[np.int64], classes: int, what: str) -> None:
    """Compare class numbers with how many classes there are.

    Raises:
        DataError: names the first one out of range, and its sample.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise DataError(
            f"{what}: sample {wrong[0]} has the label {labels[wrong[0]]}; classes count from 0 to {classes - 1}"
        )


def check_count(images: int, labels: int, what: str) -> None:
    """Check that there is a label for each image.

    Raises:
        DataError: names both counts. EmptyData: there is no image.
    """
    if images != labels:
        raise DataError(f"{what}: {counted(images, 'image')} and {counted(labels, 'label')}; they must be as many")
    if not images:
        raise EmptyData(f"{what}: there is no image")
