"""`fewbit deploy`: flags of the targets, what is said, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewbit.deployment import DEPLOYERS
from tests.cli.conftest import Cli


def test_a_folder_is_written_and_told(cli: Cli, quantized: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli("deploy", quantized, "--target", "onnxruntime", "-o", out, "--data", data, "--form", "qoperator")
    assert done.code == 0, done.err
    assert f"wrote {out} for target onnxruntime" in done.out and "verify.py on 4 samples of the data" in done.out
    assert "cpp/ (4 files)" in done.out and "integer operators: " in done.out
    assert done.err == "" and (out / "plan.json").is_file()
    again = cli("deploy", quantized, "--target", "onnxruntime", "-o", out, "--json", "--name", "net")
    found = json.loads(again.out)
    assert again.code == 0 and again.err == "" and "net.onnx" in found["files"] and not (out / "model.onnx").exists()
    (out / "mine").write_text("mine")
    refused = cli("deploy", quantized, "--target", "onnxruntime", "-o", out)
    assert refused.code == 1 and "it holds mine" in refused.err and "allow it with --overwrite" in refused.err
    assert cli("deploy", quantized, "--target", "onnxruntime", "-o", out, "--overwrite", "--quiet").code == 0
    assert (out / "mine").read_text() == "mine"


def test_images_said_by_flags_reach_the_folder(cli: Cli, quantized: Path, tmp_path: Path) -> None:
    words = ["--normalize-mean", "10,20,30", "--image-to-format", "BGR", "--quiet"]
    done = cli("deploy", quantized, "--target", "onnxruntime", "-o", tmp_path / "out", *words)
    assert (done.code, done.said) == (0, "")
    assert "8-bit BGR, 0 … 255; resized to 6x6" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "out"], "there is no target; give one with --target NAME: "),
        (["--target", "onnxruntime"], "there is no output; give a folder with -o FOLDER"),
        (["--target", "phone", "-o", "out"], "unknown deployment target 'phone'"),
        (["--target", "openvino", "-o", "out", "--form", "ort"], "form is an option of target onnxruntime"),
        (["--target", "onnxruntime", "-o", "out", "--form", "orm"], "unknown form 'orm'; did you mean 'ort'"),
        (["--target", "onnxruntime", "-o", "out", "--normalize-mean", "1,2"], "normalize_mean has 2 numbers"),
    ],
)
def test_wrong_words_are_usage_errors(
    cli: Cli, quantized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("deploy", quantized, *words)
    assert done.code == 2 and says in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_float_network_without_data_is_told_the_way(cli: Cli, net: Path, tmp_path: Path) -> None:
    done = cli("deploy", net, "--target", "onnxruntime", "-o", tmp_path / "out")
    assert done.code == 2 and "the network is float; quantize it first (fewbit quantize MODEL" in done.err


def test_every_option_of_every_target_has_its_flag(cli: Cli) -> None:
    text = cli("deploy", "--help").out
    for target, deployer in DEPLOYERS.items():
        assert target in text
        for name, option in deployer.options.items():
            assert f"--{name.replace('_', '-')}" in text and f"{target}: {option.help.split()[0]}" in text


def test_sizes_that_the_network_leaves_free_are_said(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    words = ["--target", "onnxruntime", "-o", tmp_path / "out", "--data", data, "--quiet"]
    refused = cli("deploy", net, *words, "--input-shapes", "picture:0,3,6,6")
    assert refused.code and "unknown input 'picture'" in refused.err


@pytest.mark.parametrize("way", ["deployed", "deployed data", "overwrite"])
def test_what_is_read_does_not_go_with_the_folder(
    cli: Cli, quantized: Path, data: Path, tmp_path: Path, way: str
) -> None:
    out, more = tmp_path / "out", []
    assert cli("deploy", quantized, "--target", "onnxruntime", "-o", out, "--data", data).code == 0
    model, samples = out / "model.onnx", data
    if way == "deployed data":
        model, samples = quantized, out / "inputs/0/x.npy"
        assert samples.is_file()
    elif way == "overwrite":
        model.unlink()
        model.write_bytes(quantized.read_bytes())
        (out / "mine").write_text("mine")
        more = ["--overwrite"]
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    done = cli("deploy", model, "--target", "onnxruntime", "-o", out, "--data", samples, *more)
    assert done.code == 2 and "is written anew, and" in done.err and "give another folder" in done.err
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
