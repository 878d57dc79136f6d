"""What MXNet's collectors make of some distributions: histograms over several batches, thresholds, ranges.

Run in the oracle environment (see casefile.py); writes tests/golden/mxnet/collectors.npz.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mxnet.contrib import quantization as q

rng = np.random.RandomState(7)
BATCHES = {
    "normal": [rng.standard_normal(4000) * s for s in (1, 1.5, 0.5)],
    "laplace": [rng.laplace(size=4000) for _ in range(2)],
    "relu": [np.maximum(rng.standard_normal(4000), 0) for _ in range(2)],
    "outlier": [np.append(rng.standard_normal(3000), 40.0), rng.standard_normal(3000)],
    "growing": [rng.uniform(-1, 1, 3000) * s for s in (1, 2, 7)],
    "positive": [rng.uniform(2, 3, 3000)],
}
kept: dict[str, np.ndarray] = {}
for name, batches in BATCHES.items():
    batches = [b.astype(np.float32) for b in batches]
    hist = None
    for i, x in enumerate(batches):
        lo, hi = np.min(x), np.max(x)
        th = max(abs(lo), abs(hi))
        if hist is None:
            counts, edges = np.histogram(x, bins=8001, range=(-th, th))
            hist = (counts, edges, lo, hi, th)
        else:
            hist = q.combine_histogram(hist, x, lo, hi, th)
        kept[f"{name}|batch|{i}"] = x
    kept[f"{name}|counts"], kept[f"{name}|edges"] = hist[0].astype(np.int32), hist[1][[0, -1]]
    for dtype in ("int8", "auto"):
        lo, hi, th, divergence = q._get_optimal_threshold(hist, dtype)
        kept[f"{name}|{dtype}"] = np.array([lo, hi, float(np.asarray(th).reshape(-1)[0])])
out = Path(__file__).resolve().parent.parent / "collectors.npz"
np.savez_compressed(out, **kept)
print(out.stat().st_size)
