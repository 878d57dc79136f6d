"""QuantParams: the measured numbers of one value, and the arithmetic that uses them.

    q    = clip(round_half_even(x / s) + z, qmin, qmax)
    real = (q - z) * s

Rounding is half to even, as ONNX QuantizeLinear does it. 1-bit signed is its own case: q = -1 if x < 0 else 1.
Source of the range formulas: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.integer]

TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class QuantParams:
    """Scale and zero point of one value.

    Args:
        spec: the resolved format (`signed` is not None).
        scale: float32, finite and > 0; shape `()`, `(C,)` or `(C…, G)` for tensor, channel, group.
        zero_point: int32, same shape; within [qmin, qmax], and 0 for symmetric signed formats.

    Raises:
        ConfigError: scale or zero point breaks one of these rules.
    """

    spec: QuantSpec
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", np.asarray(self.scale, np.float32))
        object.__setattr__(self, "zero_point", np.asarray(self.zero_point, np.int32))
        spec, z = self.spec, self.zero_point
        if spec.signed is None:
            raise ConfigError("parameters need a format whose sign is settled (QuantSpec.resolve)")
        if self.scale.shape != z.shape:
            raise ConfigError(f"scale has shape {self.scale.shape}, zero_point {z.shape}; they must be the same")
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ConfigError("a scale must be finite and greater than 0")
        if (z < spec.qmin).any() or (z > spec.qmax).any():
            raise ConfigError(f"a zero point lies outside of {spec.qmin} … {spec.qmax}")
        if spec.symmetric and z.any():
            raise ConfigError("a symmetric format has zero point 0")

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, QuantParams)
            and self.spec == other.spec
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays are not hashable

    def quantize(self, x: FloatArray) -> IntArray:
        """Round to integers of the spec's storage type.

        Args:
            x: any shape; for channels `x.shape[axis] == C`; for groups the last group may be short.
        """
        spec = self.spec
        s, z = self._spread(x.shape)
        if spec.bits == 1 and spec.signed:
            return np.where(x < 0, -1, 1).astype(np.int8)
        with np.errstate(over="ignore"):  # beyond float32 is beyond qmax as well
            q: IntArray = np.clip(np.rint(np.asarray(x, np.float32) / s) + z, spec.qmin, spec.qmax).astype(spec.storage)
        return q

    def dequantize(self, q: IntArray) -> NDArray[np.float32]:
        """Back to float32, same shape."""
        s, z = self._spread(q.shape)
        return ((q.astype(np.int32) - z).astype(np.float32) * s).astype(np.float32)

    def fake(self, x: FloatArray) -> NDArray[np.float32]:
        """Quantize and dequantize: what the integer network sees of `x`."""
        return self.dequantize(self.quantize(x))

    def _spread(self, shape: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Scale and zero point, shaped so that they broadcast against `shape`."""
        return self.spread(self.scale, shape), self.spread(self.zero_point, shape)

    def spread(self, numbers: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Numbers shaped as the scale, so that each tensor, channel or group of `shape` meets its own."""
        spec = self.spec
        if spec.granularity == "tensor":
            return numbers
        assert spec.axis is not None
        axis = spec.axis % len(shape)
        if spec.granularity == "channel":
            view = [1] * len(shape)
            view[axis] = -1
            return numbers.reshape(view)
        assert spec.group_size is not None
        upto = (slice(None),) * axis + (slice(0, shape[axis]),)
        return np.repeat(numbers, spec.group_size, axis)[upto]


def params_from_range(spec: QuantSpec, lo: ArrayLike, hi: ArrayLike) -> QuantParams:
    """Turn a range of real values into parameters.

    0 is always represented exactly, so the range is widened to hold it; a range of zeros alone gives scale 1.

    Args:
        spec: the wish; `signed=None` is resolved by the smallest `lo`.
        lo, hi: smallest and largest real value, shape `()`, `(C,)` or the shape of the groups.

    Raises:
        ConfigError: a bound is not finite, or `lo` > `hi`.
    """
    lo_, hi_ = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
    if not (np.isfinite(lo_).all() and np.isfinite(hi_).all()):
        raise ConfigError(f"range ({lo!r}, {hi!r}) is not finite")
    if (lo_ > hi_).any():
        raise ConfigError(f"range ({lo!r}, {hi!r}) is upside down")
    lo_, hi_ = np.minimum(lo_, 0.0), np.maximum(hi_, 0.0)
    spec = spec.resolve(float(lo_.min(initial=0.0)))
    if spec.symmetric or (spec.bits == 1 and spec.signed):
        top = np.maximum(-lo_, hi_) if spec.signed else hi_
        scale = top / spec.qmax
        zero = np.zeros(scale.shape, np.int32)
    else:
        scale = (hi_ - lo_) / (spec.qmax - spec.qmin)
        scale = _positive(scale)
        zero = np.clip(np.rint(spec.qmin - lo_ / scale), spec.qmin, spec.qmax).astype(np.int32)
    return QuantParams(spec, _positive(scale).astype(np.float32), zero)


def _positive(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale 1 for all-zero data; never below the smallest normal float32, which engines may flush to 0."""
    return np.where(scale == 0, 1.0, np.clip(scale, TINY, float(np.finfo(np.float32).max)))


def weight_params(spec: QuantSpec, w: FloatArray) -> QuantParams:
    """Parameters from the weights themselves: min/max over each tensor, channel or group.

    1-bit signed takes s = mean|w|, which is the ±s nearest to w in squared error. Source: Rastegari et al.,
    "XNOR-Net", 2016.

    Args:
        spec: channel or group axis counts in `w`'s own axes.
        w: any shape, finite.
    """
    if spec.bits == 1 and spec.signed:
        size = reduced(spec, np.add, np.ones(w.shape))
        mean = reduced(spec, np.add, np.abs(w, dtype=np.float64)) / np.maximum(size, 1)
        return params_from_range(spec, -mean, mean)
    return params_from_range(spec, reduced(spec, np.minimum, w), reduced(spec, np.maximum, w))


def reduced(spec: QuantSpec, fold: np.ufunc, w: FloatArray) -> FloatArray:
    """One number for each tensor, channel or group; 0 where there are no weights."""
    found: FloatArray
    if spec.granularity == "tensor":
        found = fold.reduce(w, axis=None, initial=0.0)
        return found
    assert spec.axis is not None
    axis = spec.axis % w.ndim
    if spec.granularity == "channel":
        found = fold.reduce(w, axis=tuple(i for i in range(w.ndim) if i != axis), initial=0.0)
        return found
    assert spec.group_size is not None
    found = fold.reduceat(w, np.arange(0, w.shape[axis], spec.group_size), axis)
    return found


def bias_scale_guard(bias: FloatArray, s_in: float, s_w: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarge weight scales whose int32 bias would overflow: keep |b| / (s_in·s_w) ≤ INT32_MAX / 2.

    Source: MXNet's oneDNN fully-connected and convolution operators.

    Args:
        bias: shape `(C,)`.
        s_in: scale of the layer's input.
        s_w: weight scales, `()` or `(C,)`.
    """
    least = np.abs(np.asarray(bias, np.float64)) / (s_in * (np.iinfo(np.int32).max / 2))
    need = least.max(initial=0.0) if np.ndim(s_w) == 0 else least
    return np.maximum(s_w, need).astype(np.float32)


def exact_int32(x: FloatArray) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Integers and scales with q · s = x to the last bit: a float32 is 24 bits times a power of two.

    Below 2⁻¹⁰² the scale is the smallest normal float32, and x is rounded to it.

    Args:
        x: finite, any shape; q and s have the same.
    """
    x = np.asarray(x, np.float32)
    _, exponent = np.frexp(x)
    scale = np.ldexp(np.float32(1), np.maximum(exponent - 24, -126)).astype(np.float32)
    return np.rint(x / scale).astype(np.int32), scale
