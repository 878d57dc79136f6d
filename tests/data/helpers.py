"""Inputs of made-up models, and images on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Tensor:
    """An input of a model that does not exist."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]


def tensor(name: str, *shape: int | str | None, dtype: Any = np.float32) -> Tensor:
    return Tensor(name, np.dtype(dtype), shape)


PHOTO = [tensor("x", "N", 3, 4, 6)]
VECTOR = [tensor("x", "N", 3)]
PAIR = [tensor("a", "N", 2), tensor("b", "N", 1)]


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def photos(root: Path, *names: str, height: int = 4, width: int = 6) -> Path:
    for i, name in enumerate(names):
        save(noise(height, width, i), root / name)
    return root


def rows(*shape: int) -> np.ndarray:
    return np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)


def fed(source: Any, name: str = "x") -> np.ndarray:
    """Everything a pass gives for one input."""
    return np.concatenate([b.feeds[name] for b in source])
