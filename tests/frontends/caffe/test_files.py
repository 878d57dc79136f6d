"""Which files belong together, and damaged ones: an error of ours, never anything else, and never much memory."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fewbit as fb
from fewbit.errors import FewbitError, ModelFormatError
from fewbit.frontends.caffe import text, wire
from fewbit.frontends.caffe.files import read_weights
from fewbit.frontends.caffe.legacy import layers
from fewbit.frontends.caffe.message import Message
from fewbit.frontends.caffe.schema import MESSAGES, fields, numbered
from fewbit.frontends.caffe.wire import Reader
from tests.frontends.caffe import nets
from tests.frontends.caffe.case import Case
from tests.frontends.caffe.cases import CASES
from tests.frontends.caffe.loading import converted
from tests.frontends.caffe.writing import blob, caffemodel, field, varint

WEIGHTS = caffemodel(nets.small_weights(), {"conv1": "Convolution", "fc": "InnerProduct"})


def put(folder: Path, *names: str) -> None:
    for name in names:
        data = WEIGHTS if name.endswith(".caffemodel") else nets.V2.encode()
        (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("names", "load", "params"),
    [
        (("a.prototxt", "a.caffemodel", "b.caffemodel"), "a.prototxt", None),
        (("deploy.prototxt", "a.caffemodel"), "deploy.prototxt", None),
        (("deploy.prototxt", "a.caffemodel", "b.caffemodel"), "deploy.prototxt", "b.caffemodel"),
        (("a.prototxt", "b.prototxt", "a.caffemodel"), "a.caffemodel", None),
        (("deploy.prototxt", "a.caffemodel"), "a.caffemodel", None),
    ],
)
def test_files_find_each_other(tmp_path: Path, names: tuple[str, ...], load: str, params: str | None) -> None:
    put(tmp_path, *names)
    model = fb.load(tmp_path / load, params=tmp_path / params if params else None)
    assert model.outputs[0].name == "prob" and model.path == tmp_path / load


@pytest.mark.parametrize(
    ("names", "load", "words"),
    [
        (
            ("d.prototxt", "a.caffemodel", "b.caffemodel"),
            "d.prototxt",
            "belong to any of a.caffemodel, b.caffemodel; give",
        ),
        (
            ("a.prototxt", "b.prototxt", "c.caffemodel"),
            "c.caffemodel",
            "a.prototxt, b.prototxt; load the one that is meant",
        ),
        (("d.prototxt",), "d.prototxt", "needs its weight, and there is no .caffemodel beside the network"),
        (("d.prototxt",), "e.prototxt", "there is no file"),
        (("d.caffemodel",), "d.caffemodel", "reads the blob|answers"),
    ],
)
def test_files_that_do_not(tmp_path: Path, names: tuple[str, ...], load: str, words: str) -> None:
    put(tmp_path, *names)
    with pytest.raises(ModelFormatError, match=words):
        fb.load(tmp_path / load)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n...", "is an HDF5 file; let Caffe save it"),
        (field(1, b"net"), "holds no layers"),
    ],
)
def test_what_is_no_caffemodel(tmp_path: Path, data: bytes, words: str) -> None:
    put(tmp_path, "a.prototxt")
    (tmp_path / "a.caffemodel").write_bytes(data)
    with pytest.raises(ModelFormatError, match=words):
        fb.load(tmp_path / "a.prototxt")


@contextlib.contextmanager
def little_memory(most: int = 8 << 20):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def read(data: bytes) -> bool:
    """Whether these weights make a network; if not, the error says which file."""
    try:
        converted(nets.V2, data)
    except FewbitError as e:
        assert "net.caffemodel" in str(e)
        return False
    return True


def test_truncations_are_refused() -> None:
    ends = sorted({*range(1, 120), *range(200, len(WEIGHTS), 97), len(WEIGHTS) - 1})
    with little_memory():
        assert not any(read(WEIGHTS[:end]) for end in ends)
    assert read(WEIGHTS)


@given(st.integers(0, len(WEIGHTS) - 1), st.integers(1, 255), st.integers(0, 80))
@settings(max_examples=30, deadline=None)
def test_any_byte_may_be_wrong(at: int, flip: int, start: int) -> None:
    for place in (at, start):  # anywhere, and in the first headers
        data = bytearray(WEIGHTS)
        data[place] ^= flip
        read(bytes(data))


@given(st.integers(0, len(nets.V2) - 1), st.sampled_from('{}<>:"0-9#a[],;\n\\'), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_letter_may_be_wrong(at: int, letter: str, more: bool) -> None:
    with contextlib.suppress(FewbitError):
        text.parse((nets.V2[:at] + letter + nets.V2[at + (not more) :]).encode(), "net.prototxt")


@given(
    st.sampled_from(CASES), st.integers(0, 99), st.sampled_from(["0", "-1", "3", "2147483647", "1e30", "-0.5", "nan"])
)
@settings(max_examples=60, deadline=None)
def test_any_number_may_be_absurd(case: Case, which: int, number: str) -> None:
    found = list(re.finditer(r"(?<=[ \[])[-\d.]+(?=[ ,\]])", case.text))
    at = found[which % len(found)]
    with contextlib.suppress(FewbitError), little_memory(64 << 20):
        converted(case.text[: at.start()] + number + case.text[at.end() :], case.weights())


@pytest.mark.parametrize("deep", ["layer { loss_param ", "layer { odd_param "])
def test_depth_is_no_trouble(deep: str) -> None:
    with pytest.raises(ModelFormatError, match="the text ends inside"):
        text.parse((deep + "{ a " * 20_000).encode(), "net.prototxt")


def test_a_few_bytes_cannot_ask_for_much(monkeypatch: pytest.MonkeyPatch) -> None:
    lie = field(7, field(7, field(1, varint(1 << 40) + varint(1 << 30))) + field(5, bytes(8)))
    with little_memory(1 << 20):
        assert not read(field(100, field(1, b"conv1") + lie))
        assert not read(b"\xa2\x06" + varint(1 << 62))
    monkeypatch.setattr(wire, "MOST_FIELDS", 10)
    with pytest.raises(ModelFormatError, match="more than 10 fields"):
        Reader(memoryview(b"\x28\x00" * 20), "net.caffemodel", 10).message("Net")


def test_weights_are_held_once(tmp_path: Path) -> None:
    big = np.zeros(4 << 20, np.float32)
    path = tmp_path / "a.caffemodel"
    path.write_bytes(caffemodel({"a": [big, big[: 1 << 20]]}))
    with little_memory(big.nbytes + (1 << 20)):
        message = layers(read_weights(path), "a")[0]
        first = wire.blob(message.all("blobs")[0], "a").array()
    assert first.shape == big.shape and first.flags.writeable


def test_doubles_and_plain_numbers_are_weights() -> None:
    values = np.arange(6, dtype=np.float64)
    stored = field(7, field(1, b"\x02\x03")) + field(8, values.astype("<f8").tobytes())
    found = wire.blob(Reader(memoryview(stored), "x").message("Blob"), "x").array()
    np.testing.assert_array_equal(found, values.reshape(2, 3).astype(np.float32))
    listed = text.parse(b"shape { dim: [2, 2] } data: [1, 2.5e0] data: -3 data: 4f", "x", "Blob")
    np.testing.assert_array_equal(wire.blob(listed, "x").array(), [[1, 2.5], [-3, 4]])
    plain = Reader(memoryview(blob(values.astype(np.float32))[-len(values) * 4 - 2 :]), "x").message("Blob")
    assert wire.blob(plain, "x").shape == (6,)


def test_a_text_and_its_bytes_say_the_same() -> None:
    written = text.parse(
        b'name: "a" # no\n top: "x", top: "y"; prior_box_param < min_size: [1, 2.5] flip: false >', "x", "Layer"
    )
    prior = field(203, b"\x0d\x00\x00\x80\x3f\x0d\x00\x00\x20\x40\x20\x00")
    stored = Reader(memoryview(field(1, b"a") + field(4, b"x") + field(4, b"y") + prior), "x").message("Layer")
    assert plain(written) == plain(stored)
    assert plain(stored)["prior_box_param"][0]["min_size"] == [1, 2.5]


def plain(message: Message) -> dict:
    return {k: [plain(v) if isinstance(v, Message) else v for v in values] for k, values in message.given.items()}


def test_the_schema_hangs_together() -> None:
    for name in MESSAGES:
        assert all(f.kind in MESSAGES or not f.kind[0].isupper() for f in fields(name).values())
        assert len(numbered(name)) == sum(f.number > 0 for f in fields(name).values())  # no number twice
