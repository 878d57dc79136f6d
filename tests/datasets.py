"""Small labelled sets on disk, in the form of the large ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fewbit.data.datasets import write_idx
from fewbit.data.demo import FOLDER

HELD = 1000
"""Labelled images that come with the package."""


def write_fashion(folder: Path, n_train: int = 400, n_test: int = 200) -> Path:
    """Write real Fashion-MNIST images as the four files of the set, for `open_dataset("fashion-mnist", folder)`.

    Train are the first images of the demo's test set, test the last ones; the classes are mixed.
    """
    assert min(n_train, n_test) >= 1 and n_train + n_test <= HELD
    with np.load(FOLDER / "test.npz") as held:
        images, labels = held["images"], held["labels"].astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, part in (("train", slice(0, n_train)), ("t10k", slice(HELD - n_test, HELD))):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images[part])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels[part])
    return folder
