"""Pictures: the stamp photographs, the 20 labelled photographs.

A stamp is a photograph of a thing cut out: RGBA, pasted on white, then treated as every photograph here is,
    shorter side to 256 (bicubic), centre 224 x 224, (x - 127) / 128, NCHW float32.
The 181 stamps are ordered by the hash of their name: the first 100 calibrate, the others judge.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.fetch import array, debian, wheel

SIZE, SHORT = 224, 256
FOLDERS = ("plants", "town", "seasonal")  # photographs; the other folders hold drawings
CALIBRATE = 100


def picture(path: Path) -> Image.Image:
    """An image file as RGB, what is transparent turned white."""
    image = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def lite0_input(image: Image.Image) -> np.ndarray:
    """EfficientNet-Lite's own preprocessing, to (3, 224, 224)."""
    scale = SHORT / min(image.size)
    w, h = (max(SHORT, round(n * scale)) for n in image.size)
    left, top = (w - SIZE) // 2, (h - SIZE) // 2
    image = image.resize((w, h), Image.Resampling.BICUBIC).crop((left, top, left + SIZE, top + SIZE))
    return ((np.asarray(image, np.float32) - 127) / 128).transpose(2, 0, 1)


def stamps() -> list[Path]:
    """The photographs of the stamp package, in the order of the hash of their name."""
    root = debian("tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps"
    found = [p for folder in FOLDERS for p in (root / folder).rglob("*.png")]
    return sorted(found, key=lambda p: hashlib.sha256(p.relative_to(root).as_posix().encode()).hexdigest())


def _batch(paths: list[Path]) -> np.ndarray:
    return np.stack([lite0_input(picture(p)) for p in paths])


def calibration() -> np.ndarray:
    """(100, 3, 224, 224)."""
    return array("lite0_calib", lambda: _batch(stamps()[:CALIBRATE]))


def judged() -> np.ndarray:
    """(81, 3, 224, 224), unlabelled: agreement with float and SQNR."""
    return array("lite0_judge", lambda: _batch(stamps()[CALIBRATE:]))


def labelled() -> tuple[np.ndarray, np.ndarray]:
    """20 ImageNet photographs (20, 3, 224, 224) and their classes (20,); one of them weighs 5 points."""
    root = wheel("foolbox", "3.3.4") / "foolbox" / "data"
    paths = sorted(root.glob("imagenet_*.*"))
    return array("lite0_photos", lambda: _batch(paths)), np.array([int(p.stem.rsplit("_", 1)[1]) for p in paths])
