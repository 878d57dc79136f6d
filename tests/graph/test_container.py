"""`.fewbit` files: what is written comes back, and what is damaged is refused in our words."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from fewbit.core.params import weight_params
from fewbit.core.spec import QuantSpec
from fewbit.core.stored import StoredWeight
from fewbit.errors import (
    ConfigError,
    FewbitError,
    ModelFormatError,
    OutputError,
    UnknownName,
    UnsafePath,
    UnsupportedModel,
)
from fewbit.graph import container
from fewbit.graph.container import HEAD, read_container, write_container
from fewbit.graph.model import Model
from tests import models
from tests.models import NETWORKS, feeds_for, info, load, node, proto, run, weight


def stored_weights(model: Model, bits: int = 4) -> dict[str, StoredWeight]:
    """Every weight of two and more axes in integers."""
    found = {}
    for name, value in model.graph.initializers.items():
        w = value.const_value.numpy()
        if w.ndim >= 2 and w.dtype == np.float32:
            params = weight_params(QuantSpec(bits, None, False, "channel", 0), w)
            found[name] = StoredWeight(params.quantize(w), params)
    return found


def with_real(model: Model, stored: Any) -> Model:
    whole = model.clone()
    for name in stored:
        whole.set_weight(name, stored[name].real())
    return whole


def big() -> onnx.ModelProto:
    """Two weights over 4 kB, one below; the last two stay float."""
    return proto(
        [node("MatMul", "x w", "h"), node("MatMul", "h v", "g"), node("Add", "g b", "y")],
        [info("x", ["n", 64])],
        [info("y", ["n", 64])],
        {"w": weight(64, 64), "v": weight(64, 64, seed=1), "b": weight(64)},
    )


def write(folder: Path, made: onnx.ModelProto, only: str | None = None, **more: Any) -> Path:
    model = load(made)
    stored = {k: v for k, v in stored_weights(model).items() if only in (None, k)}
    write_container(model, stored, folder / "m.fewbit", **more)
    return folder / "m.fewbit"


# -- there and back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NETWORKS, "big"])
def test_a_network_comes_back(tmp_path: Path, name: str) -> None:
    model = load((NETWORKS | {"big": big})[name]())
    stored = stored_weights(model)
    before = model.digest()
    write_container(model, stored, tmp_path / "m.fewbit", {"plan": {"é": [1, 2.5, None]}})
    assert model.digest() == before and os.listdir(tmp_path) == ["m.fewbit"]
    back, weights, extra = read_container(tmp_path / "m.fewbit")
    assert extra == {"plan": {"é": [1, 2.5, None]}} and list(weights) == list(stored)
    assert [str(i) for i in back.inputs] == [str(i) for i in model.inputs]
    want, got = with_real(model, stored), with_real(back, weights)
    assert got.digest() == want.digest()
    feeds = feeds_for(model)
    for a, b in zip(run(want, feeds).values(), run(got, feeds).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path, big()).read_bytes()
    assert write(tmp_path, big()).read_bytes() == first


def test_float_data_of_a_stored_weight_is_neither_written_nor_allocated(tmp_path: Path) -> None:
    model = load(big())
    stored = stored_weights(model)
    shape = (3000, 4000)
    q = np.zeros(shape, np.int8)
    q[::7, ::5] = 3
    spec = QuantSpec(4, True, True)
    stored["w"] = StoredWeight(q, weight_params(spec, np.ones((1, 1), np.float32)))
    nothing = np.broadcast_to(np.float32(0), shape)
    model.graph.initializers["w"].const_value = ir.Tensor(nothing, name="w")
    write_container(model, stored, tmp_path / "m.fewbit")
    assert (tmp_path / "m.fewbit").stat().st_size < 0.2 * q.size / 8 * 4
    back, weights, _ = read_container(tmp_path / "m.fewbit")
    zeros = back.graph.initializers["w"].const_value.numpy()
    assert zeros.shape == shape and zeros.strides == (0, 0)
    np.testing.assert_array_equal(weights["w"].q, q)


def test_large_weights_stay_outside_of_the_message(tmp_path: Path) -> None:
    path = write(tmp_path, big(), only="w")
    header, blocks = opened(path)
    assert [w["name"] for w in header["weights"]] == ["v"] and header["weights"][0]["bytes"] == 64 * 64 * 4
    assert len(blocks[0]) < 2000
    message = onnx.ModelProto.FromString(blocks[0])
    assert [i.name for i in message.graph.input] == ["x", "w"]
    back, _, _ = read_container(path)
    np.testing.assert_array_equal(back.graph.initializers["v"].const_value.numpy(), weight(64, 64, seed=1))


def test_four_bit_and_half_weights_come_back(tmp_path: Path) -> None:
    model = load(big())
    packed = np.random.default_rng(0).integers(0, 256, 8192).astype(np.uint8)
    model.add_initializer("four", np.zeros(1, np.float32)).const_value = ir.PackedTensor(
        packed, ir.DataType.INT4, shape=ir.Shape([128, 128]), name="four"
    )
    model.add_initializer("half", weight(64, 64).astype(np.float16))
    write_container(model, {}, tmp_path / "m.fewbit")
    back, weights, extra = read_container(tmp_path / "m.fewbit")
    assert not weights and not extra
    assert back.graph.initializers["four"].const_value.tobytes() == packed.tobytes()
    np.testing.assert_array_equal(
        back.graph.initializers["half"].const_value.numpy(), weight(64, 64).astype(np.float16)
    )


def test_an_unknown_name_is_not_a_stored_weight(tmp_path: Path) -> None:
    _, weights, _ = read_container(write(tmp_path, big()))
    assert len(weights) == 2 and "b" not in weights
    with pytest.raises(KeyError):
        weights["b"]


# -- what the writer refuses -------------------------------------------------------------------------------------------


def test_a_stored_weight_must_be_a_float_weight_of_its_shape(tmp_path: Path) -> None:
    model = load(big())
    stored = stored_weights(model)
    path = tmp_path / "m.fewbit"
    with pytest.raises(UnknownName, match="unknown weight 'vv'; did you mean 'v'"):
        write_container(model, {"vv": stored["v"]}, path)
    with pytest.raises(ConfigError, match=r"weight 'b' is float \[64\] in the graph; .* stand for float \[64, 64\]"):
        write_container(model, {"b": stored["v"]}, path)
    with pytest.raises(OutputError, match="cannot write"):
        write_container(model, stored, tmp_path / "none" / "m.fewbit")
    assert not path.exists()


def test_limits_of_the_format_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MOST_HEADER", 200)
    with pytest.raises(ConfigError, match=r"the header has [\d,]+ bytes; 200 are the most; put less into extra"):
        write(tmp_path, big(), extra={"text": "-" * 300})
    monkeypatch.setattr(container, "MAX_PROTO", 3)
    with pytest.raises(UnsupportedModel, match=r"bodies of control flow hold weights of .* bytes; 3 fit into a file"):
        write(tmp_path, models.branches())
    assert not os.listdir(tmp_path)


# -- what the reader refuses -------------------------------------------------------------------------------------------


def opened(path: Path) -> tuple[dict[str, Any], list[bytes]]:
    """Header and blocks."""
    data = path.read_bytes()
    length = HEAD.unpack_from(data)[2]
    header = json.loads(data[HEAD.size : HEAD.size + length])
    blocks, at = [], HEAD.size + length
    for fields in (header["graph"], *header["stored"], *header["weights"]):
        at += -at % 64
        blocks.append(data[at : at + fields["bytes"]])
        at += fields["bytes"]
    return header, blocks


def rewritten(path: Path, header: Any, blocks: list[bytes], *, check: bool = True) -> Path:
    """The file with another header and other blocks, lengths and checksums made to agree."""
    if check:
        for fields, block in zip((header["graph"], *header["stored"], *header["weights"]), blocks, strict=True):
            fields["bytes"], fields["crc"] = len(block), zlib.crc32(block)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    data = HEAD.pack(b"fewbit\0", 1, len(text), zlib.crc32(text), 0) + text
    for block in blocks:
        data += bytes(-len(data) % 64) + block
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: b"", "is not a .fewbit file, or it is truncated"),
        (lambda d: b"PK" + d[2:], "is not a .fewbit file"),
        (lambda d: d[:10], "is not a .fewbit file, or it is truncated"),
        (lambda d: d[:7] + b"\2" + d[8:], "is of version 2 of its format; this fewbit reads version 1"),
        (lambda d: d[:12] + b"\xff" + d[13:], "is truncated or damaged: a header of .* bytes in a file of"),
        (lambda d: d[:40] + b"!" + d[41:], "its header does not match its checksum"),
        (lambda d: d[:-1], r"its header tells of [\d,]+ bytes, it has"),
        (lambda d: d + b"\0", r"its header tells of [\d,]+ bytes, it has"),
        (lambda d: d[:-1] + bytes([d[-1] ^ 1]), "'v' does not match its checksum"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    path = write(tmp_path, big(), only="w")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelFormatError, match=says):
        read_container(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"there is no file .*none\.fewbit"):
        read_container(tmp_path / "none.fewbit")
    with pytest.raises(ModelFormatError, match=r"is a folder; a \.fewbit file is needed"):
        read_container(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "its header is not JSON"),
        (b"\xff\xfe", "its header is not JSON"),
        (b"[" * 100_000, "its header is not JSON"),
        (b"[]", "its header has no 'graph'"),
        (b'{"graph": 3}', "its header has no 'graph'"),
        (b'{"graph": {}, "stored": []}', "its header has no 'weights'"),
    ],
)
def test_a_header_that_is_not_one_is_refused(tmp_path: Path, text: bytes, says: str) -> None:
    with pytest.raises(ModelFormatError, match=says):
        read_container(rewritten(tmp_path / "m.fewbit", text, [], check=False))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h: h["graph"].update(bytes=-1), "lists a block without name, bytes and crc"),
        (lambda h: h["graph"].update(bytes=2**70), r"its header tells of [\d,]+ bytes, it has"),
        (lambda h: h["stored"][0].update(bytes=1.5), "lists a block without name, bytes and crc"),
        (lambda h: h["stored"][0].update(name=None), "lists a block without name, bytes and crc"),
        (lambda h: h["stored"].append(7), "lists a block without name, bytes and crc"),
        (lambda h: h["weights"][0].update(name="w"), "its header lists weight 'w' twice"),
        (lambda h: h["weights"][0].update(name="u"), "holds weight 'u', which its graph has no place for"),
        (lambda h: h["stored"][0].update(name="u"), "holds weight 'u', which its graph has no place for"),
        (lambda h: h["stored"][0].update(name="b"), "holds weight 'b', which its graph has no place for"),
        (lambda h: h["stored"][0].update(shape=[64, 63]), r"weight 'w' has the shape \[64, 63\], in the graph it is"),
        (lambda h: h["stored"][0].update(form="zip"), "weight 'w': form is 'zip'"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, change: Callable[[Any], None], says: str) -> None:
    path = write(tmp_path, big(), only="w")
    header, blocks = opened(path)
    change(header)
    with pytest.raises(ModelFormatError, match=says):
        read_container(rewritten(path, header, blocks, check=False))


def test_a_weight_of_another_length_and_a_graph_that_is_none_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, big(), only="w")
    header, (graph, w, v) = opened(path)
    with pytest.raises(ModelFormatError, match=r"weight 'v' has 16380 bytes, but its shape .* needs 16384"):
        read_container(rewritten(path, header, [graph, w, v[:-4]]))
    with pytest.raises(ModelFormatError, match="holds a graph that is corrupt"):
        read_container(rewritten(path, header, [b"\xff" * 50, w, v]))
    _, weights, _ = read_container(rewritten(path, header, [graph, w[:-3], v]))
    with pytest.raises(
        ModelFormatError, match=r"m\.fewbit: weight 'w': (the entropy-coded data is damaged|.* bits take)"
    ):
        weights["w"]
    header["weights"] = []
    with pytest.raises(ModelFormatError, match="it has no graph with an output"):
        read_container(rewritten(path, header, [b"", w]))


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """It would be read as bytes, and no file could be written of it."""
    path = write(tmp_path, big(), only="w")
    header, (graph, w, v) = opened(path)
    message = onnx.ModelProto.FromString(graph)
    message.metadata_props.add(key="made by", value="someone")
    message.graph.initializer[0].doc_string = "of the first layer"
    for text in (b"made by", b"someone", b"of the first layer"):
        damaged = message.SerializeToString().replace(text, b"\xcc" + text[1:])
        with pytest.raises(ModelFormatError, match=r"m\.fewbit is corrupt: \w+ b'\\xcc.* in it is not UTF-8"):
            read_container(rewritten(path, header, [damaged, w, v]))
    read_container(rewritten(path, header, [message.SerializeToString(), w, v]))


def test_data_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, big(), only="w")
    header, (graph, w, v) = opened(path)
    message = onnx.ModelProto.FromString(graph)
    tensor = next(t for t in message.graph.initializer if t.name == "v")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    with pytest.raises(UnsafePath, match="outside of the model's folder"):
        read_container(rewritten(path, header, [message.SerializeToString(), w, v]))


@pytest.mark.parametrize("agree", [False, True])
def test_random_damage_is_refused_in_our_words(tmp_path: Path, agree: bool) -> None:
    """With `agree`, checksums are right for what was damaged, so that it reaches what lies behind them."""
    path = write(tmp_path, big(), only="w", extra={"a": 1})
    whole, (header, blocks) = path.read_bytes(), opened(path)
    rng, caught = np.random.default_rng(1), 0
    for _ in range(250 if agree else 150):
        if agree:
            texts = [json.dumps(header).encode(), *blocks]
            which = int(rng.integers(0, 3))
            broken = bytearray(texts[which])
            broken[rng.integers(0, len(broken))] ^= 1 << rng.integers(0, 8)
            texts[which] = bytes(broken[: rng.integers(1, len(broken))]) if rng.random() < 0.2 else bytes(broken)
            if which:
                rewritten(path, header, texts[1:])
            else:
                rewritten(path, texts[0], blocks, check=False)
        else:
            data = bytearray(whole)
            data[rng.integers(0, len(data))] ^= 1 << rng.integers(0, 8)
            path.write_bytes(data[: rng.integers(0, len(data))] if rng.random() < 0.3 else data)
        try:
            back, weights, _ = read_container(path)
            with np.errstate(over="ignore"):  # a scale may have become huge
                assert all(weights[name].real().shape == (64, 64) for name in weights)
            assert back.outputs
        except FewbitError:
            caught += 1
    assert caught > 100
