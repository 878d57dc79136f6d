"""Moments of a layer against the rows themselves, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.quantization import moments
from fewbit.quantization.linear import Linear
from fewbit.quantization.moments import Fit, Moments

G, OUT, K = 2, 3, 4


def layer(weight: Any, has_bias: bool = True) -> Linear:
    g, o, k = weight.shape
    bias = np.zeros(g * o, np.float32)
    return Linear("fc", "Conv", "w", "x", "y", weight.astype(np.float32), bias, has_bias, (g * o, k))


def rows(n: int, seed: int = 0, mean: float = 1.5) -> tuple[Any, Any, Any]:
    """Inputs that lean on each other and away from 0, sums of them with some noise, and a float weight."""
    rng = np.random.default_rng(seed)
    x = np.einsum("gkj,gjp->gkp", rng.standard_normal((G, K, K)), rng.standard_normal((G, K, n))) + mean
    w = rng.standard_normal((G, OUT, K))
    y = w @ x + rng.standard_normal((G, OUT, 1)) + 0.1 * rng.standard_normal((G, OUT, n))
    return x.astype(np.float32), y.astype(np.float32), w.astype(np.float32)


def learned(x: Any, y: Any, w: Any, cuts: Any = (), *, has_bias: bool = True, full: bool = True) -> Fit:
    made = Moments(layer(w, has_bias), full)
    for a, b in zip(np.split(x, cuts, -1), np.split(y, cuts, -1), strict=True):
        made.update(a, b)
    return made.fit()


def errors(x: Any, y: Any, w: Any, has_bias: bool) -> Any:
    """mean (y - W·x - b)² with the best b, row by row."""
    rest = y.astype(np.float64) - w.astype(np.float64) @ x
    return rest.var(-1) if has_bias else np.square(rest).mean(-1)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("mean", [0.0, 1.5, 100.0])
def test_the_error_of_any_weight_is_known(has_bias: bool, mean: float) -> None:
    x, y, w = rows(500, mean=mean)
    fit = learned(x, y, w, has_bias=has_bias)
    assert fit.full
    for seed in range(5):
        tried = w + np.random.default_rng(seed).normal(0, 0.5, w.shape).astype(np.float32)
        want = errors(x, y, tried, has_bias)
        np.testing.assert_allclose(fit.error(tried), want, rtol=1e-4, atol=1e-4 * max(1.0, 0 if has_bias else mean**2))


def test_so_is_the_best_bias() -> None:
    x, y, w = rows(300)
    for fit in (learned(x, y, w), learned(x, y, w, has_bias=False), learned(x, y, w, full=False)):
        tried = w + 0.3
        want = (y.astype(np.float64) - tried.astype(np.float64) @ x).mean(-1).reshape(-1)
        np.testing.assert_allclose(fit.bias(tried), want, rtol=1e-4, atol=1e-5)
    assert fit.bias(w).shape == (G * OUT,)


def test_no_weight_has_an_error_below_zero() -> None:
    x, _, w = rows(200, mean=100)
    assert (learned(x, w @ x, w).error(w) >= 0).all()


@pytest.mark.parametrize("has_bias", [True, False])
def test_without_the_products_inputs_count_as_independent(has_bias: bool) -> None:
    x, y, w = rows(400)
    fit = learned(x, y, w, has_bias=has_bias, full=False)
    x64 = x.astype(np.float64)
    energy = x64.var(-1) if has_bias else np.square(x64).mean(-1)
    assert not fit.full and fit.h.shape == (G, K)
    np.testing.assert_allclose(fit.energy, energy, rtol=1e-4)
    tried = w + np.float32(0.2) * np.arange(K, dtype=np.float32)
    np.testing.assert_allclose(fit.error(tried), ((tried - w) ** 2 * energy[:, None]).sum(-1), rtol=1e-3)
    np.testing.assert_allclose(fit.error(w), 0, atol=1e-5)


def test_the_energy_is_the_diagonal() -> None:
    x, y, w = rows(400)
    np.testing.assert_allclose(learned(x, y, w).energy, x.astype(np.float64).var(-1), rtol=1e-4)


@given(st.lists(st.integers(1, 59), unique=True, max_size=6), st.integers(1, 80), st.booleans(), st.booleans())
def test_how_rows_were_cut_does_not_matter(cuts: list[int], together: int, has_bias: bool, full: bool) -> None:
    x, y, w = rows(60)
    whole = learned(x, y, w, has_bias=has_bias, full=full)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "TOGETHER", together)
        parts = learned(x, y, w, sorted(cuts), has_bias=has_bias, full=full)
    for name in ("h", "d", "yy", "mx", "my"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-4, atol=2e-4)


def test_rows_are_left_as_they_were_and_fitting_twice_gives_the_same() -> None:
    x, y, w = rows(2000)
    kept = x.copy(), y.copy()
    made = Moments(layer(w))
    made.update(x[..., :1500], y[..., :1500])
    made.update(x[..., 1500:], y[..., 1500:])
    assert (made.n, len(made.waiting)) == (1500, 1)
    first, second = made.fit(), made.fit()
    assert made.n == 2000 and not made.waiting
    for name in ("h", "d", "yy", "mx", "my"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])


def test_memory_does_not_grow_with_rows() -> None:
    x, y, w = rows(1024)
    made = Moments(layer(w))
    for _ in range(5):
        made.update(x, y)
        assert not made.waiting
    assert made.xx.shape == (G, K, K) and made.yx.shape == (G, OUT, K) and made.n == 5 * 1024


def test_no_rows_are_a_bug_of_ours() -> None:
    with pytest.raises(AssertionError, match="no rows"):
        Moments(layer(rows(1)[2])).fit()
