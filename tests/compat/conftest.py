"""The checkpoint and the images of the tutorial, and what MXNet itself made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fewbit.compat.mxnet as mx

ROOT = Path(__file__).parents[2]
PREFIX = str(ROOT / "examples" / "mxnet" / "fashion")


@pytest.fixture(scope="session")
def prefix() -> str:
    """Of the checkpoint."""
    return PREFIX


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    """MXNet's scores for all 600 images, its ranges, and the labels."""
    with np.load(ROOT / "tests" / "golden" / "mxnet" / "tutorial.npz") as found:
        return dict(found)


@pytest.fixture(scope="session")
def iterator() -> Callable[..., mx.io.ImageRecordIter]:
    """Makes iterators over the images."""

    def make(batch_size: int = 20, **words: object) -> mx.io.ImageRecordIter:
        mean = {"mean_r": 72.9, "std_r": 90.0}
        return mx.io.ImageRecordIter(f"{PREFIX}.rec", (1, 28, 28), batch_size, **(mean | words))

    return make


@pytest.fixture(scope="session")
def images(iterator: Callable[..., mx.io.ImageRecordIter]) -> np.ndarray:
    """All images, (600, 1, 28, 28)."""
    return np.concatenate([b.data[0] for b in iterator()])


def sqnr(reference: np.ndarray, found: np.ndarray) -> float:
    """dB."""
    return float(10 * np.log10((reference**2).sum() / ((reference - found) ** 2).sum()))
