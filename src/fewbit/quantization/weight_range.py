"""Weight-range search: the scale of each channel that makes the error of the layer's output least.

    s = r · s_max,  r in a grid from 1 down;  error of W − s·clip(round(W/s)) as the layer's moments see it

Clipping a few large weights makes the steps of all others finer. Weighing the error by the input's moments is SeqMSE's
criterion; above 6 bits, where little depends on it, each weight is weighed by the energy of its own input alone, and
without moments all count the same, which is the plain MSE of the weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.quantization.moments import Fit

Array = NDArray[Any]


def grid(bits: int) -> NDArray[np.float32]:
    """Shares of the largest magnitude that are tried: the fewer bits, the further down."""
    lowest = {2: 0.2, 3: 0.3, 4: 0.4, 5: 0.5, 6: 0.6, 7: 0.7}.get(bits, 0.75)
    return np.linspace(1, lowest, 14 if bits <= 6 else 6, dtype=np.float32)


def nearest(weight: Array, scale: Array, limits: tuple[int, int]) -> NDArray[np.int32]:
    """Integers of a weight (group, out, K) for scales (group, out)."""
    return np.clip(np.rint(weight / scale[..., None]), *limits).astype(np.int32)


def search_scale(
    weight: Array, scale: Array, fit: Fit | None, limits: tuple[int, int], bits: int, least: Array
) -> Array:
    """The best scale of each row of a weight.

    Args:
        weight: (group, out, K). scale: (group, out), of the largest magnitudes. fit: moments, None = plain MSE.
        limits: integers of the format. bits: its width. least: (group, out), no scale may be smaller.
    """
    best, found = np.full(scale.shape, np.inf), scale.astype(np.float32).copy()
    g, k = weight.shape[0], weight.shape[2]
    energy = np.ones((g, k), np.float32) if fit is None else fit.energy
    for r in grid(bits):
        tried = np.maximum(scale * r, least).astype(np.float32)
        w = nearest(weight, tried, limits) * tried[..., None]
        error = np.einsum("gok,gk->go", (w - weight) ** 2, energy) if fit is None or bits > 6 else fit.error(w)
        better = error < best * (1 - 1e-6)
        best, found = np.where(better, error, best), np.where(better, tried, found)
    return found


def refit_scale(q: NDArray[np.int32], scale: Array, fit: Fit, least: Array) -> Array:
    """The best scale for integers that are settled: ⟨q, d⟩ / qᵀHq, where that is near the old one."""
    qf = q.astype(np.float32)
    energy = np.einsum("gok,gok->go", np.matmul(qf, fit.h), qf)
    best = np.einsum("gok,gok->go", qf, fit.d) / np.where(energy > 0, energy, 1)
    near = (energy > 0) & (best > 0.7 * scale) & (best < 1.4 * scale)
    return np.where(near, np.maximum(best, least), scale).astype(np.float32)
