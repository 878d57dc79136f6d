"""A working folder for tests of the converter's files and flags."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from fewbit.data.demo import DEMO_MODEL, demo_calibration

GOLDEN = Path(__file__).parent / "golden" / "mindspore"


def furnish(folder: Path, pictures: int) -> Path:
    """Put a network, pictures and the example configs into a folder."""
    shutil.copy(DEMO_MODEL, folder / "net.onnx")
    for path in GOLDEN.iterdir():
        shutil.copy(path, folder)
    (folder / "pictures").mkdir()
    for i, x in enumerate(demo_calibration()["image"][:pictures, 0]):
        pixels = np.clip(x * 90 + 72.9, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
    return folder
