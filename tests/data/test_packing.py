"""Packing and unpacking: bytes stay as they are, nothing leaves the folder, all or nothing."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fewbit.data.imagelist import Listed, RecordHeader, pack_header, read_lst
from fewbit.data.packing import (
    Encode,
    image_bytes,
    kind_of,
    list_records,
    listed_folder,
    pack_records,
    unpack_records,
)
from fewbit.data.recordio import RecordReader, RecordWriter
from fewbit.errors import (
    BadSample,
    ConfigError,
    DataError,
    EmptyData,
    FewbitWarning,
    OutputError,
    UnknownName,
    UsageError,
)
from tests.data.helpers import photos
from tests.data.recording import REC, png, records


def test_images_go_in_untouched_and_come_out(both, tmp_path):
    root, path = both
    rows = listed_folder(root)
    assert unpack_records(RecordReader(path), tmp_path / "named", rows) == 7
    for row in rows:
        assert (tmp_path / "named" / row.path).read_bytes() == (root / row.path).read_bytes()
    unpack_records(RecordReader(path), tmp_path / "made")
    names = sorted(p.relative_to(tmp_path / "made").as_posix() for p in (tmp_path / "made").rglob("*.*"))
    assert names == ["2/0.png", "2/1.jpg", "2/2.png", "5/3.png", "5/4.jpg", "7/5.bmp", "7/6.png", "records.lst"]
    listed = read_lst(tmp_path / "made" / "records.lst")
    pack_records(listed, tmp_path / "made", tmp_path / "again.rec")
    assert (tmp_path / "again.rec").read_bytes() == path.read_bytes()


def test_detection_comes_out_with_its_labels(tmp_path):
    unpack_records(RecordReader(REC / "detection.rec"), tmp_path / "out")
    rows = read_lst(tmp_path / "out" / "records.lst")
    assert [r.path for r in rows] == ["0.png", "1.png", "2.png"]
    assert rows[1].labels == (4, 5, 16, 16)
    pack_records(rows, tmp_path / "out", tmp_path / "again.rec")
    assert (tmp_path / "again.rec").read_bytes() == (REC / "detection.rec").read_bytes()


def test_encoded_anew(both):
    root, _ = both
    wide = image_bytes(root / "2/a.png", Encode(resize_shorter=10))
    assert kind_of(wide) == "jpg" and size_of(wide) == (20, 10)
    assert kind_of(image_bytes(root / "2/b.jpg", Encode(encoding="png"))) == "png"
    assert len(image_bytes(root / "2/a.png", Encode(quality=5))) < len(
        image_bytes(root / "2/a.png", Encode(quality=90))
    )


def size_of(content: bytes):
    return Image.open(io.BytesIO(content)).size


def test_a_random_order(both, tmp_path):
    root, _ = both
    orders = []
    for seed in (1, 1, 2):
        pack_records(listed_folder(root), root, tmp_path / "b.rec", seed=seed)
        orders.append([f.id for f in list_records(RecordReader(tmp_path / "b.rec"))])
    assert orders[0] == orders[1] != orders[2] and sorted(orders[0]) == list(range(7))
    unpack_records(RecordReader(tmp_path / "b.rec"), tmp_path / "named", listed_folder(root))
    assert (tmp_path / "named" / "7" / "g.png").read_bytes() == (root / "7" / "g.png").read_bytes()


def test_without_class_folders(tmp_path):
    photos(tmp_path, "a.png", "b.png")
    with pytest.warns(FewbitWarning, match="has no class folders, so that all labels are 0"):
        rows = listed_folder(tmp_path)
    assert [(r.index, r.labels, r.path) for r in rows] == [(0, (0.0,), "a.png"), (1, (0.0,), "b.png")]


def test_packing_refuses(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"hello")
    rows = [Listed(0, (1.0,), "a.jpg")]
    with pytest.raises(BadSample, match=r"a.jpg is no image of a kind that record files hold \(bmp, gif, jpg, png"):
        pack_records(rows, tmp_path, tmp_path / "a.rec")
    with pytest.raises(BadSample, match=r"a.jpg cannot be read as an image"):
        pack_records(rows, tmp_path, tmp_path / "a.rec", Encode(encoding="png"))
    with pytest.raises(DataError, match=r"cannot read .*gone.jpg: No such file"):
        pack_records([Listed(0, (1.0,), "gone.jpg")], tmp_path, tmp_path / "a.rec")
    with pytest.raises(DataError, match=r"it is no regular file"):
        pack_records([Listed(0, (1.0,), ".")], tmp_path, tmp_path / "a.rec")
    with pytest.raises(EmptyData, match="nothing to pack"):
        pack_records([], tmp_path, tmp_path / "a.rec")
    (tmp_path / "none").mkdir()
    with pytest.raises(EmptyData, match="holds no image"):
        listed_folder(tmp_path / "none")
    assert [p.name for p in tmp_path.iterdir() if p.suffix != ".jpg"] == ["none"]


@pytest.mark.parametrize(
    ("words", "kind", "text"),
    [
        ({"encoding": "jpeg"}, UnknownName, "did you mean 'jpg'"),
        ({"quality": 0}, ConfigError, "quality is 0; it must be a whole number from 1 to 100"),
        ({"quality": 90, "encoding": "png"}, ConfigError, "quality is for jpg"),
        ({"resize_shorter": 0}, ConfigError, "resize_shorter is 0"),
    ],
)
def test_encodings_that_cannot_be(words, kind, text):
    with pytest.raises(kind, match=text) as e:
        Encode(**words)
    assert isinstance(e.value, UsageError)


# -- unpacking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../a.png", "a/../../b.png", "/etc/a.png", "..", "C:\\a.png", "..\\a.png", "\\a.png", "a\0.png", ".", "./."],
)
def test_no_file_outside_of_the_folder(name, tmp_path):
    path = records(tmp_path / "a.rec", [1])
    with pytest.raises(DataError, match=r"record 0 of .* would be '.*', outside of the folder"):
        unpack_records(RecordReader(path), tmp_path / "out", [Listed(40, (1.0,), name)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.idx", "a.rec"]


def test_names_that_are_missing_or_taken(tmp_path):
    path = records(tmp_path / "a.rec", [1, 1])
    with pytest.raises(DataError, match=r"has the id 40, which the list does not have"):
        unpack_records(RecordReader(path), tmp_path / "out", [])
    rows = [Listed(40, (1.0,), "a.png"), Listed(41, (1.0,), "./a.png")]
    with pytest.raises(DataError, match=r"would be 'a.png', which is taken"):
        unpack_records(RecordReader(path), tmp_path / "out", rows)
    with pytest.raises(DataError, match=r"would be 'records.lst', which is taken"):
        unpack_records(RecordReader(path), tmp_path / "out", [Listed(40, (1.0,), "records.lst")])
    with pytest.raises(OutputError):  # a file where a folder must be
        rows = [Listed(40, (1.0,), "a"), Listed(41, (1.0,), "a/b")]
        unpack_records(RecordReader(path), tmp_path / "out", rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.idx", "a.rec"]


def test_ids_that_are_not_unique_get_names_of_their_own(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as out:
        for i in range(3):
            out.write(pack_header(RecordHeader((1.0,), 0), png(i)))
    assert unpack_records(RecordReader(tmp_path / "a.rec"), tmp_path / "out") == 3
    rows = read_lst(tmp_path / "out" / "records.lst")
    assert [(r.index, r.path) for r in rows] == [(0, "1/0.png"), (1, "1/0-1.png"), (2, "1/0-2.png")]


@pytest.mark.parametrize("label", [-1.0, 0.5, np.inf, np.nan, 1e30])
def test_labels_that_are_no_class_make_no_folder(label, tmp_path):
    path = records(tmp_path / "a.rec", [label])
    unpack_records(RecordReader(path), tmp_path / "out")
    assert (tmp_path / "out" / "40.png").is_file()


def test_folders_that_are_there(tmp_path):
    path = records(tmp_path / "a.rec", [1], [b"no image"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OutputError, match=r"full: it holds files already"):
        unpack_records(RecordReader(path), tmp_path / "full")
    with pytest.raises(OutputError, match=r"a.rec: it is no folder"):
        unpack_records(RecordReader(path), path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSample, match=r"holds no image of a known kind; only images are unpacked"):
        unpack_records(RecordReader(path), tmp_path / "empty")
    assert (tmp_path / "empty").is_dir() and not any((tmp_path / "empty").iterdir())
    unpack_records(RecordReader(records(path, [1])), tmp_path / "empty")
    assert (tmp_path / "empty" / "1" / "40.png").is_file()
    assert not any(p.name.startswith(".fewbit") for p in tmp_path.iterdir())


def test_listing(tmp_path):
    found = list(list_records(RecordReader(REC / "detection.rec")))
    assert [(f.index, f.id, f.kind, len(f.labels)) for f in found] == [
        (0, 0, "png", 12),
        (1, 1, "png", 4),
        (2, 2, "png", 9),
    ]
    assert {f.kind for f in list_records(RecordReader(REC / "raw.rec"))} == {"raw"}
    many = records(tmp_path / "a.rec", [np.arange(3000.0), np.arange(1016.0)])
    assert [(f.labels[-1], f.kind) for f in list_records(RecordReader(many))] == [(2999, "png"), (1015, "png")]
