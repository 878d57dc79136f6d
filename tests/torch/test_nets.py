"""The reference networks: shapes, variants, tracing; networks of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import fx, nn

from fewbit.errors import DataError, UnknownName, UsageError
from fewbit.torch.nets import NETS, VARIANTS, build, load_network
from fewbit.torch.nets.parts import Squeeze


def convolutions(net: nn.Module) -> int:
    return sum(isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1) for m in net.modules())


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_a_network_takes_small_images_of_any_number(name: str, channels: int, size: int) -> None:
    net = build(name, classes=7, channels=channels).eval()
    assert net(torch.zeros(3, channels, size, size)).shape == (3, 7)


@pytest.mark.parametrize("name", NETS)
def test_a_network_can_be_traced_and_computes_the_same(name: str) -> None:
    torch.manual_seed(0)
    net, x = build(name, use_se=True).eval(), torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(fx.symbolic_trace(net)(x), net(x))


@pytest.mark.parametrize(("name", "layers"), [("resnet8", 8), ("resnet20", 20), ("resnet56", 56)])
def test_a_resnet_has_the_layers_of_its_name(name: str, layers: int) -> None:
    assert convolutions(build(name)) + 1 == layers  # the last one is linear


@pytest.mark.parametrize(
    ("wide", "narrow"), [("mobilenet1.0", "mobilenet0.25"), ("mobilenetv2_1.0", "mobilenetv2_0.25")]
)
def test_width_makes_channels_fewer(wide: str, narrow: str) -> None:
    counts = [[m.out_channels for m in build(n).modules() if isinstance(m, nn.Conv2d)] for n in (wide, narrow)]
    assert len(counts[0]) == len(counts[1])
    assert all(n % 8 == 0 and n <= w for w, n in zip(*counts, strict=True))
    assert sum(counts[1]) < 0.55 * sum(counts[0])


@pytest.mark.parametrize("name", NETS)
def test_use_gn_leaves_no_batchnorm(name: str) -> None:
    kinds = {type(m) for m in build(name, use_gn=True).modules()}
    assert nn.GroupNorm in kinds and nn.BatchNorm2d not in kinds
    assert nn.GroupNorm not in {type(m) for m in build(name).modules()}


@pytest.mark.parametrize("name", NETS)
def test_use_se_adds_a_squeeze_to_each_block(name: str) -> None:
    net = build(name, use_se=True)
    assert sum(isinstance(m, Squeeze) for m in net.modules()) >= len(net.blocks) - 1
    assert not any(isinstance(m, Squeeze) for m in build(name).modules())


@pytest.mark.parametrize("name", ["resnet8", "mobilenetv2_0.25"])
def test_with_last_gamma_residual_blocks_start_as_their_shortcut(name: str) -> None:
    net = build(name, last_gamma=True).eval()
    x = torch.randn(2, net.stem.conv.out_channels, 8, 8).relu()
    y = x
    same = 0
    for block in net.blocks:
        before, y = y, block(y)
        same += before.shape == y.shape and torch.equal(before, y)
    assert same >= 1
    torch.manual_seed(0)
    assert not any(torch.equal(x, b(x)) for b in build(name).eval().blocks[:1])


def test_last_gamma_is_refused_without_residual_blocks() -> None:
    with pytest.raises(UsageError, match="last_gamma is for networks with residual blocks; MobileNet v1 has none"):
        build("mobilenet1.0", last_gamma=True)


def test_an_unknown_network_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown network 'resnet2'; did you mean .*'resnet20'"):
        build("resnet2")


def test_the_variants_are_the_words_of_build() -> None:
    assert VARIANTS == ("use_gn", "use_se", "last_gamma")


MINE = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

def number():
    return 3

def broken():
    raise RuntimeError("no weights")
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own_nets.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("mine")
def test_a_network_of_ones_own() -> None:
    assert load_network("my_own_nets:net")(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.usefixtures("mine")
def test_wrong_functions_are_told() -> None:
    with pytest.raises(UsageError, match="my_own_nets:number returned int; it must return a network"):
        load_network("my_own_nets:number")
    with pytest.raises(DataError, match="my_own_nets:broken raised RuntimeError: no weights"):
        load_network("my_own_nets:broken")
