"""Folders: what is listed, which labels follow, raw buffers, several inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.data.folders import class_labels, list_files
from fewbit.errors import BadSample, ConfigError, DataError, EmptyData, UnknownName
from tests.data.helpers import PAIR, PHOTO, fed, noise, photos, rows, save, tensor


def buffers(root, *arrays):
    root.mkdir(parents=True, exist_ok=True)
    for i, x in enumerate(arrays):
        x.tofile(root / f"{i}.bin")
    return root


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (["cat/a", "dog/b", "cat/c"], [0, 1, 0]),
        (["7/a", "10/b"], [7, 10]),
        (["7a/a", "x/b"], [0, 1]),
        (["n/deep/a", "m/b"], [1, 0]),
        (["a", "cat/b"], None),
        (["03_5.png"], None),
    ],
)
def test_class_labels(files, labels):
    found = class_labels([Path(f) for f in files])
    assert (found is None and labels is None) or found.tolist() == labels


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["7/a", "x/b"], r"folders are named by numbers, like '7', but not 'x'; name every folder by its class number"),
        ([f"{n}/a" for n in (*"0123", *"abcdefg")], r"like '0', but not 'a', 'b', 'c', 'd', 'e' and 2 more;"),
        (["1/a", "-1/a"], r"like '1', but not '-1';"),
        (["1/a", "01/a", "2/a"], r"several class folders stand for one class number: '01', '1'; keep one for each"),
    ],
)
def test_class_folders_that_cannot_be_numbered(files, says):
    with pytest.raises(DataError, match=says):
        class_labels([Path(f) for f in files])


def test_class_folders(tmp_path):
    photos(tmp_path, "b/1.png", "a/2.png", "b/0.png")
    batches = list(open_data(str(tmp_path), PHOTO, DataConfig(batch_size=2)))
    assert [b.names for b in batches] == [["a/2.png", "b/0.png"], ["b/1.png"]]
    assert [b.labels.tolist() for b in batches] == [[0, 1], [1]]


def test_shuffled_labels_stay_with_their_images(tmp_path):
    photos(tmp_path, *[f"{i}/x.png" for i in range(9)])
    source = open_data(tmp_path, PHOTO, DataConfig(shuffle=True, batch_size=4))
    pairs = [(n, int(k)) for b in source for n, k in zip(b.names, b.labels, strict=True)]
    assert all(n == f"{k}/x.png" for n, k in pairs)
    assert pairs != sorted(pairs)


def test_hidden_and_other_files_are_left_out(tmp_path):
    photos(tmp_path, "a.png", ".b.png", ".git/c.png", "__MACOSX/d.png")
    (tmp_path / "notes.txt").write_text("hello")
    assert [b.names for b in open_data(tmp_path, PHOTO)] == [["a.png"]]


def test_links_are_followed_and_loops_end(tmp_path):
    photos(tmp_path / "real", "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(root)
    assert list_files(root) == [Path("cat/a.png")]


def test_empty_folders(tmp_path):
    with pytest.raises(EmptyData, match=r"holds no image and no .bin file; it holds nothing"):
        open_data(tmp_path, PHOTO)
    for name in ("a.txt", "b.txt", "c"):
        (tmp_path / name).write_text("")
    with pytest.raises(EmptyData, match=r"it holds 2 x .txt, 1 x no extension"):
        open_data(tmp_path, PHOTO)


def test_two_kinds_in_a_folder(tmp_path):
    photos(tmp_path, "a.png")
    buffers(tmp_path, rows(3))
    with pytest.raises(DataError, match=r"holds 1 image and 1 .bin file; keep one kind in a folder"):
        open_data(tmp_path, PHOTO)


def test_digest_follows_names_and_bytes(tmp_path):
    photos(tmp_path, "a.png", "b.png")
    first = open_data(tmp_path, PHOTO).digest()
    assert open_data(tmp_path, PHOTO, DataConfig(batch_size=2)).digest() == first
    save(noise(4, 6, 99), tmp_path / "b.png")
    second = open_data(tmp_path, PHOTO).digest()
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    assert len({first, second, open_data(tmp_path, PHOTO).digest()}) == 3


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "u1", "?"])
def test_buffers_in_the_dtype_of_the_input(dtype, tmp_path):
    x = (rows(3, 2, 2) % 2).astype(dtype)
    source = open_data(buffers(tmp_path, *x), [tensor("x", "N", 2, 2, dtype=dtype)], DataConfig(batch_size=2))
    np.testing.assert_array_equal(fed(source), x)
    assert next(iter(source)).feeds["x"].dtype == np.dtype(dtype)
    assert [b.names for b in source.iterate(1)] == [["2.bin"]]


def test_buffer_of_another_size(tmp_path):
    buffers(tmp_path, rows(2), rows(3))
    with pytest.raises(BadSample, match=r"1.bin has 12 bytes; a sample of input 'a' .*, \(2\), has 8"):
        list(open_data(tmp_path, PAIR[:1]))


def test_buffers_for_a_free_shape(tmp_path):
    with pytest.raises(
        DataError,
        match=r"not say their shape, and neither does input 'x'.*; fix .* --input-shapes, input_shapes= or",
    ):
        open_data(buffers(tmp_path, rows(2)), [tensor("x", "N", "T")])


def test_buffers_take_no_image_settings(tmp_path):
    with pytest.raises(ConfigError, match="normalize_std is for images"):
        open_data(buffers(tmp_path, rows(2)), PAIR[:1], DataConfig(normalize_std=2))


def test_nan_in_a_buffer_names_the_file(tmp_path):
    with pytest.raises(
        BadSample, match=r"0.bin has 2 values that are not finite as float32: nan at \(0\) of input 'a'"
    ):
        list(open_data(buffers(tmp_path, rows(2) * np.nan), PAIR[:1]))


def test_buffers_of_whole_inputs(tmp_path):
    inputs = [tensor("x", None, 3), tensor("state", 2, 4)]
    buffers(tmp_path / "x", rows(3), rows(3))
    buffers(tmp_path / "s", rows(2, 4), rows(2, 4) + 1)
    batches = list(open_data({"x": tmp_path / "x", "state": tmp_path / "s"}, inputs))
    assert [b.feeds["state"].shape for b in batches] == [(2, 4), (2, 4)]
    np.testing.assert_array_equal(batches[1].feeds["state"], rows(2, 4) + 1)


@pytest.fixture
def pair(tmp_path):
    return buffers(tmp_path / "one", *rows(3, 2)), buffers(tmp_path / "two", *rows(3, 1))


@pytest.mark.parametrize("text", [True, False])
def test_a_folder_for_each_input(text, pair):
    data = f"b:{pair[1]},a:{pair[0]}" if text else {"a": pair[0], "b": str(pair[1])}
    source = open_data(data, PAIR, DataConfig(batch_size=2))
    np.testing.assert_array_equal(fed(source, "a"), rows(3, 2))
    np.testing.assert_array_equal(fed(source, "b"), rows(3, 1))
    assert (len(source), source.samples) == (2, 3)


def test_input_names_with_colons(pair):
    np.testing.assert_array_equal(
        fed(
            open_data(
                f"a:0:{pair[0]}",
                [
                    tensor("a:0", "N", 2),
                ],
            ),
            "a:0",
        ),
        rows(3, 2),
    )


def test_folders_files_and_arrays_mixed(pair, tmp_path):
    np.save(tmp_path / "b.npy", rows(3, 1))
    for b in (tmp_path / "b.npy", rows(3, 1)):
        source = open_data({"a": pair[0], "b": b}, PAIR)
        np.testing.assert_array_equal(fed(source, "b"), rows(3, 1))


def test_images_beside_buffers(tmp_path):
    photos(tmp_path / "i", "cat/a.png", "dog/b.png")
    buffers(tmp_path / "b", *rows(2, 1))
    source = open_data({"x": tmp_path / "i", "b": tmp_path / "b"}, [*PHOTO, PAIR[1]], DataConfig(normalize_mean=1))
    assert [b.labels.tolist() for b in source] == [[0], [1]]
    assert source.digest() == open_data({"b": tmp_path / "b", "x": tmp_path / "i"}, [*PHOTO, PAIR[1]]).digest()


def test_folders_of_different_counts(pair):
    buffers(pair[1], *rows(4, 1))
    with pytest.raises(DataError, match="different numbers of samples: 'a' has 3, 'b' has 4"):
        open_data({"a": pair[0], "b": pair[1]}, PAIR)


def test_folder_for_an_unknown_input(pair):
    with pytest.raises(UnknownName, match=r"unknown input name 'bb'; did you mean 'b'\?"):
        open_data(f"a:{pair[0]},bb:{pair[1]}", PAIR)
    with pytest.raises(UnknownName, match=r"unknown input name 'aa'; did you mean 'a'\?"):
        open_data(f"aa:{pair[0]},b:{pair[1]}", PAIR)


def test_folder_for_an_input_twice_or_missing(pair):
    with pytest.raises(DataError, match="names input 'a' twice"):
        open_data(f"a:{pair[0]},a:{pair[1]}", PAIR)
    with pytest.raises(DataError, match="lacks input 'b'; it has 'a'"):
        open_data(f"a:{pair[0]}", PAIR)
    with pytest.raises(DataError, match="nowhere: there is no such file or folder"):
        open_data(f"a:{pair[0]},b:nowhere", PAIR)


def test_labels_beside_folders(pair):
    with pytest.raises(
        DataError, match="labels go with arrays; for folders, sort the images into a folder for each class"
    ):
        open_data({"a": pair[0], "b": pair[1], "labels": [0, 1, 2]}, PAIR)
