"""Training in one call, and the words of TrainConfig."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fewbit as fb
from fewbit.api import simulated_torch, training
from fewbit.api.training import Trained, need_torch, train
from fewbit.config import configure
from fewbit.config.train import TrainConfig
from fewbit.data.datasets import Labelled, open_dataset
from fewbit.errors import ConfigError, EngineMissing, FewbitWarning, ModelFormatError, UnknownName, UsageError
from tests.datasets import write_fashion

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 32, "augment": "none", "warmup": 0.0}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Labelled, Labelled]:
    folder = write_fashion(tmp_path_factory.mktemp("images"), n_train=384, n_test=192)
    return open_dataset("fashion-mnist", folder, split="train"), open_dataset("fashion-mnist", folder, split="test")


@pytest.fixture(scope="module")
def floating(sets: tuple[Labelled, Labelled]) -> Trained:
    return train(net(), sets[0], test=sets[1], float_only=True, **{**QUICK, "epochs": 12, "learning_rate": 0.2})


@pytest.fixture(scope="module")
def integer(floating: Trained, sets: tuple[Labelled, Labelled]) -> Trained:
    return train(copy.deepcopy(floating.net), sets[0], test=sets[1], bit_num=4, **QUICK)


def test_resuming_needs_something_to_resume(sets: tuple[Labelled, Labelled], tmp_path: Path) -> None:
    words: dict[str, Any] = {**QUICK, "epochs": 1, "float_only": True, "resume": True}
    with pytest.raises(UsageError, match="resume goes on from a checkpoint; say which file with checkpoint"):
        train(net(), sets[0], test=sets[1], **words)
    file = tmp_path / "a.train"
    with pytest.warns(FewbitWarning, match="there is nothing to resume: .*a.train is not there; training begins with"):
        train(net(), sets[0], test=sets[1], checkpoint=file, **words)
    told: list[str] = []
    file.unlink()
    train(net(), sets[0], test=sets[1], checkpoint=file, tell=told.append, **words)
    assert told[0].startswith("note: there is nothing to resume") and told[1].startswith("epoch 1 of 1: loss ")


def test_the_device_is_looked_at_before_the_images_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "open_dataset", lambda *a, **k: pytest.fail("images are read"))
    with pytest.raises(UsageError, match="device is 'cuda:77', which cannot be used here"):
        train("resnet8", "fashion-mnist", device="cuda:77")
    monkeypatch.setattr(simulated_torch, "open_dataset", lambda *a, **k: pytest.fail("images are read"))
    with pytest.raises(UsageError, match="device is 'cuda:77', which cannot be used here"):
        fb.simulate("resnet8", dataset="fashion-mnist", device="cuda:77")
    with pytest.raises(UsageError, match="device is 'cuda'; networks from files are simulated on the CPU"):
        fb.simulate("none.onnx", dataset="fashion-mnist", device="cuda")


def test_a_float_network(floating: Trained, sets: tuple[Labelled, Labelled], tmp_path: Path) -> None:
    assert floating.exported is None and floating.report.after is not None and floating.report.after > 0.4
    assert floating.text().startswith("float Sequential on fashion-mnist\n")
    floating.save(tmp_path / "net.onnx")
    found = fb.evaluate(tmp_path / "net.onnx", sets[1].feeds(), batch_size=64)
    assert found.accuracy[1].rate == floating.report.after


def test_an_integer_network(
    integer: Trained, floating: Trained, sets: tuple[Labelled, Labelled], tmp_path: Path
) -> None:
    report = integer.report
    assert report.float_top1 == floating.report.after
    assert report.before is not None and report.after is not None
    assert report.exported == pytest.approx(report.after, abs=0.02)
    assert integer.about == "Sequential on fashion-mnist, bit_num 4"
    assert "exported " in integer.text() and "onnxruntime against simulation" in integer.text()
    assert set(integer.to_json()) == {"about", "report", "check"}
    integer.save(tmp_path / "int.onnx")
    assert fb.evaluate(tmp_path / "int.onnx", sets[1].feeds(), batch_size=32).accuracy[1].rate == report.exported
    plan = fb.Plan.load(tmp_path / "int.plan.json")
    assert {v.spec.bits for v in plan.values.values() if v.role == "act"} == {4}


def test_params_are_taken(floating: Trained, sets: tuple[Labelled, Labelled], tmp_path: Path) -> None:
    floating.save_params(tmp_path / "net.pt")
    words = {**QUICK, "epochs": 1, "learning_rate": 1e-6, "held_out": 0.0}
    again = train(net(), sets[0], test=sets[1], float_only=True, params=tmp_path / "net.pt", **words)
    assert again.report.after == pytest.approx(floating.report.after, abs=0.05)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    message = r"other.pt holds the weights of another network: Missing key.*: \"\S+\" and \d+ more$"
    with pytest.raises(ModelFormatError, match=message):
        train(net(), sets[0], test=sets[1], float_only=True, params=tmp_path / "other.pt")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean 'epochs'"),
        ({"bit_num": 17}, "bit_num is 17; it must be a whole number from 1 to 16"),
        ({"bit_num": 4, "float_only": True}, "bit_num is about quantizing; leave it out with float_only"),
        ({"progressive_bits": (8,), "float_only": True}, "progressive_bits is about quantizing; leave it out"),
        ({"variants": {"use_gn": True}}, "use_gn is a variant of reference networks; a network of your own has none"),
    ],
)
def test_wrong_words(words: dict[str, Any], says: str, sets: tuple[Labelled, Labelled]) -> None:
    with pytest.raises(UsageError, match=says):
        train(net(), sets[0], test=sets[1], **words)


def test_a_set_of_images_needs_a_test(sets: tuple[Labelled, Labelled]) -> None:
    with pytest.raises(UsageError, match="a set of images to train on needs test, another one to measure top-1 on"):
        train(net(), sets[0])
    with pytest.raises(UsageError, match="a data set that is named has one of its own"):
        train(net(), "fashion-mnist", test=sets[1])


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewbit.api.training.find_spec", lambda name: None)
    with pytest.raises(EngineMissing, match=r"PyTorch is not installed; it comes with: pip install 'fewbit\[torch\]'"):
        need_torch()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"epochs": 0}, "epochs is 0; it must be a whole number of 1 or more"),
        ({"batch_size": 1.5}, "batch_size is 1.5; it must be a whole number of 1 or more"),
        ({"seed": -1}, "seed is -1; it must be a whole number from 0 to 4294967295"),
        ({"learning_rate": 0}, "learning_rate is 0; it must be a number over 0 to 100"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; it must be a number over 0 to 100"),
        ({"momentum": 1.0}, "momentum is 1.0; it must be a number from 0 to 0.9999"),
        ({"distill": 1.5}, "distill is 1.5; it must be a number from 0 to 1"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be a number over 0 to 100"),
        ({"held_out": 0.9}, "held_out is 0.9; it must be a number from 0 to 0.5"),
        ({"freeze_after": -0.1}, "freeze_after is -0.1; it must be a number from 0 to 1"),
        ({"max_batches": 0}, "max_batches is 0; it must be a whole number of 1 or more"),
        ({"amp": 1}, "amp is 1; it must be true or false"),
        ({"learned": 1.5}, "learned is 1.5; it must be true or false"),
        ({"progressive_bits": (8.5,)}, r"progressive_bits is \(8.5,\); it must be whole numbers from 1 to 16"),
        ({"progressive_bits": (4, 8)}, r"progressive_bits is \(4, 8\); each stage must have fewer bits"),
        ({"progressive_bits": (8, 4), "epochs": 2}, "progressive_bits makes 3 stages; epochs is 2, it must be as many"),
        ({"warmup": 11.0}, "warmup is 11 epochs of 10; it must be at most as many as epochs"),
        ({"ste": "plain"}, "ste 'plain' is for fixed scales, .*; say learned=False"),
        ({"distill": 0.0, "temperature": 4.0}, "temperature softens the float network's answers; with distill 0"),
        ({"optimizer": "adamw", "momentum": 0.5}, "momentum is for optimizer 'sgd'; leave it out with 'adamw'"),
    ],
)
def test_what_a_setting_must_be(words: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        configure(TrainConfig, None, **words)


@pytest.mark.parametrize(
    ("word", "near"), [("optimizer", "sgd"), ("augment", "crop"), ("ste", "plain"), ("fake_bn", "running")]
)
def test_words_have_a_nearest_match(word: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"unknown {word} '{near}s'; did you mean '{near}"):
        configure(TrainConfig, None, **{word: f"{near}s"})


def test_bits_from_the_command_line_are_whole_numbers() -> None:
    assert configure(TrainConfig, None, progressive_bits=(8.0, 4.0)).progressive_bits == (8, 4)
