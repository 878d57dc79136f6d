"""Weights that were rounded before keep their steps."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.core.spec import QuantSpec
from fewbit.quantization.grids import old_scales

CHANNEL = QuantSpec(8, signed=True, symmetric=True, narrow=True, granularity="channel", axis=0)
TENSOR = QuantSpec(8, signed=True, symmetric=True, narrow=True)


def rounded(*shape: int, most: int = 127, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-most, most + 1, shape)


@pytest.mark.parametrize("most", [127, 90, 40, 3])
def test_old_integers_come_back_whole_though_no_channel_reaches_127(most: int) -> None:
    steps = np.float32([0.01, 0.3, 7.0])[:, None, None, None]
    weight = (rounded(3, 20, 3, 3, most=most) * steps).astype(np.float32)
    scales = old_scales(CHANNEL, weight)
    assert scales is not None
    q = weight / scales[:, None, None, None]
    assert np.abs(q - np.rint(q)).max() < 2e-3 and 64 <= np.abs(q).max() < 127.01  # fine enough for the bias


def test_channels_along_another_axis_and_whole_weights() -> None:
    weight = (rounded(50, 4) * np.float32(0.02)).astype(np.float32)
    scales = old_scales(CHANNEL, weight.T)
    other = old_scales(QuantSpec(8, signed=True, symmetric=True, narrow=True, granularity="channel", axis=1), weight)
    assert scales is not None and other is not None
    np.testing.assert_array_equal(scales, other)
    whole = old_scales(TENSOR, weight)
    assert whole is not None and whole.shape == (1,)
    assert whole[0] == pytest.approx(0.02 * np.abs(weight / 0.02).max() / round(np.abs(weight / 0.02).max()))


def test_weights_that_were_never_rounded_have_none() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 64)).astype(np.float32)
    assert old_scales(CHANNEL, weight) is None and old_scales(TENSOR, weight) is None
    mixed = (rounded(8, 640) * 0.5).astype(np.float32)
    mixed[3, -1] += 0.2  # far behind what is looked at first
    assert old_scales(CHANNEL, mixed) is None


def test_empty_channels_and_other_formats() -> None:
    weight = np.float32([[0, 0, 0, 0], [1, 2, -3, 127]])
    scales = old_scales(CHANNEL, weight)
    assert scales is not None and scales.tolist() == [1.0, 1.0]
    assert old_scales(QuantSpec(4, signed=True, symmetric=True, granularity="channel", axis=0), weight) is None
    assert old_scales(QuantSpec(8, signed=False), weight) is None
