"""`fewbit train`: lists, refuses, trains, is interrupted and goes on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Cli
from tests.datasets import write_fashion

MINE = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(392, 10))
"""
QUICK = ("--epochs", 2, "--batch-size", 32, "--warmup", 0, "--augment", "none")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: a network, a tiny set of images, an empty cache."""
    (tmp_path / "mine_to_train.py").write_text(MINE)
    write_fashion(tmp_path / "images", n_train=192, n_test=96)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FEWBIT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_networks_are_listed(cli: Cli) -> None:
    done = cli("train", "--list-models")
    assert done.code == 0 and "resnet20             272,186\n" in done.out
    assert json.loads(cli("train", "--list-models", "--json").out)["resnet8"] == 77754


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "there is no network; name one of --list-models, or module:function"),
        (("resnet8",), "there is no output; give one with -o FILE"),
        (("resnet8", "--save-params", "a.pt"), "there is no output; give one with -o FILE"),
        (("resnet8", "-o", "no/a.onnx"), "cannot write no/a.onnx: there is no folder no"),
        (("resnet8", "-o", "a.onnx", "--params", "none.pt"), "--params is none.pt, and there is no such file"),
        (("resnet8", "-o", "a.onnx", "--float-only", "--float-epochs", 3), "with --float-only say --epochs"),
        (
            ("resnet8", "-o", "a.onnx", "--save-params", "a.onnx", "--float-only"),
            "--output and --save-params are both a",
        ),
        (("resnet8", "-o", "a.onnx", "--save-params", "a.plan.json"), "its plan and --save-params are both a.plan"),
        (("resnet7", "-o", "a.onnx"), "unknown network 'resnet7'; did you mean"),
        (("resnet8", "-o", "a.onnx", "--epochs", "0"), "epochs is 0; it must be a whole number of 1 or more"),
        (("resnet8", "-o", "a.onnx", "--progressive-bits", "8,x"), "progressive_bits is '8,x'; it must be numbers"),
        (("resnet8", "-o", "a.onnx", "--optimizer", "adam"), "unknown optimizer 'adam'; did you mean 'adamw'"),
        (
            ("resnet8", "-o", "a.onnx", "--dataset", "fashion"),
            "unknown data set 'fashion'; did you mean 'fashion-mnist",
        ),
        (("resnet8", "-o", "a.onnx", "--float-only", "--bit-num", 4), "bit_num is about quantizing; leave it out with"),
        (("mine_to_train:small", "-o", "a.onnx", "--use-se"), "use_se is a variant of reference networks"),
        (("resnet8", "-o", "a.onnx", "--measure"), "no such option: --measure"),
        (("resnet8", "-o", "a.onnx", "--device", "cuda:77"), "device is 'cuda:77', which cannot be used here: "),
        (("resnet8", "-o", "a.onnx", "--dataset", "imagenet", "--device", "nowhere"), "device is 'nowhere', which"),
    ],
)
def test_what_cannot_be_is_told_before_training(words: tuple[str, ...], says: str, cli: Cli, here: Path) -> None:
    done = cli("train", *words, *(["--dataset-root", "images"] if words else []))
    assert done.code == (1 if "cannot write" in says else 2), done.said
    assert says in done.err and not (here / "cache").exists()


def test_an_integer_network(cli: Cli, here: Path) -> None:
    float_words = ("--float-only", "--save-params", "float.pt")
    done = cli("train", "mine_to_train:small", "--dataset-root", "images", *float_words, *QUICK)
    assert done.code == 0 and done.out.endswith("wrote float.pt\n")
    assert set(torch.load(here / "float.pt", weights_only=True)) == {"0.weight", "0.bias", "3.weight", "3.bias"}
    words = ("--params", "float.pt", "-o", "int.onnx", "--bit-num", 4, "--progressive-bits", 8, "--json")
    done = cli("train", "mine_to_train:small", "--dataset-root", "images", *words, *QUICK)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [e["bits"] for e in found["report"]["epochs"]] == [8, None]
    assert found["report"]["exported"] == pytest.approx(found["report"]["after"], abs=0.05)
    assert found["wrote"] == ["int.onnx"]
    assert (here / "int.plan.json").exists() and not list(here.glob("*.train"))


def test_what_was_interrupted_goes_on(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewbit.torch import fit

    words = ("mine_to_train:small", "--dataset-root", "images", "--float-only", "--save-params", "a.pt", *QUICK)
    assert cli("train", *words).code == 0
    wanted = torch.load(here / "a.pt", weights_only=True)
    (here / "a.pt").unlink()

    def stop(run: fit.Run, number: int, say: object) -> object:
        if number == 1:
            raise KeyboardInterrupt
        return real(run, number, say)  # type: ignore[arg-type]

    real = fit._epoch
    monkeypatch.setattr(fit, "_epoch", stop)
    done = cli("train", *words)
    assert done.code == 130 and not (here / "a.pt").exists()
    assert "the last epoch is kept in a.pt.train; the same command with --resume goes on from there" in done.err
    monkeypatch.setattr(fit, "_epoch", real)
    done = cli("train", *words, "--epochs", 3, "--resume")
    assert done.code == 2 and "a.pt.train was made with epochs 2, now it is 3; say the same, or remove it" in done.err
    assert cli("train", *words, "--resume").code == 0
    found = torch.load(here / "a.pt", weights_only=True)
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)
    assert not (here / "a.pt.train").exists()


def test_resuming_nothing_is_told(cli: Cli, here: Path) -> None:
    words = ("mine_to_train:small", "--dataset-root", "images", "--float-only", "--save-params", "a.pt", *QUICK)
    done = cli("train", *words, "--resume")
    assert done.code == 0
    assert "note: there is nothing to resume: a.pt.train is not there; training begins with the first epoch" in done.err
    done = cli("train", *words, "--resume", "--quiet")
    assert done.code == 0 and "warning: there is nothing to resume: a.pt.train is not there" in done.err


def test_without_a_terminal_there_is_a_line_for_each_epoch(cli: Cli, here: Path) -> None:
    words = ("mine_to_train:small", "--dataset-root", "images", "--float-only", "--save-params", "a.pt", *QUICK)
    told = cli("train", *words).err.splitlines()
    assert [line.partition(":")[0] for line in told] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert all(re.fullmatch(r"epoch . of 2: loss [0-9.]+, held-out top-1 [0-9.]+, [0-9.]+ s", line) for line in told)
    assert cli("train", *words, "--quiet").err == ""


def test_max_batches_is_for_the_float_network_as_well(cli: Cli, here: Path, enough: None) -> None:
    words = ("resnet8", "--dataset-root", "images", "-o", "a.onnx", "--float-epochs", 2)
    done = cli("train", *words, "--max-batches", 1)
    lines = [line for line in done.err.splitlines() if line.startswith("resnet8 on fashion-mnist, float: epoch ")]
    assert [line.partition(": ")[2].partition(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    few = {f.name for f in (here / "cache" / "nets").iterdir()}
    assert "trained and kept in" in cli("train", *words).err  # those of a trial are not taken for whole ones
    both = {f.name for f in (here / "cache" / "nets").iterdir()}
    assert len(few) == 1 and len(both) == 2
    for more in ((), ("--max-batches", 1)):  # a whole one is taken for a trial
        (whole,) = both - few
        assert f"trained before, from {here / 'cache' / 'nets' / whole}" in cli("train", *words, *more).err


@pytest.fixture
def enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends when the float network is there."""
    from fewbit.api import training

    class Enough(Exception):
        pass

    def stop(*_: object, **__: object) -> None:
        raise Enough

    monkeypatch.setattr(training, "prepare", stop)


def test_the_float_network_of_a_name_is_trained_first(cli: Cli, here: Path, enough: None) -> None:
    words = ("resnet8", "--dataset-root", "images", "-o", "a.onnx", "--float-epochs", 1)
    for says in ("float network: trained and kept in", "float network: trained before, from"):
        done = cli("train", *words)
        assert says in done.err and done.code == 1
