"""Agreement to be expected of samples like these, which a search cannot get by luck.

    m_ij   margin of float: score of its class - score of rival j (the five nearest rivals of sample i)
    σ²     mean over i, j of (m_ij after - m_ij before)²        how much quantization moves margins
    share  mean over i of Π_j Φ(m_ij / σ)                       the probability that the class of float stays in front

Of many plans judged on 40 samples some keep the class of all 40 by chance, and a search would find them. This estimate
sees how near each sample came to another class instead of whether it did: it wavers far less, and falls with σ alone.
It is a little low where many samples change class, since rivals do not move independently of each other.
Probabilities are taken back to logits first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

RIVALS = 5


def expected_agreement(before: NDArray[Any], after: NDArray[Any]) -> float:
    """Share of samples, 0 to 1.

    Args:
        before, after: class scores of float and integer network, (samples, classes); NaN or inf after it gives 0.
    """
    z, y = _logits(before), _logits(after)
    if not np.isfinite(y).all():
        return 0.0
    order = np.argsort(-z, axis=1, kind="stable")[:, : RIVALS + 1]
    z, y = np.take_along_axis(z, order, 1), np.take_along_axis(y, order, 1)
    margin, moved = z[:, :1] - z[:, 1:], y[:, :1] - y[:, 1:]
    sigma = float(np.sqrt(np.mean((moved - margin) ** 2)))
    if sigma == 0:
        return 1.0
    stays = np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))), otypes=[np.float64])(margin / sigma)
    return float(stays.prod(1).mean())


def _logits(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Scores in float64; rows that are probabilities as their logarithms."""
    x = scores.astype(np.float64)
    if np.isfinite(x).all() and (x >= 0).all() and np.allclose(x.sum(1), 1, atol=1e-2):
        return np.log(np.maximum(x, 1e-9))
    return x
