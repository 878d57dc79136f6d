""".bin files: every layer with weights, what has the wrong size, other ways to store numbers."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.engines.ncnn.param import Layer
from fewbit.engines.ncnn.weights import FLOAT16, FLOAT32, INT8, PARTS, Weights, parts_of, read_bin, write_bin
from fewbit.errors import ModelFormatError


def layer(kind: str, **params: object) -> Layer:
    return Layer(kind, f"{kind}_0", ("a",), ("b",)).with_params(**params)


CONV = {"_0": 4, "_1": 3, "_5": 1, "_6": 36}
LAYERS = [  # every type of the table, and how many numbers it holds
    (layer("Convolution", **CONV), 40),
    (layer("Convolution", **CONV, _8=2), 45),
    (layer("Convolution", **CONV, _8=102), 46),
    (layer("Convolution", **CONV, _19=1), 0),
    (layer("ConvolutionDepthWise", **CONV, _7=4, _8=1), 45),
    (layer("ConvolutionDepthWise", **CONV, _7=4, _8=101), 46),
    (layer("ConvolutionDepthWise", **CONV, _7=4, _8=2), 42),
    (layer("ConvolutionDepthWise", **CONV, _7=4), 40),
    (layer("InnerProduct", _0=3, _1=1, _2=12), 15),
    (layer("InnerProduct", _0=3, _1=0, _2=12, _8=2), 16),
    *[(layer(kind, _0=4, _5=1, _6=36), 40) for kind in PARTS if "onvolution" in kind and kind[-2:] in ("1D", "3D")],
    (layer("Deconvolution", _0=4, _5=0, _6=36), 36),
    (layer("DeconvolutionDepthWise", _0=4, _5=1, _6=36, _28=1), 0),
    (layer("DeformableConv2D", _0=4, _5=1, _6=36), 40),
    (layer("Gemm", _5=1, _6=1, _7=4, _8=5, _9=8, _10=4), 45),
    (layer("Gemm", _4=1, _5=1, _6=0, _7=4, _8=5, _9=8, _18=2), 77),
    (layer("Gemm", _5=0, _6=1, _7=4, _8=5, _10=3), 20),
    (layer("LSTM", _0=4, _1=96, _2=0), 96 + 16 + 64),
    (layer("LSTM", _0=2, _1=96, _2=2, _3=4), 96 + 32 + 64 + 16),
    (layer("GRU", _0=4, _1=72, _2=0), 72 + 16 + 48),
    (layer("GRU", _0=4, _1=72, _8=2), 72 + 16 + 48 + 24),
    (layer("RNN", _0=4, _1=24, _2=2), 24 + 8 + 32),
    (layer("MultiHeadAttention", _0=8, _1=2, _2=64), 4 * 64 + 4 * 8),
    (layer("MultiHeadAttention", _0=8, _1=2, _2=64, _18=2), 4 * 64 + 4 * 8 + 3 * 8 + 1),
    (layer("Embed", _0=4, _1=5, _2=1, _3=20), 24),
    (layer("Embed", _0=4, _1=5, _2=0, _3=20, _18=2), 21),
    (layer("BatchNorm", _0=4), 16),
    (layer("Bias", _0=4), 4),
    (layer("Scale", _0=4, _1=1), 8),
    (layer("Scale", _0=-233), 0),
    (layer("PReLU", _0=4), 4),
    (layer("GroupNorm", _0=2, _1=4), 8),
    (layer("GroupNorm", _0=2, _1=4, _3=0), 0),
    (layer("InstanceNorm", _0=4), 8),
    (layer("LayerNorm", _0=4), 8),
    (layer("RMSNorm", _0=4), 4),
    (layer("Normalize", _3=4), 4),
    (layer("Padding", _6=4), 4),
    (layer("Padding"), 0),
    (layer("MemoryData", _0=4, _1=3), 12),
    (layer("MemoryData", _0=4, _1=3, _2=2, _21=0), 24),
    (layer("Quantize", _0=4), 4),
    (layer("Dequantize", _0=4, _1=4), 8),
    (layer("Requantize", _0=1, _1=4, _2=4), 9),
    (layer("ReLU"), 0),
]
IDS = [f"{x.type}-{'-'.join(x.params.values())}" for x, _ in LAYERS]


def filled(made: Layer, rng: np.random.Generator) -> Weights:
    """Numbers for all parts of a layer, int8 where it is one."""
    found = {p.name: rng.standard_normal(p.count).astype(np.float32) for p in parts_of(made)}
    if made.int(8) and made.type in ("Convolution", "ConvolutionDepthWise", "InnerProduct"):
        found["weight"] = rng.integers(-127, 128, found["weight"].size).astype(np.int8)
    return {made.name: found}


@pytest.mark.parametrize(("made", "count"), LAYERS, ids=IDS)
def test_what_is_written_is_read_back(made: Layer, count: int, rng: np.random.Generator) -> None:
    weights = filled(made, rng)
    assert sum(a.size for a in weights[made.name].values()) == count
    data = write_bin([made], weights)
    found = read_bin(data, [made]).get(made.name, {})
    assert list(found) == list(weights[made.name])
    for name, array in weights[made.name].items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert len(data) % 4 == 0 and write_bin([made], {made.name: found}) == data


def test_all_types_are_tried() -> None:
    assert {x.type for x, _ in LAYERS} >= set(PARTS)


TWO = [layer("Convolution", **CONV), layer("PReLU", _0=3)]


def written(rng: np.random.Generator) -> bytes:
    return write_bin(TWO, {k: v for x in TWO for k, v in filled(x, rng).items()})


def test_a_file_that_is_too_short_is_refused(rng: np.random.Generator) -> None:
    data = written(rng)
    for size, what in (
        (0, "weight of ncnn layer 'Convolution_0': 4 bytes wanted, 0 left"),
        (100, "144 bytes wanted"),
        (150, "bias of ncnn layer"),
        (len(data) - 1, "slope of ncnn layer 'PReLU_0': 12 bytes wanted"),
    ):
        with pytest.raises(ModelFormatError, match=what):
            read_bin(data[:size], TWO)


def test_a_file_that_is_too_long_is_refused_and_says_which_layers_it_may_be(rng: np.random.Generator) -> None:
    strange = [*TWO, layer("Quaternion"), layer("ReLU")]
    with pytest.raises(ModelFormatError, match=r"has 180 bytes and its layers hold 176.*these.*: Quaternion, ReLU"):
        read_bin(written(rng) + bytes(4), strange)


def test_a_count_below_0_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="'Convolution_0': weight has -5 numbers"):
        read_bin(bytes(40), [layer("Convolution", _0=4, _6=-5)])


def test_a_count_that_no_file_can_hold_allocates_nothing() -> None:
    with pytest.raises(ModelFormatError, match="4000000000000 bytes wanted, 36 left"):
        read_bin(bytes(40), [layer("Convolution", _0=4, _6=10**12)])


@given(
    kind=st.sampled_from(sorted(PARTS)),
    params=st.dictionaries(st.integers(0, 21), st.integers(-300, 10**9), max_size=8),
    data=st.binary(max_size=200),
)
def test_whatever_a_file_claims_it_is_read_or_refused(kind: str, params: dict[int, int], data: bytes) -> None:
    made = Layer(kind, "x", ("a",), ("b",), {k: str(v) for k, v in params.items()})
    try:
        found = read_bin(data, [made])
    except ModelFormatError:
        return
    assert sum(a.nbytes for parts in found.values() for a in parts.values()) <= 4 * len(data)


def test_half_precision_and_what_it_cannot_hold(rng: np.random.Generator) -> None:
    made = layer("Convolution", **CONV)
    weights = filled(made, rng)
    weights[made.name]["weight"] = np.arange(36, dtype=np.float32)
    data = write_bin([made], weights, half=True)
    assert struct.unpack_from("<I", data) == (FLOAT16,) and len(data) == 4 + 72 + 16
    np.testing.assert_array_equal(read_bin(data, [made])[made.name]["weight"], np.arange(36))
    weights[made.name]["weight"][0] = 1e6  # would be infinite
    assert struct.unpack_from("<I", write_bin([made], weights, half=True)) == (0,)


def test_other_ways_to_store_numbers() -> None:
    made = layer("Embed", _0=3, _1=2, _2=0, _3=6)
    book, index = np.arange(256, dtype="<f4") / 4, np.array([5, 0, 255, 7, 7, 1], np.uint8)
    coded = struct.pack("<I", 1) + book.tobytes() + index.tobytes() + bytes(2)
    np.testing.assert_array_equal(read_bin(coded, [made])[made.name]["weight"], book[index])
    plain = struct.pack("<I", FLOAT32) + book[:6].tobytes()
    np.testing.assert_array_equal(read_bin(plain, [made])[made.name]["weight"], book[:6])
    small = struct.pack("<I", INT8) + bytes([1, 2, 255, 128, 0, 3]) + bytes(2)
    assert read_bin(small, [made])[made.name]["weight"].tolist() == [1, 2, -1, -128, 0, 3]
