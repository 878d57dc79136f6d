"""fb.simulate on torch networks: the numbers of the ONNX way, reference networks, weights from files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fewbit as fb
from fewbit.api.simulated_torch import first_convolution
from fewbit.api.simulating import reference_networks
from fewbit.engines import open_runner
from fewbit.errors import ModelFormatError, UsageError
from fewbit.graph.model import Model
from fewbit.torch import pretrained
from fewbit.torch.nets import build
from fewbit.torch.weights_file import read_weights
from tests.datasets import write_fashion
from tests.models import Array, info, load, node, proto


class Tiny(nn.Module):
    """Conv → BatchNorm → ReLU = r;  grouped Conv(r) → BatchNorm, + r → ReLU → Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2, bias=False)  # defined first, computed later
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8 * 25, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        r = torch.relu(self.bn1(self.first(x)))
        return self.fc(torch.relu(self.bn2(self.second(r)) + r).flatten(1))


class Looping(Tiny):
    """One that cannot be traced."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) if x.sum() > 0 else super().forward(-x)


def tiny() -> Tiny:
    torch.manual_seed(0)
    net = Tiny()
    for bn in (net.bn1, net.bn2):
        nn.init.uniform_(bn.weight, 0.3, 3)
        nn.init.normal_(bn.bias)
        nn.init.normal_(bn.running_mean)
        nn.init.uniform_(bn.running_var, 0.5, 2)
    nn.init.normal_(net.fc.weight)
    return net.eval()


def as_onnx(net: Tiny) -> Model:
    """The same network; the exporter of PyTorch would merge BatchNorm."""
    w = {k: v.numpy() for k, v in net.state_dict().items() if "num" not in k}
    bn = [" ".join(f"{n}.{k}" for k in ("weight", "bias", "running_mean", "running_var")) for n in ("bn1", "bn2")]
    return load(
        proto(
            [
                node("Conv", "x first.weight first.bias", "a", "first", pads=[1] * 4),
                node("BatchNormalization", f"a {bn[0]}", "b", "bn1"),
                node("Relu", "b", "r", "relu1"),
                node("Conv", "r second.weight", "c", "second", pads=[1] * 4, group=2),
                node("BatchNormalization", f"c {bn[1]}", "d", "bn2"),
                node("Add", "d r", "e", "add"),
                node("Relu", "e", "g", "relu2"),
                node("Flatten", "g", "h", "flatten"),
                node("Gemm", "h fc.weight fc.bias", "y", "fc", transB=1),
            ],
            [info("x", ["n", 3, 5, 5])],
            [info("y", ["n", 4])],
            w,
        )
    )


def samples(count: int = 48) -> dict[str, Array]:
    x = np.random.default_rng(0).standard_normal((count, 3, 5, 5)).astype(np.float32)
    with torch.no_grad():
        y = tiny()(torch.from_numpy(x)).argmax(1).numpy()
    return {"input": x, "labels": np.where(np.arange(count) % 4, y, (y + 1) % 4)}


OFFLINE = {"quantize_input_offline": True}


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"quant_type": "channel", "weight_bits_width": 4},
        {"quant_type": "group", "input_bits_width": 4, "weight_bits_width": 3},
        {"merge_bn": True, "weight_bits_width": 3},
        {"merge_bn": True, "quant_type": "channel", "weight_bits_width": 3, "exclude_first_conv": False},
        {"input_signed": True, "input_bits_width": 3, "exclude_first_conv": False},
        {"input_bits_width": 1, "weight_bits_width": 1},
        {"input_bits_width": 1, "input_signed": True, "weight_bits_width": 16},
        {"exclude_layers": ("fc",), "input_bits_width": 2},
        {"quant_type": "channel", "wino_quantize": "F23", "weight_bits_width": 4},
        {"quant_type": "channel", "wino_quantize": "F63", "weight_bits_width": 4, "merge_bn": True},
        {**OFFLINE, "input_bits_width": 4, "num_sample": 9, "batch_size": 8},
        {**OFFLINE, "calib_mode": "kl", "input_bits_width": 4, "weight_bits_width": 4, "num_sample": 9},
    ],
    ids=lambda words: " ".join(f"{k}={v}" for k, v in words.items()),
)
def test_both_ways_compute_the_same(words: dict[str, Any]) -> None:
    given = samples()
    asked = {"batch_size": 16, "threads": 1, **words}
    one = fb.simulate(tiny(), given, **asked)
    two = fb.simulate(as_onnx(tiny()), {"x": given["input"], "labels": given["labels"]}, **asked)
    assert one.result.accuracy == two.result.accuracy and one.result.agreement == two.result.agreement
    assert list(one.ranges.values()) == pytest.approx(list(two.ranges.values()), rel=1e-5)
    assert {k for k, why in one.layers.items() if not why} == {k for k, why in two.layers.items() if not why}
    assert one.notes == two.notes
    assert two.model is not None
    x = given["input"][:16]
    (want,) = open_runner("onnxruntime", two.model, optimize=False).run({"x": x}).values()
    with torch.no_grad():
        got = one.net(torch.from_numpy(x)).numpy()
    wrong = np.abs(got - want).max(1) > 1e-4 * np.abs(want).max()  # a tie may be rounded the other way
    assert wrong.sum() <= 1, np.abs(got - want).max()


def test_the_network_is_not_changed() -> None:
    net = tiny().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    found = fb.simulate(net, samples(), merge_bn=True)
    assert net.training and type(net) is Tiny and isinstance(net.bn1, nn.BatchNorm2d)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert found.network == "Tiny" and found.model is None


def test_the_first_convolution_is_the_one_that_computes_first() -> None:
    assert first_convolution(tiny(), torch.zeros(2, 3, 5, 5)) == "first"
    assert first_convolution(tiny(), None) == "first"
    assert first_convolution(nn.Linear(3, 4), torch.zeros(2, 3)) is None
    loop = Looping()
    assert first_convolution(loop, torch.ones(2, 3, 5, 5)) == "first"
    assert first_convolution(loop, None) == "second"  # cannot be traced: the order of definition


def test_a_function_of_the_users_gives_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_simulated.py").write_text(
        "from torch import nn\n\n\ndef net():\n    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    x = np.random.default_rng(0).standard_normal((9, 6)).astype(np.float32)
    found = fb.simulate("own_simulated:net", {"input": x, "labels": np.arange(9) % 3})
    assert found.network == "own_simulated:net" and list(found.layers) == ["0", "2"]
    assert found.notes[0].startswith("1 of the simulated layers read values below zero")


def test_reference_networks_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewbit.config.train import TrainConfig

    monkeypatch.setenv("FEWBIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pretrained, "RECIPE", TrainConfig(epochs=1, batch_size=32, max_batches=1))
    root = write_fashion(tmp_path / "fashion", 64, 40)
    words: dict[str, Any] = {"dataset": "fashion-mnist", "dataset_root": root, "limit": 20, "threads": 1}
    first = fb.simulate("resnet8", **words)
    assert first.network == "resnet8" and first.result.samples == 20
    assert first.notes[0].startswith("float network: trained and kept in")
    again = fb.simulate("resnet8", **words, quant_type="channel", merge_bn=True)
    assert again.notes[0].startswith("float network: trained before")
    assert sum(not why for why in again.layers.values()) == len(again.layers) - 1
    assert list(reference_networks())[:2] == ["resnet8", "resnet20"]


def test_weights_come_from_files(tmp_path: Path) -> None:
    root = write_fashion(tmp_path / "fashion", 20, 20)
    torch.manual_seed(1)
    net = build("resnet8", 10, 1).eval()
    weights = net.state_dict()
    torch.save(weights, tmp_path / "w.pt")
    np.savez(tmp_path / "w.npz", **{k: v.numpy() for k, v in weights.items()})
    write_safetensors(tmp_path / "w.safetensors", weights)
    for name in ("w.pt", "w.npz", "w.safetensors"):
        found = read_weights(tmp_path / name)
        assert all(torch.equal(found[k], v) for k, v in weights.items()) and len(found) == len(weights)
    found = fb.simulate(
        "resnet8", dataset="fashion-mnist", dataset_root=root, params=tmp_path / "w.npz", weight_bits_width=16,
        input_bits_width=16, threads=1,
    )  # fmt: skip
    assert found.result.samples == 20 and not any("trained" in n for n in found.notes)


def write_safetensors(path: Path, weights: dict[str, torch.Tensor]) -> None:
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    header, body = {}, b""
    for k, v in weights.items():
        data = v.numpy().tobytes()
        header[k] = {
            "dtype": kinds[v.dtype],
            "shape": list(v.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def entry(kind: Any, shape: Any, *ends: Any) -> bytes:
    text = json.dumps({"w": {"dtype": kind, "shape": shape, "data_offsets": list(ends)}}).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 8


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "its header does not fit"),
        (struct.pack("<Q", 2**62) + b"{}", "its header does not fit"),
        (struct.pack("<Q", 2) + b"[]", "header of the safetensors file is damaged"),
        (struct.pack("<Q", 9) + b'{"w": [1}', "header of the safetensors file is damaged"),
        (entry("F32", [3], 0, 8), "tensor 'w' is F32"),
        (entry("F32", [2], 8, 16), "which cannot be"),
        (entry("F32", [-2, -1], 0, 8), "which cannot be"),
        (entry("F99", [2], 0, 8), "tensor 'w' is F99"),
    ],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(ModelFormatError, match=message):
        read_weights(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("resnet9", {}, "did you mean 'resnet8'"),
        ("resnet8", {"data": {}}, "resnet8 is made for the images of a data set; say which with dataset"),
        ("resnet8", {"device": "cdua"}, "device is 'cdua'"),
        (nn.ReLU(), {"data": {}}, "ReLU has no convolution and no dense layer"),
        (nn.Linear(3, 3), {"data": {}, "use_se": True}, "use_se is a variant of reference networks"),
        (nn.Linear(3, 3), {"data": {}, "params": "w.onnx"}, "weights are read from .pt, .pth, .bin, .npz"),
    ],
)
def test_what_cannot_be_meant_is_refused(model: Any, words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fb.simulate(model, **words)


def test_damaged_arrays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_bytes(b"PK\x03\x04no")
    with pytest.raises(ModelFormatError, match="cannot read"):
        read_weights(tmp_path / "w.npz")
    torch.save([1, 2], tmp_path / "w.pt")
    with pytest.raises(ModelFormatError, match="holds no state_dict"):
        read_weights(tmp_path / "w.pt")
