"""The folder for TensorRT: complete, checked as far as is possible here, and honest about the rest."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import fewbit as fb
from fewbit.config import DataConfig
from fewbit.deployment.base import DEPLOYERS, Deployed, Job
from fewbit.deployment.tensorrt_readme import Profile, _build
from fewbit.engines import open_runner
from fewbit.errors import UnsupportedModel
from fewbit.graph.tensorrt_weights import float_weights
from tests.models import NETWORKS, feeds_for, info, load, node, proto, weight

DEPLOYER = DEPLOYERS["tensorrt"]


def made(name: str = "conv_relu", target: str = "tensorrt", **words: Any) -> fb.Quantized:
    model = load(NETWORKS[name]())
    data = [feeds_for(model, seed) for seed in (0, 1)]
    return fb.quantize(model, data, target=target, **{"effort": "fast", "verify": False, **words})


def deployed(folder: Path, model: Any, **options: Any) -> tuple[Deployed, str]:
    plan = getattr(model, "plan", None)
    done = DEPLOYER.run(Job(model, folder, "net", DataConfig(), options=DEPLOYER.settled(options), plan=plan))
    return done, (folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_the_folder(tmp_path: Path, weights: str) -> None:
    model = made()
    done, readme = deployed(tmp_path, model, weights=weights)
    assert {"README.md", "net.onnx", "plan.json", "inputs/0/x.npy", "expected/0/y.npy"} <= set(done.files)
    assert all((tmp_path / f).is_file() for f in done.files)
    file = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(file, full_check=True)
    ops = Counter(n.op_type for n in file.graph.node)
    assert (ops["QuantizeLinear"], ops["DequantizeLinear"]) == ((2, 2) if weights == "float32" else (1, 2))
    answer = open_runner("onnxruntime", model).run({"x": np.load(tmp_path / "inputs/0/x.npy")})["y"]
    np.testing.assert_allclose(np.load(tmp_path / "expected/0/y.npy"), answer, atol=1e-4)
    assert any("nothing illegal, 0 found to cost speed" in c for c in done.checks)
    assert any("TensorRT itself did not run here" in n for n in done.notes) and "did not run here" in readme
    assert fb.Plan.load(tmp_path / "plan.json").target == "tensorrt"


def test_the_readme_has_commands_for_each_version(tmp_path: Path) -> None:
    _, readme = deployed(tmp_path, made())
    assert "trtexec --onnx=net.onnx --int8 --fp16" in readme and "--stronglyTyped" in readme
    assert "--minShapes=x:1x3x6x6" in readme and 'profile.set_shape("x", (1, 3, 6, 6)' in readme, "n is free"
    assert "# TensorRT 8.5 to 9\n" in readme and "# TensorRT 10:" in readme and "# TensorRT 11:" in readme
    assert "this file has opset 17." in readme and "polygraphy run net.onnx" in readme
    assert "| `x` | float32 | [n, 3, 6, 6] |" in readme and "timing.cache" in readme
    (python,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    ast.parse(python)
    assert '"x": np.load("inputs/0/x.npy")' in python and '{"y": "y.npy"}' in python


@pytest.mark.parametrize(
    ("opset", "weights", "versions"),
    [
        (13, "float32", ["8.0 to 9", "10", "11"]),
        (18, "float32", ["10", "11"]),
        (21, "float32", ["10.15 and later 10", "11"]),
        (25, "float32", ["11"]),
        (13, "int8", ["10", "11"]),
    ],
)
def test_only_versions_that_read_the_file_get_a_command(opset: int, weights: str, versions: list[str]) -> None:
    model = load(NETWORKS["conv_relu"]()).clone()
    if weights == "int8":
        model = made()
    model.ir.opset_imports[""] = opset
    text = _build("my net.onnx", model, Profile({}, {}))
    assert re.findall(r"^# TensorRT ([^:\n]+)", text, re.M) == versions[::-1]
    assert text.count("--onnx='my net.onnx'") == len(versions)
    assert ("versions before 10 do not read" in text) == ("8.0 to 9" not in versions)


def test_free_sizes_are_those_of_the_samples(tmp_path: Path) -> None:
    """Axis n may be 1; the windows need 4 steps, so 1 is no size for that axis."""
    for name, op in (("any", node("Relu", "x", "y")), ("wide", node("Conv", "x w", "y"))):
        consts = {"w": weight(2, 2, 4)} if name == "wide" else {}
        model = load(proto([op], [info("x", ["n", 2, "steps"])], [info("y", ["n", 2, "out"])], consts))
        folder = tmp_path / name
        folder.mkdir()
        DEPLOYER.run(Job(model, folder, "net", samples={"x": np.ones((3, 2, 20), np.float32)}))
        readme = (folder / "README.md").read_text("utf-8")
        least = "1x2x1" if name == "any" else "1x2x20"
        assert f" --minShapes=x:{least} --optShapes=x:1x2x20 --maxShapes=x:1x2x20\n" in readme
        assert f'profile.set_shape("x", {tuple(map(int, least.split("x")))}, (1, 2, 20), (1, 2, 20))' in readme


def test_sizes_that_are_fixed_need_no_profile(tmp_path: Path) -> None:
    _, readme = deployed(tmp_path, made("residual"))
    assert "Shapes=" not in readme and "optimization_profile" not in readme


@pytest.mark.parametrize("name", ["residual", "tied", "matmul", "depthwise"])
def test_weights_as_floats_become_the_same_integers(name: str) -> None:
    model = made(name, quantize_mode="full")
    other, count = float_weights(model)
    assert count and not any(n.op_type == "DequantizeLinear" and n.inputs[0].const_value is not None
                             for n in other.nodes)  # fmt: skip
    feeds = feeds_for(load(NETWORKS[name]()), 5)
    for key, want in open_runner("tensorrt", model).run(feeds).items():
        np.testing.assert_allclose(open_runner("tensorrt", other).run(feeds)[key], want, rtol=1e-5, atol=1e-5)


def test_networks_for_other_targets_are_refused_with_the_way_out(tmp_path: Path) -> None:
    way = r"Quantize the float network with target='tensorrt'"
    with pytest.raises(UnsupportedModel, match=rf"uint8 integers.*\. {way}"):
        deployed(tmp_path, made(target="onnxruntime", quantize_mode="full"))
    with pytest.raises(UnsupportedModel, match=rf"weights are packed in few bits\. {way}"):
        deployed(tmp_path, fb.quantize(load(NETWORKS["matmul"]()), quant_type="weight", bit_num=4, verify=False))
    assert list(tmp_path.iterdir()) == []


def test_what_may_cost_speed_is_told(tmp_path: Path) -> None:
    done, readme = deployed(tmp_path, made("residual", exclude_layers=["conv2"], quantize_mode="full"))
    assert any(n.startswith("may cost speed, conv2: A layer computes in integers only if") for n in done.notes)
    assert "may cost speed, conv2" in readme and any("1 found to cost speed" in c for c in done.checks)


def test_a_network_without_integers_says_so(tmp_path: Path) -> None:
    done, _ = deployed(tmp_path, load(NETWORKS["conv_relu"]()))
    assert any("no layer of the network is integer" in n for n in done.notes)
