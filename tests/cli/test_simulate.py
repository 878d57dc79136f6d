"""`fewbit simulate` on the command line: the old words, files, messages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fewbit as fb
from tests.cli.conftest import Cli
from tests.datasets import write_fashion

MXNET = Path(__file__).parents[2] / "examples" / "mxnet"


def test_the_old_words(cli: Cli, net: Path, data: Path) -> None:
    words = "--quant-type channel --input-bits-width 6 --weight-bits-width 5 --input-signed --quantize-input-offline "
    words += "--calib-mode naive --calib-epoch 2 --num-sample 1 --eval-per-calib --no-exclude-first-conv --merge-bn "
    words += "--wino_quantize F23 --fixed-random-seed 3 --batch-size 4 --limit 8 --json"
    done = cli("simulate", "--model", net, "--data", data, *words.split())
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["config"] == {
        "quant_type": "channel", "input_bits_width": 6, "weight_bits_width": 5, "input_signed": True,
        "quantize_input_offline": True, "calib_mode": "naive", "calib_epoch": 2, "num_sample": 1,
        "eval_per_calib": True, "exclude_first_conv": False, "exclude_layers": [], "merge_bn": True,
        "wino_quantize": "F23", "fixed_random_seed": 3, "batch_size": 4,
    }  # fmt: skip
    assert found["result"]["samples"] == 8 and found["calibrated_on"] == 5 and len(found["epochs"]) == 2
    assert found["layers"] == {"conv": "", "fc": ""}
    same = cli("simulate", net, "--data", data, *words.replace("wino_quantize", "wino-quantize").split())
    assert json.loads(same.out) == found


def test_ranges_may_come_from_other_images(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    with np.load(data) as held:
        np.savez(tmp_path / "small.npz", **{k: v / 4 if v.dtype.kind == "f" else v for k, v in held.items()})
    words = (
        "--quantize-input-offline",
        "--no-exclude-first-conv",
        "--json",
        "--input-signed",
        "--weight-bits-width",
        8,
    )
    same = json.loads(cli("simulate", net, "--data", data, *words).out)
    other = json.loads(cli("simulate", net, "--data", data, "--calib-data", tmp_path / "small.npz", *words).out)
    assert same["result"] != other["result"] or same["ranges"] != other["ranges"]


@pytest.mark.parametrize("verb", ["simulate", "train"])
def test_a_variant_that_a_network_has_not_is_refused(cli: Cli, tmp_path: Path, verb: str) -> None:
    images = write_fashion(tmp_path / "images", n_train=20, n_test=20)
    words = ("mobilenet0.25", "--last-gamma", "--dataset", "fashion-mnist", "--dataset-root", images)
    done = cli(verb, *words, *(["-o", tmp_path / "a.onnx"] if verb == "train" else []))
    assert done.code == 2 and "last_gamma" in done.err.replace("-", "_")


def test_the_model_can_be_shown_and_saved(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "sim.onnx"
    done = cli("simulate", net, "--data", data, "--print-model", "-o", out)
    assert done.code == 0, done.err
    assert "conv   no           the first convolution (exclude_first_conv)" in done.out
    assert "fc     u8/w8 layer" in done.out and "top-1 float" in done.out
    assert {n.op_type for n in fb.load(out).nodes} >= {"Round", "Clip", "ReduceMean"}


def test_a_sweep_writes_a_table_and_a_plot(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "grid.csv"
    words = "--sweep --sweep-bits 8,2 --sweep-quant-type layer --sweep-calib-mode naive,kl --sweep-merge-bn no"
    done = cli("simulate", net, "--data", data, "-o", out, *words.split())
    assert done.code == 0, done.err
    assert len(out.read_text("utf-8").splitlines()) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grid.csv", "grid.png"]
    assert "8  layer    kl      beside" in done.out


def test_without_matplotlib_there_is_the_table(
    cli: Cli, net: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewbit.report import pictures

    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    words = "--sweep --sweep-bits 8 --quant-type layer --no-quantize-input-offline --sweep-merge-bn no"
    done = cli("simulate", net, "--data", data, "-o", tmp_path / "grid.md", *words.split())
    assert done.code == 0 and "pip install 'fewbit[plot]'" in done.err
    assert [p.name for p in tmp_path.iterdir()] == ["grid.md"]
    done = cli("simulate", net, "--data", data, "--plot", tmp_path / "x.png", *words.split())
    assert done.code == 1 and "pip install 'fewbit[plot]'" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--data {data}", "no network is given; give a file, or a name that --list-models shows"),
        ("{net} --model {net} --data {data}", "two networks are given"),
        ("{net}", "give them with --dataset fashion-mnist, or --data PATH"),
        ("{net} --data {data} --use-gpu 0 --device cpu", "--use-gpu and --device say the same"),
        ("{net} --data {data} --use-gpu 0", "device is 'cuda:0'; networks from files are simulated on the CPU"),
        ("{net} --data {data} --sweep-bits 4", "--sweep-bits is an axis of a sweep; add --sweep"),
        ("{net} --data {data} --plot x.png", "--plot draws a sweep; add --sweep"),
        ("{net} --data {data} --sweep --print-model", "--print-model is about one setting"),
        ("{net} --data {data} --sweep --sweep-bits 4,x", "--sweep-bits is '4,x'"),
        ("{net} --data {data} --sweep --sweep-merge-bn on", "unknown value of --sweep-merge-bn 'on'"),
        ("{net} --data {data} --sweep --sweep-quant-type layr", "did you mean 'layer'"),
        ("{net} --data {data} --sweep -o x.txt", "must end in .md, .csv or .json"),
        ("{net} --data {data} -o x.md", "is the simulated network; it must end in .onnx"),
        ("resnet8 --data {data} -o x.onnx", "resnet8 is simulated in torch, which writes no ONNX"),
        ("{net} --data {data} -o {net}", "is the input itself"),
        ("{net} --data {data} --calib-mode kl", "add quantize_input_offline, or leave calib_mode out"),
        ("{net} --data {data} --quant-type tensor", "unknown quant_type 'tensor'"),
    ],
)
def test_what_cannot_be_meant_is_refused(cli: Cli, net: Path, data: Path, words: str, message: str) -> None:
    done = cli("simulate", *words.format(net=net, data=data).split())
    assert done.code == 2 and message in done.err, done.said


def test_a_checkpoint_of_mxnet(cli: Cli) -> None:
    words = "--data {0}/fashion.rec --image-to-format GRAY --normalize-mean 72.9 --normalize-std 90 --limit 40 --json"
    net = ("simulate", "--model", MXNET / "fashion-symbol.json")
    done = cli(*net, *words.format(MXNET).split())
    assert done.code == 2 and "--input-shapes data:0,3,224,224" in done.err
    done = cli(*net, *words.format(MXNET).split(), "--input-shapes", "data:0,1,28,28")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["network"] == "fashion-symbol.json" and found["result"]["samples"] == 40
    assert len(found["layers"]) == 10


def test_the_networks_are_listed(cli: Cli) -> None:
    done = cli("simulate", "--list-models")
    assert done.code == 0 and done.out == cli("train", "--list-models").out
    assert "mobilenetv2_0.25" in done.out
    assert json.loads(cli("simulate", "--list-models", "--json").out)["resnet8"] == 77754


def test_words_of_files_say_nothing_of_torch(cli: Cli) -> None:
    words = ("--dataset", "fashion-mnist", "--input-shapes", "x:1,3")
    done = cli("simulate", "resnet8", *words)
    assert done.code == 2 and "input_shapes is for networks in files" in done.err


def test_minus_one_is_the_cpu(cli: Cli, net: Path, data: Path) -> None:
    assert cli("simulate", net, "--data", data, "--use-gpu", "-1", "--quiet").code == 0


def test_bars_do_not_get_into_the_answer(cli: Cli, net: Path, data: Path) -> None:
    done = cli("simulate", net, "--data", data, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
