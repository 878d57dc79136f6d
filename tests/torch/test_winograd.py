import numpy as np
import pytest
import torch
from torch import nn

from fewbit.core.params import weight_params
from fewbit.core.spec import QuantSpec
from fewbit.core.winograd import TRANSFORMS
from fewbit.errors import ConfigError, UnknownName
from fewbit.torch.layers import QuantConv1d, QuantConv2d
from fewbit.torch.quantizer import WeightQuantizer
from fewbit.torch.winograd import winograd_quantize

ROWS = QuantSpec(4, True, symmetric=True, granularity="channel", axis=0)


def weight(seed=0):
    return np.random.default_rng(seed).normal(size=(5, 3, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("bits", [3, 6, 8])
def test_tiles_are_rounded_with_one_scale_for_an_output(kind, bits):
    g, w = TRANSFORMS[kind], weight()
    spec = QuantSpec(bits, True, symmetric=True, granularity="channel", axis=0)
    u = np.einsum("ai,ocij,bj->ocab", g, w, g).astype(np.float32)
    expected = np.einsum("ia,ocab,jb->ocij", np.linalg.pinv(g), weight_params(spec, u).fake(u), np.linalg.pinv(g))
    got = winograd_quantize(torch.from_numpy(w), WeightQuantizer(spec, w.shape), kind)
    off = np.abs(got.numpy() - expected)
    # computed in float32 here: a number on the edge of two steps may fall to the other side
    assert (off > 1e-4).mean() < 0.1
    assert off.max() < 2 * np.abs(w).max() / (2 ** (bits - 1) - 1)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_many_bits_change_nothing_and_the_gradient_passes_as_it_is(kind):
    spec = QuantSpec(16, True, symmetric=True, granularity="channel", axis=0)
    w = torch.from_numpy(weight()).requires_grad_()
    y = winograd_quantize(w, WeightQuantizer(spec, w.shape), kind)
    torch.testing.assert_close(y, w, rtol=1e-3, atol=1e-3)
    up = torch.from_numpy(weight(1))
    (y * up).sum().backward()
    torch.testing.assert_close(w.grad, up, rtol=1e-4, atol=1e-4)


def test_the_smallest_tiles_lose_least():
    w = torch.from_numpy(weight())
    lost = [float((winograd_quantize(w, WeightQuantizer(ROWS, w.shape), k) - w).square().sum()) for k in TRANSFORMS]
    assert min(lost) == lost[0] < 0.7 * min(lost[1:])


def test_a_convolution_uses_it():
    layer = nn.Conv2d(3, 5, 3, stride=2)
    quantized = QuantConv2d.from_float(layer, WeightQuantizer(ROWS, layer.weight.shape))
    x = torch.rand(1, 3, 7, 7)
    before = quantized(x)
    quantized.winograd = "F23"
    w = winograd_quantize(layer.weight, quantized.weight_quantizer, "F23")
    torch.testing.assert_close(quantized(x), nn.functional.conv2d(x, w, layer.bias, 2))
    assert not torch.equal(quantized(x), before)
    quantized.weight_quantizer.enabled = False
    assert torch.equal(quantized(x), layer(x))
    quantized.weight_quantizer.enabled = True
    quantized.winograd = "none"
    assert torch.equal(quantized(x), before)


def made(kernel=3, spec=ROWS, kind=QuantConv2d, **words):
    layer = kind.FLOAT(4, 4, kernel, groups=words.get("conv_groups", 1))
    return kind.from_float(layer, WeightQuantizer(spec, layer.weight.shape, **words))


@pytest.mark.parametrize(
    "layer, kind, error, says",
    [
        (lambda: made(), "F32", UnknownName, "unknown winograd 'F32'"),
        (lambda: made(5), "F23", ConfigError, r"with a 3x3 kernel, this is a kernel of \(5, 5\)"),
        (lambda: made(kind=QuantConv1d), "F23", ConfigError, "with a 3x3 kernel, this is QuantConv1d"),
        (lambda: made(spec=QuantSpec(4, True)), "F43", ConfigError, "one scale for each output channel"),
        (lambda: made(conv_groups=2), "F43", ConfigError, "one scale for each output channel"),
        (lambda: made(learned=True), "F63", ConfigError, "its scales come from the weights, and cannot be learned"),
    ],
)
def test_what_has_no_fast_convolution_is_refused(layer, kind, error, says):
    layer = layer()
    with pytest.raises(error, match=says):
        layer.winograd = kind
    assert layer.winograd == "none"
