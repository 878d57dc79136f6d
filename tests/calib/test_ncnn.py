"""The thresholds of ncnn's tool: from one pass instead of two, and by formula."""

import math

import numpy as np
import pytest

from fewbit.calib import make_observer
from fewbit.calib.ncnn import ALPHA
from fewbit.core.spec import QuantSpec
from fewbit.core.threshold_ncnn import threshold_bins

SPEC = QuantSpec(8, signed=True, symmetric=True)


@pytest.mark.parametrize("kind", ["normal", "relu", "laplace"])
def test_kl_is_that_of_two_passes(kind, rng):
    x = {"normal": rng.standard_normal(50_000), "laplace": rng.laplace(size=50_000),
         "relu": np.maximum(rng.standard_normal(50_000), 0)}[kind].astype(np.float32)  # fmt: skip
    top = np.abs(x).max()
    hist = np.histogram(np.abs(x[x != 0]), 2048, (0, top))[0]
    want = threshold_bins(hist) / 2048 * top
    for word in ("ncnn-kl", "eq"):
        seen = make_observer(word, SPEC)
        for part in np.split(x, 5):
            seen.update(part)
        lo, hi = seen.result()
        assert hi == pytest.approx(want, rel=0.03) and lo == (0 if kind == "relu" else -hi)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_aciq_follows_from_the_largest_magnitude_and_the_size_of_a_sample(bits, rng):
    """As ncnn's tool has it: α·(2·absmax·0.5·0.35·(1 + √(π·ln 4)))/√(2·ln N)."""
    x = rng.standard_normal((6, 40_000)).astype(np.float32)
    seen = make_observer("aciq", QuantSpec(bits, signed=True, symmetric=True))
    seen.update(x[:4])
    seen.update(x[4:])
    deviation = (
        np.abs(x).max() * 2 * 0.5 * 0.35 * (1 + math.sqrt(math.pi * math.log(4))) / math.sqrt(2 * math.log(40_000))
    )
    lo, hi = seen.result()
    assert hi == pytest.approx(ALPHA[bits - 1] * deviation) == -lo


def test_aciq_keeps_what_there_is_where_the_formula_asks_for_more(rng):
    x = rng.uniform(-2, 2, (3, 10)).astype(np.float32)
    seen = make_observer("aciq", SPEC)
    seen.update(x)
    assert seen.result()[1] == np.abs(x).max()
    wide = make_observer("aciq", QuantSpec(12, signed=True, symmetric=True))
    wide.update(np.repeat(x, 1000, 1))
    assert wide.result()[1] == np.abs(x).max()
