"""fewbit records: pack, list, unpack; and record files as --data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewbit.data.imagelist import read_lst
from tests.cli.conftest import Cli

GOLDEN = Path(__file__).parents[1] / "golden" / "mxnet" / "rec"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images, 10 x 8, in the class folders 0, 2 and 4."""
    rng = np.random.default_rng(0)
    for i in range(6):
        folder = tmp_path / "photos" / str(i // 2 * 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def rec(cli: Cli, photos: Path) -> Path:
    assert cli("records", "pack", photos, "-o", photos.parent / "a.rec").code == 0
    return photos.parent / "a.rec"


def test_pack_a_folder(cli: Cli, photos: Path, tmp_path: Path) -> None:
    done = cli("records", "pack", photos, "-o", tmp_path / "a.rec")
    assert done.code == 0 and done.out.startswith("6 images, ") and done.out.endswith("a.rec\n") and not done.err
    assert [r.labels for r in read_lst(tmp_path / "a.lst")] == [(0,), (0,), (2,), (2,), (4,), (4,)]
    assert len((tmp_path / "a.idx").read_text().splitlines()) == 6


def test_pack_a_list(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.lst").write_text("7\t1.5\t2\t0/0.png\n3\t9\t4/5.png\n")
    words = ["records", "pack", tmp_path / "a.lst", "-o", tmp_path / "a.rec", "--root", photos, "--json"]
    found = json.loads(cli(*words).out)
    assert found["records"] == 2 and found["bytes"] == (tmp_path / "a.rec").stat().st_size
    assert (tmp_path / "a.lst").read_text().startswith("7\t1.5")  # as it was
    listed = json.loads(cli("records", "list", tmp_path / "a.rec", "--json").out)["records"]
    assert [(r["id"], r["labels"]) for r in listed] == [(7, [1.5, 2.0]), (3, [9.0])]


def test_the_list_lies_where_its_images_are(cli: Cli, photos: Path) -> None:
    (photos / "a.lst").write_text("0\t1\t0/0.png\n")
    assert cli("records", "pack", photos / "a.lst", "-o", photos / "a.rec", "--quiet").said == ""


def test_pack_encodes_anew(cli: Cli, photos: Path, tmp_path: Path) -> None:
    words = ["records", "pack", photos, "-o", tmp_path / "b.rec", "--resize-shorter", 4, "--quality", 50]
    assert cli(*words, "--shuffle", "--seed", 2).code == 0
    found = json.loads(cli("records", "list", tmp_path / "b.rec", "--json").out)["records"]
    assert {r["kind"] for r in found} == {"jpg"} and [r["id"] for r in found] != list(range(6))
    cli("records", "unpack", tmp_path / "b.rec", "-o", tmp_path / "out")
    with Image.open(tmp_path / "out" / "4" / "5.jpg") as image:
        assert image.size == (5, 4)


def test_list(cli: Cli, rec: Path) -> None:
    done = cli("records", "list", rec)
    lines = done.out.splitlines()
    assert done.code == 0 and lines[0].startswith("records  6, ") and lines[1] == "kinds    6 png"
    assert lines[2] == f"index    {rec.with_suffix('.idx')}"
    assert lines[4].split() == ["index", "id", "labels", "bytes", "kind"] and len(lines) == 12
    assert lines[-1].split()[:3] == ["5", "5", "4"]


def test_list_of_raw_records_without_index(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.rec").write_bytes((GOLDEN / "raw.rec").read_bytes())
    out = cli("records", "list", tmp_path / "a.rec").out
    assert "9 raw" in out and "index    none; records are counted" in out


def test_unpack(cli: Cli, rec: Path, photos: Path, tmp_path: Path) -> None:
    words = ["records", "unpack", rec, "-o", tmp_path / "out"]
    assert cli(*words).out == f"6 images: {tmp_path / 'out'}\n"
    assert (tmp_path / "out" / "2" / "3.png").read_bytes() == (photos / "2" / "3.png").read_bytes()
    done = cli(*words)
    assert done.code == 1 and "it holds files already" in done.err
    done = cli("records", "unpack", rec, "-o", tmp_path / "named", "--lst", rec.with_suffix(".lst"), "--json")
    assert json.loads(done.out)["records"] == 6 and (tmp_path / "named" / "0" / "1.png").is_file()


def test_no_list_leads_out_of_the_folder(cli: Cli, rec: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.lst").write_text("".join(f"{i}\t0\t../{i}.png\n" for i in range(6)))
    done = cli("records", "unpack", rec, "-o", tmp_path / "out", "--lst", tmp_path / "bad.lst")
    assert done.code == 1 and "outside of the folder" in done.err
    assert not (tmp_path / "out").exists() and not (tmp_path / "0.png").exists()


def test_any_verb_takes_a_record_file(cli: Cli, net: Path, rec: Path, photos: Path) -> None:
    words = ["evaluate", net, "--resize-shorter", 7, "--json", "--data"]
    by_record, by_folder = (json.loads(cli(*words, where).out) for where in (rec, photos))
    assert by_record == by_folder and by_record["samples"] == 6


BAD = [
    (["pak", "a.rec"], 2, "unknown action 'pak'; did you mean 'pack' or 'unpack'?"),
    (["pack", "photos"], 2, "there is no output; give one with -o PATH"),
    (["unpack", "a.rec"], 2, "there is no output; give one with -o PATH"),
    (["list", "a.rec", "--shuffle"], 2, "--shuffle is for records pack; records list has no use for it"),
    (["list", "a.rec", "-o", "x"], 2, "--output is for records pack and unpack; records list has no use for it"),
    (["pack", "photos", "-o", "b.rec", "--lst", "a.lst"], 2, "--lst is for records unpack; records pack has no use"),
    (["pack", "photos", "-o", "b.rec", "--seed", "1"], 2, "--seed is of the random order; give --shuffle with it"),
    (["pack", "photos", "-o", "b.rec", "--root", "."], 2, "--root is for a .lst file, and photos is a folder"),
    (["pack", "photos", "-o", "b.bin"], 2, "the record file is named 'b.bin'; the name must end in .rec"),
    (["pack", "photos", "-o", "b.rec", "--encoding", "jpeg"], 2, "unknown encoding 'jpeg'; did you mean 'jpg'"),
    (["pack", "photos", "-o", "b.rec", "--encoding", "png", "--quality", "9"], 2, "quality is for jpg"),
    (["pack", "photos", "-o", "mine.rec"], 2, "mine.lst, which is written with mine.rec, is there already"),
    (["pack", "gone", "-o", "b.rec"], 1, "gone: there is no such file or folder; records pack takes a folder"),
    (["pack", "a.rec", "-o", "b.rec"], 1, "a.rec is a file of an unknown kind; records pack takes a folder"),
    (["pack", "photos", "-o", "gone/b.rec"], 1, "cannot write gone/b.rec"),
    (["list", "gone.rec"], 1, "cannot read gone.rec"),
    (["list", "mine.lst"], 1, "is damaged at byte 0"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "text"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else None)
def test_mistakes_are_named(
    cli: Cli, rec: Path, words: list[str], code: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(rec.parent)
    Path("mine.lst").write_text("0\t1\tphotos/0/0.png\n")
    before = sorted(p.name for p in Path().iterdir())
    done = cli("records", *words)
    assert done.code == code and done.err.startswith("error: ") and text in done.err
    assert sorted(p.name for p in Path().iterdir()) == before
