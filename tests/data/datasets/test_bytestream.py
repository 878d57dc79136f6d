"""No byte is taken that the file cannot hold; archives are read where they are."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest

from fewbit.data.datasets.bytestream import RATIO, opened, read_whole_file, tar_members
from fewbit.errors import DataError
from tests.data.datasets.making import link, write_tar


def fault(*given: object) -> str:
    with pytest.raises(DataError) as e:
        tar_members(*given)  # type: ignore[arg-type]
    return str(e.value)


def test_gzip_is_told_by_the_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(b"abcdef")
    (tmp_path / "packed").write_bytes(gzip.compress(b"abcdef"))
    for name in ("plain.gz", "packed"):
        with opened(tmp_path / name) as stream:
            assert stream.take(4, "x") == b"abcd" and not stream.ended()
        assert read_whole_file(tmp_path / name, 6) == b"abcdef"


def test_more_than_the_file_can_hold_is_refused_at_once(tmp_path: Path) -> None:
    for name, content in (("plain", b"abc"), ("packed", gzip.compress(b"abc"))):
        (tmp_path / name).write_bytes(content)
        with (
            opened(tmp_path / name) as stream,
            pytest.raises(DataError, match=r"pixels takes 1099511627776 bytes.*hold"),
        ):
            stream.take(2**40, "pixels")
        with opened(tmp_path / name) as stream, pytest.raises(DataError, match="hold at most"):
            stream.skip(2**40, "pixels")


def test_a_packed_file_that_ends_early_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(b"abc"))
    with opened(tmp_path / "a") as stream, pytest.raises(DataError, match=r"cut off: labels takes 9 .* ends after 3"):
        stream.take(9, "labels")


@pytest.mark.parametrize(
    "damage", [lambda x: x[:-12], lambda x: x[:30] + b"\0" * 20 + x[50:], lambda x: x[:-8] + b"\1" * 8]
)
def test_damaged_compression_is_named(tmp_path: Path, damage: object) -> None:
    (tmp_path / "a").write_bytes(damage(gzip.compress(bytes(range(256)) * 9)))  # type: ignore[operator]
    with pytest.raises(DataError, match=r"a is damaged: .*fetch it anew"):
        read_whole_file(tmp_path / "a", 1 << 20)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*a: No such file"):
        read_whole_file(tmp_path / "a", 1)


def test_a_file_larger_than_any_of_its_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(bytes(1 << 22)))
    with pytest.raises(DataError, match="holds more than 1000 bytes"):
        read_whole_file(tmp_path / "a", 1000)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_members_are_read_whatever_lies_between_them(tmp_path: Path, mode: str) -> None:
    folder = tarfile.TarInfo("a")
    folder.type = tarfile.DIRTYPE
    members = {"a": folder, "a/1": b"x" * 700, f"a/{'long' * 60}": b"no", "a/l": link("a/l", "a/1"), "a/2": b"y" * 512}
    path = write_tar(tmp_path / "t", members, mode)
    assert tar_members(path, ["a/2", "a/1"], 1000) == {"a/1": b"x" * 700, "a/2": b"y" * 512}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]


def test_of_equal_names_the_first_counts_and_links_do_not(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t", {"l": link("1", "/etc/passwd"), "./1": b"first", "1": b"second", "2": b""})
    assert tar_members(path, ["1", "2"], 10) == {"1": b"first", "2": b""}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t", {"1": link("1", "2"), "2": b"x"})
    text = fault(path, ["1", "2", "3"], 10)
    assert "t lacks 1, 3; links in it are not followed" in text


def test_names_in_an_archive_are_names_only(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t", {"../../out": b"x", "/abs": b"y"})
    assert tar_members(path, ["../../out"], 10) == {"../../out": b"x"}
    assert "lacks out" in fault(path, ["out"], 10)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]


def test_a_member_that_is_too_large_is_refused(tmp_path: Path) -> None:
    assert "member 'a' has 11 bytes; at most 10" in fault(write_tar(tmp_path / "t", {"a": b"x" * 11}), ["a"], 10)


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    raw = bytearray(write_tar(tmp_path / "t", {"a": b"x" * 600}, "w").read_bytes())
    at = raw.find(b"ustar") - 257
    at = raw.find(b"ustar", at + 300) - 257  # the first one is of the time that is a fraction
    for place, value, word in ((at, b"b", "no header"), (0, b"\0" * 1, "no header")):
        damaged = raw.copy()
        damaged[place : place + 1] = value
        (tmp_path / "d").write_bytes(damaged)
        assert word in fault(tmp_path / "d", ["a"], 1000)
    (tmp_path / "d").write_bytes(raw[: at + 512 + 100])
    assert "cut off: member 'a' takes 600 bytes" in fault(tmp_path / "d", ["a"], 1000)
    (tmp_path / "d").write_bytes(b"no archive at all" * 40)
    assert "is it a tar archive" in fault(tmp_path / "d", ["a"], 1000)
    (tmp_path / "d").write_bytes(b"")
    assert "cut off: the header of a member" in fault(tmp_path / "d", ["a"], 1000)


@pytest.mark.parametrize(
    ("size", "word"),
    [(b"77777777777\0", "cut off"), (b"0000000009\0\0", "no size"), (b"\x80" + b"\xff" * 11, "no size")],
)
def test_sizes_that_lie_are_refused(tmp_path: Path, size: bytes, word: str) -> None:
    head = bytearray(tarfile.TarInfo("other").tobuf())
    head[124:136] = size
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    (tmp_path / "t").write_bytes(head + bytes(1024))
    assert word in fault(tmp_path / "t", ["a"], 1000)


def test_the_ratio_is_that_of_deflate() -> None:
    assert len(gzip.compress(bytes(10**7), 9)) * RATIO > 10**7
