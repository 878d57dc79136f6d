"""Weight-range search: the scale of each channel or group that makes the error of the layer's output least.

    s = r · s_max,  r in a grid from 1 down;  error of W − s·clip(round(W/s)) as the layer's moments see it

Clipping a few large weights makes the steps of all others finer; the zero point of an asymmetric format stays, since
both ends of the range shrink alike. Weighing the error by the input's moments is SeqMSE's criterion, for groups by
those of their own inputs; above 6 bits, where little depends on it, each weight is weighed by the energy of its own
input alone, and without moments all count the same, which is the plain MSE of the weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.quantization.moments import Fit
from fewbit.quantization.steps import Steps

Array = NDArray[Any]
Limits = tuple[Any, Any]
"""Smallest and largest integer: of the format, or for each row."""


def grid(bits: int) -> NDArray[np.float32]:
    """Shares of the largest magnitude that are tried: the fewer bits, the further down."""
    lowest = {2: 0.2, 3: 0.3, 4: 0.4, 5: 0.5, 6: 0.6, 7: 0.7}.get(bits, 0.75)
    return np.linspace(1, lowest, 14 if bits <= 6 else 6, dtype=np.float32)


def nearest(weight: Array, scale: Array, limits: Limits) -> NDArray[np.int32]:
    """Integers of a weight (group, out, K) for scales (group, out)."""
    return np.clip(np.rint(weight / scale[..., None]), *limits).astype(np.int32)


def search_scale(
    weight: Array, scale: Array, fit: Fit | None, limits: Limits, bits: int, least: Array, tied: bool = False
) -> Array:
    """The best scale of each row of a weight.

    Args:
        weight: (group, out, K). scale: (group, out), of the largest magnitudes. fit: moments, None = plain MSE.
        limits: integers of the format, or of each row. bits: its width. least: (group, out), no scale may be smaller.
        tied: one scale is for all rows.
    """
    best, found = np.full(scale.shape, np.inf), scale.astype(np.float32).copy()
    g, k = weight.shape[0], weight.shape[2]
    energy = np.ones((g, k), np.float32) if fit is None else fit.energy
    for r in grid(bits):
        tried = np.maximum(scale * r, least).astype(np.float32)
        w = nearest(weight, tried, limits) * tried[..., None]
        error = np.einsum("gok,gk->go", (w - weight) ** 2, energy) if fit is None or bits > 6 else fit.error(w)
        error = np.full(error.shape, error.sum()) if tied else error
        better = error < best * (1 - 1e-6)
        best, found = np.where(better, error, best), np.where(better, tried, found)
    return found


def search_steps(weight: Array, steps: Steps, fit: Fit | None, least: Array) -> Steps:
    """Steps with the best scale of each block.

    Args:
        weight: (group, out, K). fit: moments of the layer; None = plain MSE. least: (group, out).
    """
    found = steps.scale.copy()
    for j, at in enumerate(steps.columns):
        part = fit if fit is None or len(at) == weight.shape[-1] else _part(fit, weight, at)
        limits = steps.lo[..., j, None], steps.hi[..., j, None]
        found[..., j] = search_scale(weight[..., at], steps.scale[..., j], part, limits, steps.bits, least, steps.tied)
    return steps.rescaled(found)


def _part(fit: Fit, weight: Array, at: Array) -> Fit:
    """Moments of some of a layer's inputs, as if there were no others: what their weights put out, and should."""
    w = weight[..., at]
    if not fit.full:
        h = fit.h[:, at]
        d = w * h[:, None, :]
    else:
        h = np.ascontiguousarray(fit.h[:, at[:, None], at])
        d = np.matmul(w, h)
    return Fit(h, d, np.einsum("gok,gok->go", d, w, dtype=np.float64), fit.mx[:, at], fit.my, fit.has_bias)


def refit_scale(q: NDArray[np.int32], scale: Array, fit: Fit, least: Array) -> Array:
    """The best scale for integers that are settled: ⟨q, d⟩ / qᵀHq, where that is near the old one."""
    qf = q.astype(np.float32)
    energy = np.einsum("gok,gok->go", np.matmul(qf, fit.h), qf)
    best = np.einsum("gok,gok->go", qf, fit.d) / np.where(energy > 0, energy, 1)
    near = (energy > 0) & (best > 0.7 * scale) & (best < 1.4 * scale)
    return np.where(near, np.maximum(best, least), scale).astype(np.float32)


def refit_steps(p: NDArray[np.int32], steps: Steps, fit: Fit, least: Array) -> Steps:
    """The best scales for integers that are settled, block after block, each given those of the others.

    s_j ← s_j − ⟨g, p_j⟩ / p_jᵀHp_j,   g = H·w − d: what the error's slope is with the scales so far
    """
    if steps.scale.shape[-1] == 1:
        return steps.rescaled(refit_scale(p, steps.scale[..., 0], fit, least)[..., None])
    scale, pf = steps.scale.copy(), p.astype(np.float32)
    slope = np.matmul(steps.real(p), fit.h) - fit.d
    for j, at in enumerate(steps.columns):
        seen = np.matmul(pf[..., at], fit.h[:, at])
        energy = np.einsum("gok,gok->go", seen[..., at], pf[..., at])
        move = -np.einsum("gok,gok->go", slope[..., at], pf[..., at]) / np.where(energy > 0, energy, 1)
        old = scale[..., j].copy()
        best = np.maximum(old + move, least)
        near = (energy > 0) & (best > 0.7 * old) & (best < 1.4 * old)
        scale[..., j] = np.where(near, best, old)
        slope += (scale[..., j] - old)[..., None] * seen
    return steps.rescaled(scale)
