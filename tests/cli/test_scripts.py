"""Command lines of the script simulate_quantization.py, given to `fewbit simulate` as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewbit.config.simulate import SimulateConfig
from tests.cli.conftest import Cli
from tests.datasets import write_fashion

ON, OFF = {"exclude_first_conv": True}, {"exclude_first_conv": False}


@pytest.fixture
def config(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings that words lead to."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr("fewbit.cli.simulate._simulate", lambda *given, **_: found.append(given[3]))
    names = vars(SimulateConfig())

    def read(words: str) -> dict[str, Any]:
        done = cli("simulate", "--model", "net.onnx", "--data", "data.npz", *words.split())
        assert done.code == 0, done.err
        return vars(SimulateConfig(**{k: v for k, v in found.pop().items() if k in names}))

    return read


@pytest.mark.parametrize(
    ("words", "means"),
    [
        ("--exclude-first-conv false", OFF),
        ("--exclude-first-conv=false", OFF),
        ("--exclude-first-conv False", OFF),
        ("--no-exclude-first-conv", OFF),
        ("--no-exclude-first-conv true", OFF),
        ("--no-exclude-first-conv false", ON),
        ("--exclude-first-conv true", ON),
        ("--exclude-first-conv=true", ON),
        ("--exclude-first-conv", ON),
        ("", ON),
        ("--input-signed=true", {"input_signed": True}),
        ("--input-signed true", {"input_signed": True}),
        ("--input-signed false", {"input_signed": False}),
        ("--fixed-random-seed true", {"fixed_random_seed": 7}),
        ("--fixed-random-seed=true", {"fixed_random_seed": 7}),
        ("--fixed-random-seed 8", {"fixed_random_seed": 8}),
        ("--fake-bn", {"merge_bn": True}),
        ("--fake-bn=false", {"merge_bn": False}),
        ("--merge-bn", {"merge_bn": True}),
        ("--disable-cudnn-autotune", {}),
        ("--wino_quantize F43 --quant-type channel", {"wino_quantize": "F43", "quant_type": "channel"}),
        ("--use-gpu -1", {}),
        ("--quiet false", {}),
        (
            "--input-bits-width=4 --weight-bits-width=5 --quant-type=group --quantize-input-offline --num-sample=2 "
            "--calib-mode=kl --batch-size=6",
            {
                "input_bits_width": 4, "weight_bits_width": 5, "quant_type": "group", "quantize_input_offline": True,
                "num_sample": 2, "calib_mode": "kl", "batch_size": 6,
            },
        ),
    ],
)  # fmt: skip
def test_a_word_means_what_it_says(config: Any, words: str, means: dict[str, Any]) -> None:
    assert config(words) == vars(SimulateConfig()) | means


def test_a_seed_that_is_not_fixed_is_drawn(config: Any) -> None:
    drawn = {config("--fixed-random-seed false")["fixed_random_seed"] for _ in range(3)}
    assert len(drawn) > 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-j 4", "-j is the number of processes that read images"),
        ("-j4", "leave it out, or limit all work with --threads"),
        ("--num-data-workers 4", "--num-data-workers is the number of processes that read images"),
        ("--num-workers=4", "--num-workers is the number of processes that read images"),
        ("--batch-norm", "--batch-norm is a variant of VGG, which is no reference network"),
        ("--input-signed=maybe", "--input-signed is 'maybe'; it must be true or false"),
        ("--exclude-first-conv=", "--exclude-first-conv is ''; it must be true or false"),
        ("--fixed-random-seed maybe", "invalid value for '--fixed-random-seed'"),
        ("--calib-mode kl", "calib_mode is about ranges of inputs that are measured beforehand"),
        ("--use-gn", "use_gn is a variant of reference networks"),
        ("--num-gpus 2", "no such option: --num-gpus"),
    ],
)
def test_what_has_no_meaning_is_refused(cli: Cli, net: Path, data: Path, words: str, message: str) -> None:
    done = cli("simulate", "--model", net, "--data", data, *words.split())
    assert done.code == 2 and message in done.err, done.said


def test_words_behind_two_hyphens_are_left_alone(cli: Cli, net: Path, data: Path) -> None:
    done = cli("simulate", "--data", data, "--quiet", "--", net)
    assert done.code == 0, done.err
    done = cli("simulate", "--data", data, "--", "--batch-norm")
    assert "unknown network '--batch-norm'" in done.err


@pytest.mark.parametrize(
    ("old", "ours"),
    [
        ("cifar_resnet20_v1", "resnet20"),
        ("cifar_resnet56_v1", "resnet56"),
        ("mobilenet1.0", "mobilenet1.0"),
        ("mobilenet0.25", "mobilenet0.25"),
        ("mobilenetv2_1.0", "mobilenetv2_1.0"),
        ("resnet20", "resnet20"),
    ],
)
def test_old_names_of_networks(old: str, ours: str) -> None:
    from fewbit.torch.nets import NETS, our_name

    assert our_name(old) == ours and ours in NETS


def test_a_network_of_cifar_by_its_old_name(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from fewbit.torch.nets import build

    torch.manual_seed(0)
    torch.save(build("resnet20").state_dict(), tmp_path / "net.pt")
    write_fashion(tmp_path / "images", n_train=40, n_test=24)
    words = (
        "--dataset fashion-mnist --quantize-input-offline --num-sample=1 --calib-epoch=1 --weight-bits-width=4 --json"
    )
    where = ("--dataset-root", tmp_path / "images", "--params", tmp_path / "net.pt")
    done = cli("simulate", "--model=cifar_resnet20_v1", *where, *words.split())
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["network"] == "resnet20" and found["calibrated_on"] == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model mobilenet1.0 --dataset imagenet", "and those of imagenet have 224; simulate one that was trained on"),
        ("--model resnet50_v1 --dataset imagenet", "unknown network 'resnet50_v1'; did you mean 'resnet56'"),
        ("--model cifar_resnet110_v1 --dataset cifar10", "A file, or module:function, would do as well"),
        ("--model resnet20 --dataset cifar", "unknown data set 'cifar'; did you mean 'cifar10'"),
    ],
)
def test_networks_that_are_not_here(cli: Cli, words: str, message: str) -> None:
    done = cli("simulate", *words.split())
    assert done.code == 2 and message in done.err, done.said
