"""IDX files: what is written is read, and a header is not believed."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.data.datasets.idx import read_idx, write_idx
from fewbit.errors import DataError

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def head(*axes: int, magic: bytes = b"\0\0\x08") -> bytes:
    return magic + bytes([len(axes)]) + struct.pack(f">{len(axes)}I", *axes)


@pytest.mark.parametrize("name", ["a.gz", "a-ubyte"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    write_idx(tmp_path / name, IMAGES)
    write_idx(tmp_path / f"labels-{name}", IMAGES[:, 0, 0])
    assert (read_idx(tmp_path / name, (4, 5)) == IMAGES).all()
    assert read_idx(tmp_path / f"labels-{name}", ()).tolist() == [0, 20, 40]
    assert (tmp_path / name).read_bytes()[:2] == (b"\x1f\x8b" if name.endswith("gz") else b"\0\0")


def test_the_same_values_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, IMAGES)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.uint8(3) * np.ones((), np.uint8)])
def test_only_bytes_are_written(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(DataError, match="no array of uint8"):
        write_idx(tmp_path / "a", values)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (head(3, 4, 5, magic=b"\0\0\x0d") + bytes(60), "begins with 00 00 0d 03; an IDX file of images .* 00 00 08 03"),
        (head(3) + bytes(3), "begins with 00 00 08 01"),
        (b"\x89PNG" + bytes(20), "begins with 89 50 4e 47"),
        (b"\0\0", "cut off: the magic takes 4 bytes"),
        (head(3, 4, 5)[:9], "cut off: the shape takes 12 bytes"),
        (head(3, 5, 4) + bytes(60), r"shape \(3, 5, 4\); it must be \(N, 4, 5\)"),
        (head(3, 4, 5) + bytes(59), r"cut off: an array of shape \(3, 4, 5\) takes 60 bytes"),
        (head(3, 4, 5) + bytes(61), r"goes on after byte 76"),
        (head(2**32 - 1, 4, 5) + bytes(60), "takes 85899345900 bytes from byte 16 on, and it can hold at most"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_other_files_are_refused(tmp_path: Path, raw: bytes, word: str, packed: bool) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(DataError, match=word) as e:
        read_idx(tmp_path / "a", (4, 5))
    assert str(tmp_path / "a") in str(e.value)


def test_files_of_labels_say_so(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", IMAGES)
    with pytest.raises(DataError, match=r"IDX file of labels begins with 00 00 08 01"):
        read_idx(tmp_path / "a", ())


@given(raw=st.binary(max_size=40), real=st.booleans())
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes, real: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "random"
    path.write_bytes((head(1, 4, 5) if real else b"") + raw)
    if real and len(raw) == 20:
        assert read_idx(path, (4, 5)).tobytes() == raw
    else:
        with pytest.raises(DataError):
            read_idx(path, (4, 5))
