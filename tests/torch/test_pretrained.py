"""Float networks that are trained once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fewbit.config.train import TrainConfig
from fewbit.errors import DataError, FewbitWarning, OutputError, UnknownName
from fewbit.torch import pretrained as kept
from fewbit.torch.pretrained import find, pretrained
from tests.datasets import write_fashion

QUICK = TrainConfig(epochs=1, batch_size=32, held_out=0, max_batches=2)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tiny Fashion-MNIST, and an empty cache."""
    monkeypatch.setenv("FEWBIT_CACHE", str(tmp_path / "cache"))
    yield write_fashion(tmp_path / "images", n_train=96, n_test=32)


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder.parent / "cache" / "nets").iterdir())


def test_a_network_is_trained_once(root: Path) -> None:
    said: list[str] = []
    net = pretrained("resnet8", "fashion-mnist", root, {}, QUICK, lambda what, *_: said.append(what))
    assert said and not net.training and {p.device.type for p in net.parameters()} == {"cpu"}
    (name,) = files(root)
    assert name.startswith("resnet8-fashion-mnist-") and name.endswith(".pt")
    again = find("resnet8", "fashion-mnist", root, recipe=QUICK, progress=lambda *_: pytest.fail("trained again"))
    assert again.found and str(again).startswith("float network: trained before, from ") and not again.net.training
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(net(x), again.net(x))


@pytest.mark.parametrize(
    ("name", "words", "recipe"),
    [
        ("resnet8", {"use_gn": True}, QUICK),
        ("mobilenet0.25", {}, QUICK),
        ("resnet8", {}, replace(QUICK, seed=1)),
        ("resnet8", {}, replace(QUICK, weight_decay=0.0)),
    ],
)
def test_other_networks_and_recipes_are_other_files(
    name: str, words: dict[str, bool], recipe: TrainConfig, root: Path
) -> None:
    first = find("resnet8", "fashion-mnist", root, recipe=QUICK)
    other = find(name, "fashion-mnist", root, words, recipe)
    assert other.path != first.path and not other.found and len(files(root)) == 2


def test_where_it_is_trained_and_what_is_off_make_no_difference(root: Path) -> None:
    first = find("resnet8", "fashion-mnist", root, {"use_gn": False}, QUICK)
    assert find("resnet8", "fashion-mnist", root, {}, replace(QUICK, device="cpu", workers=1)).path == first.path


def test_other_images_are_another_network(root: Path, tmp_path: Path) -> None:
    first = find("resnet8", "fashion-mnist", root, recipe=QUICK)
    fewer = write_fashion(tmp_path / "fewer", n_train=64, n_test=32)
    assert find("resnet8", "fashion-mnist", fewer, recipe=QUICK).path != first.path


def test_interrupted_training_goes_on(root: Path) -> None:
    recipe = replace(QUICK, epochs=3)

    def stop(what: str, *_: Any) -> None:
        if what.startswith("epoch 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrained("resnet8", "fashion-mnist", root, recipe=recipe, progress=stop)
    assert [n.endswith(".part") for n in files(root)] == [True]
    said: list[str] = []
    pretrained("resnet8", "fashion-mnist", root, recipe=recipe, progress=lambda what, *_: said.append(what))
    assert [s[:7] for s in said] == ["epoch 3"]
    assert [n.endswith(".pt") for n in files(root)] == [True]


def test_a_damaged_file_is_told_and_made_anew(root: Path) -> None:
    path = find("resnet8", "fashion-mnist", root, recipe=QUICK).path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(FewbitWarning, match="cannot read .*; the network is trained anew"):
        found = find("resnet8", "fashion-mnist", root, recipe=QUICK)
    assert not found.found and path.stat().st_size == len(whole)
    torch.save({"format": "other"}, path)
    with pytest.warns(FewbitWarning, match="is not a network that was kept; the network is trained anew"):
        find("resnet8", "fashion-mnist", root, recipe=QUICK)


def test_wrong_words(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown network 'resnet21'; did you mean"):
        pretrained("resnet21", "fashion-mnist", root)
    with pytest.raises(DataError, match="the train images of mnist are not here"):
        pretrained("resnet8", "mnist", root / "nowhere")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEWBIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"cannot make the folder .*; set FEWBIT_CACHE to another one"):
        pretrained("resnet8", "fashion-mnist", root, recipe=QUICK)


def test_the_cache_is_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEWBIT_CACHE", raising=False)
    assert kept.cache() == Path.home() / ".cache" / "fewbit" / "nets"
