"""Layers written by hand, their int8 arithmetic in numpy, and the real runtime to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.engines.ncnn.param import Layer
from fewbit.engines.ncnn.runtime import load

Array = NDArray[Any]
INPUT = Layer("Input", "in0", (), ("in0",))


def conv(name: str, x: str, y: str, weight: Array, *, groups: int = 1, stride: int = 1, **params: object) -> Layer:
    """A float convolution of n×n with a bias, padded by (n - 1) / 2; params as `_8=2`."""
    out, _, k, _ = weight.shape
    found = {0: out, 1: k, 11: k, 2: 1, 12: 1, 3: stride, 13: stride, 4: k // 2, 14: k // 2, 5: 1, 6: weight.size}
    found |= {7: groups} if groups > 1 else {}
    kind = "ConvolutionDepthWise" if groups > 1 else "Convolution"
    layer = Layer(kind, name, (x,), (y,), {key: str(v) for key, v in found.items()})
    return layer.with_params(**params)


def dense(name: str, x: str, y: str, weight: Array, **params: object) -> Layer:
    layer = Layer("InnerProduct", name, (x,), (y,), {0: str(len(weight)), 1: "1", 2: str(weight.size)})
    return layer.with_params(**params)


def parts(weight: Array, bias: Array, scale: Array, input_scale: float, output_scale: float = 0.0) -> dict[str, Array]:
    """The arrays of an integer layer, as the file holds them: scales are 1 ÷ step."""
    found = {"weight": weight.astype(np.int8).reshape(-1), "bias": bias, "weight_scale": scale}
    found["input_scale"] = np.array([input_scale], np.float32)
    return found | ({"output_scale": np.array([output_scale], np.float32)} if output_scale else {})


def run(layers: list[Layer], weights: Mapping[str, Any], x: Array, blob: str = "out0", **options: bool) -> Array:
    return load([INPUT, *layers], dict(weights), **options).run({"in0": x.astype(np.float32)}, [blob])[blob]


def rounded(x: Array, scale: float) -> NDArray[np.int64]:
    """x in int8, half away from zero."""
    q = np.asarray(x, np.float32) * np.float32(scale)
    return np.clip(np.trunc(q + np.copysign(np.float32(0.5), q)), -127, 127).astype(np.int64)


def conv_sums(x: NDArray[np.int64], w: Array, groups: int = 1, stride: int = 1) -> NDArray[np.int64]:
    """Σ w·x of a padded convolution: (in, h, w), (out, in/group, k, k)."""
    out, each, k, _ = w.shape
    pad = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(pad, (k, k), (1, 2))[:, ::stride, ::stride]
    group = np.arange(out) // (out // groups)
    taken = windows.reshape(groups, each, *windows.shape[1:])[group]  # (out, in/group, h, w, k, k)
    return np.einsum("oihwjk,oijk->ohw", taken, w.astype(np.int64))


def real(sums: NDArray[np.int64], scale: Array, input_scale: float, bias: Array) -> Array:
    """Sums as numbers: one scale and bias for each of the first axis."""
    wide = (-1, *[1] * (sums.ndim - 1))
    return sums / (scale.astype(np.float64) * np.float32(input_scale)).reshape(wide) + bias.reshape(wide)
