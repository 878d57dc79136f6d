import numpy as np
import pytest
import torch
from torch import nn

from fewbit.core.spec import QuantSpec
from fewbit.core.threshold_simulator import Counts
from fewbit.errors import BadSample
from fewbit.torch.kl import collect_kl
from fewbit.torch.quantizer import ActQuantizer


def batches(count=3):
    rng = np.random.default_rng(0)
    found = [rng.laplace(size=(8, 500)).astype(np.float32) for _ in range(count)]
    found[0][0, 0] = 30
    return found


def quantizer(**format):
    made = ActQuantizer(QuantSpec(**format))
    made.tracking = False
    return made


def ran(one, data):
    with collect_kl([one, one]):  # twice: it is counted once
        for x in data:
            y = one(torch.from_numpy(x))
            assert np.array_equal(y.numpy(), x)  # nothing is rounded meanwhile
    return one


@pytest.mark.parametrize("signed", [True, False])
def test_the_range_is_that_of_the_search(signed):
    data = batches()
    counts = Counts(float(np.abs(data[0]).max()))
    for x in data:
        counts.update(x)
    top = counts.threshold(4, signed)
    assert top < 29  # the outlier is cut off
    one = ran(quantizer(bits=4, signed=signed, symmetric=True), data)
    assert (float(one.lo), float(one.hi)) == pytest.approx((-top if signed else 0, top))
    assert one.enabled
    assert float(one.params().scale) == pytest.approx(top / (7 if signed else 15))


def test_a_format_that_is_not_symmetric_keeps_what_was_seen():
    one = ran(quantizer(bits=8, signed=False), [np.linspace(-0.5, 4, 4000, dtype=np.float32)])
    assert float(one.lo) == -0.5
    assert 3.5 < float(one.hi) <= 4


def test_quantizers_inside_of_a_network():
    net = nn.Sequential(nn.Linear(500, 20), nn.ReLU(), quantizer(bits=8, signed=False, symmetric=True))
    with collect_kl([net[2]]):
        for x in batches():
            net(torch.from_numpy(x))
    net(torch.from_numpy(batches()[0]))
    assert not net[2]._forward_pre_hooks


def test_no_batch_sets_no_range_and_neither_does_one_that_fails():
    one = quantizer(bits=8, signed=True, symmetric=True)
    with collect_kl([one]):
        one(torch.zeros(0, 3))
    assert not one.initialized
    for data in ([np.full((2, 2), np.nan)], [np.ones((2, 2)), np.full((2, 2), np.inf)]):
        with pytest.raises(BadSample, match="NaN or infinite"):
            ran(one, data)
        assert not one.initialized
        assert one.enabled
        assert not one._forward_pre_hooks
