"""Pooling.

How many places a window has, for a size n with padding p at both ends, kernel k and stride s:

    valid   ⌊(n + 2p - k) / s⌋ + 1          full   ⌈(n + 2p - k) / s⌉ + 1          same (p is 0)   ⌈n / s⌉

`full` and `same` are written as `valid` with more padding at the end, by s - 1 and k - 1, which gives the same number
for every n; where n is known, by just what the last window needs. An average counts the padding p (unless
count_include_pad is off), but never what is added here. Pooling_v1 pads with zeros: they count in the maximum, and its
averages are of k places always. Where the padding is as wide as the kernel, which engines refuse, it is a Pad, too; a
maximum, or an average that does not count it, has no number there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from fewbit.errors import UnsupportedModel
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.ops.spatial import back, channels_last, first, kernel_of, sizes
from fewbit.graph.build import Value

CONVENTIONS = ("valid", "full", "same")
KINDS = ("max", "avg", "sum", "lp")


@dataclass(frozen=True)
class Window:
    """One number for each spatial axis. `end` is the padding at the end with what is added."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]


@op("Pooling", "Pooling_v1", "_npx_pooling")
def pooling(layer: Layer) -> Value:
    """MaxPool, AveragePool, LpPool or their global forms."""
    kind, last = layer.attrs.word("pool_type", "max", KINDS), channels_last(layer)
    power = layer.attrs.whole("p_value", 2) if kind == "lp" else 0
    layer.attrs.skip("p_value")
    counted = layer.attrs.flag("count_include_pad", True) if layer.attrs.has("count_include_pad") else True
    if power not in (0, 1, 2, 3):
        raise layer.unsupported(f"p_value is {power}; MXNet has 1, 2 and 3")
    x = first(layer, layer.x, last)
    if layer.attrs.flag("global_pool", False):
        layer.attrs.skip("kernel", "stride", "pad", "pooling_convention")
        return back(layer, _global(layer, x, kind, power), last)
    return back(layer, _local(layer, x, kind, power, _window(layer, x), counted), last)


def _global(layer: Layer, x: Value, kind: str, power: int) -> Value:
    if kind in ("max", "avg"):
        return layer.main("GlobalMaxPool" if kind == "max" else "GlobalAveragePool", x)
    if power == 2:
        return layer.main("ReduceL2", x, axes=list(range(2, layer.rank(x))), keepdims=1)
    axes = layer.const(list(range(2, layer.rank(x))))
    total = layer.main("ReduceSum", _powered(layer, x, power), axes, keepdims=1)
    return _rooted(layer, total, power)


def _local(layer: Layer, x: Value, kind: str, power: int, window: Window, counted: bool) -> Value:
    kernel, begin, end = window.kernel, window.begin, window.end
    same = {"kernel_shape": kernel, "strides": window.stride}
    old = layer.op == "Pooling_v1"
    real = (kind == "max" and old) or (kind == "avg" and counted and begin != end and not old)
    wide = any(p >= k for p, k in zip(begin, kernel, strict=True))
    if wide and not old and (kind == "max" or (kind == "avg" and not counted)):
        raise layer.unsupported(f"pad {begin} must be smaller than kernel {kernel}: some windows have no data at all")
    if (real or wide) and any(begin):  # zeros that count, in front of what is added and does not
        x, begin, end = (
            _padded(layer, x, begin),
            (0,) * len(begin),
            tuple(e - b for b, e in zip(begin, end, strict=True)),
        )
    if kind == "max":
        return layer.main("MaxPool", x, pads=(*begin, *end), **same)
    if kind == "avg":
        all_count = counted and (old or begin == end)
        return layer.main("AveragePool", x, pads=(*begin, *end), count_include_pad=int(all_count), **same)
    if power == 2:
        return layer.main("LpPool", x, p=2, pads=(*begin, *end), **same)
    x = _powered(layer, x, power)
    mean = layer.main("AveragePool", x, pads=(*begin, *end), count_include_pad=1, **same)
    return _rooted(layer, layer.node("Mul", mean, layer.const(float(prod(kernel)))), power)


def _window(layer: Layer, x: Value) -> Window:
    """The window with the padding at the end that its convention needs."""
    kernel = kernel_of(layer)
    convention = layer.attrs.word("pooling_convention", "valid", CONVENTIONS)
    if convention == "same":
        pad = (0,) * len(kernel)
        if any(layer.attrs.wholes("pad", pad)):
            raise layer.unsupported("MXNet itself refuses padding with pooling_convention 'same'")
    else:
        pad = sizes(layer, "pad", 0, len(kernel))
    stride = sizes(layer, "stride", 1, len(kernel))
    if convention == "valid":
        return Window(kernel, stride, pad, pad)
    end = [_end(layer, convention, *one) for one in zip(layer.shape(x)[2:], kernel, stride, pad, strict=True)]
    return Window(kernel, stride, pad, tuple(end))


def _end(layer: Layer, convention: str, size: int | None, k: int, s: int, p: int) -> int:
    """Padding at the end of one axis.

    Raises:
        UnsupportedModel: a window may lie outside of the data, where MXNet answers with the smallest number there is.
    """
    most = p + (s - 1 if convention == "full" else k - 1)
    if size is None:
        if most >= k and convention == "full":
            raise _outside(layer, "may")
        return most
    places = -(-(size + 2 * p - k) // s) + 1 if convention == "full" else -(-size // s)
    if (places - 1) * s - p >= size:
        raise _outside(layer, "does")
    return max(p, (places - 1) * s + k - size - p)


def _outside(layer: Layer, does: str) -> UnsupportedModel:
    return layer.unsupported(f"its last window {does} lie outside of the data; give the input another size")


def _padded(layer: Layer, x: Value, pad: Sequence[int]) -> Value:
    return layer.node("Pad", x, layer.const([0, 0, *pad, 0, 0, *pad]))


def _powered(layer: Layer, x: Value, power: int) -> Value:
    """What is summed for p_value 1 and 3: MXNet keeps the sign."""
    return layer.node("Mul", layer.node("Mul", x, x), x) if power == 3 else x


def _rooted(layer: Layer, x: Value, power: int) -> Value:
    if power != 3:
        return x
    root = layer.node("Pow", layer.node("Abs", x), layer.const(1 / 3))
    return layer.node("Mul", layer.node("Sign", x), root)
