"""Weight scales: the best of the grid, never worse than the plain one, never below what is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.quantization.moments import Fit
from fewbit.quantization.weight_range import grid, nearest, refit_scale, search_scale
from tests.quantization.test_rounding import fit_of

BITS = [2, 3, 4, 6, 7, 8]


def limits(bits: int) -> tuple[int, int]:
    top = 2 ** (bits - 1) - 1
    return -top, top


def layer(seed: int, bits: int, k: int = 12) -> tuple[Any, Any, Fit]:
    """Weights with heavy tails, plain scales, and moments."""
    rng = np.random.default_rng(seed)
    w = rng.standard_t(3, (2, 3, k)).astype(np.float32)
    x = (np.eye(k) + 0.5 * rng.standard_normal((2, k, k))) @ rng.standard_normal((2, k, 80)) * np.linspace(0.2, 2, 80)
    return w, (np.abs(w).max(-1) / limits(bits)[1]).astype(np.float32), fit_of(x, w)


def error(w: Any, scale: Any, fit: Fit | None, bits: int) -> Any:
    """What the docstring says: of the output up to 6 bits, then by input energies, without moments of the weight."""
    rounded = nearest(w, scale, limits(bits)) * scale[..., None]
    if fit is not None and bits <= 6:
        return fit.error(rounded)
    energy = np.ones(w.shape[::2]) if fit is None else np.diagonal(fit.h, axis1=1, axis2=2)
    return (np.square(rounded - w) * energy[:, None]).sum(-1)


@given(st.integers(0, 10**6), st.sampled_from(BITS), st.booleans())
def test_it_is_never_worse_than_the_plain_scale_and_the_best_of_the_grid(seed: int, bits: int, moments: bool) -> None:
    w, scale, fit = layer(seed, bits)
    fit = fit if moments else None
    none = np.zeros_like(scale)
    found = search_scale(w, scale, fit, limits(bits), bits, none)
    every = np.stack([error(w, scale * r, fit, bits) for r in grid(bits)])
    assert found.dtype == np.float32 and found.shape == scale.shape
    np.testing.assert_allclose(error(w, found, fit, bits), every.min(0), rtol=1e-4, atol=1e-9)
    assert (error(w, found, fit, bits) <= every[0] * (1 + 1e-5)).all()


@given(st.integers(0, 10**6), st.sampled_from(BITS), st.floats(0.1, 3))
def test_no_scale_is_below_the_least(seed: int, bits: int, share: float) -> None:
    w, scale, fit = layer(seed, bits)
    least = (scale * np.float32(share)).astype(np.float32)
    found = search_scale(w, scale, fit, limits(bits), bits, least)
    assert (found >= least).all()
    if share >= 1:
        np.testing.assert_array_equal(found, least)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8, 12])
def test_the_grid_goes_down_from_one(bits: int) -> None:
    found = grid(bits)
    assert found[0] == 1 and (np.diff(found) < 0).all() and found[-1] > 0
    assert found[-1] <= grid(bits + 1)[-1]  # the fewer bits, the further


def test_one_large_weight_is_cut_off_where_few_bits_are_left() -> None:
    rng = np.random.default_rng(0)
    w = rng.uniform(-1, 1, (1, 1, 400)).astype(np.float32)
    w[..., 0] = 3
    for bits, most in ((3, 0.7), (8, 1.0)):
        scale = (np.abs(w).max(-1) / limits(bits)[1]).astype(np.float32)
        found = search_scale(w, scale, None, limits(bits), bits, np.zeros_like(scale))
        assert found <= most * scale and (bits < 8 or found == scale)


def test_weights_on_the_grid_keep_their_scale() -> None:
    w = np.random.default_rng(0).integers(-7, 8, (1, 5, 30)).astype(np.float32)
    w[..., 0] = 7
    scale, fit = np.ones((1, 5), np.float32), fit_of(np.random.default_rng(1).standard_normal((1, 30, 90)), w)
    for moments in (fit, None):
        np.testing.assert_array_equal(search_scale(w, scale, moments, (-7, 7), 4, np.zeros_like(scale)), scale)


def test_a_channel_without_weights_keeps_its_scale() -> None:
    w, scale, fit = layer(0, 4)
    w[0, 1] = 0
    fit = Fit(fit.h, w @ fit.h, np.einsum("gok,gkl,gol->go", w, fit.h, w).astype(np.float64), fit.mx, fit.my)
    scale[0, 1] = 1
    assert search_scale(w, scale, fit, (-7, 7), 4, np.zeros_like(scale))[0, 1] == 1


def test_integers_are_those_of_the_network() -> None:
    scale = np.full((1, 1), 0.5, np.float32)
    w = np.array([[[0.25, 0.75, -0.25, 3.6, -9]]], np.float32)
    np.testing.assert_array_equal(nearest(w, scale, (-7, 7)), [[[0, 2, 0, 7, -7]]])


# -- scales for integers that are settled ----------------------------------------------------------------------------


@given(st.integers(0, 10**6))
def test_a_scale_that_is_fitted_anew_is_the_best_there_is(seed: int) -> None:
    w, scale, fit = layer(seed, 3)
    q = nearest(w, scale, (-3, 3))
    found = refit_scale(q, scale, fit, np.zeros_like(scale))
    best = fit.error(q * found[..., None])
    moved = found != scale
    for r in (0.97, 1.03):
        assert (~moved | (fit.error(q * (found * np.float32(r))[..., None]) >= best * (1 - 1e-4))).all()
    assert (best <= fit.error(q * scale[..., None]) * (1 + 1e-4)).all()
    assert (found > 0.69 * scale).all() and (found < 1.41 * scale).all()


def test_it_stays_where_there_is_nothing_to_fit() -> None:
    w, scale, fit = layer(0, 4)
    np.testing.assert_array_equal(refit_scale(np.zeros(w.shape, np.int32), scale, fit, 0 * scale), scale)
    far = nearest(w, scale, (-7, 7)) * 5
    np.testing.assert_array_equal(refit_scale(far, scale, fit, 0 * scale), scale)


def test_nor_does_it_go_below_the_least() -> None:
    w, scale, fit = layer(0, 4)
    found = refit_scale(nearest(w, scale, (-7, 7)), scale, fit, scale * np.float32(1.1))
    assert ((found >= scale * np.float32(1.1)) | (found == scale)).all()
