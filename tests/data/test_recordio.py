"""Record files: what MXNet wrote is read, what is written is what MXNet writes, damage is named."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.data.imagelist import (
    HEADER,
    Listed,
    RecordHeader,
    lst_text,
    pack_header,
    read_labels,
    read_lst,
    unpack,
    write_lst,
)  # fmt: skip
from fewbit.data.recordio import FRAME, LONGEST, MAGIC, RecordReader, RecordWriter, split
from fewbit.errors import BadSample, DataError, FewbitError, FewbitWarning, OutputError, UsageError

REC = Path(__file__).parents[1] / "golden" / "mxnet" / "rec"
READ = np.load(REC / "read.npz")
RAW = [READ[f"raw{i}"].tobytes() for i in range(9)]


def write(path: Path, payloads: list[bytes]) -> Path:
    with RecordWriter(path) as out:
        for x in payloads:
            out.write(x)
    return path


def frame(kind: int, part: bytes, magic: bytes = MAGIC) -> bytes:
    return FRAME.pack(magic, kind << 29 | len(part)) + part + bytes(-len(part) % 4)


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """Three records, the second in three parts, with an index."""
    return write(tmp_path / "a.rec", [b"first", b"abcd" + MAGIC + MAGIC + b"x", b"third one"])


# -- against MXNet --------------------------------------------------------------------------------------------------


def test_what_mxnet_wrote_is_read(tmp_path):
    reader = RecordReader(REC / "raw.rec")
    assert list(reader) == RAW and len(reader) == 9 and reader.index == REC / "raw.idx"
    assert [reader.read(i) for i in (8, 0, 6)] == [RAW[8], RAW[0], RAW[6]]
    alone = tmp_path / "alone.rec"  # without an index
    alone.write_bytes((REC / "raw.rec").read_bytes())
    scanned = RecordReader(alone)
    assert scanned.index is None and list(scanned) == RAW
    np.testing.assert_array_equal(scanned.offsets, reader.offsets)


@pytest.mark.parametrize("name", ["raw", "images", "detection", "vectors"])
def test_what_is_written_is_what_mxnet_writes(name, tmp_path):
    mine = write(tmp_path / f"{name}.rec", list(RecordReader(REC / f"{name}.rec")))
    for suffix in (".rec", ".idx"):
        assert mine.with_suffix(suffix).read_bytes() == (REC / name).with_suffix(suffix).read_bytes()


def test_headers_are_those_of_mxnet():
    for i, payload in enumerate(RecordReader(REC / "images.rec")):
        header, content = unpack(payload)
        assert header == RecordHeader((float(READ["labels"][i, 0] if READ["labels"].ndim > 1 else READ["labels"][i]),),
                                      int(READ["ids"][i]))  # fmt: skip
        assert pack_header(header, content) == payload
    for i, payload in enumerate(RecordReader(REC / "detection.rec")):
        header, content = unpack(payload)
        np.testing.assert_array_equal(np.float32(header.labels), READ[f"boxes{i}"])
        assert content[:4] == b"\x89PNG" and pack_header(header, content) == payload


def test_a_list_of_im2rec_is_read():
    assert read_lst(REC / "images.lst") == [
        Listed(10, (3.0,), "c/a.jpg"), Listed(11, (1.0,), "b/b.png"), Listed(12, (0.0,), "a/c.png"),
        Listed(13, (7.0,), "z/d.jpg"),
    ]  # fmt: skip


# -- round trips ----------------------------------------------------------------------------------------------------

PIECES = st.lists(st.one_of(st.just(MAGIC), st.binary(max_size=7), st.just(b"\0\0\0\0")), max_size=8).map(b"".join)


@settings(deadline=None, max_examples=60)
@given(payloads=st.lists(PIECES, max_size=5))
def test_payloads_come_back_wherever_the_magic_is(payloads):
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.rec", payloads)
        reader = RecordReader(path)
        assert list(reader) == payloads
        assert [reader.read(i) for i in range(len(reader))] == payloads
        for most in (0, 3, 30):
            assert list(reader.heads(most)) == [(x[:most], len(x)) for x in payloads]
        path.with_suffix(".idx").unlink()
        assert list(RecordReader(path)) == payloads


@settings(deadline=None, max_examples=60)
@given(payload=PIECES)
def test_no_part_holds_the_magic_at_a_multiple_of_four(payload):
    parts = split(payload)
    assert MAGIC.join(parts) == payload
    assert all(len(p) % 4 == 0 for p in parts[:-1])
    assert not any(p[i : i + 4] == MAGIC for p in parts for i in range(0, len(p), 4))


@settings(deadline=None, max_examples=40)
@given(
    labels=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=9),
    number=st.integers(0, 2**64 - 1),
    content=st.binary(max_size=30),
)
def test_headers_come_back(labels, number, content):
    header = RecordHeader(tuple(labels), number, 5)
    assert unpack(pack_header(header, content)) == (header, content)


@settings(deadline=None, max_examples=40)
@given(labels=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
def test_lists_come_back(labels):
    rows = [Listed(3, tuple(labels), "a b/ü.jpg"), Listed(0, (1.0,), "x.png")]
    with tempfile.TemporaryDirectory() as folder:
        write_lst(Path(folder) / "a.lst", rows)
        assert read_lst(Path(folder) / "a.lst") == rows
    assert lst_text(rows[1:]) == "0\t1\tx.png\n"


# -- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x0a\x23", r"record 0 of .* is damaged at byte 0: the file is cut off: 2 bytes are left"),
        (b"hello world!", r"at byte 0: 68 65 6c 6c stands where a part must begin with 0a 23 d7 ce"),
        (frame(0, b"good") + frame(0, b"bad", b"abcd"), r"record 1 of .* at byte 12: 61 62 63 64 stands"),
        (FRAME.pack(MAGIC, LONGEST), r"part is 536870911 bytes long, and the file is cut off 536870912 bytes before"),
        (frame(0, b"abcd")[:-1], r"the part is 4 bytes long, and the file is cut off 1 bytes before its end"),
        (frame(3, b""), r"a part of kind 3 begins a record; only 0 \(whole\) and 1 \(first part\) may"),
        (frame(2, b""), r"a part of kind 2 begins a record"),
        (frame(6, b""), r"a part of kind 6 begins a record"),
        (frame(1, b"") + frame(0, b""), r"at byte 8: a part of kind 0 follows one of kind 1; only 2 \(middle\) and 3"),
        (frame(1, b"") + frame(2, b"") + frame(1, b""), r"at byte 16: a part of kind 1 follows one of kind 2"),
        (frame(1, b""), r"at byte 8: the file is cut off: 0 bytes are left"),
    ],
)  # fmt: skip
def test_damage_is_named(raw, text, tmp_path):
    (tmp_path / "a.rec").write_bytes(raw)
    with pytest.raises(DataError, match=text):
        RecordReader(tmp_path / "a.rec")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_damage_escapes(data):
    """Whatever byte is wrong or missing: payloads, or an error of ours."""
    raw = bytearray((REC / "raw.rec").read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.rec"
        path.write_bytes(raw)
        try:
            found = list(RecordReader(path))
            for x in found:
                unpack(x)
        except FewbitError as e:
            assert str(e)
        else:
            assert sum(map(len, found)) <= len(raw)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*a.rec: No such file"):
        RecordReader(tmp_path / "a.rec")
    with pytest.raises(DataError, match=r"cannot read"):
        RecordReader(tmp_path)
    (tmp_path / "a.rec").touch()
    assert list(RecordReader(tmp_path / "a.rec")) == []


def test_a_file_that_shrinks_is_noticed(some):
    reader = RecordReader(some)
    some.write_bytes(some.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"cannot read .*a.rec: 5 bytes are gone"):
        reader.read(2)


# -- the index ------------------------------------------------------------------------------------------------------

WRONG = [
    ("0\t0\n1\n", r"holds 3 words; it must be lines of a key and an offset"),
    ("0\t0\n1\t9000\n", r"sends record 1 to byte 9000, where none can be: .* the file has 68 bytes"),
    ("0\t0\n1\t17\n", r"sends record 1 to byte 17, where none can be: records begin at multiples of 4"),
    ("0\t0\n1\t-4\n", r"sends record 1 to byte -4"),
    ("0\t0\n1\t\x07x\n", r"sends record 1 to byte \x07x"),
    ("0\t0\n1\t16\n2\t16\n", r"sends two records to byte 16"),
    ("1\t16\n2\t48\n", r"begins at byte 16, and the first record of .* is at byte 0"),
    ("", r"is empty, and the first record"),
    ("0\t0\n1\t20\n", r"does not fit: record 0 .* ends at byte 16, and by .* begins at 20"),
    ("0\t0\n1\t16\n", r"does not fit: record 1 .* ends at byte 48, and by the index .* the next one begins at 68"),
    ("0\t0\n1\t16\n2\t56\n", r"does not fit: record 1 .* ends at byte 48, and by .* begins at 56"),
    ("9" * 5000, r"is larger than that of a file of 68 bytes can be"),
]


@pytest.mark.parametrize(("text", "fault"), WRONG)
def test_an_index_that_does_not_fit(text, fault, some):
    want = [b"first", b"abcd" + MAGIC + MAGIC + b"x", b"third one"]
    index = some.with_suffix(".idx")
    index.write_text(text)
    with pytest.raises(DataError, match=fault):
        RecordReader(some, index)
    with pytest.warns(FewbitWarning, match=r"a\.idx.*\. Its records are counted instead"):
        reader = RecordReader(some)
    assert reader.index is None and list(reader) == want


def test_an_index_in_another_order_gives_the_order_of_the_file(some):
    some.with_suffix(".idx").write_text("b\t48\nc\t0\na\t16\n")
    reader = RecordReader(some)
    assert reader.index is not None and reader.read(0) == b"first"


def test_an_index_elsewhere(some, tmp_path):
    moved = some.with_suffix(".idx").rename(tmp_path / "other")
    assert len(RecordReader(some, moved)) == 3
    with pytest.raises(DataError, match=r"cannot read the index .*gone: No such file"):
        RecordReader(some, tmp_path / "gone")


def test_an_index_that_is_wrong_in_between_is_noticed_when_it_is_read(tmp_path):
    path = write(tmp_path / "a.rec", [b"abcd"] * 200)
    lines = path.with_suffix(".idx").read_text().splitlines()
    path.with_suffix(".idx").write_text("\n".join(lines[:101] + lines[102:]))
    reader = RecordReader(path)
    with pytest.raises(
        DataError, match=r"record 100 of .* ends at byte 1212, and by the index .*idx the next one begins at 1224"
    ):
        list(reader)


# -- writing --------------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_writer_that_fails(some, tmp_path):
    before = some.read_bytes()
    with pytest.raises(RuntimeError), RecordWriter(some) as out:
        out.write(b"half")
        raise RuntimeError
    assert some.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.idx", "a.rec"]


def test_writers_refuse(tmp_path):
    with pytest.raises(UsageError, match=r"named '.*a.bin'; the name must end in .rec"):
        RecordWriter(tmp_path / "a.bin")
    with pytest.raises(OutputError, match=r"cannot write .*gone.a.rec"), RecordWriter(tmp_path / "gone" / "a.rec"):
        pass

    class Long(bytes):
        def __len__(self) -> int:
            return 2**29

    with pytest.raises(OutputError, match=r"record 0 has 536870912 bytes; a record holds at most 536870911"):
        write(tmp_path / "a.rec", [Long()])
    assert list(tmp_path.iterdir()) == []


# -- headers and lists ----------------------------------------------------------------------------------------------


def test_labels_longer_than_the_payload():
    with pytest.raises(BadSample, match=r"r7 has 5 bytes; an image record begins with a header of 24"):
        unpack(b"12345", "r7")
    with pytest.raises(BadSample, match=r"r7 has 32 bytes, too few for its header and the 3 labels"):
        unpack(HEADER.pack(3, 0, 0, 0) + bytes(8), "r7")
    with pytest.raises(BadSample, match=r"the 4294967295 labels"):
        unpack(HEADER.pack(2**32 - 1, 0, 0, 0))
    assert unpack(HEADER.pack(1, 9, 0, 0) + np.float32(4).tobytes() + b"x") == (RecordHeader((4.0,), 0), b"x")


def test_the_begin_of_a_payload_gives_some_labels():
    payload = pack_header(RecordHeader((1.0, 2.0, 3.0), 8), b"xyz")
    labels, ids = read_labels(payload[:33], len(payload), "r")
    assert labels.tolist() == [1, 2] and ids == (8, 0)


@pytest.mark.parametrize("header", [RecordHeader((), 0), RecordHeader((1.0,), -1), RecordHeader((1.0,), 2**64)])
def test_headers_that_cannot_be(header):
    with pytest.raises(DataError, match="cannot be written: it needs a label, and ids from 0"):
        pack_header(header)


@pytest.mark.parametrize(
    "line", ["1\ta.jpg", "x\t1\ta.jpg", "-1\t1\ta.jpg", "1\tcat\ta.jpg", "1\tnan\ta.jpg", "1\t1\t", "1 1 a"]
)
def test_lines_that_are_none(line, tmp_path):
    (tmp_path / "a.lst").write_text(f"0\t1\ta.jpg\n\n{line}\n")
    with pytest.raises(DataError, match=r"line 3 of .*a.lst is '.*'; it must be: whole number, label or labels, path"):
        read_lst(tmp_path / "a.lst")


def test_lists_that_cannot_be_read(tmp_path):
    (tmp_path / "a.lst").write_text("0\t1\ta\n0\t1\tb\n")
    with pytest.raises(DataError, match=r"line 2 of .* has the index 0 once more"):
        read_lst(tmp_path / "a.lst")
    (tmp_path / "a.lst").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"a.lst is no text in UTF-8"):
        read_lst(tmp_path / "a.lst")
    with pytest.raises(DataError, match=r"cannot read .*gone.lst"):
        read_lst(tmp_path / "gone.lst")
    for name in ("a\tb", "a\nb", " "):
        with pytest.raises(DataError, match=r"cannot stand in a .lst file"):
            write_lst(tmp_path / "b.lst", [Listed(0, (1.0,), name)])
    assert not (tmp_path / "b.lst").exists()
