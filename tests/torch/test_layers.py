import copy

import numpy as np
import pytest
import torch
from torch import nn

from fewbit.core.params import weight_params
from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, UnsupportedModel
from fewbit.torch.layers import QUANT_LAYERS, QuantConv2d, QuantConvTranspose2d, QuantLinear
from fewbit.torch.quantizer import ActQuantizer, WeightQuantizer

FORMATS = {
    "tensor": QuantSpec(4, True, symmetric=True),
    "channel": QuantSpec(4, True, symmetric=True, granularity="channel", axis=0),
    "outputs": QuantSpec(4, True, symmetric=True, granularity="channel", axis=1),  # of a transpose
    "group": QuantSpec(4, True, symmetric=True, granularity="group", axis=1, group_size=3),
    "one bit": QuantSpec(1, True, symmetric=True, granularity="channel", axis=0),
}
CASES = [
    (nn.Conv1d(4, 6, 3, stride=2), (2, 4, 9), "channel"),
    (nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular"), (2, 4, 9), "group"),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (2, 4, 8, 8), "channel"),
    (nn.Conv2d(4, 6, (3, 1), padding="same", groups=2, bias=False), (2, 4, 8, 8), "tensor"),
    (nn.Conv2d(4, 4, 3, dilation=2, groups=4), (4, 8, 8), "one bit"),
    (nn.Conv3d(4, 5, 2), (2, 4, 4, 4, 4), "group"),
    (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), (2, 4, 5), "outputs"),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 5, 5), "outputs"),
    (nn.ConvTranspose3d(4, 6, 2), (2, 4, 3, 3, 3), "tensor"),
    (nn.Linear(7, 5), (2, 3, 7), "group"),
    (nn.Linear(7, 5, bias=False), (7,), "channel"),
]


def made(layer, form="channel", **words):
    """The quantized form of a layer, with weights rounded."""
    weight = WeightQuantizer(FORMATS[form], layer.weight.shape)
    return QUANT_LAYERS[type(layer)].from_float(layer, weight, **words)


def act(bits=8, top=1.0):
    quantizer = ActQuantizer(QuantSpec(bits, False, symmetric=True))
    quantizer.tracking = False
    quantizer.set_range(0, top)
    return quantizer


def values(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layer, shape, form", CASES, ids=lambda v: type(v).__name__)
def test_a_layer_computes_with_rounded_weights(layer, shape, form):
    layer, x = copy.deepcopy(layer), values(shape)
    quantized, plain = made(layer, form), copy.deepcopy(layer)
    core = weight_params(FORMATS[form], layer.weight.detach().numpy())
    with torch.no_grad():
        plain.weight.copy_(torch.from_numpy(core.fake(layer.weight.detach().numpy())))
    torch.testing.assert_close(quantized(x), plain(x))
    quantized.quantize_enabled = False
    assert torch.equal(quantized(x), layer(x))


def test_parameters_and_settings_are_shared():
    layer = nn.Conv2d(3, 4, 3).eval().double()
    seen = []
    layer.register_forward_hook(lambda *_: seen.append(1))
    quantized = made(layer)
    assert quantized.weight is layer.weight
    assert quantized.bias is layer.bias
    assert not quantized.training and not quantized.weight_quantizer.training
    assert quantized(values((1, 3, 5, 5)).double()).dtype == torch.float64
    assert seen == [1]
    assert isinstance(quantized, nn.Conv2d)


def test_tied_weights_stay_tied_and_optimizers_keep_working():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    step = torch.optim.SGD(net.parameters(), 0.1)
    before = net[0].weight.detach().clone()
    for i in (0, 1):
        net[i] = made(net[i])
    net(values((2, 3))).sum().backward()
    step.step()
    assert net[0].weight is net[1].weight
    assert not torch.equal(net[0].weight, before)


def test_a_layer_used_twice_just_works():
    layer = made(nn.Linear(3, 3), input=ActQuantizer(QuantSpec(8, True)))
    layer(layer(values((2, 3)))).sum().backward()
    assert layer.weight.grad is not None


def test_output_size_of_a_transpose():
    layer = nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1)
    quantized, x = made(layer, "outputs"), values((1, 3, 5, 5))
    for size in ([9, 9], [10, 10]):
        assert quantized(x, size).shape == layer(x, size).shape
    assert quantized(x, output_size=[10, 10], input_scale=torch.tensor(0.1)).shape[-1] == 10


def test_inputs_are_rounded_if_wished():
    layer, x = nn.Linear(5, 3), values((4, 5))
    quantized = made(layer, input=act(bits=2))
    bare = made(layer)
    assert torch.equal(quantized(x), bare((x * 3).round() / 3))
    quantized.input_quantizer.enabled = False
    assert torch.equal(quantized(x), bare(x))


@pytest.mark.parametrize(
    "layer, form, outputs",
    [
        (nn.Conv2d(4, 6, 3), "channel", 6),
        (nn.Conv2d(4, 6, 3), "tensor", 1),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), "outputs", 3),
        (nn.Linear(4, 6), "channel", 6),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_a_bias_is_rounded_to_the_step_of_the_sums(layer, form, outputs, own):
    layer = copy.deepcopy(layer)
    quantized = made(layer, form, input=act() if own else None)
    quantized.round_bias = True
    s_x = torch.tensor(1 / 255)
    zeros = torch.zeros(1, 4, 3, 3) if hasattr(layer, "kernel_size") else torch.zeros(1, 4)
    given = {} if own else {"input_scale": s_x}
    y = quantized(zeros, **given)
    y = y.flatten(2)[0, :, 0] if y.dim() > 2 else y[0]
    s_w = quantized.weight_quantizer.scale_of(layer.weight).repeat(6 // outputs)
    step = s_x * s_w
    torch.testing.assert_close(y, torch.round(layer.bias / step) * step, rtol=1e-6, atol=1e-8)
    assert (y - layer.bias).abs().max() > 0
    y.sum().backward()
    assert layer.bias.grad.tolist() == pytest.approx([1] * 6)
    if not own:
        assert torch.equal(quantized(zeros).flatten()[0], layer.bias[0])  # no scale, no rounding


def test_groups_of_a_transpose_have_their_own_bias_step():
    layer = nn.ConvTranspose2d(4, 6, 1, groups=2)
    weight = WeightQuantizer(FORMATS["channel"], layer.weight.shape, conv_groups=2)
    quantized = QuantConvTranspose2d.from_float(layer, weight)
    quantized.round_bias = True
    y = quantized(torch.zeros(1, 4, 1, 1), input_scale=torch.tensor(0.01)).flatten()
    step = 0.01 * weight.scale_of(layer.weight)[[0, 0, 0, 2, 2, 2]]
    torch.testing.assert_close(y, torch.round(layer.bias / step) * step, rtol=1e-6, atol=1e-8)


def test_where_an_output_has_several_steps_its_bias_stays():
    quantized = made(nn.Linear(4, 6), "group")
    quantized.round_bias = True
    assert torch.equal(quantized(torch.zeros(1, 4), torch.tensor(0.1))[0], quantized.bias)


def test_state_goes_round_and_copies_are_on_their_own():
    one = made(nn.Conv2d(3, 4, 3), input=act(top=2.0), bn=nn.BatchNorm2d(4), fake_bn="running")
    x = values((2, 3, 6, 6))
    one(x)
    two = made(nn.Conv2d(3, 4, 3), input=act(), bn=nn.BatchNorm2d(4), fake_bn="running")
    two.load_state_dict(one.state_dict())
    three = copy.deepcopy(one)
    for other in (two, three):
        assert torch.equal(other.eval()(x), one.eval()(x))
    with torch.no_grad():
        three.weight.zero_()
    assert one.weight.any()


def test_learned_weights_start_at_once():
    """Before any forward, so that copies of data parallelism have what the layer has."""
    layer = nn.Linear(6, 4)
    weight = WeightQuantizer(FORMATS["channel"], layer.weight.shape, learned=True)
    QuantLinear.from_float(layer, weight)
    torch.testing.assert_close(weight.scale.detach(), 2 * layer.weight.detach().abs().mean(1) / 7**0.5)


def test_mixed_precision_trains():
    layer = made(nn.Conv2d(3, 4, 3), input=ActQuantizer(QuantSpec(8, False, symmetric=True)), bn=nn.BatchNorm2d(4))
    for way in ("batch", "running", "frozen"):
        layer.fake_bn, layer.weight.grad = way, None
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(values((2, 3, 6, 6)))
        y.float().square().sum().backward()
        assert layer.weight.grad.dtype == torch.float32
        assert torch.isfinite(layer.weight.grad).all()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch does it itself
@pytest.mark.parametrize("way", [pytest.param("batch", marks=pytest.mark.slow), "running"])
def test_compiled_layers_train_as_well(way):
    torch.compiler.reset()
    plain = made(nn.Conv2d(3, 4, 3), input=ActQuantizer(QuantSpec(8, False)), bn=nn.BatchNorm2d(4), fake_bn=way)
    compiled = torch.compile(copy.deepcopy(plain), backend="aot_eager", fullgraph=True)
    for seed in range(2):
        for net in (plain, compiled):
            net(values((2, 3, 6, 6), seed)).square().sum().backward()
    torch.testing.assert_close(plain.weight.grad, compiled._orig_mod.weight.grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(plain.bn.running_var, compiled._orig_mod.bn.running_var)


class Own(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * 2


def patched():
    layer = nn.Linear(2, 2)
    layer.forward = lambda x: x
    return layer


@pytest.mark.parametrize(
    "kind, layer, error, says",
    [
        (QuantConv2d, lambda: nn.Linear(2, 2), ConfigError, "QuantConv2d is made from Conv2d, not from Linear"),
        (QuantConv2d, lambda: made(nn.Conv2d(2, 2, 1)), ConfigError, "made from Conv2d, not from QuantConv2d"),
        (QuantConv2d, lambda: Own(2, 2, 1), UnsupportedModel, r"Own computes in its own way \(forward of Conv2d"),
        (QuantLinear, patched, UnsupportedModel, "Linear computes in its own way"),
        (QuantLinear, lambda: nn.LazyLinear(2), UnsupportedModel, "has no weight yet; run a batch"),
        (QuantLinear, lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), UnsupportedModel, "is computed"),
        (QuantLinear, lambda: nn.Linear(9, 9), ConfigError, r"is for the shape \(2, 2\), the layer has \(9, 9\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_layers_that_would_compute_something_else_are_refused(kind, layer, error, says):
    with pytest.raises(error, match=says):
        kind.from_float(layer(), WeightQuantizer(FORMATS["channel"], (2, 2)))


def test_a_layer_made_by_itself_is_a_float_layer():
    torch.manual_seed(0)
    layer = QuantConv2d(3, 4, 3)
    assert layer(values((1, 3, 5, 5))).shape == (1, 4, 3, 3)
    assert layer.folded()[0] is layer.weight
    np.testing.assert_array_equal(layer.winograd, "none")
