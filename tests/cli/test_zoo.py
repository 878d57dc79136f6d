"""`fewbit quantize --zoo`: the published script's words, files and names; flags and config files win."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fewbit as fb
from tests.checkpoints import zoo_like
from tests.cli.conftest import Cli
from tests.data.recording import png, records

FAST = ["--effort", "fast", "--quantize-mode", "full", "--no-verify", "--num-calib-batches", "2", "--quiet"]
SMALL = ["--input-shapes", "data:0,3,16,16"]
"""The images of these tests are small ones; those of the zoo are 224 x 224."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with model/mobilenet0.25 and data/val_256_q90.rec, whose images are 20 x 24."""
    zoo_like(tmp_path / "model", "mobilenet0.25", "mobilenet0_")
    (tmp_path / "data").mkdir()
    records(tmp_path / "data" / "val_256_q90.rec", range(40), [png(i, 20, 24) for i in range(40)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan_of(place: Path, name: str) -> fb.Plan:
    return fb.Plan.load(place / f"{name}.plan.json")


def scale_of(network: Path) -> float:
    """What one step of the input stands for."""
    model = fb.load(network, allow_quantized=True)
    (first,) = (n for n in model.nodes if n.op_type == "QuantizeLinear" and n.inputs[0].name == "data")
    return float(model.graph.initializers[first.inputs[1].name].const_value.numpy())


def test_the_script_in_one_command(cli: Cli, place: Path) -> None:
    done = cli("quantize", "--zoo", "mobilenet0.25", *SMALL, *FAST[:5])
    assert done.code == 0, done.err
    name = "mobilenet0.25-quantized-10batches-entropy"
    assert f"wrote model/{name}-symbol.json, which points to model/{name}.onnx, and model/{name}.plan.json" in done.out
    assert json.loads((place / "model" / f"{name}-symbol.json").read_text())["network"] == f"{name}.onnx"
    plan = plan_of(place / "model", name)
    assert (plan.config["calib_mode"], plan.config["num_calib_batches"]) == ("entropy", 10)
    assert plan.config["exclude_layers"] == ["mobilenet0_pool0_fwd", "mobilenet0_flatten0_flatten0"]
    assert not plan.nodes["mobilenet0_pool0_fwd"].quantized
    assert 0 < scale_of(place / "model" / f"{name}.onnx") < 0.1  # pixels were normalized
    # the result is read like any network, by the symbol's name
    assert cli("inspect", f"model/{name}-symbol.json").code == 0
    done = cli("benchmark", f"model/{name}-symbol.json", "--num-inference-batches", 3, "--num-warmup-batches", 0)
    assert done.code == 0 and "interleaved" in done.out


def test_flags_win_over_the_config_which_wins_over_the_zoo(cli: Cli, place: Path) -> None:
    (place / "c.toml").write_text('[quantize]\ncalib_mode = "naive"\n[data]\nbatch_size = 4\nnormalize_std = 1.0\n')
    words = ["quantize", "--zoo", "mobilenet0.25", *SMALL, *FAST, "--config", "c.toml"]
    assert cli(*words).code == 0
    assert scale_of(place / "model" / "mobilenet0.25-quantized-2batches-naive.onnx") > 0.5  # not divided by anything
    done = cli(*words, "--calib-mode", "percentile", "--exclude-layers", "mobilenet0_dense0_fwd")
    assert done.code == 0, done.err
    plan = plan_of(place / "model", "mobilenet0.25-quantized-2batches-percentile")
    assert plan.config["exclude_layers"] == ["mobilenet0_dense0_fwd"]


def test_another_output_folder_and_data(cli: Cli, place: Path) -> None:
    (place / "model").rename(place / "nets")
    np.savez(place / "x.npz", data=np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32))
    words = ["quantize", "--zoo", "mobilenet0.25", "--zoo-folder", "nets", *SMALL, *FAST, "--batch-size", 4]
    done = cli(*words, "--data", "x.npz", "-o", "mine.onnx")  # arrays are fed as they are
    assert done.code == 0, done.err
    assert sorted(p.name for p in place.glob("mine*")) == ["mine.onnx", "mine.plan.json"]
    (place / "photos").mkdir()
    for i in range(8):
        Image.fromarray(np.full((20, 30, 3), i, np.uint8)).save(place / "photos" / f"{i}.png")
    assert cli(*words, "--data", "photos", "-o", "other-symbol.json").code == 0
    assert fb.load(place / "other-symbol.json", allow_quantized=True).inputs[0].shape[1:] == (3, 16, 16)


def test_the_first_convolution_stays_float(cli: Cli, place: Path) -> None:
    words = ["quantize", "--zoo", "mobilenet0.25", *SMALL, "--dry-run", "--quantize-mode", "full"]
    rows = {line.split()[0]: line.split()[2] for line in cli(*words).out.splitlines() if line.startswith("mobilenet")}
    assert rows["mobilenet0_conv0_fwd"] == "integer"
    rows = {x["layer"]: x for x in json.loads(cli(*words, "--exclude-first-conv", "--json").out)["verdicts"]}
    assert rows["mobilenet0_conv0_fwd"]["verdict"] == "float" and rows["mobilenet0_conv1_fwd"]["verdict"] == "integer"
    # of any network
    (place / "data" / "val_256_q90.rec").unlink()
    found = json.loads(cli("quantize", "model/mobilenet0.25", "--exclude-first-conv", *words[3:], "--json").out)
    reasons = {x["layer"]: x["reason"] for x in found["verdicts"]}
    assert "excluded" in reasons["mobilenet0_conv0_fwd"] and "excluded" not in reasons["mobilenet0_pool0_fwd"]


def test_without_ranges_no_data_is_needed(cli: Cli, place: Path) -> None:
    (place / "data" / "val_256_q90.rec").unlink()
    done = cli("quantize", "--zoo", "mobilenet0.25", "--calib-mode", "none", "--no-verify", "--quiet")
    assert done.code == 0, done.err
    assert (place / "model" / "mobilenet0.25-quantized-symbol.json").is_file()
    done = cli("quantize", "--zoo", "mobilenet0.25")
    assert done.code == 1 and "there is no data/val_256_q90.rec" in done.err and "Traceback" not in done.err


def test_parameters_may_lie_elsewhere(cli: Cli, place: Path) -> None:
    (place / "model" / "mobilenet0.25-0000.params").rename(place / "p.params")
    words = ["quantize", "--zoo", "mobilenet0.25", *SMALL, "--dry-run"]
    done = cli(*words)
    assert done.code == 1 and "model/mobilenet0.25-0000.params, which is not there" in done.err
    assert cli(*words, "--params", "p.params").code == 0
    done = cli(*words[:-1], *FAST, "--params", "p.params", "-o", "p.params")
    assert done.code == 2 and "is the input itself" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--zoo", "mobilenet"], "unknown network of the zoo 'mobilenet'; did you mean"),
        (["--zoo", "resnet50_v1"], "make the files once, where MXNet is:\n    import os, mxnet as mx"),
        (["net.onnx", "--zoo", "mobilenet0.25"], "MODEL is net.onnx, and --zoo is mobilenet0.25; both say what"),
        (["net.onnx", "--zoo-folder", "x"], "--zoo-folder says where a network of the zoo lies; name it with --zoo"),
        ([], "there is no network; give MODEL, or --zoo NAME"),
        (["--zoo", "mobilenet0.25", "--input-shapes", "data:0,3,16,8"], "take images as high as wide"),
        (["--zoo", "mobilenet0.25", "--input-shapes", "data:3,16"], "take images as high as wide"),
        (["--zoo", "mobilenet0.25", "-o", "model/mobilenet0.25-symbol.json"], "is the input itself"),
        (["--zoo", "mobilenet0.25", "-o", "model/mobilenet0.25-0000.params"], "is the input itself"),
    ],
)
def test_what_cannot_be_done_is_said(cli: Cli, place: Path, words: list[str], said: str) -> None:
    done = cli("quantize", *words)
    assert done.code in (1, 2) and said in done.err and "Traceback" not in done.err


def test_a_result_does_not_overwrite_what_its_symbol_points_to(cli: Cli, place: Path) -> None:
    words = ["--zoo", "mobilenet0.25", *SMALL, *FAST, "-o", "q-symbol.json"]
    assert cli("quantize", *words).code == 0
    done = cli("convert", "q-symbol.json", "-o", "q.onnx")
    assert done.code == 2 and "q.onnx belongs to the checkpoint q-symbol.json" in done.err
