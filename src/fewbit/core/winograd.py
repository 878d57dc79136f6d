"""Matrices of Winograd's fast convolution of 3x3 kernels: U = G W Gᵀ is what it multiplies in place of the weight W.

F(m×m, 3×3) computes m×m outputs at once out of tiles of (m + 2)², so G has m + 2 rows.
Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

TRANSFORMS: dict[str, NDArray[np.float64]] = {
    "F23": np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]),
    "F43": np.array([
        [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
    ]),
    "F63": np.array([
        [1, 0, 0], [-2 / 9, -2 / 9, -2 / 9], [-2 / 9, 2 / 9, -2 / 9], [1 / 90, 1 / 45, 2 / 45],
        [1 / 90, -1 / 45, 2 / 45], [32 / 45, 16 / 45, 8 / 45], [32 / 45, -16 / 45, 8 / 45], [0, 0, 1],
    ]),
}  # fmt: skip
"""G of each F(m×m, 3×3)."""


@cache
def inverse(kind: str) -> NDArray[np.float64]:
    """G⁺, which brings U back: the W whose U comes nearest."""
    return np.linalg.pinv(TRANSFORMS[kind]).astype(np.float64)
