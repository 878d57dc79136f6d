from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from fewbit.core.params import params_from_range
from fewbit.core.spec import QuantSpec
from fewbit.errors import AlreadyQuantized, ConfigError, FewbitWarning, UnknownName, UnsupportedModel, UsageError
from fewbit.torch.blocks import QuantActivation
from fewbit.torch.convert import convert_model
from fewbit.torch.converters import (
    gen_act_converter,
    gen_bn_converter,
    gen_conv2d_converter,
    gen_conv_converter,
    gen_dense_converter,
)
from fewbit.torch.layers import QuantConv2d, QuantConvTranspose2d, QuantLinear
from tests.torch.small_nets import NETS, Branching, made, settled


def convert(net: nn.Module, *args: Any, **words: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)
        return convert_model(net, *args, **words)


def kinds(net: nn.Module) -> dict[str, str]:
    return {name: type(m).__name__ for name, m in net.collect_quantized_blocks()}


@pytest.mark.parametrize("fake_bn", [False, "batch", "running", "frozen"])
@pytest.mark.parametrize("name", NETS)
def test_converted_trained_evaluated_and_loaded_into_a_copy(name: str, fake_bn: bool | str) -> None:
    net, x = made(name)
    words: dict[str, Any] = {"weight_width": 6, "input_signed": True, "fake_bn": fake_bn, "ste": "clipped"}
    fresh = copy.deepcopy(net)
    params = dict.fromkeys(net.parameters())
    assert convert(net, **words) is net
    assert params == dict.fromkeys(net.parameters())  # the very same objects
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    for _ in range(2):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
        net.update_ema()
    net.quantize_input(online=False)
    net.eval()
    with torch.no_grad():
        want = net(x)
        assert torch.isfinite(want).all()
        net.disable_quantize()
        assert not torch.equal(net(x), want)
        net.enable_quantize()
        convert(fresh, **words).eval().load_state_dict(net.state_dict())
        assert torch.equal(fresh(x), want)


@pytest.mark.parametrize("fake_bn", [False, "batch", "running", "frozen"])
@pytest.mark.parametrize("name", NETS)
def test_switched_off_it_is_the_float_network(name: str, fake_bn: bool | str) -> None:
    net, x = made(name)
    net.eval()
    with torch.no_grad():
        want = net(x)
        convert(net, fake_bn=fake_bn).disable_quantize()
        torch.testing.assert_close(net(x), want, rtol=1e-4, atol=1e-5)
        net.enable_quantize()
        assert not torch.allclose(net(x), want, rtol=1e-4, atol=1e-5)


def test_more_bits_are_nearer_to_float() -> None:
    net, x = made("residual")
    net.eval()
    x, off = x[:1], []  # of several samples, the mean of their ranges would cut some off
    with torch.no_grad():
        want = net(x)
        for bits in (2, 4, 8, 16):
            copied = convert(copy.deepcopy(net), weight_width=bits, input_width=bits, input_signed=True, fake_bn=True)
            off.append(float((copied(x) - want).abs().max()))
    assert off == sorted(off, reverse=True) and off[-1] < 1e-3 * off[0]


@pytest.mark.parametrize("signed", [False, True])
def test_the_numbers_are_those_of_the_facts(signed: bool) -> None:
    """Input: mean over the batch of each sample's max|x|; weights: max|w| of each channel."""
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False)), torch.randn(4, 2, 3, 3)
    weight = net[0].weight.detach().numpy()[:, :, 0, 0].copy()
    got = convert_model(net, weight_width=4, input_width=5, input_signed=signed)(x).detach().numpy()
    top = float(x.abs().amax((1, 2, 3)).mean())
    act = params_from_range(QuantSpec(bits=5, signed=signed, symmetric=True), -top if signed else 0.0, top)
    rows = QuantSpec(bits=4, signed=True, symmetric=True, granularity="channel", axis=0)
    q = params_from_range(rows, weight.min(1), weight.max(1))
    np.testing.assert_allclose(q.scale, np.abs(weight).max(1) / 7, rtol=1e-6)
    np.testing.assert_allclose(got, np.einsum("oc,nchw->nohw", q.fake(weight), act.fake(x.numpy())), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "groups", "shapes"),
    [
        ("layer", 1, {"conv": (), "up": (), "fc": ()}),
        ("channel", 1, {"conv": (4,), "up": (4,), "fc": (4,)}),
        ("channel", 4, {"conv": (4,), "up": (1,), "fc": (4,)}),
        ("group", 1, {"conv": (), "up": (), "fc": (4,)}),
        ("group", 2, {"conv": (2,), "up": (2,), "fc": (4,)}),
        ("group", 4, {"conv": (4,), "up": (4,), "fc": (4,)}),
    ],
)
def test_what_shares_a_scale(kind: str, groups: int, shapes: dict[str, tuple[int, ...]]) -> None:
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(8, 4, 3, groups=groups))
    net.add_module("up", nn.ConvTranspose2d(4, 4, 3, groups=groups))
    net.add_module("pool", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(4, 4))
    convert_model(net, quant_type=kind, input_signed=True)(torch.randn(2, 8, 5, 5)).sum().backward()
    assert {name: tuple(m.weight_quantizer.scale.shape) for name, m in net.collect_quantized_blocks()} == shapes


def test_a_shared_module_stays_shared() -> None:
    net, x = made("shared")
    convert_model(net, fake_bn=True)
    assert net.first is net.again and type(net.first) is QuantConv2d
    assert isinstance(net.bn, nn.Identity) and net.first.bn is not None
    assert kinds(net) == {"first": "QuantConv2d", "fc": "QuantLinear"}
    net(x).sum().backward()


def test_tied_weights_stay_tied() -> None:
    net, x = made("tied")
    convert_model(net, weight_width=3, input_signed=True)
    assert type(net.up) is type(net.down) is QuantLinear and net.up.weight is net.down.weight
    net(x).sum().backward()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    optimizer.step()
    assert torch.equal(net.up.weight, net.down.weight)


def test_an_encoder_of_pytorch_does_not_compute_past_its_quantized_layers() -> None:
    net, x = made("attention")
    with pytest.warns(FewbitWarning, match="stays float: .*out_proj .the attention around it reads its weight"):
        convert_model(net, weight_width=2, input_signed=True)
    net.eval()
    with_grad = net(x)
    with torch.no_grad():
        assert torch.equal(net(x), with_grad)  # without gradients, PyTorch would take its fused kernel
    report = net.quantization_report()
    assert not report["body.layers.0.self_attn.out_proj"].quantized
    assert report["body.layers.0.linear1"].quantized and "w2 per channel, input s8" in str(report)


def test_exclude_by_name_glob_and_module() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    assert kinds(convert_model(copy.deepcopy(net), ["1"])) == {"0": "QuantLinear", "2": "QuantLinear"}
    assert list(kinds(convert_model(copy.deepcopy(net), ["1.*"]))) == ["0", "2"]
    assert list(kinds(convert_model(net, [net[0], net[1][1]]))) == ["1.0", "2"]
    assert net.quantization_report()["1.1"].how == "excluded"


@pytest.mark.parametrize(
    ("exclude", "error", "message"),
    [
        (["cov"], UnknownName, "unknown module to exclude 'cov'; did you mean 'conv'"),
        (["conv", "b*x"], UnknownName, r"unknown module to exclude 'b\*x'.*Globs are allowed"),
        ([nn.ReLU()], UnknownName, "unknown module to exclude 'ReLU object'.*not part of this network"),
        ("conv", UsageError, "module to exclude is a list of names or modules"),
        (["*"], UsageError, "nothing in this Residual can be converted .*excluded"),
    ],
)
def test_exclude_says_what_is_wrong(exclude: Any, error: type[Exception], message: str) -> None:
    net, _ = made("residual")
    before = dict(net.named_modules())
    with pytest.raises(error, match=message):
        convert_model(net, exclude)
    assert dict(net.named_modules()) == before and not hasattr(net, "update_ema")


class Narrow(nn.Linear):
    pass


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_convert_fn_takes_the_nearest_type_and_custom_fn_one_module() -> None:
    net = nn.Sequential(nn.Linear(2, 2), Narrow(2, 2), nn.Conv1d(2, 2, 1), nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 2))
    fns = {
        nn.Linear: gen_dense_converter(weight_width=4),
        Narrow: gen_dense_converter(weight_width=2),
        nn.ReLU: gen_act_converter(4, relu6=True),
        nn.Conv1d: None,
    }
    convert_model(net, ["4"], fns, {net[4]: gen_dense_converter(weight_width=5), "5": None})
    bits = {name: m.weight_quantizer.spec.bits for name, m in net.collect_quantized_blocks() if name != "3"}
    assert bits == {"0": 4, "1": 2, "4": 5}
    assert isinstance(net[3], QuantActivation) and isinstance(net[3].act, nn.ReLU6)
    assert net[3].output_quantizer.spec == QuantSpec(bits=4, signed=False, symmetric=True)
    assert net.quantization_report()["2"].how == "left to itself by convert_fn"
    assert net.quantization_report()["5"].how == "left to itself by custom_fn"
    y = net[3](torch.tensor([[-1.0, 3.0, 9.0]]))
    assert y.tolist() == [[0, pytest.approx(3.2), 6]]


def test_a_converter_may_give_any_module_the_same_one_or_none() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Tanh(), nn.GELU())
    convert_model(net, convert_fn={nn.ReLU: lambda m: nn.ELU(), nn.Tanh: lambda m: None, nn.GELU: lambda m: m})
    assert [type(m) for m in net] == [QuantLinear, nn.ELU, nn.Tanh, nn.GELU]
    assert net.quantization_report()["2"].how == "left as it is by its converter"


def test_activations() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Sigmoid(), nn.ReLU())
    act = gen_act_converter(3)
    convert_model(net, convert_fn={nn.GELU: act, nn.Sigmoid: act, nn.ReLU: gen_act_converter(None, relu6=True)})
    assert net[1].output_quantizer.spec.signed and not net[2].output_quantizer.spec.signed
    assert type(net[3]) is nn.ReLU6
    assert "output s3" in str(net.quantization_report())
    with pytest.raises(ConfigError, match="width=None without relu6=True"):
        gen_act_converter(None)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"convert_fn": {"Conv2d": None}}, UsageError, "convert_fn has the key 'Conv2d'; keys are types"),
        ({"convert_fn": {nn.Conv2d: 8}}, UsageError, r"convert_fn\[Conv2d\] is 8; it must be a function"),
        ({"custom_fn": {"conv": 8}}, UsageError, r"custom_fn\[conv\] is 8"),
        ({"custom_fn": {"cnv": None}}, UnknownName, "unknown module in custom_fn 'cnv'; did you mean 'conv'"),
        ({"convert_fn": {nn.Conv2d: lambda m: 3}}, UsageError, "the converter of 'stem' gave 3"),
        ({"convert_fn": {nn.BatchNorm2d: gen_conv_converter()}}, UsageError, "no quantized form of BatchNorm2d"),
        ({"weight_width": 0}, ConfigError, "weight_width is 0; it must be a whole number from 1 to 16"),
        ({"input_width": 17}, ConfigError, "input_width is 17"),
        ({"momentum": 2}, ConfigError, "momentum is 2"),
        (
            {"weight_bits": 4},
            UnknownName,
            "unknown word of convert_model 'weight_bits'; did you mean 'weight_width'",
        ),
        ({"quant_type": "chanel"}, UnknownName, "unknown quant_type 'chanel'; did you mean 'channel'"),
        ({"fake_bn": "running_"}, UnknownName, "unknown fake_bn"),
        ({"ste": "lsq"}, UnknownName, "unknown ste 'lsq'"),
        ({"wino_quantize": "F24"}, UnknownName, "unknown wino_quantize 'F24'"),
        ({"wino_quantize": "F23", "quant_type": "layer"}, ConfigError, "goes with quant_type 'channel' only"),
        ({"wino_quantize": "F23", "learned": True}, ConfigError, "learned=True has none of its own"),
    ],
)
def test_settings_say_what_is_wrong(words: dict[str, Any], error: type[Exception], message: str) -> None:
    net, _ = made("residual")
    before = dict(net.named_modules())
    with pytest.raises(error, match=message):
        convert_model(net, **words)
    assert dict(net.named_modules()) == before and not hasattr(net, "update_ema")


def test_words_of_the_generators() -> None:
    assert gen_conv2d_converter(weight_width=3) == gen_conv_converter(weight_width=3)
    with pytest.raises(UnknownName, match="unknown word of a converter 'weight_bits'; did you mean 'weight_width'"):
        gen_conv2d_converter(weight_bits=3)
    with pytest.raises(ConfigError, match="weight_width is 17; it must be a whole number from 1 to 16"):
        gen_conv2d_converter(weight_width=17)
    with pytest.raises(ConfigError, match="width is 0; it must"):
        gen_act_converter(0)
    with pytest.raises(UnknownName, match="unknown word of gen_act_converter 'widht'; did you mean 'width'"):
        gen_act_converter(widht=4)
    with pytest.raises(ConfigError, match="not for Linear"):
        gen_dense_converter(wino_quantize="F23")


def test_converting_twice() -> None:
    net, _ = made("plain")
    convert_model(net, ["0", "3"])
    with pytest.raises(AlreadyQuantized, match="8: quantized already; convert a network once"):
        convert_model(net)
    convert_model(net, ["8"], weight_width=4)
    assert [m.weight_quantizer.spec.bits for _, m in net.collect_quantized_blocks()] == [4, 4, 8]


def test_a_network_that_is_a_layer() -> None:
    layer = nn.Linear(3, 2)
    made_of = convert_model(layer, input_signed=True)
    assert type(layer) is nn.Linear and isinstance(made_of, QuantLinear) and made_of.weight is layer.weight
    made_of(torch.randn(2, 3))
    made_of.update_ema()
    with pytest.raises(UsageError, match=r"nothing in this ReLU can be converted \(no layers\)"):
        convert_model(nn.ReLU())


def test_layers_that_compute_their_weight_or_output_themselves_stay_and_are_named() -> None:
    net = nn.Sequential(nn.Linear(2, 2), parametrizations.weight_norm(nn.Linear(2, 2)), Scaled(2, 2), nn.LSTM(2, 2))
    with pytest.warns(
        FewbitWarning, match="stays float: 1 .its weight is parametrized.*2 .Scaled has a forward of its own"
    ):
        convert_model(net)
    assert [line.quantized for line in net.quantization_report()] == [True, False, False, False]
    assert net.quantization_report()["3"].how == "there is no quantized form of LSTM"


@pytest.mark.parametrize(
    ("net", "error", "message"),
    [
        (
            lambda: nn.Sequential(nn.LazyLinear(3)),
            UnsupportedModel,
            "0 is LazyLinear without weights; run a batch first",
        ),
        (lambda: torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), UnsupportedModel, "the network is TorchScript"),
        (lambda: "net", UsageError, "a network is a torch.nn.Module; this is str"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_networks_that_cannot_be_changed(net: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        convert_model(net())


def test_pytorchs_own_quantized_layers() -> None:
    layer = type("Linear", (nn.Linear,), {"__module__": "torch.ao.nn.qat.modules.linear"})(2, 2)
    with pytest.raises(AlreadyQuantized, match=r"0 is torch.ao.nn.qat.modules.linear.Linear; give the float network"):
        convert_model(nn.Sequential(layer))


def test_fake_bn_where_the_forward_cannot_be_traced() -> None:
    net = settled(Branching(), torch.randn(2, 3, 5, 5))
    with pytest.raises(UnsupportedModel, match="Give sample="):
        convert_model(net, fake_bn=True)
    assert type(net.conv) is nn.Conv2d
    convert_model(net, fake_bn=True, sample=torch.randn(2, 3, 5, 5))
    assert isinstance(net.bn, nn.Identity) and isinstance(net.other_bn, nn.Identity)


def test_fake_bn_of_what_cannot_be_taken() -> None:
    net, _ = made("residual")
    convert_model(net, ["conv"], fake_bn=True)
    report = net.quantization_report()
    assert report["stem_bn"].how == "not taken in: what stem gives is also read by add"
    assert report["bn"].how == "not taken in: the layer before it, conv, is excluded"

    net, _ = made("residual")
    with pytest.raises(
        UnsupportedModel, match="stem_bn cannot be taken into a layer: what stem gives is also read by add"
    ):
        convert_model(net, convert_fn={nn.BatchNorm2d: gen_bn_converter()}, fake_bn=True)
    assert type(net.conv) is nn.Conv2d
    convert_model(net, ["stem_bn"], {nn.BatchNorm2d: gen_bn_converter()}, fake_bn=True)
    assert isinstance(net.bn, nn.Identity)

    net, _ = made("plain")
    taking = gen_conv2d_converter(fake_bn=True)
    convert_model(net, custom_fn={"0": taking})
    assert isinstance(net[1], nn.Identity)
    assert net.quantization_report()["4"].how == "not taken in: 3 is converted without fake_bn, or not at all"


def test_winograd_is_for_3x3_and_leaves_the_rest_as_ever() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(16, 2))
    x = torch.randn(2, 3, 4, 4)
    as_ever = convert_model(copy.deepcopy(net), weight_width=4)
    convert_model(net, weight_width=4, wino_quantize="F43")
    assert [m.winograd for _, m in net.collect_quantized_blocks()] == ["F43", "none", "none"]
    assert not torch.equal(net[0](x), as_ever[0](x))
    y = torch.rand(2, 4, 2, 2)
    assert torch.equal(net[1](y), as_ever[1](y))


def test_hooks_stay_and_their_handles_still_remove_them() -> None:
    net, x = made("plain")
    seen: list[Tensor] = []
    handle = net[0].register_forward_hook(lambda m, a, y: seen.append(y))
    convert_model(net)
    net(x)
    handle.remove()
    net(x)
    assert len(seen) == 1


def test_a_traced_network_and_what_it_is_made_of() -> None:
    net = fx.symbolic_trace(made("residual")[0])
    x = torch.randn(2, 3, 5, 5)
    convert_model(net, fake_bn=True)
    net(x)
    net.update_ema()
    other = copy.deepcopy(net)
    other.disable_quantize()
    assert net.conv.quantize_enabled and not other.conv.quantize_enabled
    assert torch.equal(copy.deepcopy(net).eval()(x), net.eval()(x))


def test_transposed_fake_bn_equals_merged() -> None:
    net, x = made("transposed")
    convert_model(net.eval(), weight_width=16, input_width=16, input_signed=True, fake_bn="running")
    assert isinstance(net.up, QuantConvTranspose2d)
    with torch.no_grad():
        quantized = net(x)
        net.disable_quantize()
        torch.testing.assert_close(quantized, net(x), rtol=1e-2, atol=1e-2)


def test_functional_use_is_left_alone() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2, 3))
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.linear(x, self.weight))

    net = Functional()
    with pytest.warns(FewbitWarning, match="stays float: the network itself"):
        convert_model(net)
    assert net.quantization_report()[""].how == "there is no quantized form of Functional"
