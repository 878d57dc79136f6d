"""The folder for ncnn: complete, read by ncnn alone, and what it says is what was measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fewbit as fb
from fewbit.config import DataConfig
from fewbit.data.demo import DEMO_MODEL, FOLDER, MEAN, STD, demo_calibration, demo_test
from fewbit.deployment import ncnn as ours
from fewbit.deployment.base import DEPLOYERS, Deployed, Job
from fewbit.deployment.ncnn_readme import mean_norm
from fewbit.engines import open_runner
from fewbit.engines.ncnn.param import read_param
from fewbit.engines.ncnn.runtime import Loaded
from fewbit.engines.ncnn.table import read_table
from fewbit.engines.ncnn.weights import read_bin
from fewbit.errors import EngineError, VerificationError
from tests.models import depthwise, info, load, node, proto, residual, weight

DEPLOYER = DEPLOYERS["ncnn"]


def made(model: Any, target: str = "ncnn", **words: Any) -> fb.Quantized:
    rng = np.random.default_rng(0)
    feeds = {i.name: rng.standard_normal((4, *i.shape[1:])).astype(np.float32) for i in model.inputs}
    return fb.quantize(model, feeds, target=target, effort="fast", verify=False, **words)


def deployed(folder: Path, model: Any, samples: Any = None, recipe: DataConfig | None = None, **options: Any) -> Any:
    job = Job(model, folder, "net", recipe or DataConfig(), samples, DEPLOYER.settled(options), plan=model.plan)
    return DEPLOYER.run(job), (folder / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def small() -> fb.Quantized:
    return made(load(depthwise()))


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Deployed, str, fb.Quantized]:
    """The demo network, with images as its data."""
    folder = tmp_path_factory.mktemp("phone")
    images = {"image": demo_calibration()["image"][::8]}
    q = fb.quantize(DEMO_MODEL, images, target="ncnn", effort="fast", verify=False)
    recipe = DataConfig(image_to_format="GRAY", normalize_mean=(255 * MEAN,), normalize_std=(255 * STD,))
    return folder, *deployed(folder, q, {"image": demo_test()["image"][:40]}, recipe), q


def test_the_folder(phone: Any) -> None:
    folder, done, readme, _ = phone
    scripts = {"run.py", "verify.py", "feeds.py", "preprocess.py", "network.py", "network.json"}
    samples = {f"{at}/{i}/{x}.npy" for at, x in (("inputs", "image"), ("expected", "logits")) for i in range(4)}
    assert set(done.files) == {"net.param", "net.bin", "net.table", "plan.json", "README.md"} | scripts | samples
    assert all((folder / f).is_file() for f in done.files)
    layers = read_param((folder / "net.param").read_text())
    weights = read_bin((folder / "net.bin").read_bytes(), layers)
    table = read_table((folder / "net.table").read_text())
    integer = [x for x in layers if x.int(8)]
    assert len(integer) == 13 and len(table) == 26
    for layer in integer:
        np.testing.assert_allclose(table[layer.name], weights[layer.name]["input_scale"], atol=1e-5)
        np.testing.assert_allclose(table[f"{layer.name}_param_0"], weights[layer.name]["weight_scale"], atol=1e-5)
    assert fb.Plan.load(folder / "plan.json").target == "ncnn"
    assert (folder / "net.bin").stat().st_size < 0.3 * 345_000
    assert "| `in0` | input | `image` | 1 × 28 × 28 |" in readme and "| `out0` | output | `logits` | 10 |" in readme


def test_it_was_checked_against_simulation_and_float(phone: Any) -> None:
    _, done, readme, _ = phone
    layers, where, simulated, short, plain, used = done.checks
    assert layers == "13 layers in int8; 5 of them hand on int8"
    assert re.fullmatch(r"ran in ncnn [\d.]+ on 32 samples of the data", where)
    found = re.fullmatch(r"against the simulation: ([\d.]+) dB apart.* in (\d+) of 32", simulated)
    assert found and float(found[1]) > 35 and int(found[2]) >= 31
    assert re.match(r"with 16-bit floats, as ncnn computes by default, against the simulation: [\d.]+ dB apart", short)
    assert re.match(r"against ncnn with float activations and the same weights: [\d.]+ dB apart", plain)
    assert used == "verify.py on 4 samples: ok logits: 0 (at most 0.05)"
    assert all(check in readme for check in done.checks)


def test_preprocessing_is_told_in_ncnns_words(phone: Any) -> None:
    readme = phone[2]
    assert "`substract_mean_normalize` with mean `72.93`, norm `0.01110926` on `PIXEL_RGB2GRAY`" in readme
    assert "ncnn::Mat::from_pixels(pixels, ncnn::Mat::PIXEL_RGB2GRAY, 28, 28);" in readme
    assert "const float mean_in0[] = {72.93000f}, norm_in0[] = {0.01110926f};" in readme
    image = {"colour": "BGR", "mean": [104.0, 117.0, 123.0], "std": [50.0]}
    assert mean_norm(image) == ([104, 117, 123], [0.02] * 3)
    assert mean_norm({"colour": "RGB", "mean": [], "std": []}) == ([0] * 3, [1] * 3)


def test_ncnns_own_preprocessing_gives_the_input(phone: Any) -> None:
    """Bytes of a grey image, through ncnn's words, are what the network was calibrated on."""
    import ncnn

    with np.load(FOLDER / "test.npz") as held:
        grey = np.repeat(held["images"][0][:, :, None], 3, 2)
    mat = ncnn.Mat.from_pixels(grey, ncnn.Mat.PixelType.PIXEL_RGB2GRAY, 28, 28)
    mat.substract_mean_normalize([255 * MEAN], [1 / (255 * STD)])
    x = demo_test()["image"][0]
    np.testing.assert_allclose(np.array(mat), x, atol=1.1 / (255 * STD))  # grey of equal bytes may be one less


def test_the_python_of_the_readme_runs_without_fewbit(phone: Any, script: Callable[..., Any]) -> None:
    folder, _, readme, _ = phone
    assert snippet(folder, readme, script) == ["out0 (10,) off by 0.0"]


def snippet(folder: Path, readme: str, script: Callable[..., Any]) -> list[str]:
    """What the Python of a README prints."""
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    (folder / "snippet.py").write_text(code)
    done = script(folder, "snippet.py")
    assert done.code == 0, done.err
    return list(done.out.splitlines())


def test_several_outputs_one_of_them_rounded_and_large_arrays(tmp_path: Path, script: Callable[..., Any]) -> None:
    """The Python of the README holds on to what ncnn reads; no class is counted in what are no scores."""
    q = made(load(residual()))
    seen = fb.Quantized(q.with_outputs(["r_dq"]), q.plan)
    done, readme = deployed(tmp_path, seen)
    assert "largest number" not in readme and done.checks[-1].endswith(
        "ok y: 0 (at most 0.05); ok r_dq: 0 (at most 0.05)"
    )
    assert snippet(tmp_path, readme, script) == [f"out{i} (4, 6, 6) off by 0.0" for i in range(2)]
    assert re.search(r"`r_dq`, once rounded to multiples of 0.0\d+", readme)
    x = {"x": np.load(tmp_path / "inputs/0/x.npy")}
    want = open_runner("onnxruntime", seen, literal=True).run(x)["r_dq"]
    np.testing.assert_allclose(np.load(tmp_path / "expected/0/r_dq.npy"), want, atol=1e-4)
    with pytest.raises(EngineError, match="output 'x_dq' is input 'x', rounded, which ncnn cannot hand out"):
        deployed(tmp_path, fb.Quantized(q.with_outputs(["x_dq"]), q.plan))


def test_the_scripts_run_images_and_arrays(phone: Any, script: Callable[..., Any]) -> None:
    folder = phone[0]
    with np.load(FOLDER / "test.npz") as held:
        Image.fromarray(held["images"][0]).save(folder / "photo.png")
    image, array = (script(folder, "run.py", f) for f in ("photo.png", "inputs/0/image.npy"))
    assert image.code == array.code == 0, image.err + array.err
    assert array.out.startswith("logits: float32[1, 10]  index: number, largest first\n  0: ")
    assert image.out.split(":")[3] == array.out.split(":")[3], "the same class is the largest"
    np.save(folder / "two.npy", demo_test()["image"][:2])
    two = script(folder, "run.py", "two.npy", "--threads", "1")
    assert "float32[2, 10]" in two.out, "one after the other"
    np.save(folder / "wide.npy", np.zeros((1, 1, 28, 30), np.float32))
    refused = script(folder, "run.py", "wide.npy")
    assert refused.code and "28, 30" in refused.err and "Traceback" not in refused.err


def free_sizes() -> fb.Model:
    """x[n, 1, 2*h, 2*w] → Conv, Conv → mask[n, 2, 2*h, 2*w]"""
    nodes = [
        node("Conv", "x w", "c", "one", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("Conv", "r v", "mask", "two"),
    ]
    ends = info("x", ["n", 1, "2*h", "2*w"]), info("mask", ["n", 2, "2*h", "2*w"])
    return load(proto(nodes, [ends[0]], [ends[1]], {"w": weight(4, 1, 3, 3), "v": weight(2, 4, 1, 1)}))


def test_free_sizes_are_fixed_by_the_first_sample(tmp_path: Path, script: Callable[..., Any]) -> None:
    x = np.random.default_rng(0).standard_normal((4, 1, 6, 10)).astype(np.float32)
    DEPLOYER.check(free_sizes(), {"x": x})  # type: ignore[misc]
    q = fb.quantize(free_sizes(), x, target="ncnn", effort="fast", verify=False)
    done = fb.deploy(q, "ncnn", tmp_path / "out", data=x)
    readme = (tmp_path / "out/README.md").read_text("utf-8")
    assert (
        "sizes that were free are those of the first sample: x 1 × 6 × 10; input_shapes, --input-shapes"
        in done.notes[0]
    )
    assert "| `in0` | input | `x` | 1 × 6 × 10 |" in readme and "| `out0` | output | `mask` | 2 × 6 × 10 |" in readme
    assert "ncnn::Mat in0(10, 6, 1);" in readme and "2*" not in readme
    assert snippet(tmp_path / "out", readme, script) == ["out0 (2, 6, 10) off by 0.0"]
    assert script(tmp_path / "out", "verify.py").out.count("CHANGED") == 0
    assert "the largest number" not in readme, "a mask is no classes"


def test_free_sizes_are_fixed_by_input_shapes(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((4, 1, 6, 10)).astype(np.float32)
    q = fb.quantize(free_sizes(), x, target="ncnn", effort="fast", verify=False)
    says = r"input x: float32\[n, 1, 2\*h, 2\*w\] has sizes that are free.* --input-shapes x:1,1,224,224"
    with pytest.raises(EngineError, match=says):
        fb.deploy(q, "ncnn", tmp_path / "out")
    done = fb.deploy(q, "ncnn", tmp_path / "out", input_shapes={"x": (1, 1, 8, 12)})
    assert "| `in0` | input | `x` | 1 × 8 × 12 |" in (tmp_path / "out/README.md").read_text("utf-8")
    assert "plan.json" in done.sizes and not any("sizes that were free" in n for n in done.notes)


def test_what_ncnn_cannot_take_is_told_before_the_network_is_quantized(tmp_path: Path) -> None:
    nodes = [node("Hardmax", "x", "h", "hard"), node("MatMul", "h w", "y", "dense")]
    model = load(proto(nodes, [info("x", ["n", 4])], [info("y", None)], {"w": weight(4, 3)}))
    said: list[str] = []
    with pytest.raises(EngineError, match=r"ncnn has no layer Hardmax \('hard'\); take .* onnxruntime, openvino"):
        fb.deploy(model, "ncnn", tmp_path / "out", data=np.zeros((4, 4), np.float32), say=said.append)
    assert said == ["checking that ncnn can take the network"] and not (tmp_path / "out").exists()


def test_a_retrained_network(tmp_path: Path) -> None:
    """prepare → train → export → ncnn: the very numbers of the training simulation."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.norm, self.two = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)
            self.last = nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.norm(self.one(x)))
            return self.last((self.two(y) + y).mean((2, 3)))

    torch.manual_seed(0)
    x = torch.randn(8, 1, 8, 8)
    net = fb.torch.prepare(Net(), x, target="ncnn")
    step = torch.optim.SGD(net.parameters(), 0.05)
    for _ in range(3):
        step.zero_grad()
        net(x).square().mean().backward()
        step.step()
    q = fb.torch.export(net.eval(), x).quantized
    done, _ = deployed(tmp_path, q, {q.inputs[0].name: x.numpy()})
    assert done.checks[0].startswith("3 layers in int8") and not done.notes
    loaded = Loaded(tmp_path / "net.param", tmp_path / "net.bin")
    with torch.inference_mode():
        want = net(x).numpy()
    for i in range(8):
        got = loaded.run({"in0": x[i].numpy()}, ["out0"])["out0"]
        np.testing.assert_allclose(got, want[i], atol=1e-5)


def test_options(tmp_path: Path) -> None:
    done, readme = deployed(tmp_path, made(load(residual())), winograd=False, fp16=False, float=True)
    assert {"net-float.param", "net-float.bin"} <= set(done.files) and "net-float.param" in readme
    layers = read_param((tmp_path / "net.param").read_text())
    assert [x.int(31) for x in layers if x.type == "Convolution"] == [64, 64]
    table = read_table((tmp_path / "net.table").read_text())
    floats = read_param((tmp_path / "net-float.param").read_text())
    assert {x.name for x in floats if not x.int(8)} >= {k for k in table if "_param_" not in k}


def test_weights_of_float_layers_in_16_bits_are_told_of(tmp_path: Path) -> None:
    q = made(load(residual()), exclude_layers=["conv2"])
    done, _ = deployed(tmp_path, q)
    assert any("1 weight of a float layer is stored as float16 and loses" in n for n in done.notes)
    with_half = (tmp_path / "net.bin").stat().st_size
    (tmp_path / "whole").mkdir()
    done, _ = deployed(tmp_path / "whole", q, fp16=False)
    assert not any("float16" in n for n in done.notes)
    assert (tmp_path / "whole" / "net.bin").stat().st_size == with_half + 2 * 144


def test_a_network_for_another_target_is_refused(tmp_path: Path) -> None:
    q = made(load(depthwise()), "onnxruntime", quantize_mode="full")
    with pytest.raises(EngineError, match=r"quantized for another engine: .*; quantize it with target='ncnn'"):
        deployed(tmp_path, q)


def test_files_that_compute_something_else_are_not_handed_out(
    tmp_path: Path, small: fb.Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ours._write

    def spoiled(job: Any, net: Any) -> list[str]:
        for parts in net.weights.values():
            parts["bias"] = -3 * parts["bias"]
        return write(job, net)

    monkeypatch.setattr(ours, "_write", spoiled)
    with pytest.raises(VerificationError, match=r"ncnn answers otherwise than was simulated: .* on 32 made-up inputs"):
        deployed(tmp_path, small)


def test_deploy_by_its_word(tmp_path: Path, phone: Any) -> None:
    """From a file, whose plan lies beside it."""
    phone[3].save(tmp_path / "int8.onnx")
    found = fb.deploy(tmp_path / "int8.onnx", "ncnn", tmp_path / "out", data={"image": demo_test()["image"][:8]})
    assert {"model.param", "model.bin", "model.table", "plan.json", "run.py"} <= set(found.sizes)
    x = demo_test()["image"][9]
    got = Loaded(tmp_path / "out/model.param", tmp_path / "out/model.bin").run({"in0": x}, ["out0"])["out0"]
    want = open_runner("onnxruntime", phone[3], literal=True).run({"image": x[None]})["logits"][0]
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()
