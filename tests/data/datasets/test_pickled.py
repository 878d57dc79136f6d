"""Pickles are read as the real thing reads them, and nothing in them is ever run."""

from __future__ import annotations

import os
import pickle
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.data.datasets import pickled
from fewbit.data.datasets.pickled import read_pickle
from fewbit.errors import DataError
from tests.data.datasets.making import cifar_python, pixels, python2

P2 = b"\x80\x02"


def refused(raw: bytes) -> str:
    with pytest.raises(DataError) as e:
        read_pickle(raw, "some/file")
    assert "some/file" in str(e.value) and len(str(e.value)) < 400
    return str(e.value)


def test_a_stream_of_python_2_is_read_as_pickle_reads_it() -> None:
    rows = pixels(300)
    raw = cifar_python(rows, labels=np.arange(300) % 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy 2 has moved what the stream names
        real = pickle.loads(raw, encoding="latin1")
    found = read_pickle(raw, "x")
    assert list(found) == list(real) == ["data", "batch_label", "filenames", "labels"]
    assert found["labels"] == real["labels"] and found["filenames"] == real["filenames"]
    assert found["batch_label"] == "testing batch 1 of 1"
    assert found["data"].dtype == np.uint8 and (found["data"] == rows).all() and (real["data"] == rows).all()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["u1", "<i4", ">i2", "<f4", "<i8"])
def test_streams_of_python_3_are_read(protocol: int, dtype: str) -> None:
    x = np.arange(12).reshape(3, 4).astype(dtype)
    value = {"x": x, "turned": x.T, "words": ["a", "ä", ""], "n": [0, -1, 70000, 2**40], "f": 0.5, "t": (1, (2, None))}
    if protocol == 0 and dtype != "u1":
        value["yes"] = True
    found = read_pickle(pickle.dumps(value, protocol), "x")
    assert list(found) == list(value)
    for key in ("x", "turned"):
        assert found[key].dtype == x.dtype and (found[key] == value[key]).all()
        del found[key], value[key]
    assert found == value


def test_the_names_of_classes_are_read() -> None:
    held = read_pickle(python2({b"fine_label_names": [b"apple", b"baby"], b"coarse_label_names": [b"fish"]}), "meta")
    assert held == {"fine_label_names": ["apple", "baby"], "coarse_label_names": ["fish"]}


class Runs:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., Any], *given: Any) -> None:
        self.call = function, given

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3])
def test_a_stream_that_calls_something_is_refused_and_names_it(protocol: int, tmp_path: Path) -> None:
    trap = Runs(os.mkdir, str(tmp_path / "made"))
    text = refused(pickle.dumps({"data": trap}, protocol, fix_imports=False))
    assert f"{os.mkdir.__module__}.mkdir" in text and "nothing was run" in text
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("protocol", [4, 5])
def test_later_protocols_are_refused_with_their_opcode(protocol: int) -> None:
    assert "FRAME" in refused(pickle.dumps({"data": [1]}, protocol))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"cos\nsystem\n(U\x02lstR.", "os.system"),
        (b"c__builtin__\neval\nU\x011\x85R.", "__builtin__.eval"),
        (b"cnumpy\nload\nU\x01x\x85R.", "numpy.load"),
        (b"(U\x02lsios\nsystem\n.", "INST"),
        (b"(K\x01U\x02lso.", "OBJ"),
        (b"cnumpy\nndarray\n)\x81.", "NEWOBJ"),
        (b"U\x01xQ.", "BINPERSID"),
        (b"\x82\x01.", "EXT1"),
        (b"}2.", "DUP"),
        (b"cnumpy\nndarray\nK\x05\x85R.", "numpy.ndarray is called"),
        (b"cnumpy\ndtype\nU\x01O\x85R.", "numpy.dtype is called"),
        (b"cnumpy\ndtype\nU\x03i4,\x85R.", "numpy.dtype is called"),
        (b"c_codecs\nencode\nX\x01\x00\x00\x00aU\x06base64\x86R.", "_codecs.encode is called"),
        (b"}}R.", "a dict is called"),
        (b"}}b.", "it takes a blank"),
        (b"K\x05.", "it must hold a dictionary"),
        (b".", "nothing on the stack"),
        (b"h\x07.", "nothing was remembered as 7"),
        (b"]K\x01e.", "there is no mark"),
        (b"}(K\x01K\x02u.", "keys must be texts"),
        (b"}(U\x01au.", "no pairs"),
        (b"}K\x01a.", "it takes a list"),
        (b"(}q\x00", "nothing on the stack|cut off"),
        (b"U\x05ab", "cut off"),
        (b"T\xff\xff\xff\x7fab.", "cut off"),
        (b"\x8a\xffab.", "cut off"),
        (b"", "cut off"),
        (b"\xff", "cut off"),
    ],
)
def test_what_is_refused(body: bytes, word: str) -> None:
    assert any(w in refused(P2 + body) for w in word.split("|"))


def array_stream(shape: bytes, content: bytes, code: bytes = b"U\x02u1", state: bytes = b"NNN") -> bytes:
    dtype = b"cnumpy\ndtype\n" + code + b"K\x00K\x01\x87R(K\x03U\x01|" + state + b"K\x00K\x00K\x00tb"
    head = P2 + b"}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return head + b"(K\x01" + shape + dtype + b"\x89" + content + b"tbs."


def test_the_hand_made_array_is_one() -> None:
    assert read_pickle(array_stream(b"K\x02\x85", b"U\x02ab"), "x")["data"].tolist() == [97, 98]


@pytest.mark.parametrize(
    ("shape", "content", "word"),
    [
        (b"K\x03\x85", b"U\x02ab", "takes 3 bytes, and has 2 bytes"),
        (b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", b"U\x02ab", "takes 4611686014132420609 bytes"),
        (b"J\xff\xff\xff\xff\x85", b"U\x02ab", "whole number from 0"),
        (b"\x8a\x09" + b"\xff" * 8 + b"\x7f\x85", b"U\x02ab", "whole number from 0"),
        (b"\x88\x85", b"U\x01a", "whole number from 0"),
        (b"(" + b"K\x01" * 40 + b"t", b"U\x01a", "a few axes"),
        (b"K\x02", b"U\x02ab", "a few axes"),
        (b"K\x02\x85", b"]", "takes 2 bytes, and has a list"),
        (b"K\x01\x85", b"X\x03\x00\x00\x00\xe2\x82\xac", "no bytes"),
    ],
)
def test_arrays_that_lie_about_their_size_are_refused(shape: bytes, content: bytes, word: str) -> None:
    assert word in refused(array_stream(shape, content))


def test_a_dtype_with_fields_is_refused() -> None:
    assert "fields" in refused(array_stream(b"K\x01\x85", b"U\x01a", state=b"N)N"))


def test_lists_that_double_in_the_memo_take_no_time() -> None:
    lists = b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i + 1, i, i) for i in range(200))
    found = read_pickle(P2 + b"}U\x01x](" + lists + b"es.", "x")["x"]
    assert len(found) == 201 and found[200][0] is found[200][1] is found[199]


def test_a_key_that_would_take_forever_to_hash_is_refused() -> None:
    nested = b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(100))
    assert "keys must be texts" in refused(P2 + b"}(" + nested + b"K\x01u.")


def test_a_string_that_is_copied_again_and_again_is_refused() -> None:
    text = b"T" + struct.pack("<i", 1000) + b"x" * 1000 + b"q\x00"
    call = b"c_codecs\nencode\nh\x00U\x06latin1\x86R"
    assert "again and again" in refused(P2 + text + call * 10 + b".")


def test_too_many_opcodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickled, "OPCODES", 50)
    assert "more than 50 opcodes" in refused(P2 + b"]" * 60 + b".")


@given(st.data())
def test_damaged_streams_are_refused_or_read_but_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(cifar_python(pixels(2)[:, :4], labels=np.array([1, 2])))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(read_pickle(bytes(raw), "x"), dict)
    except DataError as e:
        assert len(str(e)) < 1000
