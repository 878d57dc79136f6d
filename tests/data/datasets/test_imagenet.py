"""ImageNet folders: labels from class folders or from files, images brought to one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.data.datasets import open_dataset
from fewbit.errors import BadSample, DataError, EmptyData
from tests.data.datasets.making import write_images
from tests.data.helpers import tensor

WNIDS = [f"n{i:08}" for i in range(1000)]
FLAT = ("b.JPEG", "a.JPEG", "c.JPEG")


def fault(root: Path, split: str = "test") -> str:
    with pytest.raises(DataError) as e:
        open_dataset("imagenet", root, split)
    return str(e.value)


def test_class_folders_are_numbered_in_order(tmp_path: Path) -> None:
    write_images(tmp_path / "val", "n02/x.JPEG", "n01/y.JPEG", "n02/z.jpg")
    write_images(tmp_path / "train", "n01/y.JPEG")
    data = open_dataset("imagenet", tmp_path)
    assert data.labels.tolist() == [0, 1, 1] and data.classes == ("n01", "n02") and len(data) == 3
    assert "2 class folders are numbered 0 to 1" in data.note and "synset_words.txt" in data.note
    assert len(open_dataset("imagenet", tmp_path, "train")) == 1


def test_images_are_resized_and_cropped(tmp_path: Path) -> None:
    write_images(tmp_path / "val", "n01/x.JPEG", "n01/y.JPEG")
    data = open_dataset("imagenet", tmp_path)
    images = data.images()
    assert images.shape == (2, 224, 224, 3) and images.dtype == np.uint8
    with Image.open(tmp_path / "val" / "n01" / "y.JPEG") as raw:
        assert raw.size == (310, 310)
        want = raw.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
    assert (images[1] == np.asarray(want)).all()
    assert np.allclose(data.normalized([1])[0, 2], (images[1, :, :, 2] / 255 - 0.406) / 0.225, atol=1e-5)


def test_folders_named_by_numbers_are_these(tmp_path: Path) -> None:
    write_images(tmp_path / "val", "7/x.JPEG", "10/y.JPEG")
    data = open_dataset("imagenet", tmp_path)
    assert sorted(data.labels.tolist()) == [7, 10] and len(data.classes) == 11 and not data.note


def test_a_file_of_names_numbers_the_folders(tmp_path: Path) -> None:
    write_images(tmp_path / "val", f"{WNIDS[5]}/x.JPEG", f"{WNIDS[900]}/y.JPEG")
    (tmp_path / "synset_words.txt").write_text("".join(f"{w} name of {w}, other\n" for w in WNIDS))
    data = open_dataset("imagenet", tmp_path)
    assert data.labels.tolist() == [5, 900] and data.classes[5] == f"name of {WNIDS[5]}, other" and not data.note
    write_images(tmp_path / "val", "n9/z.JPEG")
    assert "class folder 'n9', which synset_words.txt" in fault(tmp_path)
    (tmp_path / "synset_words.txt").write_text(f"{WNIDS[0]} a\n")
    assert "has 1 lines; it must have one for each of the 1000" in fault(tmp_path)
    (tmp_path / "synset_words.txt").write_text(f"{WNIDS[0]} a\n{WNIDS[0]} a\n")
    assert "line 2 of" in fault(tmp_path)


@pytest.mark.parametrize("name", ["val.txt", "labels.txt", "val/val.txt"])
@pytest.mark.parametrize("text", ["c.JPEG 3\nval/a.JPEG 1\n\nb.JPEG 2\nother.JPEG 9\n", "1\n2\n3\n"])
def test_files_of_labels(tmp_path: Path, name: str, text: str) -> None:
    write_images(tmp_path / "val", *FLAT)
    (tmp_path / name).write_text(text)
    data = open_dataset("imagenet", tmp_path)
    assert data.labels.tolist() == [1, 2, 3] and len(data.classes) == 1000


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("1\n2\n", "3 images and 2 labels"),
        ("1\n2\n1000\n", "line 3 of .*val.txt has the class 1000; classes count from 0 to 999"),
        ("1\nb.JPEG 2\n3\n", "line 2 of .*'b.JPEG 2'; each line must be a file and a class number"),
        ("a.JPEG 1\n2\n3\n", "line 2 of"),
        ("a.JPEG one\n", "line 1 of"),
        ("-1\n2\n3\n", "line 1 of"),
        ("a.JPEG 1\nc.JPEG 2\n", "lacks 1 of 3 images; the first: b.JPEG"),
        ("\xff\xfe", "no text in UTF-8"),
    ],
)
def test_files_of_labels_that_are_damaged(tmp_path: Path, text: str, word: str) -> None:
    write_images(tmp_path / "val", *FLAT)
    (tmp_path / "val.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=word):
        open_dataset("imagenet", tmp_path)


def test_the_numbers_of_the_development_kit_need_its_table(tmp_path: Path) -> None:
    write_images(tmp_path / "val", *FLAT)
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n2\n1000\n")
    assert "numbers the classes from 1 in an order of its own" in fault(tmp_path)
    order = WNIDS[::-1]
    table = tmp_path / "map_clsloc.txt"
    table.write_text("".join(f"{w} {i} name\n" for i, w in enumerate(order, 1)))
    assert open_dataset("imagenet", tmp_path).labels.tolist() == [999, 998, 0]
    table.write_text("".join(f"{w} {i} name\n" for i, w in enumerate(order[1:], 1)))
    assert "has 999 numbers for 999 class folders; it must have the numbers 1 to 1000" in fault(tmp_path)
    table.write_text("n01 one\n")
    assert "line 1 of" in fault(tmp_path) and "class folder, number, name" in fault(tmp_path)
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("0\n2\n3\n")
    table.write_text("".join(f"{w} {i} name\n" for i, w in enumerate(order, 1)))
    assert "has the class 0; classes count from 1 to 1000" in fault(tmp_path)


def test_without_labels_the_message_says_which_file_to_write(tmp_path: Path) -> None:
    write_images(tmp_path / "val", *FLAT)
    assert f"put val.txt into {tmp_path}: lines 'file number', classes counting from 0" in fault(tmp_path)


def test_images_beside_class_folders_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "val", "a.JPEG", "n01/b.JPEG")
    assert "1 images beside class folders, a.JPEG" in fault(tmp_path)


def test_no_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "val" / "n01").mkdir(parents=True)
    with pytest.raises(EmptyData, match=r"holds no image; put val/<class folder>/\*.JPEG there"):
        open_dataset("imagenet", tmp_path)


def test_a_file_that_is_no_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    write_images(tmp_path / "val", "n01/a.JPEG")
    (tmp_path / "val" / "n01" / "b.JPEG").write_bytes(b"no image")
    data = open_dataset("imagenet", tmp_path)
    assert len(data.images([0])) == 1
    with pytest.raises(BadSample, match=r"b\.JPEG cannot be read as an image"):
        data.images()


def test_the_feed_is_a_stream_that_can_be_visited_again(tmp_path: Path) -> None:
    write_images(tmp_path / "val", "n01/x.JPEG", "n02/y.JPEG", "n02/z.JPEG")
    data = open_dataset("imagenet", tmp_path)
    source = open_data(data.feeds(), [tensor("image", "N", 3, 224, 224)], DataConfig(batch_size=2))
    for _ in range(2):
        batches = list(source)
        assert [len(b.names) for b in batches] == [2, 1]
        assert np.concatenate([b.labels for b in batches]).tolist() == [0, 1, 1]
        assert np.array_equal(np.concatenate([b.feeds["image"] for b in batches]), data.normalized())
