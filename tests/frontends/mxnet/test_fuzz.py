"""Damaged files: an error of ours or a result, never anything else, and never much memory."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.errors import FewbitError
from fewbit.frontends.mxnet import dense, npz
from fewbit.frontends.mxnet.ndarray import load_ndarrays, save_ndarrays
from fewbit.frontends.mxnet.symbol import parse_symbol, symbol_text
from fewbit.frontends.mxnet.upgrade import upgrade

GOLDEN = Path(__file__).parents[2] / "golden" / "mxnet"
FILES = ("before_v1", "v1", "sparse", "np_shape", "unnamed")
MOST = 4 << 20


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file may unfold to is allowed to be large on purpose; here it is not."""
    monkeypatch.setattr(dense, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(npz, "UNPACK", 1 << 20)


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()


def read(path: Path, data: bytes) -> bool:
    """Whether these bytes are read; if not, the error names the file."""
    path.write_bytes(data)
    with little_memory():
        try:
            load_ndarrays(path)
        except FewbitError as e:
            assert path.name in str(e)
            return False
    return True


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_refused(tmp_path: Path, name: str) -> None:
    data = (GOLDEN / "params" / f"{name}.params").read_bytes()
    assert not any(read(tmp_path / "x.params", data[:end]) for end in range(len(data)))
    assert read(tmp_path / "x.params", data)


@pytest.mark.parametrize("name", FILES)
def test_every_byte_may_be_wrong(tmp_path: Path, name: str) -> None:
    data = (GOLDEN / "params" / f"{name}.params").read_bytes()
    refused = 0
    for at in range(len(data)):
        for value in {0xFF, data[at] ^ (1 if at % 2 else 0x80)} - {data[at]}:
            refused += not read(tmp_path / "x.params", data[:at] + bytes([value]) + data[at + 1 :])
    assert refused > len(data) // 2  # in headers; a value may be anything


@given(st.data())
@settings(max_examples=150)
def test_numbers_may_be_absurd(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    stored = bytearray((GOLDEN / "params" / f"{data.draw(st.sampled_from(FILES))}.params").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(stored) // 4 - 2)) * 4
        number = data.draw(st.sampled_from([0, 1, 2, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]))
        stored[at : at + 8] = number.to_bytes(8, "little")
    read(tmp_path_factory.getbasetemp() / "absurd.params", bytes(stored))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_zip_files(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "x.npz", **{"arg:w": np.arange(4, dtype=np.float32), "e/data": np.ones(1, np.int8)})
    data = (tmp_path / "x.npz").read_bytes()
    assert read(tmp_path / "y.npz", data)
    assert not any(read(tmp_path / "y.npz", data[:end]) for end in range(0, len(data), 5))
    for at in range(len(data)):
        for value in {0xFF if at % 2 else data[at] ^ 1} - {data[at]}:
            read(tmp_path / "y.npz", data[:at] + bytes([value]) + data[at + 1 :])


@given(st.binary(max_size=120))
def test_anything_after_a_sound_start(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "tail.params"
    save_ndarrays(path, {"x": np.ones(2, np.int8)})
    for start in (path.read_bytes()[:16], path.read_bytes()[:24], b"PK\3\4", b"\x93NUMPY\1\0"):
        read(path, start + tail)


def take(text: str) -> None:
    """Everything that is asked of a symbol."""
    with little_memory():
        ask(text)


def ask(text: str) -> None:
    try:
        graph = upgrade(parse_symbol(text, "a-symbol.json"))
    except FewbitError as e:
        assert "symbol" in str(e)
        return
    names = list(graph.internals())
    assert len(graph.outputs) == len(graph.heads) and set(graph.auxiliaries) <= set(graph.variables)
    assert parse_symbol(symbol_text(graph), "again") == graph
    for name in names[-3:]:
        try:
            assert graph.cut([name]).outputs == (name,)
        except FewbitError as e:
            assert "are called" in str(e)


TEXTS = [(GOLDEN / "symbols" / f"{n}-symbol.json").read_text() for n in ("v080", "loop", "checkpoint")]
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2, -1, 2**63, "null", "BatchNorm", "x", "-1", 1.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["op", "name", "nodes", "a"]), inner),
    max_leaves=4,
)


@given(st.data())
@settings(max_examples=300)
def test_any_part_of_a_symbol_may_be_something_else(data: st.DataObject) -> None:
    stored = json.loads(data.draw(st.sampled_from(TEXTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        at: Any = stored
        while True:
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if not at[key] or not isinstance(at[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
                break
            at = at[key]
        if data.draw(st.booleans()):
            at[key] = data.draw(JUNK)
        else:
            del at[key]
        if not stored:
            break
    take(json.dumps(stored))


def test_every_truncation_of_a_symbol() -> None:
    for end in range(len(TEXTS[0])):
        take(TEXTS[0][:end])


@given(st.sampled_from(TEXTS), st.integers(0, 900), st.characters())
def test_any_letter_of_a_symbol(text: str, at: int, letter: str) -> None:
    take(text[:at] + letter + text[at + 1 :])


def test_many_outputs_cost_little() -> None:
    nodes = [{"op": "null", "name": "x"}] + [{"op": "odd", "name": f"o{i}", "inputs": [[0, 0]]} for i in range(20)]
    take(json.dumps({"nodes": nodes, "heads": [[1, 4095]] * 500}))
