"""CIFAR-10 and CIFAR-100, as folders or as the archives that they come in.

    cifar-10-batches-bin/data_batch_1.bin …     label | 3072 pixels                 again and again
    cifar-100-binary/train.bin, test.bin        coarse label | label | 3072 pixels
    cifar-10-batches-py/data_batch_1 …          pickles: data (N, 3072), labels     see `pickled`
    cifar-100-python/train, test                data, fine_labels, coarse_labels

Pixels are planes: red, green, blue, each 32 rows of 32. Archives are read in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.data.base import Array
from fewbit.data.datasets.bytestream import read_whole_file, tar_members
from fewbit.data.datasets.found import Found, PlanePixels, check_classes
from fewbit.data.datasets.pickled import read_pickle
from fewbit.data.signature import show
from fewbit.errors import DataError

PIXELS = 3 * 32 * 32
LARGEST = 1 << 28
"""Bytes of a file; the largest one, train.bin of CIFAR-100, has 153,700,000."""

Part = tuple[Array, dict[str, NDArray[np.int64]]]
"""Pixels (N, 3072), and labels under the name of what they count."""


@dataclass(frozen=True)
class Form:
    """One of the ways in which a set is handed out.

    Args:
        folder, archive: their names. train, test: files in the folder.
        labels: (key, number of classes) of each label in the order of the file; the last one is used.
        read: bytes of a file, labels, name for messages → pixels and labels.
    """

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: tuple[tuple[str, int], ...]
    read: Callable[[bytearray, Sequence[str], str], Part]

    def files(self, split: str) -> tuple[str, ...]:
        """The files of train or test."""
        return self.train if split == "train" else self.test


def read_binary(raw: bytearray, labels: Sequence[str], what: str) -> Part:
    """Read records of labels and pixels, one byte each.

    Raises:
        DataError: the file does not end with a record.
    """
    size = len(labels) + PIXELS
    if not raw or len(raw) % size:
        raise DataError(f"{what} has {len(raw)} bytes; records take {size} each, so it is cut off or of another kind")
    rows = np.frombuffer(raw, np.uint8).reshape(-1, size)
    return rows[:, len(labels) :], {key: rows[:, i].astype(np.int64) for i, key in enumerate(labels)}


def read_python(raw: bytearray, labels: Sequence[str], what: str) -> Part:
    """Read a pickled dictionary of pixels and labels.

    Raises:
        DataError: it is no plain data, or not of this form.
    """
    held = read_pickle(raw, what)
    data = held.get("data")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (PIXELS,):
        shown = f"{data.dtype} {show(data.shape)}" if isinstance(data, np.ndarray) else f"a {type(data).__name__}"
        raise DataError(f"{what}: 'data' is {shown}; it must be uint8 (N, {PIXELS})")
    return data, {key: _whole_numbers(held, key, len(data), what) for key in labels}


def _whole_numbers(held: Mapping[str, Any], key: str, count: int, what: str) -> NDArray[np.int64]:
    found = held.get(key)
    values = found.tolist() if isinstance(found, np.ndarray) and found.dtype.kind in "iu" else found
    if not isinstance(values, list) or not all(type(x) is int and abs(x) < 2**31 for x in values):
        raise DataError(f"{what}: {key!r} is a {type(found).__name__}; it must be a list of whole numbers")
    if len(values) != count:
        raise DataError(f"{what}: 'data' has {count} rows and {key!r} {len(values)} numbers; one a row is needed")
    return np.array(values, np.int64)


_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEN = (("labels", 10),)
_HUNDRED = (("coarse_labels", 20), ("fine_labels", 100))
CIFAR10 = (
    Form(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        tuple(f"{b}.bin" for b in _BATCHES),
        ("test_batch.bin",),
        _TEN,
        read_binary,
    ),
    Form("cifar-10-batches-py", "cifar-10-python.tar.gz", _BATCHES, ("test_batch",), _TEN, read_python),
)
CIFAR100 = (
    Form("cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), ("test.bin",), _HUNDRED, read_binary),
    Form("cifar-100-python", "cifar-100-python.tar.gz", ("train",), ("test",), _HUNDRED, read_python),
)


def find_cifar(forms: Sequence[Form], place: Path, split: str) -> Found | None:
    """Read a CIFAR set that lies in a folder, in any of its forms; None: it is not there.

    Raises:
        DataError: it is damaged or not complete.
    """
    for form in forms:
        for folder in (place / form.folder, place):
            if any((folder / f).is_file() for f in form.train + form.test):
                files = {f: folder / f for f in form.files(split)}
                if missing := [f for f, path in files.items() if not path.is_file()]:
                    raise DataError(f"{folder} lacks {', '.join(missing)}; put it there, or the archive {form.archive}")
                return _joined(form, [(read_whole_file(p, LARGEST), str(p)) for p in files.values()], str(folder))
    for form in forms:
        if (archive := place / form.archive).is_file():
            names = [f"{form.folder}/{f}" for f in form.files(split)]
            members = tar_members(archive, names, LARGEST)
            return _joined(form, [(members[n], f"{archive}: {n}") for n in names], str(archive))
    return None


def _joined(form: Form, files: Sequence[tuple[bytearray, str]], source: str) -> Found:
    """All files as one set."""
    pixels, labels = [], []
    for raw, what in files:
        rows, found = form.read(raw, [key for key, _ in form.labels], what)
        for key, classes in form.labels:
            check_classes(found[key], classes, f"{what}: {key}")
        pixels.append(rows)
        labels.append(found[form.labels[-1][0]])
    planes = np.concatenate(pixels) if len(pixels) > 1 else pixels[0]
    return Found(PlanePixels(planes.reshape(-1, 3, 32, 32)), np.concatenate(labels), source)
