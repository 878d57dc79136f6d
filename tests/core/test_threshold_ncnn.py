"""The KL search of ncnn's tool, against one that is written down bin by bin."""

from __future__ import annotations

from math import ceil, floor, log
from typing import Any

import numpy as np
import pytest

from fewbit.core.threshold_ncnn import ADDED, divergences, threshold_bins

BINS, GROUPS = 256, 16
"""Fewer than there, since it takes a while bin by bin."""


def shares(t: int, j: int) -> list[tuple[int, float]]:
    """Bins that group j of t bins covers, and how much of each."""
    start, end = j * t / GROUPS, (j + 1) * t / GROUPS
    found = [(k, min(k + 1, end) - max(k, start)) for k in range(floor(start), ceil(end))]
    return [(k, part) for k, part in found if part > 0]


def divergence(h: list[float], t: int) -> float:
    p = [x + ADDED for x in h[:t]]
    p[-1] += sum(h[t:])
    q = [ADDED] * t
    for j in range(GROUPS):
        covered = shares(t, j)
        mean = sum(h[k] * part for k, part in covered) / sum(part for _, part in covered)
        for k, part in covered:
            q[k] += mean * part
    return sum(a * log(a / b) for a, b in zip(p, q, strict=True))


def counts(rng: np.random.Generator, kind: str) -> Any:
    x = {
        "normal": np.abs(rng.standard_normal(20_000)),
        "tail": np.abs(rng.standard_cauchy(20_000)).clip(0, 60),
        "cut": np.abs(rng.standard_normal(20_000)).clip(0, 1.5),
        "few": np.abs(rng.standard_normal(40)),
    }[kind]
    return np.histogram(x, BINS, (0, x.max()))[0]


@pytest.mark.parametrize("kind", ["normal", "tail", "cut", "few"])
def test_every_candidate_is_that_of_the_definition(rng: np.random.Generator, kind: str) -> None:
    hist = counts(rng, kind)
    h = [int(c) / int(hist.sum()) for c in hist]
    want = [divergence(h, t) for t in range(GROUPS, BINS)]
    np.testing.assert_allclose(divergences(hist, GROUPS), want, rtol=1e-9, atol=1e-12)
    assert threshold_bins(hist, GROUPS) == GROUPS + int(np.argmin(want)) + 0.5


def test_a_stray_value_is_cut_off(rng: np.random.Generator) -> None:
    hist = np.histogram(np.append(np.abs(rng.standard_normal(50_000)), 40.0), 2048, (0, 40))[0]
    assert threshold_bins(hist) * 40 / 2048 < 8


def test_where_all_magnitudes_are_the_same_everything_is_kept() -> None:
    hist = np.zeros(2048, int)
    hist[-1] = 7
    assert threshold_bins(hist) == 2048
    assert threshold_bins(hist, 2048) == 2048
