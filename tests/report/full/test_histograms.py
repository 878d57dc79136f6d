"""Histograms of both sides on the same bins: nothing is lost, batches do not matter, integers sit in their own bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewbit.report.full.histograms import BINS, Distributions, Histogram

REALS = arrays(np.float32, st.integers(1, 60), elements=st.floats(-1000, 1000, width=32))


def histogram(x: np.ndarray, q: np.ndarray, **words: object) -> Histogram:
    found = Distributions()
    found.update("v", x, q)
    made = found.result("v", **words)  # type: ignore[arg-type]
    assert made is not None
    return made


@given(REALS, st.floats(0.0625, 50, width=32))
def test_every_value_is_counted_once(x: np.ndarray, scale: float) -> None:
    q = (np.rint(x / np.float32(scale)) * np.float32(scale)).astype(np.float32)
    h = histogram(x, q, scale=scale)
    assert sum(h.original) + h.below[0] + h.above[0] == x.size
    assert sum(h.quantized) + h.below[1] + h.above[1] == x.size
    assert len(h.original) == len(h.quantized) and h.step > 0


@given(REALS, st.integers(1, 59))
def test_batches_do_not_matter(x: np.ndarray, cut: int) -> None:
    parts, once = Distributions(samples=100), Distributions(samples=100)
    for piece in (x[:cut], x[cut:]):
        parts.update("v", piece, piece)
    once.update("v", x, x)
    assert parts.result("v") == once.result("v")
    assert parts.sparsity("v") == np.count_nonzero(x == 0) / x.size


@pytest.mark.parametrize("levels", [4, 16, 256, 65536])
def test_bins_hold_the_same_number_of_integers(levels: int) -> None:
    scale = 0.37
    q = (np.arange(levels) - levels // 3).astype(np.float32) * np.float32(scale)
    h = histogram(q, q, scale=scale, limits=(float(q[0]), float(q[-1])))
    counts = [c for c in h.quantized if c]
    inner = counts[1:-1] or [1]  # the first and the last may be cut off by where the range ends
    assert max(inner) - min(inner) <= (3 if levels > 16384 else 0)  # the grid that values are counted on has 32768 bins
    assert len(h.quantized) <= 2 * BINS


def test_an_outlier_does_not_make_one_bar_of_the_rest() -> None:
    x = np.append(np.random.default_rng(0).standard_normal(100_000), 1e3).astype(np.float32)
    h = histogram(x, x)
    assert h.above[0] >= 1 and max(h.original) < 0.2 * x.size


def test_the_limits_are_in_sight_if_they_are_near() -> None:
    x = np.linspace(-1, 1, 1000, dtype=np.float32)
    near = histogram(x, np.clip(x, -0.5, 1.2), limits=(-0.5, 1.2))
    assert near.low <= -1 and near.low + near.step * len(near.original) >= 1.2
    far = histogram(x, x, limits=(-1000.0, 1000.0))
    assert far.low > -4 and far.low + far.step * len(far.original) < 4


def test_only_so_many_samples_are_counted() -> None:
    found = Distributions(samples=4)
    for _ in range(5):
        found.update("v", np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))
    made = found.result("v")
    assert made is not None and sum(made.original) + sum(made.above) + sum(made.below) == 12


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_has_no_histogram(bad: float) -> None:
    found = Distributions()
    x = np.ones(4, np.float32)
    found.update("v", x, np.append(x[1:], np.float32(bad)))
    found.update("v", x, x)
    assert found.result("v") is None and found.result("unknown") is None and found.sparsity("unknown") is None


def test_one_value_and_none() -> None:
    assert sum(histogram(np.zeros(3, np.float32), np.zeros(3, np.float32)).original) == 3
    found = Distributions()
    found.update("v", np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))
    assert found.result("v") is None
