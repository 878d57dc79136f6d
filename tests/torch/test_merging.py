from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from fewbit.errors import FewbitWarning, UnknownName, UnsupportedModel
from fewbit.torch.merging import merge_bn
from fewbit.torch.report import quantization_report
from tests.torch.small_nets import NETS, Branching, made, settled

STAY = {"residual": {"stem_bn"}, "tied": {"bn"}}


def norms(net: nn.Module) -> set[str]:
    return {name for name, m in net.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}


def merge(net: nn.Module, **words: object) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)
        return merge_bn(net, **words)


@pytest.mark.parametrize("with_sample", [False, True], ids=["traced", "run"])
@pytest.mark.parametrize("name", [n for n in NETS if n != "attention"])
def test_the_network_computes_the_same(name: str, with_sample: bool) -> None:
    net, x = made(name)
    net.eval()
    with torch.no_grad():
        before = net(x)
        assert merge(net, sample=x if with_sample else None) is net
        assert norms(net) == STAY.get(name, set())
        torch.testing.assert_close(net(x), before, rtol=1e-5, atol=2e-6)


def test_parameters_stay_the_same_objects_and_modes_stay() -> None:
    net, _ = made("plain")
    net[3].eval()
    weight, bias = net[0].weight, net[3].bias
    merge_bn(net)
    assert net[0].weight is weight and net[3].bias is bias
    assert net.training and not net[3].training
    assert net[0].bias is not None and net[0].bias.requires_grad
    assert isinstance(net[1], nn.Identity)


def test_why_one_stays_is_told() -> None:
    net, x = made("residual")
    with pytest.warns(FewbitWarning, match=r"BatchNorm stays: stem_bn \(what stem gives is also read by add\)"):
        merge_bn(net)
    assert "also read by add" in quantization_report(net)["stem_bn"].how
    net, x = made("residual")
    with pytest.warns(FewbitWarning, match="stem_bn .what stem gives is also read by add"):
        merge_bn(net, sample=x)


def test_tied_weights_stay_tied() -> None:
    net, _ = made("tied")
    with pytest.warns(FewbitWarning, match="its weight is another layer's, too"):
        merge_bn(net)
    assert net.down.weight is net.up.weight


def test_what_cannot_be_traced_needs_a_sample() -> None:
    net = settled(Branching(), torch.randn(2, 3, 5, 5)).eval()
    x = torch.randn(2, 3, 5, 5)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(UnsupportedModel, match=r"forward of Branching: .*Give sample=, one batch of inputs"):
        merge_bn(net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    with torch.no_grad():
        want = net(x)
        merge_bn(net, sample=x)
        assert not norms(net)
        torch.testing.assert_close(net(x), want, rtol=1e-5, atol=2e-6)


def test_exclude() -> None:
    net, _ = made("plain")
    merge_bn(net, exclude=["0", net[4]])
    assert norms(net) == {"1", "4"}
    report = quantization_report(net)
    assert report["1"].how == "not merged: the layer before it, 0, is excluded"
    assert report["4"].how == "not merged: excluded"
    with pytest.raises(UnknownName, match="unknown module to exclude 'conv'"):
        merge_bn(net, exclude=["conv"])


class Reasons(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv = nn.Conv2d(3, 3, 1)
        self.twin = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3, track_running_stats=way != "no running statistics")
        self.bn2 = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.way == "relu_":
            F.relu_(y)
        if self.way == "training" and self.training:
            return self.bn(y) + y
        if self.way == "behind conv and twin":
            return self.bn(y) + self.bn(self.twin(x))
        if self.way == "bn2":
            return self.bn(y) + self.bn2(y)
        if self.way == "an input of the network":
            return self.bn(x)
        if self.way == "past its forward":
            return self.bn(y) + F.conv2d(x, self.conv.weight)
        if self.way == "the output of the network":
            return self.bn(y), y
        return self.bn(y)


@pytest.mark.parametrize(
    ("way", "why"),
    [
        ("no running statistics", "it has no running statistics"),
        ("relu_", "what conv gives is also read by relu_"),
        ("training", "what conv gives is also read by add"),
        ("behind conv and twin", "it is called behind conv and twin"),
        ("bn2", "what conv gives is also read by bn2"),
        ("an input of the network", "it stands behind an input of the network, not behind a layer"),
        ("past its forward", "the weight of conv is also read past its forward"),
        ("the output of the network", "what conv gives is also read by the output of the network"),
        ("hook", "a hook is attached to it"),
        ("weight_norm", "its weight is parametrized"),
        ("prune", "its weight is computed by a hook"),
    ],
)
@pytest.mark.parametrize("with_sample", [False, True], ids=["traced", "run"])
def test_reasons(way: str, why: str, with_sample: bool) -> None:
    net, x = Reasons(way), torch.randn(2, 3, 4, 4)
    if way == "hook":
        net.bn.register_forward_hook(lambda m, a, y: y)
    if way == "weight_norm":
        nn.utils.parametrizations.weight_norm(net.conv)
    if way == "prune":
        prune.l1_unstructured(net.conv, "weight", 1)
    merge(net, sample=x if with_sample else None)
    assert isinstance(net.bn, nn.BatchNorm2d)
    assert why in quantization_report(net)["bn"].how


def test_a_run_tells_what_a_trace_cannot_see() -> None:
    """Linear gives (N, L, C); BatchNorm1d then scales L. Where L = C, only a run sees it."""
    net = settled(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), torch.randn(5, 4, 4)).eval()
    x = torch.randn(5, 4, 4)
    want = net(x)
    with pytest.warns(FewbitWarning, match="0 is given 3 axes"):
        merge_bn(net, sample=x)
    assert torch.equal(net(x), want)


def test_the_same_in_half_precision() -> None:
    net, x = made("plain")
    net.eval()
    want = net(x)
    half = merge_bn(net.to(torch.bfloat16))
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(half(x.bfloat16()).float(), want, rtol=0.1, atol=0.1)


class Padded(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Standardized(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight / self.weight.std(), self.bias)


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Two(nn.Conv2d):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().forward(x * mask)


def test_a_layer_that_computes_in_its_own_way_is_tried() -> None:
    x = torch.randn(2, 3, 5, 5)
    net = settled(nn.Sequential(Padded(3, 4, 2), nn.BatchNorm2d(4)), x).eval()
    with torch.no_grad():
        want = net(x)
        merge_bn(net)
        assert norms(net) == set()
        torch.testing.assert_close(net(x), want, rtol=1e-5, atol=1e-6)
    for kind in (Standardized, Doubled):
        net = settled(nn.Sequential(kind(3, 4, 2), nn.BatchNorm2d(4)), x).eval()
        want = net(x)
        with pytest.warns(FewbitWarning, match=f"1 .{kind.__name__} computes in its own way"):
            merge_bn(net)
        assert torch.equal(net(x), want)

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = Two(3, 4, 2), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.conv(x, x > 0))

    with pytest.warns(FewbitWarning, match="Two computes in its own way"):
        merge_bn(Masked())
