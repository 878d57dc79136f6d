from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.errors import AlreadyQuantized, ModelFormatError, UnsupportedModel, UsageError
from fewbit.torch.nets import build


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)) + x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.blocks = nn.Sequential(Block(), Block())
        self.fc = nn.Linear(4, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.blocks(self.stem(image) * 2.0).mean((2, 3)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def scripted(net: nn.Module) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(net.eval(), SAMPLE)


SAMPLE = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def answers(model: fb.Model, *inputs: Tensor) -> np.ndarray:
    feeds = {i.name: x.numpy() for i, x in zip(model.inputs, inputs, strict=True)}
    return open_runner("onnxruntime", model).run(feeds)[model.outputs[0].name]


def test_a_module_and_a_sample(net: Net) -> None:
    model = fb.load(net, SAMPLE)
    x = torch.randn(5, 1, 12, 12)  # any number of samples
    assert net.training
    with torch.no_grad():
        assert np.allclose(answers(model, x), net.eval()(x), atol=1e-5)
    assert [str(i) for i in model.inputs] == ["image: float32[batch, 1, 12, 12]"]
    assert [str(o) for o in model.outputs] == ["output: float32[batch, 10]"]


def test_nodes_are_called_like_modules(net: Net) -> None:
    names = [str(n.name) for n in fb.load(net, SAMPLE).nodes]
    assert names == [
        "stem", "Mul", "blocks.0.conv", "blocks.0/Add", "blocks.0/Relu", "blocks.1.conv", "blocks.1/Add",
        "blocks.1/Relu", "ReduceMean", "fc",
    ]  # fmt: skip


def test_names_are_good_for_exclude_layers_and_equal_those_of_prepare(net: Net) -> None:
    data = np.random.default_rng(0).standard_normal((32, 1, 12, 12)).astype(np.float32)
    q = fb.quantize(fb.load(net, SAMPLE), data, quantize_mode="full", exclude_layers=["blocks.0.conv"], verify=False)
    assert not q.plan.nodes["blocks.0.conv"].quantized and q.plan.nodes["blocks.1.conv"].quantized


@pytest.mark.parametrize("name", ["resnet8", "mobilenet0.25"])
def test_reference_networks(name: str) -> None:
    torch.manual_seed(0)
    net = build(name, 10, 1).eval()
    x = torch.randn(3, 1, 28, 28)
    model = fb.load(net, (x,))
    with torch.no_grad():
        assert np.allclose(answers(model, x), net(x), atol=1e-4)
    assert len({n.name for n in model.nodes}) == len(model.nodes)


def test_an_exported_program(net: Net) -> None:
    x = torch.randn(4, 1, 12, 12)
    program = torch.export.export(net.eval(), (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
    model = fb.load(program)
    assert [str(n.name) for n in model.nodes][:3] == ["stem", "Mul", "blocks.0.conv"]
    with torch.no_grad():
        assert np.allclose(answers(model, x[:2]), net(x[:2]), atol=1e-5)
    with pytest.raises(UsageError, match="leave sample out"):
        fb.load(program, x)


def test_a_module_called_twice_and_layers_of_several_nodes() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 8)
            self.norm = nn.LayerNorm(8)
            self.act = nn.GELU()

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.act(self.fc(self.act(self.fc(x)))))

    net, x = Twice().eval(), torch.randn(3, 8)
    model = fb.load(net, x)
    names = [str(n.name) for n in model.nodes]
    assert len(set(names)) == len(names) and {"fc", "act", "norm"} <= {n.partition("/")[0] for n in names}
    with torch.no_grad():
        assert np.allclose(answers(model, x), net(x), atol=1e-5)


def test_two_inputs_and_arrays() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a @ b.transpose(1, 2)

    a, b = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    model = fb.load(Two(), (a.numpy(), b))
    assert [i.name for i in model.inputs] == ["a", "b"] and np.allclose(answers(model, a, b), a @ b.mT, atol=1e-5)


def test_what_is_refused(net: Net, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not tell its inputs.*fewbit\.load\(net, sample\)"):
        fb.load(net)
    with pytest.raises(UsageError, match="cannot take"):
        fb.load(net, torch.randn(1, 3, 12, 12))
    with pytest.raises(UsageError, match="TorchScript"):
        fb.load(scripted(net), SAMPLE)
    with pytest.raises(UsageError, match="model is int; it must be a path"):
        fb.load(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"input_shapes: not for networks of PyTorch.*dynamic_shapes"):
        fb.load(net, SAMPLE, input_shapes={"image": (1, 1, 12, 12)})
    with pytest.raises(AlreadyQuantized):
        fb.load(fb.torch.prepare(net, SAMPLE), SAMPLE)
    with pytest.raises(UnsupportedModel, match="float64"):
        fb.load(net.double(), SAMPLE)
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(UsageError, match="sample is for PyTorch modules"):
        fb.load(tmp_path / "m.onnx", SAMPLE)


def test_other_calls_ask_for_a_sample(net: Net, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="hand a sample"):
        fb.quantize(net, np.zeros((4, 1, 12, 12), np.float32))
    with pytest.raises(UsageError, match="hand a sample"):
        fb.deploy(net, "onnxruntime", tmp_path / "out")


def test_networks_that_count_their_samples_are_refused() -> None:
    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[i] * (i + 1) for i in range(x.shape[0])])

    class Table(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x * 2, torch.ones(2, 4)

    with pytest.raises(UnsupportedModel, match="counts its samples"):
        fb.load(Counting(), torch.randn(2, 8))
    assert [o.shape for o in fb.load(Table(), torch.randn(2, 8)).outputs] == [("batch", 8), (2, 4)]


def test_what_numbers_decide_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    class Deciding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(UnsupportedModel, match=r"torch\.where"):
        fb.load(Deciding(), torch.ones(2, 3))
    assert "def forward" not in capfd.readouterr().err


class Trap:
    """Unpickling this is what must not happen."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("opened"),))  # type: ignore[return-value]


@pytest.mark.parametrize("ending", [".pt", ".pth", ".ckpt"])
def test_pickles_are_not_opened(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": Trap()}, tmp_path / f"net{ending}")
    with pytest.raises(ModelFormatError, match=r"can run any code.*fewbit\.load\(module, sample\)"):
        fb.load(tmp_path / f"net{ending}")
    assert not Path("opened").exists()


def test_files_of_programs_and_scripts_are_told_apart(net: Net, tmp_path: Path) -> None:
    torch.export.save(torch.export.export(net.eval(), (SAMPLE,)), tmp_path / "net.pt2")
    with pytest.raises(ModelFormatError, match=r"exported program.*torch\.export\.load"):
        fb.load(tmp_path / "net.pt2")
    scripted(net).save(str(tmp_path / "net.pt"))
    with pytest.raises(ModelFormatError, match="holds TorchScript"):
        fb.load(tmp_path / "net.pt")
    (tmp_path / "net.safetensors").write_bytes(b"")
    with pytest.raises(ModelFormatError, match="weights without their network"):
        fb.load(tmp_path / "net.safetensors")
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelFormatError, match="holds a pickle"):
        fb.load(tmp_path / "cut.pth")
    with zipfile.ZipFile(tmp_path / "odd.pth", "w") as held:
        held.writestr("a", io.BytesIO(b"x").getvalue())
    with pytest.raises(ModelFormatError, match="holds a pickle"):
        fb.load(tmp_path / "odd.pth")
