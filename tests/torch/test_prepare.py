"""Any network that can be traced is prepared, trained and exported to the integers that it was trained with."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fewbit as fb
from fewbit.api.retraining import Exported
from fewbit.errors import ConfigError, FewbitWarning, PlanError, UnsupportedModel, UsageError
from fewbit.torch.quantizer import ActQuantizer


class Residual(nn.Module):
    """Functional relu, a sum, dropout as a function, a pool as a method."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.first(x)))
        z = F.relu(self.norm2(self.second(y)) + y)
        z = F.dropout(z, 0.5, self.training)
        return self.head(z.mean((2, 3)))


class Twice(nn.Module):
    """One convolution that is called twice, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.left, self.right = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.right.weight = self.left.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.conv(self.stem(x).relu()).relu()).relu()
        return torch.cat([self.left(x), self.right(x)], 1)


class Branches(nn.Module):
    """A concatenation, pools, a depthwise layer, ReLU6 and a constant that is added."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(3, 8, 1)
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.point = nn.Conv2d(16, 12, 1)
        self.shift = nn.Parameter(torch.randn(12, 1, 1) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.a(x), F.max_pool2d(self.b(x), 3, 1, 1)], 1)
        y = F.max_pool2d(F.relu6(self.norm(self.depth(y))), 2)
        return torch.relu(self.point(y) + self.shift).flatten(1)


class Passing(nn.Module):
    """A value that a float layer makes, read as an integer through Identity and Dropout, and as a float by a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 4, 1)
        self.skip, self.drop = nn.Identity(), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.stem(x).relu()
        skip = self.drop(self.skip(y))
        return self.last(torch.relu(self.conv(y) + skip)), skip.mean((2, 3))


class Tokens(nn.Module):
    """Linear layers over tokens, LayerNorm and GELU between."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.norm = nn.LayerNorm(32)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (16, 3, 10, 10)),
    "twice": (Twice, (16, 3, 8, 8)),
    "branches": (Branches, (16, 3, 8, 8)),
    "passing": (Passing, (8, 3, 8, 8)),
    "tokens": (Tokens, (16, 6, 32)),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    kind, shape = NETS[name]
    net, x = kind(), torch.randn(shape)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.randn(shape))
    return net.eval(), x


def trained(net: nn.Module, x: Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(net.parameters(), 0.02, momentum=0.9)
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        out = net(x + 0.1 * torch.randn_like(x))
        (out[0] if isinstance(out, tuple) else out).square().mean().backward()
        optimizer.step()
    net.eval()


def prepared(net: nn.Module, x: Tensor, **words: object) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)
        return fb.torch.prepare(net, x, quantize_mode="full", **words)


CASES = [
    ("residual", 8), ("residual", 2), ("twice", 4), ("branches", 8), ("passing", 4), ("tokens", 8), ("tokens", 4),
    *(pytest.param(*c, marks=pytest.mark.slow)
      for c in (("residual", 4), ("residual", 16), ("twice", 8), ("branches", 4), ("passing", 8))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "bits"), CASES)
def test_the_integer_network_equals_the_trained_simulation(name: str, bits: int) -> None:
    net, x = made(name)
    before = copy.deepcopy(net.state_dict())
    ready = prepared(net, x, bit_num=bits, exclude_layers=["stem"] if name == "passing" else [])
    trained(ready, x)
    out = fb.torch.export(ready, x)
    assert out.check.equal, out.check
    assert out.check.differ == 0 or name == "tokens"  # LayerNorm and Gelu are computed in float, by another program
    assert len([v for v in out.plan.values.values() if v.role == "weight"]) >= 2
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)  # the network itself is left alone


def test_training_is_seen_in_the_exported_network() -> None:
    net, x = made("residual")
    ready = prepared(net, x, bit_num=4)
    first = fb.torch.export(ready, x)
    trained(ready, x, 5)
    second = fb.torch.export(ready, x)
    weights = [n for n, v in first.plan.values.items() if v.role == "weight"]
    assert all(first.plan.values[n].scale != second.plan.values[n].scale for n in weights)
    ranges = [n for n, v in first.plan.values.items() if v.role == "act"]
    assert all(first.plan.values[n].hi != second.plan.values[n].hi for n in ranges)


def test_exported_is_a_model_and_a_plan_that_give_the_network_again(tmp_path: Path) -> None:
    net, x = made("residual")
    out = fb.torch.export(prepared(net, x), x)
    assert isinstance(out, Exported)
    model, plan = out
    plan.save(tmp_path / "plan.json")
    again = fb.apply(model, tmp_path / "plan.json")
    again.save(tmp_path / "again.onnx")
    out.save(tmp_path / "net.onnx")
    assert (tmp_path / "net.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert (tmp_path / "net.plan.json").exists()


def test_layers_are_called_as_their_modules() -> None:
    net, x = made("residual")
    ready = prepared(net, x, exclude_layers=["second"])
    plan = fb.torch.export(ready, x).plan
    assert not plan.nodes["second"].quantized
    assert plan.nodes["first"].quantized
    assert type(ready.second) is nn.Conv2d
    assert type(ready.norm2) is nn.BatchNorm2d


def test_state_goes_round_into_a_network_prepared_anew() -> None:
    net, x = made("residual")
    ready = prepared(net, x, bit_num=4)
    trained(ready, x)
    fresh = prepared(net, x, bit_num=4)
    fresh.load_state_dict(ready.state_dict())
    fresh.eval()
    with torch.no_grad():
        torch.testing.assert_close(fresh(x), ready(x), rtol=0, atol=0)
    assert fb.torch.export(fresh, x).plan.values == fb.torch.export(copy.deepcopy(ready), x).plan.values


def test_without_learned_steps_ranges_follow_the_data() -> None:
    net, x = made("residual")
    ready = prepared(net, x, bit_num=4, learned=False, calib_mode="naive")
    quantizers = [m for m in ready.modules() if isinstance(m, ActQuantizer)]
    before = [float(q.scale) for q in quantizers]
    ready.train()
    with torch.no_grad():
        ready(5 * x)
    assert all(float(q.scale) > s for q, s in zip(quantizers, before, strict=True))


def test_dropout_as_a_function_follows_the_mode() -> None:
    net, x = made("residual")
    ready = prepared(net, x)
    ready.train()
    torch.manual_seed(0)
    one, two = ready(x), ready(x)
    assert not torch.equal(one, two)
    ready.eval()
    assert torch.equal(ready(x), ready(x))


class Deciding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


class Helping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if self.training else x + self.layer(x)


@pytest.mark.parametrize(("kind", "words"), [(Deciding, "cannot be traced"), (Helping, "training than in evaluation")])
def test_what_cannot_be_traced_is_refused_with_the_way_out(kind: type[nn.Module], words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words) as e:
        fb.torch.prepare(kind(), torch.randn(4, 8))
    assert "convert_model" in str(e.value)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 3, 3, 3))
        self.conv = nn.Conv2d(16, 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(F.conv2d(x, self.weight)))


def test_a_weight_that_is_no_layers_stays_float_and_is_told_of() -> None:
    with pytest.warns(FewbitWarning, match="its weight is not that of a layer"):
        ready = fb.torch.prepare(Functional(), torch.randn(8, 3, 8, 8), quantize_mode="full")
    kept = fb.torch.export(ready, torch.randn(8, 3, 8, 8)).plan.kept_float()
    assert any("not that of a layer" in why for why in kept.values())


def test_words_that_say_nothing_of_training_are_refused() -> None:
    net, x = made("tokens")
    with pytest.raises(ConfigError, match="simulates integer weights and activations"):
        fb.torch.prepare(net, x, quant_type="weight")
    with pytest.raises(ConfigError, match="measure and debug_info_save_path"):
        fb.torch.prepare(net, x, measure=True)
    with pytest.raises(UsageError, match="must be a tensor"):
        fb.torch.prepare(net, "x")
    with pytest.raises(PlanError, match="nothing of the network would become integer"):
        fb.torch.prepare(net, x, exclude_operators=["MatMul", "Gemm", "Add"])


def test_what_was_not_prepared_is_not_exported() -> None:
    net, x = made("tokens")
    with pytest.raises(UsageError, match=r"is a float network; call fewbit.torch.prepare\(net, sample\)"):
        fb.torch.export(net, x)


def test_arrays_do_as_samples_and_data() -> None:
    net, x = made("tokens")
    ready = fb.torch.prepare(net, x.numpy(), data=np.concatenate([x.numpy()] * 2), quantize_mode="full")
    assert fb.torch.export(ready, x.numpy()).check.equal
