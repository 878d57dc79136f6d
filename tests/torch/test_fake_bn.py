import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, UnknownName, UnsupportedModel, UsageError
from fewbit.torch.layers import QUANT_LAYERS, QuantConv2d, QuantLinear
from fewbit.torch.quantizer import WeightQuantizer

WAYS = ["batch", "running", "frozen"]
LAYERS = [
    (lambda: nn.Conv2d(4, 6, 3), nn.BatchNorm2d, (5, 4, 6, 6), 0),
    (lambda: nn.Conv1d(4, 6, 3, bias=False, groups=2), nn.BatchNorm1d, (5, 4, 8), 0),
    (lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.BatchNorm2d, (5, 4, 5, 5), 1),
    (lambda: nn.Conv3d(4, 6, 2), nn.BatchNorm3d, (3, 4, 4, 4, 4), 0),
    (lambda: nn.Linear(7, 6), nn.BatchNorm1d, (9, 7), 0),
]


def norm(kind, **words):
    bn = kind(6, **words)
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        bn.running_mean.copy_(torch.randn(6, generator=g))
        bn.running_var.copy_(torch.rand(6, generator=g) + 0.2)
        if bn.affine:
            bn.weight.copy_(torch.randn(6, generator=g))
            bn.bias.copy_(torch.randn(6, generator=g))
    return bn


def made(layer, bn, way, axis=0, bits=16):
    spec = QuantSpec(bits, True, symmetric=True, granularity="channel", axis=axis)
    return QUANT_LAYERS[type(layer)].from_float(layer, WeightQuantizer(spec, layer.weight.shape), None, bn, way)


def values(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("layer, kind, shape, axis", LAYERS)
@pytest.mark.parametrize("words", [{}, {"affine": False}, {"momentum": None}, {"momentum": 0.3}], ids=str)
def test_with_many_bits_it_is_the_float_network(layer, kind, shape, axis, words, way):
    """In training and evaluation: outputs, gradients, running statistics."""
    torch.manual_seed(1)
    one, bn = layer(), norm(kind, **words)
    other, other_bn = copy.deepcopy(one), copy.deepcopy(bn)
    quantized = made(one, bn, way, axis)
    if way == "frozen":
        other_bn.eval()
    for seed in range(2):
        x = values(shape, seed)
        y, z = quantized(x), other_bn(other(x))
        torch.testing.assert_close(y, z, rtol=2e-3, atol=2e-3)
        up = values(y.shape, 9)
        (y * up).sum().backward()
        (z * up).sum().backward()
    torch.testing.assert_close(bn.running_mean, other_bn.running_mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(bn.running_var, other_bn.running_var, rtol=1e-3, atol=1e-3)
    assert bn.num_batches_tracked == other_bn.num_batches_tracked
    pairs = [(one.weight, other.weight), (bn.weight, other_bn.weight), (bn.bias, other_bn.bias)]
    for a, b in pairs:
        if a is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=2e-2, atol=2e-2)
    quantized.eval(), other_bn.eval()
    torch.testing.assert_close(quantized(x), other_bn(other(x)), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("way", WAYS)
def test_evaluation_rounds_the_folded_weights(way):
    layer, bn, x = nn.Conv2d(4, 6, 3), norm(nn.BatchNorm2d), values((2, 4, 6, 6))
    quantized = made(layer, bn, way, bits=3).eval()
    factor = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    w = layer.weight * factor.view(-1, 1, 1, 1)
    b = (layer.bias - bn.running_mean) * factor + bn.bias
    torch.testing.assert_close(quantized.folded(), (w, b))
    step = w.abs().amax((1, 2, 3), keepdim=True) / 3
    torch.testing.assert_close(quantized(x), F.conv2d(x, torch.round(w / step) * step, b), rtol=1e-4, atol=1e-4)
    quantized.quantize_enabled = False
    torch.testing.assert_close(quantized(x), bn(layer(x)), rtol=1e-4, atol=1e-4)


def test_batch_rounds_with_the_statistics_of_the_batch():
    layer, bn, x = nn.Conv2d(4, 6, 3), norm(nn.BatchNorm2d), values((3, 4, 6, 6))
    quantized = made(layer, bn, "batch", bits=3)
    y = layer(x)
    mean, var = y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)
    factor = bn.weight / torch.sqrt(var + bn.eps)
    w, b = layer.weight * factor.view(-1, 1, 1, 1), (layer.bias - mean) * factor + bn.bias
    step = w.abs().amax((1, 2, 3), keepdim=True) / 3
    torch.testing.assert_close(quantized(x), F.conv2d(x, torch.round(w / step) * step, b), rtol=1e-4, atol=1e-4)


def test_running_is_a_batch_norm_behind_rounded_weights():
    layer, bn, x = nn.Conv2d(4, 6, 3), norm(nn.BatchNorm2d), values((3, 4, 6, 6))
    plain = copy.deepcopy(bn)
    quantized = made(layer, bn, "running", bits=3)
    factor = (bn.weight / torch.sqrt(bn.running_var + bn.eps)).view(-1, 1, 1, 1)
    step = (layer.weight * factor).abs().amax((1, 2, 3), keepdim=True) / 3
    y = F.conv2d(x, torch.round(layer.weight * factor / step) * step) / factor.view(-1, 1, 1)
    torch.testing.assert_close(quantized(x), plain(y + layer.bias.view(-1, 1, 1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_gamma_may_be_zero(way):
    layer, bn = nn.Conv2d(4, 6, 3), norm(nn.BatchNorm2d)
    with torch.no_grad():
        bn.weight[:3] = 0
    quantized = made(layer, bn, way, bits=4)
    y = quantized(values((3, 4, 6, 6)))
    y.square().sum().backward()
    assert torch.isfinite(y).all()
    assert torch.isfinite(layer.weight.grad).all()
    if way == "running":
        assert bn.weight.grad[:3].all()  # it can leave 0


@pytest.mark.parametrize("way", WAYS)
def test_switched_off_it_is_the_float_layer(way):
    layer, bn, x = nn.Conv2d(4, 6, 3), norm(nn.BatchNorm2d), values((3, 4, 6, 6))
    plain = copy.deepcopy(bn)
    if way == "frozen":
        plain.eval()
    quantized = made(layer, bn, way, bits=2)
    quantized.quantize_enabled = False
    torch.testing.assert_close(quantized(x), plain(layer(x)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(bn.running_var, plain.running_var)
    quantized.quantize_enabled, quantized.weight_quantizer.enabled = True, False
    torch.testing.assert_close(quantized(x), plain(layer(x)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_norm_set_to_evaluation_stays_there(way):
    layer, bn, x = nn.Conv2d(4, 6, 3), norm(nn.BatchNorm2d), values((3, 4, 6, 6))
    quantized = made(layer, bn, way)
    bn.eval()
    before = bn.running_mean.clone()
    torch.testing.assert_close(quantized(x), bn(layer(x)), rtol=1e-3, atol=1e-3)
    assert torch.equal(bn.running_mean, before)


@pytest.mark.parametrize("way", WAYS)
def test_the_folded_bias_is_rounded(way):
    """In each way and mode the output is off by less than half a step, and not by nothing."""
    layer, bn, x = nn.Conv2d(4, 6, 3), norm(nn.BatchNorm2d), values((3, 4, 6, 6))
    quantized, s_x = made(layer, bn, way, bits=8), torch.tensor(0.7)
    for training in (True, False):
        quantized.train(training)
        start = copy.deepcopy(bn.state_dict())
        quantized.round_bias = False
        y = quantized(x, s_x)
        bn.load_state_dict(start)
        quantized.round_bias = True
        off = (quantized(x, s_x) - y).detach().abs().amax((0, 2, 3))
        step = s_x * quantized.weight_quantizer.scale
        assert (off <= step * 0.51).all()
        assert (off > 0).any()


def test_a_synchronized_batch_norm_works_where_it_can():
    layer, bn, x = nn.Conv2d(4, 6, 3), norm(nn.SyncBatchNorm), values((3, 4, 6, 6))
    quantized = made(layer, bn, "running").eval()
    torch.testing.assert_close(quantized(x), bn(layer(x)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "bn, way, error, says",
    [
        (nn.BatchNorm2d(6), "runing", UnknownName, "unknown fake_bn 'runing'; did you mean 'running'"),
        (nn.BatchNorm2d(5), "running", ConfigError, "the BatchNorm has 5 channels, the layer before it 6"),
        (nn.GroupNorm(2, 6), "running", ConfigError, "bn is GroupNorm; only BatchNorm can be taken"),
        (nn.SyncBatchNorm(6), "batch", UnsupportedModel, "which SyncBatchNorm must not; use fake_bn 'running'"),
        (nn.BatchNorm2d(6, track_running_stats=False), "batch", UnsupportedModel, "without running statistics"),
    ],
)
def test_what_cannot_be_taken_in_is_refused(bn, way, error, says):
    with pytest.raises(error, match=says):
        QuantConv2d.from_float(nn.Conv2d(4, 6, 3), None, None, bn, way)


def test_one_value_per_channel_has_no_variance():
    quantized = made(nn.Conv2d(4, 6, 3), norm(nn.BatchNorm2d), "batch")
    with pytest.raises(UsageError, match="one value per channel"):
        quantized(values((1, 4, 3, 3)))


def test_behind_a_linear_only_rows_of_features_are_normalized():
    quantized = QuantLinear.from_float(nn.Linear(7, 6), None, None, norm(nn.BatchNorm1d), "running")
    with pytest.raises(UsageError, match=r"has shape \(2, 6, 7\); a BatchNorm .* needs \(N, features\)"):
        quantized(values((2, 6, 7)))
