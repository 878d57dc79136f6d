"""What prepare and export are given: odd networks and samples are taken right or refused before anything is done."""

from __future__ import annotations

import copy
import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import fewbit as fb
from fewbit.api.checks import compared
from fewbit.core.plan import Plan
from fewbit.engines import open_runner
from fewbit.errors import (
    AlreadyQuantized,
    ConfigError,
    FewbitError,
    FewbitWarning,
    ModelError,
    UnknownName,
    UnsupportedModel,
    UsageError,
)
from fewbit.torch.layers import QuantConv2d, QuantLinear
from fewbit.torch.onnx import _named, to_onnx
from fewbit.torch.quantizer import ActQuantizer


class Odd(nn.Module):
    """Parts named as ours are, an input named as the output, a grouped transpose, sums, None and numbers given back."""

    def __init__(self) -> None:
        super().__init__()
        self.quantizers = nn.ModuleDict({"relu": nn.Conv2d(3, 8, 3, padding=1)})
        self.marks = nn.ModuleDict({"relu": nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2)})
        self.norm = nn.BatchNorm2d(6)
        self.dropout_9 = nn.Linear(6, 16)
        self.flat = nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 16)

    def forward(self, output: Tensor) -> Any:
        y = F.relu(self.quantizers["relu"](output), inplace=True)
        y = F.relu(self.norm(self.marks["relu"](y)))
        y = F.relu(self.flat(self.dropout_9(y.mean((2, 3)))))
        z = F.relu(self.head(y))
        z += y
        return {"sum": z, "none": None, "class": z.argmax(1), "wide": output.shape[3]}


def odd() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(5)
    net, x = Odd(), torch.randn(8, 3, 6, 6)
    with torch.no_grad():
        for _ in range(5):
            net.train()(x)
        net.norm.weight.uniform_(-1, 1)
    return net.eval(), x


@pytest.fixture(scope="module")
def ready() -> tuple[nn.Module, nn.Module, Tensor]:
    net, x = odd()
    return net, fb.torch.prepare(net, x, quantize_mode="full", learned=False), x


def test_names_of_parts_and_outputs_are_no_trouble(ready: tuple[nn.Module, nn.Module, Tensor]) -> None:
    _, made, x = ready
    assert type(made.quantizers.relu) is QuantConv2d
    assert type(made.dropout_9) is QuantLinear
    assert made.dropout_9.bn is not None
    assert any(isinstance(m, ActQuantizer) for m in made.quantizers_2.modules())
    twin = copy.deepcopy(made)
    out = fb.torch.export(twin, x)
    assert out.check.equal
    assert out.check.outputs == 8 * 17
    assert [i.name for i in out.model.inputs] == ["output"]
    assert [i.name for i in out.model.outputs] == ["output_0", "output_1"]
    assert made(x)["wide"] == 6
    assert _named(1, ["output"]) == ["output_made"]


def test_switched_off_it_is_the_float_network(ready: tuple[nn.Module, nn.Module, Tensor]) -> None:
    net, made, x = ready
    twin = copy.deepcopy(made)
    fb.torch.disable_quantize(twin)
    for training in (False, True):
        ours, own = twin.train(training), copy.deepcopy(net).train(training)
        torch.testing.assert_close(ours(x)["sum"], own(x)["sum"], rtol=1e-4, atol=1e-5)
    twin = copy.deepcopy(made).eval()
    fb.torch.disable_quantize(twin)
    fb.torch.enable_quantize(twin)
    assert torch.equal(twin(x)["sum"], made(x)["sum"])
    fb.torch.quantize_input(twin, enable=False)
    assert not any(m.enabled for m in twin.modules() if isinstance(m, ActQuantizer))
    fb.torch.quantize_input(twin, online=False)
    before = [float(m.hi) for m in twin.modules() if isinstance(m, ActQuantizer)]
    fb.torch.fix_params(twin)
    twin.train()(10 * x)
    assert [float(m.hi) for m in twin.modules() if isinstance(m, ActQuantizer)] == before
    assert fb.torch.export(twin, x).check.equal


def test_a_pickled_network_comes_back_whole(ready: tuple[nn.Module, nn.Module, Tensor]) -> None:
    _, made, x = ready
    file = io.BytesIO()
    torch.save(made, file)
    file.seek(0)
    back = torch.load(file, weights_only=False)
    assert [n.name for n in back.graph.nodes if "integer_add" in str(n.target)]
    steps = [[n.name for n in g.graph.nodes if n.op != "get_attr"] for g in (back, made)]
    assert steps[0] == steps[1]
    assert back.state_dict().keys() == made.state_dict().keys()
    again = pickle.loads(pickle.dumps(copy.deepcopy(back)))
    with torch.no_grad():
        assert torch.equal(again.eval()(x)["sum"], made.eval()(x)["sum"])
    assert fb.torch.export(again, x).check.differ == 0


def test_what_cannot_be_exported_is_told_with_the_way_out(ready: tuple[nn.Module, nn.Module, Tensor]) -> None:
    net, made, x = ready
    cases: list[tuple[Any, Any, type[FewbitError], str]] = [
        (copy.deepcopy(made).double(), x.double(), UnsupportedModel, r"is float64; .*net.float\(\) before export"),
        (copy.deepcopy(made).half(), x, UnsupportedModel, r"is float16"),
        (nn.Sequential(nn.Identity(), made), x, UsageError, r"export\(net.get_submodule\('1'\), sample\)"),
        (made, x[:0], UsageError, "holds no sample"),
        (made, x.double(), UsageError, r"sample is float64; .* as .float\(\)"),
        (made, x[:, :2], UsageError, r"cannot take this sample \(float32 \(8, 2, 6, 6\)\): .*channels"),
        (made, (x, x), UsageError, "sample holds 2 inputs"),
        ("net", x, UsageError, "a network is a torch.nn.Module; this is str"),
    ]
    spoilt = copy.deepcopy(made)
    with torch.no_grad():
        spoilt.head.weight[0, 0] = torch.nan
    cases.append((spoilt, x, ModelError, "head.weight holds NaN or infinity: the training diverged"))
    lost = copy.deepcopy(made)
    lost.meta.clear()
    cases.append((lost, x, UsageError, "not its plan; prepare the float network again"))
    for given, sample, kind, words in cases:
        with pytest.raises(kind, match=words):
            fb.torch.export(given, sample)
    for given in (made, nn.Sequential(made), fb.torch.convert_model(copy.deepcopy(net.head))):
        with pytest.raises(AlreadyQuantized, match=r"quantized already; prepare the float network"):
            fb.torch.prepare(given, x)


def conv(*more: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), *more)


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return conv()


X = torch.randn(4, 3, 8, 8)


@pytest.mark.parametrize(
    ("make", "sample", "kind", "words"),
    [
        (conv, torch.tensor(1.0), UsageError, "a tensor without axes; the first axis counts samples"),
        (conv, X[:0], UsageError, r"sample has the shape \(0, 3, 8, 8\): it holds no sample"),
        (conv, X[:, :2], UsageError, r"Sequential cannot take this sample \(float32 \(4, 2, 8, 8\)\): .*channels"),
        (conv, (X, X), UsageError, "sample holds 2 inputs, and forward of Sequential wants others: too many"),
        (conv, (10 * X).long(), UsageError, r"cannot take this sample \(int64"),
        (conv, X.double(), UsageError, r"sample is float64; .* as .float\(\)"),
        (lambda: conv().double(), X, UnsupportedModel, r"0.weight is float64; .*net.float\(\)"),
        (lambda: conv().half(), X.half(), UnsupportedModel, "0.weight is float16"),
        (lambda: conv().bfloat16(), X, UnsupportedModel, "0.weight is bfloat16"),
        (on_meta, X, UnsupportedModel, "0.weight is on the device 'meta'"),
        (lambda: conv(nn.LazyConv2d(4, 1)), X, UnsupportedModel, "1 is LazyConv2d without weights; run a batch"),
        (lambda: "net", X, UsageError, "a network is a torch.nn.Module; this is str"),
        (lambda: torch.relu, X, UsageError, "a network is a torch.nn.Module"),
        (lambda: nn.Sequential(prune.identity(nn.Conv2d(3, 8, 3), "weight")), X, UnsupportedModel, "layer '0': .*hook"),
    ],
)
def test_what_cannot_be_prepared_is_refused_at_once(
    make: Callable[[], Any], sample: Any, kind: type[FewbitError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        fb.torch.prepare(make(), sample)


def test_words_are_looked_at_first() -> None:
    for words in ({"learned": "yes"}, {"learned": 1}, {"ste": "lsq"}, {"ste": "x"}, {"fake_bn": True}):
        with pytest.raises(UsageError, match=next(iter(words))):
            fb.torch.prepare(conv(), X, **words)
    with pytest.raises(ConfigError, match="learned is 'yes'; it must be True, False or None"):
        fb.torch.prepare(conv(), X, learned="yes")
    for learned, allowed in ((None, "clipped, plain"), (False, "clipped, plain"), (True, "clipped, lsq, plain")):
        with pytest.raises(UnknownName, match=rf"unknown ste 'foo' \(allowed: {allowed}\)"):
            fb.torch.prepare(conv(), X, ste="foo", learned=learned)


def test_layers_that_are_not_there_are_told_in_the_words_of_torch() -> None:
    with pytest.raises(UnknownName, match=r"unknown layer 'nowhere'.*Names are those of modules") as e:
        fb.torch.prepare(conv(), X, exclude_layers=["nowhere"])
    assert "fewbit inspect" not in str(e.value)


class FloatBetween(nn.Module):
    """A convolution that stays float, with something around it that ONNX Runtime merges into it or moves away."""

    def __init__(self, before: Callable[[Tensor], Tensor], behind: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 3)
        self.before, self.behind = before, behind

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.behind(self.b(self.before(self.a(x).relu()))))


AROUND: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "a factor and ReLU": (lambda x: x, lambda x: (x * 2).relu()),
    "padding": (lambda x: nn.functional.pad(x, (1, 1, 1, 1)), lambda x: x.relu()),
}


@pytest.mark.parametrize("around", AROUND)
def test_a_layer_stays_float_in_the_engine_whatever_stands_around_it(around: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 10, 10)
    ready = fb.torch.prepare(FloatBetween(*AROUND[around]).eval(), x, quantize_mode="full", exclude_layers=["b"])
    out = fb.torch.export(ready, x)
    assert out.check.differ == 0
    ran = open_runner("onnxruntime", out.quantized, threads=1).executed()
    assert [e.integer for e in ran if "Conv" in e.op] == [True, False, True]


def test_an_export_is_told_in_a_line() -> None:
    out = fb.torch.export(fb.torch.prepare(conv(), X, quantize_mode="full"), X)
    told = repr(out)
    assert re.fullmatch(
        r"<fewbit.torch.Exported: 1 layer with integer weights, weights [0-9.]+ k?B, now [0-9.]+ k?B; "
        r"onnxruntime against simulation: 0.0000% of .*>", told,
    )  # fmt: skip
    assert "\n" not in told and len(told) < 250


def test_who_makes_a_value_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from fewbit.torch import placement

    calls: list[object] = []
    real = placement._made_by
    monkeypatch.setattr(placement, "_made_by", lambda *a: calls.append(a) or real(*a))
    fb.torch.prepare(conv(), X, quantize_mode="full")
    assert len(calls) == 1


class Late(nn.Module):
    """BatchNorms that no layer takes, a parametrized weight, a hook that changes what a layer gives."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop, self.norm = nn.Conv2d(3, 8, 3), nn.Dropout(0.1), nn.BatchNorm2d(8)
        self.b, self.norm1, self.norm2 = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.c = parametrizations.weight_norm(nn.Conv2d(8, 8, 1))
        self.d = nn.Conv2d(8, 8, 1)
        self.d.register_forward_hook(lambda m, i, o: o.sin())
        self.e = nn.Conv2d(8, 8, 1)
        self.e.register_forward_hook(lambda m, i, o: None)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.drop(self.a(x))))
        x = F.relu(self.norm2(self.norm1(self.b(x))))
        return self.e(self.d(F.relu(self.c(x))))


def test_who_stays_float_is_told_with_the_cause() -> None:
    net = Late()
    with torch.no_grad():
        net.train()(X)
        net(X)
    wrapped = nn.DataParallel(net.eval())
    with pytest.warns(FewbitWarning, match="4 layers stay float") as told:
        made = fb.torch.prepare(wrapped, X, quantize_mode="full")
    assert "BatchNorm 'norm' ends up in its weight" in str(told[0].message)
    assert "BatchNorm 'norm2' ends up in its weight" in str(told[0].message)
    assert type(made.e) is QuantConv2d
    out = fb.torch.export(made, X)
    assert out.check.equal
    kept = out.plan.kept_float()
    assert "parametrized" in kept["c"]
    assert "to which a hook is attached" in kept[next(k for k in kept if k.startswith("d"))]


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j1(x)


def test_the_exporters_words_are_cut_to_the_cause() -> None:
    with pytest.raises(UnsupportedModel) as e:
        to_onnx(Bessel(), [X])
    assert re.fullmatch(
        r"PyTorch cannot export Bessel to ONNX: prims.bessel_j1.default: No ONNX function found.*", str(e.value)
    )


def test_nan_and_infinity_count_as_different_unless_both_have_them() -> None:
    plan = Plan(values={}, nodes={})
    a = np.array([[0.0, 1.0, np.nan, np.inf, 2.55]], np.float32)

    def check(*changes: tuple[int, float]) -> Any:
        b = a.copy()
        for i, v in changes:
            b[0, i] = v
        return compared(["y"], [a], {"y": b}, plan, "x")

    assert check().equal
    assert check().unusable == 2
    assert "2 are NaN or infinite on both sides" in str(check())
    for i, v in ((2, 0.0), (3, -np.inf), (3, 1.0), (0, np.nan), (0, np.inf)):
        assert check((i, v)).most == np.inf
        assert check((i, v)).differ == 0.2
    whole = np.array([1, 2, 3])
    both = compared(["y", "k"], [a, whole], {"k": np.array([1, 2, 9]), "y": a}, plan, "x")
    assert (both.outputs, both.differ, both.most) == (8, 1 / 8, 1.0)


class Log(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(self.layer(x))


def test_nan_on_both_sides_is_warned_of() -> None:
    net, x = Log(), torch.rand(4, 8)
    nn.init.constant_(net.layer.weight, -0.5)
    nn.init.constant_(net.layer.bias, 3.0)
    made = fb.torch.prepare(net, x - 0.5, quantize_mode="full")
    nn.init.constant_(made.layer.bias, -100.0)
    with pytest.warns(FewbitWarning, match="32 of 32 outputs are NaN or infinite in the network itself"):
        assert fb.torch.export(made, x).check.unusable == 32


def test_two_linear_layers_with_one_weight() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    net[2].weight = net[0].weight
    x = torch.randn(16, 64)
    out = fb.torch.export(fb.torch.prepare(net, x, quantize_mode="full"), x)
    assert out.check.equal
    assert len([v for v in out.plan.values.values() if v.role == "weight"]) == 1
