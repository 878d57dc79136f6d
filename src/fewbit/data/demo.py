"""The demo's network and images, as the files in demo_data hold them.

    x = (byte / 255 − 0.2860) / 0.3530        mean and deviation of the training pixels

The images are stored as bytes, a quarter of what the network takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parents[1] / "demo_data"
DEMO_MODEL = FOLDER / "demo.onnx"
MEAN, STD = 0.2860, 0.3530


def normalize(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes (N, 28, 28) → what the network takes, float32 (N, 1, 28, 28)."""
    return ((images[:, None].astype(np.float32) / 255 - MEAN) / STD).astype(np.float32)


def demo_calibration() -> dict[str, NDArray[np.float32]]:
    """The 320 calibration images, 32 of each class, under the name of the network's input."""
    with np.load(FOLDER / "calib.npz") as held:
        return {"image": normalize(held["images"])}


def demo_test() -> dict[str, NDArray[Any]]:
    """The 1,000 test images, 100 of each class, and their `labels` int64 (1000,)."""
    with np.load(FOLDER / "test.npz") as held:
        return {"image": normalize(held["images"]), "labels": held["labels"].astype(np.int64)}
