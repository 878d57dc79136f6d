"""Symbols that stand for an ONNX file beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewbit.errors import ModelFormatError, UnsafePath
from fewbit.frontends.mxnet.checkpoint import point, pointed


def written(folder: Path, name: Any) -> Path:
    symbol = folder / "net-symbol.json"
    symbol.write_text(json.dumps({"fewbit": 1, "network": name}))
    return symbol


def test_what_is_written_is_found(tmp_path: Path) -> None:
    network, symbol = tmp_path / "net.onnx", tmp_path / "net-symbol.json"
    network.write_bytes(b"x")
    point(symbol, network)
    assert pointed(symbol) == network


@pytest.mark.parametrize("name", ["", ".", "../x.onnx", "/x.onnx", "a/b.onnx", 7, None, ["x.onnx"]])
def test_only_a_file_in_the_same_folder_can_be_meant(tmp_path: Path, name: Any) -> None:
    with pytest.raises(
        UnsafePath, match=r"net-symbol.json points to .*; it may only point to a file in its own folder"
    ):
        pointed(written(tmp_path, name))


@pytest.mark.parametrize("name", ["none.onnx", "..", "a" * 3000, "a\0b", "\ud800.onnx"])
def test_a_file_that_cannot_be_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFormatError, match="which is not there") as e:
        pointed(written(tmp_path, name))
    assert len(str(e.value).encode()) < 300 + len(str(tmp_path))
