"""Adaptive rounding against every choice there is, and within its limits."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.quantization.moments import Fit
from fewbit.quantization.rounding import REACH, adaptive_round
from fewbit.quantization.weight_range import nearest

INT4 = (-7, 7)


def fit_of(x: Any, w: Any) -> Fit:
    """Moments of inputs (group, K, rows) about their means, and of y = W·x."""
    mx = x.mean(-1)
    c = x - mx[..., None]
    y = w @ c
    n = x.shape[-1]
    h, d, yy = c @ c.swapaxes(1, 2) / n, y @ c.swapaxes(1, 2) / n, np.square(y).mean(-1)
    return Fit(h.astype(np.float32), d.astype(np.float32), yy.astype(np.float64), mx, (w @ x).mean(-1))


def layer(seed: int, groups: int = 1, out: int = 4, k: int = 6, lean: float = 1.0) -> tuple[Any, Any, Fit]:
    """Weights, their 4-bit scales, and moments of inputs that lean on each other."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((groups, out, k)).astype(np.float32)
    mix = np.eye(k) + lean * rng.standard_normal((groups, k, k))
    x = mix @ rng.standard_normal((groups, k, 64))
    return w, (np.abs(w).max(-1) / 7).astype(np.float32), fit_of(x, w.astype(np.float64))


def damped(fit: Fit, w: Any, q: Any, scale: Any, damping: float) -> Any:
    """The quadratic that is descended: the layer's error, and how far the weights moved."""
    moved = (q * scale[..., None]).astype(np.float64)
    pull = damping * np.trace(fit.h, axis1=1, axis2=2) / w.shape[-1]
    return fit.error(moved) + pull[:, None] * np.square(moved - w).sum(-1)


@given(st.integers(0, 10**6), st.integers(1, 3), st.sampled_from([0.01, 0.1, 1.0]))
def test_it_is_never_worse_than_where_it_began(seed: int, groups: int, damping: float) -> None:
    w, scale, fit = layer(seed, groups)
    start = nearest(w, scale, INT4)
    kept = start.copy()
    q = adaptive_round(w, start, scale, fit, INT4, damping)
    np.testing.assert_array_equal(start, kept)
    assert q.dtype == np.int32 and q.shape == w.shape
    before, after = (damped(fit, w, n, scale, damping) for n in (start, q))
    assert (after <= before * (1 + 1e-5) + 1e-9).all()
    assert (np.abs(q - start) <= REACH).all() and q.min() >= INT4[0] and q.max() <= INT4[1]


@given(st.integers(0, 10**6))
def test_no_single_step_is_left_that_helps(seed: int) -> None:
    w, scale, fit = layer(seed, out=2)
    start = nearest(w, scale, INT4)
    q = adaptive_round(w, start, scale, fit, INT4, 0.01, sweeps=100)
    best = damped(fit, w, q, scale, 0.01)
    for k, step in product(range(w.shape[-1]), (-1, 1)):
        other = q.copy()
        other[..., k] += step
        legal = (np.abs(other - start)[..., k] <= REACH) & (np.abs(other)[..., k] <= 7)
        assert (~legal | (damped(fit, w, other, scale, 0.01) >= best * (1 - 1e-4) - 1e-7)).all()


def every_choice(w: Any, scale: Any, fit: Fit, damping: float) -> Any:
    """The least error over all ways to round up or down, (group, out)."""
    low = np.floor(w / scale[..., None])
    best = np.full(w.shape[:2], np.inf)
    for ups in product((0, 1), repeat=w.shape[-1]):
        best = np.minimum(best, damped(fit, w, np.clip(low + np.array(ups), *INT4), scale, damping))
    return best


@given(st.integers(0, 10**6))
def test_independent_inputs_leave_the_nearest_which_is_the_best_choice(seed: int) -> None:
    w, scale, fit = layer(seed, lean=0.0, k=4)
    fit = Fit(fit.h * np.eye(4, dtype=np.float32), fit.d * 0, fit.yy, fit.mx, fit.my)
    fit = Fit(fit.h, w @ fit.h, np.einsum("gok,gkl,gol->go", w, fit.h, w).astype(np.float64), fit.mx, fit.my)
    start = nearest(w, scale, INT4)
    far = np.clip(start + 1, *INT4)
    for begin in (start, far):
        q = adaptive_round(w, begin, scale, fit, INT4, 0.01)
        np.testing.assert_allclose(
            damped(fit, w, q, scale, 0.01), every_choice(w, scale, fit, 0.01), rtol=1e-3, atol=1e-6
        )


def test_leaning_inputs_come_close_to_the_best_of_all_choices() -> None:
    w, scale, fit = layer(0, groups=2, out=100, k=6)
    start = nearest(w, scale, INT4)
    q = adaptive_round(w, start, scale, fit, INT4, 0.01)
    best, mine, plain = every_choice(w, scale, fit, 0.01), *(damped(fit, w, n, scale, 0.01) for n in (q, start))
    assert best.sum() < mine.sum() < 1.4 * best.sum() and mine.sum() < 0.65 * plain.sum()
    assert (mine <= best * (1 + 1e-4)).mean() > 0.5


def test_inputs_of_low_rank_lose_almost_nothing() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((1, 16, 32)).astype(np.float32)
    x = rng.standard_normal((1, 32, 2)) @ rng.standard_normal((1, 2, 200))
    fit, scale = fit_of(x, w), (np.abs(w).max(-1) / 7).astype(np.float32)
    start = nearest(w, scale, INT4)
    q = adaptive_round(w, start, scale, fit, INT4, 0.01)
    assert fit.error(q * scale[..., None]).sum() < fit.error(start * scale[..., None]).sum() / 30


def test_much_damping_stays_with_the_nearest() -> None:
    w, scale, fit = layer(1)
    start = nearest(w, scale, INT4)
    assert (adaptive_round(w, start, scale, fit, INT4, damping=0.01) != start).any()
    np.testing.assert_array_equal(adaptive_round(w, start, scale, fit, INT4, damping=1e5), start)


@pytest.mark.parametrize("away", [-5, 5])
def test_no_weight_moves_further_than_it_may(away: int) -> None:
    w, scale, fit = layer(1, out=20)
    start = nearest(w / 2, scale, INT4) + away
    q = adaptive_round(w / 2, start, scale, fit, (-100, 100), damping=1e3)
    np.testing.assert_array_equal(q, start - np.sign(away) * REACH)


def test_every_group_and_row_is_for_itself() -> None:
    w, scale, fit = layer(2, groups=3, out=9)
    whole = adaptive_round(w, nearest(w, scale, INT4), scale, fit, INT4)
    for g, o in product(range(3), range(9)):
        one = Fit(fit.h[g : g + 1], fit.d[g : g + 1, o : o + 1], fit.yy, fit.mx, fit.my)
        at = np.s_[g : g + 1, o : o + 1]
        q = adaptive_round(w[at], nearest(w[at], scale[at], INT4), scale[at], one, INT4)
        np.testing.assert_array_equal(q, whole[at])


def test_an_input_that_never_moves_teaches_nothing() -> None:
    w, scale, _ = layer(3)
    fit = fit_of(np.ones((1, 6, 50)), w)
    start = nearest(w, scale, INT4)
    np.testing.assert_array_equal(adaptive_round(w, start, scale, fit, INT4), start)


def test_one_dead_input_among_others_keeps_its_weight() -> None:
    rng = np.random.default_rng(4)
    w, scale, _ = layer(4)
    x = rng.standard_normal((1, 6, 50))
    x[:, 2] = 0
    start = nearest(w, scale, INT4)
    q = adaptive_round(w, start, scale, fit_of(x, w), INT4)
    np.testing.assert_array_equal(q[..., 2], start[..., 2])


@pytest.mark.parametrize("size", [1e-36, 1e-12, 1e12])
def test_weights_of_any_size(size: float) -> None:
    w, scale, fit = layer(5)
    w, scale = w * np.float32(size), scale * np.float32(size)
    fit = Fit(fit.h, fit.d * np.float32(size), fit.yy * size**2, fit.mx, fit.my)
    start = nearest(w, scale, INT4)
    q = adaptive_round(w, start, scale, fit, INT4)
    assert (fit.error(q * scale[..., None]) <= 1.001 * fit.error(start * scale[..., None])).all()


def test_inputs_and_weights_that_are_minute_give_no_nonsense() -> None:
    w, scale, fit = layer(6)
    tiny = np.float32(1e-30)
    fit = Fit(fit.h * tiny, fit.d * tiny * tiny, fit.yy * 0, fit.mx, fit.my)
    start = nearest(w, scale, INT4)
    q = adaptive_round(w * tiny, start, scale * tiny, fit, INT4)
    assert (np.abs(q - start) <= REACH).all()
