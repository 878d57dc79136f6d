"""Record files as data: the same as MXNet feeds, the same as a folder gives; labels of every form; what is refused."""

from __future__ import annotations

import gc
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.data.images import shorter_edge
from fewbit.data.packing import list_records, unpack_records
from fewbit.data.recordio import RecordReader
from fewbit.errors import BadSample, ConfigError, DataError, EmptyData, FewbitError, FewbitWarning
from tests.data.helpers import PHOTO, VECTOR, fed, noise, photos, save, tensor
from tests.data.recording import REC, png, records

READ = np.load(REC / "read.npz")
SMALL, LARGE = [tensor("x", "N", 3, 16, 16)], [tensor("x", "N", 3, 32, 32)]
CROP = {"center_crop_width": 16, "center_crop_height": 16}


def pixels(name: str, inputs=SMALL, **config) -> np.ndarray:
    return fed(open_data(REC / name, inputs, DataConfig(**config)))


def labels_of(path: Path, **config) -> list[np.ndarray]:
    return [b.labels for b in open_data(path, PHOTO, DataConfig(**config))]


# -- as MXNet feeds it ----------------------------------------------------------------------------------------------

STATISTICS = {"normalize_mean": READ["mean"], "normalize_std": READ["std"]}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("crop", CROP),
        ("normalized", {**CROP, **STATISTICS}),
        ("scaled", {**CROP, **STATISTICS, "normalize_std": READ["std"] / READ["scale"]}),  # scale= is part of std here
    ],
)
def test_pixels_of_mxnet(key, words):
    one = 1.01 / (1.0 if key == "crop" else READ["std"].min())  # decoders of JPEG may differ by one
    np.testing.assert_allclose(pixels("images.rec", **words), READ[key], atol=one, rtol=0)
    lossless = [1, 2]
    np.testing.assert_allclose(pixels("images.rec", **words)[lossless], READ[key][lossless], atol=1e-5, rtol=0)


def test_grey_and_enlarged_pixels_of_mxnet():
    grey = pixels("images.rec", [tensor("x", "N", 1, 16, 16)], image_to_format="GRAY", **CROP)
    np.testing.assert_allclose(grey, READ["grey"], atol=2)
    np.testing.assert_allclose(pixels("images.rec", LARGE, resize_shorter=32), READ["shorter"], atol=2)


def test_labels_and_names_of_mxnet():
    (batch,) = open_data(REC / "images.rec", SMALL, DataConfig(batch_size=4, **CROP))
    assert batch.labels.dtype == np.int64
    np.testing.assert_array_equal(batch.labels, READ["labels"])
    assert batch.names == [f"record {i}" for i in READ["ids"]]


def test_objects_of_mxnet():
    (batch,) = open_data(REC / "detection.rec", SMALL, DataConfig(batch_size=3))
    assert batch.labels.shape == (3, 2, 5) and batch.labels.dtype == np.float32
    np.testing.assert_array_equal(batch.labels[[0, 2]], READ["objects"])
    assert (batch.labels[1] == -1).all()
    single = labels_of(REC / "detection.rec")
    assert [y.shape for y in single] == [(1, 2, 5)] * 3  # the same in every batch


def test_several_labels_of_mxnet():
    (y,) = labels_of(REC / "vectors.rec", batch_size=2)
    np.testing.assert_array_equal(y, READ["vectors"])


# -- as a folder gives it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"resize_shorter": 18},
        {"resize_shorter": 30, "center_crop_width": 16, "center_crop_height": 16, "image_to_format": "BGR"},
        {"shuffle": True, "seed": 3, "normalize_mean": (1, 2, 3), "normalize_std": 7, "batch_size": 3},
    ],
)
def test_the_same_as_from_the_folder(words, both):
    a, b = (list(open_data(p, SMALL, DataConfig(**words))) for p in both)
    assert len(a) == len(b) > 1
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.feeds["x"], y.feeds["x"])
        np.testing.assert_array_equal(x.labels, y.labels)


def test_as_one_of_several_inputs(both):
    root, path = both
    inputs = [*SMALL, tensor("y", "N", 3, 4, 6)]
    (batch,) = open_data(f"x:{path},y:{root}", inputs, DataConfig(batch_size=7))
    assert batch.feeds["x"].shape == (7, 3, 16, 16) and batch.feeds["y"].shape == (7, 3, 4, 6)
    np.testing.assert_array_equal(batch.labels, [2, 2, 2, 5, 5, 7, 7])


def test_digest_is_of_the_bytes(both):
    _, path = both
    before = open_data(path, SMALL).digest()
    assert before == open_data(path, SMALL).digest() and len(before) == 64
    raw = bytearray(path.read_bytes())
    raw[-3] ^= 1
    path.write_bytes(raw)
    assert open_data(path, SMALL).digest() != before


# -- labels ---------------------------------------------------------------------------------------------------------


def test_fractions_stay(tmp_path):
    found = labels_of(records(tmp_path / "a.rec", [3, 0.5, 2]))
    assert [(y.dtype.kind, float(y[0])) for y in found] == [("i", 3), ("f", 0.5), ("i", 2)]


def test_wide_objects_keep_all_their_numbers(tmp_path):
    path = records(tmp_path / "a.rec", [[2, 6, 1, 0, 0, 1, 1, 0], [3, 6, 9, 4, 0, 0, 1, 1, 1, 5, 0, 0, 1, 1, 0]])
    (y,) = labels_of(path, batch_size=2)
    assert y.shape == (2, 2, 6)
    np.testing.assert_array_equal(y[:, :, 0], [[1, -1], [4, 5]])


@pytest.mark.parametrize(
    ("labels", "want"),
    [
        ([[2, 5, 1, 0, 0, 1, 1], [1, 2, 3]], [[2, 5, 1, 0, 0, 1, 1], [1, 2, 3, -1, -1, -1, -1]]),
        ([[2, 5], [4, 5, 0, 0]], [[2, 5, -1, -1], [4, 5, 0, 0]]),  # headers without any object
        ([[2, 5, 1, 0, 0, 1, 1], 8], [[2, 5, 1, 0, 0, 1, 1], [8, -1, -1, -1, -1, -1, -1]]),
        ([[2, 5, 1, 0, 0, 1, 1], [2, 6, 1, 0, 0, 1, 1, 9]], [[2, 5, 1, 0, 0, 1, 1, -1], [2, 6, 1, 0, 0, 1, 1, 9]]),
        ([[np.nan, 5], [2, np.inf]], [[np.nan, 5], [2, np.inf]]),
    ],
)
def test_other_labels_are_filled_up(labels, want, tmp_path):
    (y,) = labels_of(records(tmp_path / "a.rec", labels), batch_size=2)
    np.testing.assert_array_equal(y, np.float32(want))


def test_labels_of_two_kinds(tmp_path):
    source = open_data(records(tmp_path / "a.rec", [1, [1, 2, 3]]), PHOTO)
    with pytest.raises(BadSample, match=r"record 1 of .*a.rec.* has 3 labels, and the first record has one"):
        list(source)


# -- what is refused ------------------------------------------------------------------------------------------------


def test_no_images(tmp_path):
    path = records(tmp_path / "a.rec", [1], [b"no image at all"])
    with pytest.raises(BadSample, match=r"record 0 of .*a.rec, at byte 0, cannot be read as an image: it is of no"):
        list(open_data(path, PHOTO))
    with pytest.raises(DataError, match=r"of record files only images are read: .*a.rec .*'x' .* takes no images"):
        open_data(path, VECTOR)


def test_raw_payloads():
    with pytest.raises(BadSample, match=r"record 0 of .*raw.rec, at byte 0, has 5 bytes; an image record begins with"):
        list(open_data(REC / "raw.rec", PHOTO))


def test_nothing(tmp_path):
    with pytest.raises(EmptyData, match=r"a.rec holds no record"):
        open_data(records(tmp_path / "a.rec", []), PHOTO)
    with pytest.raises(DataError, match=r"a.rec is damaged at byte 0"):
        (tmp_path / "a.rec").write_bytes(b"x")
        (tmp_path / "a.idx").unlink()
        open_data(tmp_path / "a.rec", PHOTO)


def test_bad_images_are_skipped_on_demand(tmp_path):
    path = records(tmp_path / "a.rec", [1, 2, 3], [png(), b"x", png(1)])
    source = open_data(path, PHOTO, DataConfig(skip_bad=True, batch_size=2))
    with pytest.warns(FewbitWarning, match=r"left out 1 of 3 samples: record 1 of"):
        (batch,) = source
    assert batch.names == ["record 40", "record 42"]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's own, about metadata
@settings(max_examples=60)
@given(st.data())
def test_no_damage_escapes(data):
    """Whatever bytes are wrong: samples, a list and files, or an error of ours."""
    raw = bytearray((REC / data.draw(st.sampled_from(["images.rec", "detection.rec"]))).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.one_of(st.integers(0, 60), st.integers(0, len(raw) - 1)))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.rec"
        path.write_bytes(raw)
        for use in (
            lambda: [b.labels.shape for b in open_data(path, SMALL)],
            lambda: list(list_records(RecordReader(path))),
            lambda: unpack_records(RecordReader(path), Path(folder) / "out"),
        ):
            try:
                assert use()
            except FewbitError as e:
                assert str(e)


# -- resize_shorter -------------------------------------------------------------------------------------------------


def test_the_shorter_edge():
    # as measured of MXNet: the longer edge is cut, not rounded
    assert [shorter_edge(s, r, "a") for s, r in [((33, 50), 20), ((32, 19), 16), ((10, 10), 16)]] == [
        (20, 30), (26, 16), (16, 16),
    ]  # fmt: skip
    with pytest.raises(BadSample, match=r"a is 1x60000; with resize_shorter 100 it would become 100x6000000"):
        shorter_edge((1, 60000), 100, "a")


def test_resize_shorter_in_folders(tmp_path):
    image = noise(20, 30)
    save(image, tmp_path / "a.png")
    want = np.asarray(image.resize((15, 10), Image.Resampling.BILINEAR), np.float32)[3:7, 4:10].transpose(2, 0, 1)
    np.testing.assert_array_equal(fed(open_data(tmp_path, PHOTO, DataConfig(resize_shorter=10)))[0], want)


@pytest.mark.parametrize(
    ("config", "inputs", "text"),
    [
        ({"resize_shorter": 3}, PHOTO, r"takes images of 6x4, and resize_shorter 3 makes them smaller; use 4 or more"),
        ({"resize_shorter": 9}, [tensor("x", "N", 3, None, None)], r"does not fix height and width; give center_crop_"),
    ],
)  # fmt: skip
def test_resize_shorter_that_does_not_fit_the_model(config, inputs, text, tmp_path):
    photos(tmp_path, "a.png")
    with pytest.raises(ConfigError, match=text):
        open_data(tmp_path, inputs, DataConfig(**config))


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"resize_shorter": 0}, r"resize_shorter is 0"),
        ({"resize_shorter": 9, "resize_width": 9, "resize_height": 9}, r"resize_shorter keeps the aspect, .* one of"),
        (
            {"resize_shorter": 9, "center_crop_width": 10, "center_crop_height": 12},
            r"crop 10x12 is larger than images whose shorter edge is 9; resize_shorter must be 10 or more",
        ),
    ],
)
def test_resize_shorter_that_cannot_be(config, text):
    with pytest.raises(ConfigError, match=text):
        DataConfig(**config)


# -- memory ---------------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_file(tmp_path):
    content = png(0) + bytes(50_000)

    def peak(count: int) -> int:
        path = records(tmp_path / "a.rec", [1] * count, [content] * count)
        gc.collect()
        tracemalloc.start()
        for _ in open_data(path, PHOTO):
            pass
        list(list_records(RecordReader(path)))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(2)
    assert peak(200) < peak(20) + 1_000_000  # the file grows by 9 MB
