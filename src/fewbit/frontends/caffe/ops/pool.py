"""Pooling and SPP.

How many places a window has, for a size n with padding p at both ends, kernel k and stride s:

    ⌈(n + 2p - k) / s⌉ + 1, less one if the last would start behind n + p - 1 (where any side has padding)

The last window may so reach beyond the padding. An average is over what lies inside of n + 2p: the padding counts,
what is beyond does not. ONNX's operators get padding at the end that is just as long as the last window needs; where
that differs from p, zeros that count are a Pad in front.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fewbit.frontends.caffe.layer import Layer, op
from fewbit.frontends.caffe.ops.layers import sizes
from fewbit.graph.build import Value

KINDS = ("MAX", "AVE")


@dataclass(frozen=True)
class Window:
    """One number for each spatial axis. `end` is the padding at the end that the last window needs."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    end: tuple[int, ...] = ()


@op("Pooling", settings="pooling_param")
def pooling(layer: Layer) -> Value | tuple[Value, ...]:
    """MaxPool, AveragePool or their global forms; a second top has where each maximum was."""
    kind = layer.settings.word("pool", "MAX", KINDS)
    if layer.settings.flag("global_pooling", False):
        layer.settings.skip("kernel_size", "kernel_h", "kernel_w", "stride", "pad", "round_mode", "ceil_mode")
        if layer.tops > 1:
            raise layer.unsupported("it gives places of maxima together with global_pooling")
        return layer.main("GlobalMaxPool" if kind == "MAX" else "GlobalAveragePool", layer.x)
    axes = layer.rank() - 2
    if axes < 1:
        raise layer.misfit(f"its input has shape {layer.shape()}; it must have axes behind the channels")
    kernel = sizes(layer, "kernel_size", ("kernel_h", "kernel_w"), axes, None)
    stride = sizes(layer, "stride", ("stride_h", "stride_w"), axes, 1)
    pad = sizes(layer, "pad", ("pad_h", "pad_w"), axes, 0)
    if min(kernel) < 1 or min(stride) < 1 or not all(0 <= p < k for p, k in zip(pad, kernel, strict=True)):
        raise layer.misfit(f"kernel {kernel}, stride {stride}, pad {pad}: pad must be less than the kernel")
    ceil = layer.settings.word("round_mode", "CEIL", ("CEIL", "FLOOR")) == "CEIL"
    ceil = layer.settings.flag("ceil_mode", ceil)
    window = Window(kernel, stride, pad)
    ends = [_end(layer, layer.shape()[2 + i], window, i, ceil) for i in range(axes)]
    return pooled(layer, layer.x, kind, replace(window, end=tuple(ends)), main=True)


def pooled(layer: Layer, x: Value, kind: str, window: Window, *, main: bool) -> Value | tuple[Value, ...]:
    """The window over x."""
    make, pad, end = layer.main if main else layer.node, window.pad, window.end
    same = {"kernel_shape": window.kernel, "strides": window.stride}
    if kind == "MAX" and main and layer.tops > 1:
        found, place = layer.mains("MaxPool", x, outputs=2, pads=(*pad, *end), **same)
        area = layer.size(2) * layer.size(3)
        return found, layer.node("Cast", layer.node("Mod", place, layer.const([area])), to=1)
    if kind == "MAX":
        return make("MaxPool", x, pads=(*pad, *end), **same)
    if any(pad) and pad != end:
        x = layer.node("Pad", x, layer.const([0, 0, *pad, 0, 0, *pad]))
        pad, end = (0,) * len(pad), tuple(e - p for p, e in zip(pad, end, strict=True))
    return make("AveragePool", x, pads=(*pad, *end), count_include_pad=int(pad == end), **same)


def _end(layer: Layer, n: int | None, window: Window, i: int, ceil: bool) -> int:
    """Padding at the end of one axis, at least the padding itself.

    Raises:
        UnsupportedModel: a window may lie outside of the data, where Caffe gives the smallest number there is.
    """
    k, s, p = window.kernel[i], window.stride[i], window.pad[i]
    if n is None:
        if ceil and p + s - 1 >= k:
            raise layer.unsupported(
                f"whether its last window lies outside of the data depends on the size of axis {2 + i}"
            )
        return p + (s - 1 if ceil else 0)
    spare = n + 2 * p - k
    if spare < 0:
        raise layer.misfit(f"its kernel {k} is larger than axis {2 + i} with its padding, {n + 2 * p}")
    places = (-(-spare // s) if ceil else spare // s) + 1
    if any(window.pad) and (places - 1) * s >= n + p:
        places -= 1
    if (places - 1) * s - p >= n:
        raise layer.unsupported(
            f"its last window along axis {2 + i} lies outside of the data; give the input another size"
        )
    return max(p, (places - 1) * s + k - n - p)


@op("SPP", settings="spp_param")
def spp(layer: Layer) -> Value:
    """Spatial pyramid: 1, 4, 16 … bins an image, side by side."""
    levels, kind = layer.settings.positive("pyramid_height"), layer.settings.word("pool", "MAX", KINDS)
    high, wide = layer.size(2), layer.size(3)
    if levels > 10 or 1 << (levels - 1) > min(high, wide):
        raise layer.misfit(
            f"pyramid_height is {levels}, which has more bins than its input of {high}x{wide} has pixels"
        )
    parts = []
    for level in range(levels):
        bins = 1 << level
        kernel = -(-high // bins), -(-wide // bins)
        pad = (kernel[0] * bins - high + 1) // 2, (kernel[1] * bins - wide + 1) // 2
        window = Window(kernel, kernel, pad)
        if not all(p < k for p, k in zip(pad, kernel, strict=True)):
            raise layer.unsupported(f"level {level} pads by {pad}, as much as its kernel {kernel}")
        ends = tuple(_end(layer, n, window, i, True) for i, n in enumerate((high, wide)))
        found = pooled(layer, layer.x, kind, replace(window, end=ends), main=False)
        assert not isinstance(found, tuple)
        parts.append(layer.node("Flatten", found, axis=1))
    return layer.main("Concat", *parts, axis=1)
