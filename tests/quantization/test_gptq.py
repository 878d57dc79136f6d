"""GPTQ against the textbook, which inverts the matrix anew for each input, and within its limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.quantization.gptq import FARTHEST, gptq
from fewbit.quantization.moments import Fit
from fewbit.quantization.steps import Steps
from tests.quantization.test_rounding import every_choice, fit_of, layer


def steps_for(w: Any, bits: int = 4, size: int | None = None) -> Steps:
    """Symmetric steps for the largest magnitudes, one a row or one for each `size` inputs."""
    k = w.shape[-1]
    blocks = np.arange(k) // (size or k)
    top = 2 ** (bits - 1) - 1
    scale = np.stack([np.abs(w[..., blocks == j]).max(-1) / top for j in range(blocks[-1] + 1)], -1)
    ends = np.full(scale.shape, top, np.int32)
    index = np.arange(scale.size, dtype=np.int32).reshape(scale.shape)
    return Steps(scale.astype(np.float32), -ends, ends, blocks, index, scale.size, bits)


def naive(w: Any, steps: Steps, fit: Fit, damping: float) -> Any:
    """Round one input, spread its error over the others by what is left of H⁻¹, take it out, and so on."""
    p = np.zeros(w.shape, np.int64)
    scale, top = steps.wide(steps.scale), int(steps.hi.max())
    for g in range(w.shape[0]):
        h = fit.h[g].astype(np.float64)
        h = h + np.eye(len(h)) * damping * np.trace(h) / len(h)
        left = list(np.argsort(-np.diag(fit.h[g]), kind="stable"))
        now = w[g].astype(np.float64).copy()
        while left:
            inverse, k = np.linalg.inv(h[np.ix_(left, left)]), left[0]
            p[g, :, k] = np.clip(np.rint(now[:, k] / scale[g, :, k]), -top, top)
            off = (now[:, k] - p[g, :, k] * scale[g, :, k]) / inverse[0, 0]
            now[:, left] -= off[:, None] * inverse[0]
            left = left[1:]
    return p


@pytest.mark.parametrize("size", [None, 4])
@given(seed=st.integers(0, 10**6), damping=st.sampled_from([0.01, 0.3]))
def test_the_integers_are_those_of_the_textbook(size: int | None, seed: int, damping: float) -> None:
    w, _, fit = layer(seed, groups=2, out=9, k=7)
    steps = steps_for(w, 4, size)
    fit = Fit(fit.h, w @ fit.h, fit.yy, fit.mx, fit.my)
    same = gptq(w, steps, fit, damping) == naive(w, steps, fit, damping)
    assert same.mean() > 0.97  # a tie within float32 may fall either way


def test_it_comes_closer_to_the_best_choice_than_the_nearest() -> None:
    w, _, fit = layer(0, groups=1, out=200, k=4)
    steps = steps_for(w, 3)
    scale = steps.scale[..., 0]
    best = every_choice(w, scale * 1.0, fit, 0.01)
    mine, plain = (fit.error(steps.real(p)) for p in (gptq(w, steps, fit, 0.01), steps.nearest(w)))
    assert mine.sum() < 0.8 * plain.sum()
    assert mine.sum() < 1.6 * best.sum() + 1e-6


def test_independent_inputs_leave_the_nearest() -> None:
    w, _, _ = layer(1, k=6)
    h = np.diag(np.linspace(1, 2, 6)).astype(np.float32)[None]
    fit = Fit(h, w @ h, np.ones(w.shape[:2]), np.zeros((1, 6)), np.zeros(w.shape[:2]))
    steps = steps_for(w)
    np.testing.assert_array_equal(gptq(w, steps, fit, 0.01), steps.nearest(w))


def test_inputs_that_never_move_leave_the_nearest() -> None:
    w, _, _ = layer(2)
    fit, steps = fit_of(np.ones((1, 6, 50)), w), steps_for(w)
    np.testing.assert_array_equal(gptq(w, steps, fit, 0.3), steps.nearest(w))


def test_what_the_inputs_lack_is_made_up_for() -> None:
    """Inputs that arrive halved: the best weights are twice the float ones, which only d knows."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal((1, 5, 8)).astype(np.float32)
    x = rng.standard_normal((1, 8, 500))
    full, half = fit_of(x, w), fit_of(x / 2, w)
    fit = Fit(half.h, 2 * half.d, full.yy, half.mx, full.my)
    steps = steps_for(2 * w, 8)
    p = gptq(w, steps, fit, 1e-4)
    np.testing.assert_allclose(steps.real(p), 2 * w, atol=0.05)


@given(st.integers(0, 10**6))
def test_no_weight_leaves_the_format_or_goes_too_far(seed: int) -> None:
    w, _, fit = layer(seed, out=3, k=8, lean=5.0)
    for bits in (2, 8):
        steps = steps_for(w, bits)
        p = gptq(w, steps, fit, 1e-3)
        lo, hi = steps.limits
        assert (p >= lo).all() and (p <= hi).all()
        assert (np.abs(p - steps.nearest(w)) <= FARTHEST).all()
