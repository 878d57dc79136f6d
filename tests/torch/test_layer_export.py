"""Networks that were converted layer by layer become ONNX networks that answer the same."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fewbit as fb
from fewbit.errors import FewbitWarning, UsageError
from tests.models import run


class Small(nn.Module):
    """A value that is read rounded and as it is, a layer called twice, a branch that depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.depth = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.stem(x)))
        y = y + F.relu(self.point(self.depth(y)))
        y = y + self.point(y)
        return self.head(y.mean((2, 3)))


def converted(calibrate: bool = True, **words: object) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(1)
    net, x = Small(), torch.randn(32, 3, 8, 8)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.randn(32, 3, 8, 8))
    net.eval()
    fb.torch.convert_model(net, input_signed=True, **words)
    if calibrate:
        fb.torch.calibrate_inputs(net, [x[:16], x[16:]])
    return net, x


def export(net: nn.Module, x: Tensor) -> fb.api.retraining.Exported:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)
        return fb.torch.export(net, x)


@pytest.mark.parametrize(
    ("quant_type", "bits"),
    [
        ("layer", 4), ("group", 8), ("channel", 4),
        *(pytest.param(*c, marks=pytest.mark.slow) for c in (("layer", 8), ("group", 4), ("channel", 8))),
    ],
)  # fmt: skip
def test_the_exported_network_answers_as_the_simulation(quant_type: str, bits: int) -> None:
    net, x = converted(quant_type=quant_type, weight_width=bits, input_width=bits)
    before = copy.deepcopy(net.state_dict())
    out = export(net, x)
    assert out.check.differ < 0.02, out.check
    assert out.check.most < 2
    weights = {n: v for n, v in out.plan.values.items() if v.role == "weight"}
    assert {v.spec.bits for v in weights.values()} == {bits}
    assert len(weights) == 4
    assert out.plan.nodes["point#1"].quantized
    assert out.plan.nodes["point#2"].quantized
    own = {k: v for k, v in net.state_dict().items() if "quantizer" not in k}
    assert all(torch.equal(v, before[k]) for k, v in own.items())


def test_learned_steps_of_two_layers_that_read_one_value_both_come_through() -> None:
    net, x = converted(learned=True, weight_width=4, input_width=4, calibrate=False)
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    for _ in range(3):
        net.train()(x).square().mean().backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        net.point.input_quantizer.scale.mul_(1.3)
    assert export(net, x).check.differ < 0.02


def test_weights_alone() -> None:
    net, x = converted(quantize_input=False, weight_width=4, calibrate=False)
    out = export(net, x)
    assert out.check.differ == 0
    assert not [v for v in out.plan.values.values() if v.role == "act"]


def test_a_folded_batchnorm_and_a_rounded_activation() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten())
    x = torch.randn(16, 3, 6, 6)
    net.train()(x)
    net.eval()
    fb.torch.convert_model(net, convert_fn={nn.ReLU: fb.torch.gen_act_converter(8)}, fake_bn=True, input_signed=True)
    fb.torch.calibrate_inputs(net, [x])
    out = export(net, x)
    assert out.check.differ < 0.01
    assert [n.op_type for n in out.model.nodes if n.op_type == "BatchNormalization"] == []
    found = run(out.quantized, {out.model.inputs[0].name: x[:5].numpy()})
    assert next(iter(found.values())).shape == (5, 64)


def test_ranges_of_each_batch_are_refused_with_what_to_do() -> None:
    net, x = converted(calibrate=False)
    with pytest.raises(UsageError, match=r"layer 'stem' rounds its input by the range of each batch.*calibrate_inputs"):
        fb.torch.export(net, x)


def test_winograd_weights_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3))
    fb.torch.convert_model(net, wino_quantize="F23", input_signed=True)
    fb.torch.calibrate_inputs(net, [torch.randn(8, 3, 8, 8)])
    with pytest.raises(UsageError, match="Winograd"):
        fb.torch.export(net, torch.randn(8, 3, 8, 8))


def test_a_layer_called_twice_whose_weights_are_cut_off() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(32, 32)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(F.relu(self.a(x)))

    torch.manual_seed(0)
    net, x = Twice(), torch.randn(32, 32)
    fb.torch.convert_model(net, learned=True, weight_width=4, input_signed=True)
    net.train()(x)
    net.eval()
    with torch.no_grad():
        net.a.weight_quantizer.scale.mul_(0.5)  # half of the largest weights do not fit any more
    assert export(net, x).check.equal
