"""Steps of a weight as a matrix: the same numbers as in the plan, wherever scales lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.core.params import weight_params
from fewbit.core.spec import QuantSpec
from fewbit.quantization.linear import Linear
from fewbit.quantization.moments import Fit
from fewbit.quantization.rounding import adaptive_round
from fewbit.quantization.steps import Steps, steps_of
from fewbit.quantization.weight_range import refit_steps, search_steps
from tests.quantization.test_rounding import damped, fit_of

LAYERS = {  # shape of the weight as stored, transposed, groups of the layer
    "MatMul": ((10, 4), True, 1),
    "Gemm transposed": ((4, 10), False, 1),
    "Conv": ((6, 4, 3, 2), False, 1),
    "Conv in groups": ((6, 4, 3), False, 3),
}


def linear(shape: tuple[int, ...], transposed: bool, groups: int, seed: int = 0) -> Linear:
    w = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    matrix = (w.T if transposed else w.reshape(shape[0], -1)).reshape(
        groups, -1, w.size // shape[1 if transposed else 0]
    )
    bias = np.zeros(matrix.shape[0] * matrix.shape[1], np.float32)
    return Linear("n", "Conv", "w", "x", "y", np.ascontiguousarray(matrix), bias, True, shape, transposed)


def specs(shape: tuple[int, ...], transposed: bool) -> list[QuantSpec]:
    channel, summed = (1, 0) if transposed else (0, 1)
    common: list[dict[str, Any]] = [
        {"signed": True, "symmetric": True, "narrow": True},
        {"signed": True},
        {"signed": False},
    ]
    shapes: list[dict[str, Any]] = [
        {},
        {"granularity": "channel", "axis": channel},
        {"granularity": "group", "axis": summed, "group_size": 3},
        {"granularity": "group", "axis": summed, "group_size": shape[summed]},
    ]
    return [QuantSpec(bits, **a, **b) for bits in (2, 4, 8) for a in common for b in shapes]


@pytest.mark.parametrize("name", LAYERS)
def test_they_round_as_the_plan_does(name: str) -> None:
    shape, transposed, groups = LAYERS[name]
    layer = linear(shape, transposed, groups)
    stored = layer.stored(layer.weight)
    for spec in specs(shape, transposed):
        params = weight_params(spec, stored)
        steps = steps_of(layer, params)
        p = steps.nearest(layer.weight)
        zero = np.broadcast_to(params.spread(params.zero_point, shape), shape)
        np.testing.assert_array_equal(p + layer.matrix(zero), layer.matrix(params.quantize(stored)))
        np.testing.assert_array_equal(steps.real(p), layer.matrix(params.fake(stored)))
        assert steps.flat() == tuple(map(float, params.scale.reshape(-1)))
        assert steps.tied == (spec.granularity == "tensor")
        assert sorted(np.concatenate(steps.columns)) == list(range(layer.weight.shape[-1]))


def test_new_scales_go_back_to_their_places() -> None:
    layer = linear(*LAYERS["Conv"])
    params = weight_params(
        QuantSpec(4, signed=True, granularity="group", axis=1, group_size=3), layer.stored(layer.weight)
    )
    steps = steps_of(layer, params)
    assert steps.rescaled(steps.scale * 2).flat() == tuple(map(float, (params.scale * 2).reshape(-1)))
    assert params.scale.shape == (6, 2, 3, 2) and steps.scale.shape == (1, 6, 12)


# -- scales in groups ------------------------------------------------------------------------------------------------


def grouped(seed: int, bits: int = 3, size: int = 4, k: int = 10) -> tuple[Any, Steps, Fit]:
    """A product with heavy weights, its asymmetric steps in groups, and moments of leaning inputs."""
    rng = np.random.default_rng(seed)
    w = rng.standard_t(3, (k, 5)).astype(np.float32)
    layer = Linear(
        "n", "MatMul", "w", "x", "y", np.ascontiguousarray(w.T)[None], np.zeros(5, np.float32), True, w.shape, True
    )
    steps = steps_of(
        layer, weight_params(QuantSpec(bits, signed=True, granularity="group", axis=0, group_size=size), w)
    )
    x = (np.eye(k) + 0.5 * rng.standard_normal((1, k, k))) @ rng.standard_normal((1, k, 120))
    return layer.weight, steps, fit_of(x, layer.weight)


def none(w: Any) -> Any:
    return np.zeros(w.shape[:2], np.float32)


@given(st.integers(0, 10**6), st.sampled_from([2, 3, 4, 8]))
def test_each_group_takes_the_best_scale_of_the_grid_for_its_own_inputs(seed: int, bits: int) -> None:
    w, steps, fit = grouped(seed, bits)
    found = search_steps(w, steps, fit, none(w))
    for j, at in enumerate(steps.columns):
        h = fit.h[:, at[:, None], at] if bits <= 6 else fit.h * np.eye(w.shape[-1])
        at_h = h if bits <= 6 else h[:, at[:, None], at]

        def error(s: Steps, at: Any = at, h: Any = at_h) -> Any:
            off = (s.real(s.nearest(w)) - w)[..., at]
            return np.einsum("gok,gkl,gol->go", off, h, off)

        assert (error(found) <= error(steps) * (1 + 1e-4) + 1e-7).all(), j
    assert (found.scale <= steps.scale * (1 + 1e-6)).all()


@given(st.integers(0, 10**6))
def test_scales_for_settled_integers_lower_the_error(seed: int) -> None:
    w, steps, fit = grouped(seed)
    p = steps.nearest(w)
    found = refit_steps(p, steps, fit, none(w))
    before, after = fit.error(steps.real(p)), fit.error(found.real(p))
    assert (after <= before + 1e-4 * fit.yy).all()  # of yy, which the rest is subtracted from, float32 loses some
    assert (found.scale > 0.69 * steps.scale).all() and (found.scale < 1.41 * steps.scale).all()


@given(st.integers(0, 10**6))
def test_rounding_with_a_scale_for_each_group_is_never_worse_than_where_it_began(seed: int) -> None:
    w, steps, fit = grouped(seed)
    start = steps.nearest(w)
    q = adaptive_round(w, start, steps.wide(steps.scale), fit, steps.limits, 0.1)
    lo, hi = steps.limits
    assert (q >= lo).all() and (q <= hi).all()
    wide = steps.wide(steps.scale)
    pull = 0.1 * np.trace(fit.h, axis1=1, axis2=2) / w.shape[-1]

    def cost(p: Any) -> Any:
        return fit.error(p * wide) + pull[:, None] * np.square(p * wide - w).sum(-1)

    assert (cost(q) <= cost(start) * (1 + 1e-4) + 1e-6).all()


def test_one_scale_a_weight_says_the_same_as_one_a_row() -> None:
    w, _, fit = grouped(1)
    scale = (np.abs(w).max(-1) / 7).astype(np.float32)
    start = np.clip(np.rint(w / scale[..., None]), -7, 7).astype(np.int32)
    wide = np.repeat(scale[..., None], w.shape[-1], -1)
    one, every = (adaptive_round(w, start, s, fit, (-7, 7)) for s in (scale, wide))
    np.testing.assert_array_equal(one, every)
    assert (damped(fit, w, one, scale, 0.3) <= damped(fit, w, start, scale, 0.3) * (1 + 1e-5)).all()


def test_one_scale_for_the_tensor_is_found_for_all_rows_together() -> None:
    rng = np.random.default_rng(0)
    layer = linear((8, 40), False, 1)
    layer.weight[0, 0, 0] = 6  # one outlier: clipping it pays for the other rows
    params = weight_params(QuantSpec(3, signed=True, symmetric=True, narrow=True), layer.stored(layer.weight))
    steps, fit = steps_of(layer, params), fit_of(rng.standard_normal((1, 40, 200)), layer.weight)
    found = search_steps(layer.weight, steps, fit, none(layer.weight))
    assert np.unique(found.scale).size == 1 and len(found.flat()) == 1 and found.scale[0, 0, 0] < steps.scale[0, 0, 0]
    before, after = (fit.error(s.real(s.nearest(layer.weight))).sum() for s in (steps, found))
    assert after < before
