"""Second moments of a layer: all that is needed to know the error of any weight, without keeping a single input.

    mean ‖ y − W·x − b ‖² over rows  =  yy − 2·⟨W, D⟩ + tr(W·H·Wᵀ)        H = mean x·xᵀ,  D = mean y·xᵀ,  yy = mean y²

taken about the means, where b = mean(y) − W·mean(x) is the best bias for any W (a layer with no place for a bias keeps
its means in the moments). Memory: K² a layer, whatever the number of samples. x is the input as the integer network
sees it, y the sum in the float network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.quantization.linear import Linear

Array = NDArray[Any]

TOGETHER, MOST_BYTES = 1024, 2 * 2**20
"""Rows, and bytes of them, that are multiplied at once: large products are faster, but every layer keeps its own."""


class Moments:
    """Sums over rows, learned batch by batch.

    Args:
        layer: what they are of.
        full: all of H; else its diagonal alone, as if inputs were independent: for layers whose K² is too large.
    """

    def __init__(self, layer: Linear, full: bool = True) -> None:
        g, o, k = layer.weight.shape
        self.layer, self.full, self.n = layer, full, 0
        self.x0: Array | None = None
        self.y0: Array | None = None
        self.x, self.y = np.zeros((g, k)), np.zeros((g, o))
        self.waiting: list[tuple[Array, Array]] = []
        self.xx = np.zeros((g, k, k) if full else (g, k), np.float32)
        self.yx = np.zeros((g, o, k if full else 0), np.float32)
        self.yy = np.zeros((g, o))

    def update(self, x: Array, y: Array) -> None:
        """Take in rows, as columns: x (group, K, rows), y (group, out, rows)."""
        self.waiting.append((x, y))
        rows = sum(a.shape[-1] for a, _ in self.waiting)
        if rows >= TOGETHER or rows * x.shape[0] * x.shape[1] * x.itemsize >= MOST_BYTES:
            self._learn()

    def _learn(self) -> None:
        """Multiply what waits: one large product is much faster than many small ones."""
        x, y = (np.concatenate(parts, -1) for parts in zip(*self.waiting, strict=True))
        self.waiting.clear()
        if self.x0 is None or self.y0 is None:  # close to the means already, so that little cancels at the end
            self.x0, self.y0 = x.mean(-1, keepdims=True), y.mean(-1, keepdims=True)
        x -= self.x0
        y -= self.y0
        self.x += x.sum(-1, dtype=np.float64)
        self.y += y.sum(-1, dtype=np.float64)
        self.yy += np.einsum("gop,gop->go", y, y, dtype=np.float64)
        if self.full:
            xt = x.transpose(0, 2, 1)
            self.xx += x @ xt
            self.yx += y @ xt
        else:
            self.xx += np.einsum("gkp,gkp->gk", x, x)
        self.n += x.shape[-1]

    def fit(self) -> Fit:
        """What was learned, per row."""
        if self.waiting:
            self._learn()
        n = max(self.n, 1)
        assert self.x0 is not None and self.y0 is not None, "no rows"
        dx, dy = self.x / n, self.y / n
        mx, my = dx + self.x0[..., 0], dy + self.y0[..., 0]
        yy = self.yy / n - dy**2
        keep = 0.0 if self.layer.has_bias else 1.0
        fx, fy, kx, ky = (a.astype(np.float32) for a in (dx, dy, keep * mx, my))
        if self.full:
            h = self.xx / np.float32(n)
            h -= fx[:, :, None] * fx[:, None, :]
            d = self.yx / np.float32(n)
            d -= fy[:, :, None] * fx[:, None, :]
            if keep:
                h += kx[:, :, None] * kx[:, None, :]
                d += ky[:, :, None] * kx[:, None, :]
        else:  # with independent inputs, the float weight is the best one
            h = self.xx / np.float32(n) - fx**2 + kx**2
            d = self.layer.weight * h[:, None, :]
            yy = np.einsum("gok,gok->go", d, self.layer.weight)
        yy = np.maximum(yy + keep * my**2, 0) if self.full else yy
        return Fit(h, d, yy, mx, my, self.layer.has_bias)


@dataclass(frozen=True, eq=False)
class Fit:
    """Moments of a layer, a row.

    Args:
        h: (group, K, K), or its diagonal (group, K). d: (group, out, K). yy: (group, out).
        mx: means of the input, (group, K). my: of the sum, (group, out).
        has_bias: whether h, d and yy are taken about the means.
    """

    h: NDArray[np.float32]
    d: NDArray[np.float32]
    yy: NDArray[np.float64]
    mx: NDArray[np.float64]
    my: NDArray[np.float64]
    has_bias: bool = True

    @property
    def full(self) -> bool:
        """Whether h is a matrix."""
        return self.h.ndim == 3

    def error(self, w: Array) -> NDArray[np.float64]:
        """Mean squared error of each output with the best bias, (group, out); w: (group, out, K)."""
        wh = np.matmul(w, self.h) if self.full else w * self.h[:, None, :]
        found: NDArray[np.float64] = self.yy + np.einsum("gok,gok->go", wh - 2 * self.d, w, dtype=np.float64)
        return np.maximum(found, 0)

    @property
    def energy(self) -> Array:
        """Mean square of each input, (group, K)."""
        return np.ascontiguousarray(np.diagonal(self.h, axis1=1, axis2=2)) if self.full else self.h

    def bias(self, w: Array) -> NDArray[np.float64]:
        """The best bias for a weight, (group·out,)."""
        found: NDArray[np.float64] = self.my - np.einsum("gok,gk->go", w, self.mx)
        return found.reshape(-1)
