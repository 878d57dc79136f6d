"""1-bit weights: s = mean|w| is the best ±s there is."""

import numpy as np
import pytest

from fewbit.core.params import weight_params
from fewbit.core.spec import QuantSpec

W = np.random.default_rng(0).standard_normal((6, 10)).astype(np.float32)
SPECS = {
    "tensor": QuantSpec(1, True, symmetric=True),
    "channel": QuantSpec(1, True, symmetric=True, granularity="channel", axis=0),
    "group": QuantSpec(1, True, symmetric=True, granularity="group", axis=1, group_size=4),
}


@pytest.mark.parametrize(
    ("grain", "want"),
    [
        ("tensor", np.abs(W).mean()),
        ("channel", np.abs(W).mean(1)),
        ("group", np.stack([np.abs(W[:, i : i + 4]).mean(1) for i in (0, 4, 8)], 1)),  # the last one is short
    ],
)
def test_the_scale_is_the_mean_size(grain, want):
    params = weight_params(SPECS[grain], W)
    np.testing.assert_allclose(params.scale, want, rtol=1e-6)
    np.testing.assert_array_equal(np.sign(params.fake(W)), np.where(W < 0, -1, 1))


@pytest.mark.parametrize("grain", SPECS)
def test_no_other_scale_is_nearer(grain):
    params = weight_params(SPECS[grain], W)
    signs = params.quantize(W).astype(np.float64)
    spread = params.fake(W) / signs
    best = ((W - spread * signs) ** 2).sum()
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert ((W - factor * spread * signs) ** 2).sum() > best


@pytest.mark.parametrize("grain", SPECS)
def test_zeros_give_scale_1_and_no_warning(grain):
    assert (weight_params(SPECS[grain], np.zeros((6, 10), np.float32)).scale == 1).all()


def test_an_empty_tensor_gives_scale_1():
    assert weight_params(SPECS["tensor"], np.zeros((0, 3), np.float32)).scale == 1
