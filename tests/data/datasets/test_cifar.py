"""CIFAR in all its forms: the same images and labels from each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.data.datasets import open_dataset
from fewbit.errors import DataError
from tests.data.datasets.making import cifar_binary, cifar_python, link, pixels, python2, write_files, write_tar

TRAIN, TEST = [pixels(4, i) for i in range(5)], pixels(6, 9)
LABELS, COARSE, FINE = np.arange(6) % 10, np.arange(6) + 14, np.arange(6) + 94
NAMES = [f"data_batch_{i}" for i in range(1, 6)]
BIN10 = {f"{n}.bin": cifar_binary(x, LABELS[:4]) for n, x in zip(NAMES, TRAIN, strict=True)}
BIN10 |= {"test_batch.bin": cifar_binary(TEST, LABELS), "batches.meta.txt": b"airplane\n"}
PY10 = {n: cifar_python(x, labels=LABELS[:4]) for n, x in zip(NAMES, TRAIN, strict=True)}
PY10 |= {"test_batch": cifar_python(TEST, labels=LABELS), "batches.meta": python2({b"label_names": [b"airplane"]})}
BIN100 = {"train.bin": cifar_binary(TRAIN[0], COARSE[:4], FINE[:4]), "test.bin": cifar_binary(TEST, COARSE, FINE)}
PY100 = {"train": cifar_python(TRAIN[0], coarse_labels=COARSE[:4], fine_labels=FINE[:4])}
PY100 |= {"test": cifar_python(TEST, coarse_labels=COARSE, fine_labels=FINE), "meta": python2({})}
FORMS = {
    "cifar-10-batches-bin": ("cifar10", "cifar-10-binary.tar.gz", BIN10),
    "cifar-10-batches-py": ("cifar10", "cifar-10-python.tar.gz", PY10),
    "cifar-100-binary": ("cifar100", "cifar-100-binary.tar.gz", BIN100),
    "cifar-100-python": ("cifar100", "cifar-100-python.tar.gz", PY100),
}


@pytest.mark.parametrize("folder", FORMS)
@pytest.mark.parametrize("way", ["folder", "inside", "archive"])
def test_every_form_gives_the_same(tmp_path: Path, folder: str, way: str) -> None:
    name, archive, files = FORMS[folder]
    if way == "archive":
        write_tar(tmp_path / archive, {f"{folder}/{n}": x for n, x in files.items()})
    else:
        write_files(tmp_path / folder, files)
    test = open_dataset(name, tmp_path / folder if way == "inside" else tmp_path)
    assert test.images().shape == (6, 32, 32, 3) and test.images().dtype == np.uint8
    assert (test.images().transpose(0, 3, 1, 2).reshape(6, -1) == TEST).all()
    assert test.labels.tolist() == (LABELS if name == "cifar10" else FINE).tolist()
    assert len(test.classes) == (10 if name == "cifar10" else 100) and test.shape == (3, 32, 32)
    train = open_dataset(name, tmp_path / folder if way == "inside" else tmp_path, "train")
    rows = np.concatenate(TRAIN) if name == "cifar10" else TRAIN[0]
    assert (train.images().transpose(0, 3, 1, 2).reshape(len(train), -1) == rows).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == [archive if way == "archive" else folder]


def test_classes_have_their_names() -> None:
    from fewbit.data.datasets.names import CIFAR10, CIFAR100, FASHION

    assert (len(set(CIFAR10)), len(set(CIFAR100)), len(set(FASHION))) == (10, 100, 10)
    assert list(CIFAR10) == sorted(CIFAR10) and list(CIFAR100) == sorted(CIFAR100)


def fault(root: Path, name: str = "cifar10", split: str = "test") -> str:
    with pytest.raises(DataError) as e:
        open_dataset(name, root, split)
    return str(e.value)


def test_a_missing_batch_is_named(tmp_path: Path) -> None:
    write_files(tmp_path / "cifar-10-batches-bin", {k: v for k, v in BIN10.items() if "3" not in k})
    text = fault(tmp_path, split="train")
    assert "cifar-10-batches-bin lacks data_batch_3.bin; put it there, or the archive cifar-10-binary.tar.gz" in text
    assert len(open_dataset("cifar10", tmp_path)) == 6


def test_a_missing_or_linked_member_is_named(tmp_path: Path) -> None:
    name = "cifar-10-batches-py/test_batch"
    write_tar(tmp_path / "cifar-10-python.tar.gz", {name: link(name, "/etc/passwd")})
    assert f"cifar-10-python.tar.gz lacks {name}; links" in fault(tmp_path)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (BIN10["test_batch.bin"][:-1], "has 18437 bytes; records take 3073 each"),
        (b"", "has 0 bytes; records take 3073"),
        (cifar_binary(TEST, LABELS + 7), "labels: sample 3 has the label 10; classes count from 0 to 9"),
    ],
)
def test_binary_files_that_are_damaged(tmp_path: Path, raw: bytes, word: str) -> None:
    write_files(tmp_path, {"test_batch.bin": raw})
    assert word in fault(tmp_path) and str(tmp_path / "test_batch.bin") in fault(tmp_path)


def test_coarse_labels_are_checked_too(tmp_path: Path) -> None:
    write_files(tmp_path, {"test.bin": cifar_binary(TEST, COARSE + 1, FINE)})
    assert "coarse_labels: sample 5 has the label 20; classes count from 0 to 19" in fault(tmp_path, "cifar100")


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (cifar_python(TEST, labels=LABELS[:5]), "'data' has 6 rows and 'labels' 5 numbers"),
        (cifar_python(TEST, other=LABELS), "'labels' is a NoneType; it must be a list of whole numbers"),
        (cifar_python(TEST, labels=LABELS - 1), "sample 0 has the label -1"),
        (cifar_python(TEST[:, :9], labels=LABELS), "'data' is uint8 (6, 9); it must be uint8 (N, 3072)"),
        (cifar_python(TEST.astype("f4"), labels=LABELS), "'data' is float32 (6, 3072)"),
        (python2({b"data": b"abc", b"labels": [1]}), "'data' is a str"),
        (python2({b"data": TEST, b"labels": [[1]] * 6}), "'labels' is a list; it must be a list of whole numbers"),
        (b"\x80\x02cos\nsystem\n(U\x02lstR.", "'os.system' is not among the names"),
        (cifar_python(TEST, labels=LABELS)[:-100], "cut off"),
        (b"", "cut off"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_python_batches_that_are_damaged(tmp_path: Path, raw: bytes, word: str, packed: bool) -> None:
    if packed:
        write_tar(tmp_path / "cifar-10-python.tar.gz", {"cifar-10-batches-py/test_batch": raw})
    else:
        write_files(tmp_path, {"test_batch": raw})
    text = fault(tmp_path)
    assert word in text and "test_batch" in text and (not packed or "cifar-10-python.tar.gz" in text)
