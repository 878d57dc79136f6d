"""ncnn's `.bin` file: the weights of all layers in a row, in the order of the `.param` file.

    tagged   u32 tag, then the numbers, filled up to 4 bytes:  0 float32 · 0x01306B47 float16 · 0x000D4B38 int8 ·
             0x0002C056 float32 · another tag: 256 float32, then one byte a weight that chooses among them
    raw      float32 without a tag

Nothing in the file says what belongs to whom: the layer's type and parameters do, by the table here. A layer that the
table lacks is taken to have no weights; if it has some, sizes do not come out even, and that is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.engines.ncnn.param import Layer
from fewbit.errors import ModelFormatError

Array = NDArray[Any]

FLOAT16, INT8, FLOAT32 = 0x01306B47, 0x000D4B38, 0x0002C056
FUSED = 100
"""Added to a layer's int8 term if it answers in int8."""

NONE = -233
"""Stands for "as many as there are inputs", which have no weight in the file."""


@dataclass(frozen=True)
class Part:
    """One array of a layer: its name, how many numbers, and whether a tag stands in front."""

    name: str
    count: int
    tagged: bool = False


Parts = list[Part]
Weights = dict[str, dict[str, Array]]
"""Layer → name of a part → its numbers, flat: float32, or int8."""


def _weighted(bias: int, size: int, top: bool, dynamic: int = -1) -> Callable[[Layer], Parts]:
    """A layer with a weight, a bias and, if it is int8, scales. Arguments: keys of the parameters."""

    def parts(layer: Layer) -> Parts:
        if dynamic >= 0 and layer.int(dynamic):
            return []
        found = [Part("weight", layer.int(size), True)]
        found += [Part("bias", layer.int(0))] if layer.int(bias) else []
        term = layer.int(8)
        if not term:
            return found
        found += [Part("weight_scale", scales_of(layer, term)), Part("input_scale", 1)]
        return found + ([Part("output_scale", 1)] if top and term > FUSED else [])

    return parts


def scales_of(layer: Layer, term: int) -> int:
    """Weight scales of an int8 layer."""
    if layer.type == "ConvolutionDepthWise":
        return layer.int(7, 1) if term % FUSED == 1 else 1
    return layer.int(0)


def _float_only(bias: int, size: int, dynamic: int) -> Callable[[Layer], Parts]:
    def parts(layer: Layer) -> Parts:
        if dynamic >= 0 and layer.int(dynamic):
            return []
        return [Part("weight", layer.int(size), True), *([Part("bias", layer.int(0))] if layer.int(bias) else [])]

    return parts


def _gemm(layer: Layer) -> Parts:
    m, n, k, term = layer.int(7), layer.int(8), layer.int(9), layer.int(18)
    found = [Part("a", m * k, True)] if layer.int(4) else []
    found += [Part("weight", n * k, True)] if layer.int(5) else []
    wide = {0: 1, 1: m, 2: m, 3: n * m, 4: n}
    if layer.int(6) and layer.int(10) in wide:
        found.append(Part("bias", wide[layer.int(10)], True))
    if term:
        found += [Part("a_scale", m)] if layer.int(4) else []
        found += [Part("weight_scale", 1)] if layer.int(5) else []
    return found


def _recurrent(gates: int, biases: int) -> Callable[[Layer], Parts]:
    def parts(layer: Layer) -> Parts:
        out, ways = layer.int(0), 2 if layer.int(2) == 2 else 1
        hidden = layer.int(3) or out if gates == 4 else out
        term = layer.int(8)
        found = [
            Part("weight", layer.int(1), True),
            Part("bias", hidden * biases * ways, True),
            Part("recurrent", out * hidden * gates * ways, True),
        ]
        if gates == 4 and hidden != out:
            found.append(Part("projection", hidden * out * ways, True))
        scales = [Part(name, hidden * gates * ways) for name in ("x_scale", "h_scale")]
        return found + (scales if term else [])

    return parts


def _attention(layer: Layer) -> Parts:
    wide, size = layer.int(0), layer.int(2)
    inner = size // wide if wide else 0
    keys, values = layer.int(3, wide), layer.int(4, wide)
    sizes = (("q", size, wide), ("k", wide * keys, wide), ("v", wide * values, wide), ("out", size, inner))
    found = [p for n, w, b in sizes for p in (Part(n, w, True), Part(f"{n}_bias", b))]
    if layer.int(18):
        found += [Part(f"{n}_scale", wide) for n in ("q", "k", "v")] + [Part("out_scale", 1)]
    return found


def _embed(layer: Layer) -> Parts:
    found = [Part("weight", layer.int(3), True)]
    found += [Part("bias", layer.int(0))] if layer.int(2) else []
    return found + ([Part("weight_scale", 1)] if layer.int(18) else [])


def _raw(*names: str, size: int, only_if: int = -1) -> Callable[[Layer], Parts]:
    """Float numbers without a tag. size: key of how many; only_if: key of a switch, on by default."""

    def parts(layer: Layer) -> Parts:
        count = layer.int(size)
        return [Part(n, count) for n in names] if count > 0 and (only_if < 0 or layer.int(only_if, 1)) else []

    return parts


def _scale(layer: Layer) -> Parts:
    count = layer.int(0)
    return [] if count == NONE else [Part("weight", count), *([Part("bias", count)] if layer.int(1) else [])]


def _memory(layer: Layer) -> Parts:
    count = 1
    for key in (0, 1, 11, 2):
        count *= layer.int(key) or 1
    return [Part("data", count, tagged=layer.int(21, 1) == 0)]


def _several(*keys: int) -> Callable[[Layer], Parts]:
    return lambda layer: [Part(f"scale{k}", layer.int(k, 1 if k == 0 else 0)) for k in keys if layer.int(k, k == 0)]


PARTS: Mapping[str, Callable[[Layer], Parts]] = {
    "Convolution": _weighted(5, 6, True, 19),
    "ConvolutionDepthWise": _weighted(5, 6, True, 19),
    "InnerProduct": _weighted(1, 2, False),
    "Convolution1D": _float_only(5, 6, 19),
    "ConvolutionDepthWise1D": _float_only(5, 6, 19),
    "Convolution3D": _float_only(5, 6, -1),
    "ConvolutionDepthWise3D": _float_only(5, 6, -1),
    "Deconvolution": _float_only(5, 6, 28),
    "DeconvolutionDepthWise": _float_only(5, 6, 28),
    "Deconvolution1D": _float_only(5, 6, 28),
    "DeconvolutionDepthWise1D": _float_only(5, 6, 28),
    "Deconvolution3D": _float_only(5, 6, -1),
    "DeconvolutionDepthWise3D": _float_only(5, 6, -1),
    "DeformableConv2D": _float_only(5, 6, -1),
    "Gemm": _gemm,
    "LSTM": _recurrent(4, 4),
    "GRU": _recurrent(3, 4),
    "RNN": _recurrent(1, 1),
    "MultiHeadAttention": _attention,
    "Embed": _embed,
    "BatchNorm": _raw("slope", "mean", "variance", "bias", size=0),
    "Bias": _raw("bias", size=0),
    "Scale": _scale,
    "PReLU": _raw("slope", size=0),
    "GroupNorm": _raw("gamma", "beta", size=1, only_if=3),
    "InstanceNorm": _raw("gamma", "beta", size=0, only_if=2),
    "LayerNorm": _raw("gamma", "beta", size=0, only_if=2),
    "RMSNorm": _raw("gamma", size=0, only_if=2),
    "Normalize": _raw("scale", size=3),
    "Padding": _raw("values", size=6),
    "MemoryData": _memory,
    "Quantize": _several(0),
    "Dequantize": _several(0, 1),
    "Requantize": _several(0, 1, 2),
}
"""Layer type → the arrays that it has in the file, in order."""


def parts_of(layer: Layer) -> Parts:
    """The arrays that a layer has in the file."""
    found = PARTS[layer.type](layer) if layer.type in PARTS else []
    for part in found:
        if part.count < 0:
            raise ModelFormatError(f"ncnn layer {layer.name!r}: {part.name} has {part.count} numbers")
    return found


def read_bin(data: bytes, layers: Sequence[Layer]) -> Weights:
    """The weights of all layers.

    Raises:
        ModelFormatError: the file ends too early, or is longer than what the layers hold.
    """
    found: Weights = {}
    at = 0
    for layer in layers:
        for part in parts_of(layer):
            array, at = _read(data, at, part, layer)
            found.setdefault(layer.name, {})[part.name] = array
    if at != len(data):
        odd = sorted({layer.type for layer in layers} - set(PARTS))
        raise ModelFormatError(
            f"the ncnn .bin file has {len(data)} bytes and its layers hold {at}; it belongs to another .param file, or "
            f"one of these layers has weights: {', '.join(odd) or 'none'}"
        )
    return found


def _read(data: bytes, at: int, part: Part, layer: Layer) -> tuple[Array, int]:
    what = f"{part.name} of ncnn layer {layer.name!r}"
    tag = 0
    if part.tagged:
        (tag,) = struct.unpack("<I", _bytes(data, at, 4, what))
        at += 4
    if tag in (INT8, FLOAT16):
        kind = np.dtype(np.int8 if tag == INT8 else np.float16)
    elif tag in (0, FLOAT32):
        kind = np.dtype("<f4")
    else:
        book = np.frombuffer(_bytes(data, at, 1024, what), "<f4")
        index = np.frombuffer(_bytes(data, at + 1024, part.count, what), np.uint8)
        return book[index], at + 1024 + _full(part.count)
    size = part.count * kind.itemsize
    array = np.frombuffer(_bytes(data, at, size, what), kind)
    return (array.astype(np.float32) if kind != np.int8 else array.copy()), at + _full(size)


def _bytes(data: bytes, at: int, size: int, what: str) -> bytes:
    if at + size > len(data):
        raise ModelFormatError(f"the ncnn .bin file ends in the {what}: {size} bytes wanted, {len(data) - at} left")
    return data[at : at + size]


def _full(size: int) -> int:
    return (size + 3) // 4 * 4


def write_bin(layers: Iterable[Layer], weights: Weights, half: bool = False) -> bytes:
    """The bytes of a `.bin` file.

    Args:
        half: float weights that have a tag are stored as float16, if float16 can hold them.
    """
    out = bytearray()
    for layer in layers:
        for part in parts_of(layer):
            array = weights[layer.name][part.name]
            assert array.size == part.count, (layer.name, part, array.size)
            out += _written(array, part, half)
    return bytes(out)


def _written(array: Array, part: Part, half: bool) -> bytes:
    if not part.tagged:
        return array.astype("<f4").tobytes()
    if array.dtype == np.int8:
        tag, body = INT8, array.tobytes()
    elif half and fits_half(array):
        tag, body = FLOAT16, array.astype("<f2").tobytes()
    else:
        tag, body = 0, array.astype("<f4").tobytes()
    return struct.pack("<I", tag) + body + bytes(_full(len(body)) - len(body))


def fits_half(array: Array) -> bool:
    """Whether float16 holds the numbers without becoming infinite."""
    return bool(np.abs(array).max(initial=0) <= np.finfo(np.float16).max)
