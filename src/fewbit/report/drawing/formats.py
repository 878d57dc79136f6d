"""Number formats as a picture shows them: a word, a colour, a way to draw a line. Never a colour alone.

    u8 s8       8 bits          blue, solid, bold        f32        gray, thin
    s4 u2 …     7 bits or less  green, dashed            f16 bf16   orange, thin
    s16 u16     9 to 16 bits    purple, bold             i64 bool   gray, dotted: sizes, indices, masks

The colours are Okabe's and Ito's, which people tell apart whatever colours they see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewbit.core.spec import QuantSpec

WORDS = {
    "FLOAT": "f32", "FLOAT16": "f16", "BFLOAT16": "bf16", "DOUBLE": "f64", "UINT8": "u8", "INT8": "s8", "UINT16": "u16",
    "INT16": "s16", "UINT4": "u4", "INT4": "s4", "UINT2": "u2", "INT2": "s2", "INT32": "i32", "UINT32": "i32",
    "INT64": "i64", "UINT64": "i64", "BOOL": "bool", "STRING": "text",
}  # fmt: skip
"""Types of ONNX → words. Integers of 32 bits and more are counts and sums, and have no scale: i32, not s32."""

FLOATS = frozenset({"f32", "f16", "bf16", "f64", "f8"})


@dataclass(frozen=True)
class Look:
    """How a kind of format is drawn.

    Args:
        line: colour of edges and borders. fill: behind text. ink: of that text. style: of edges. width: of edges.
        about: for the legend.
    """

    line: str
    fill: str
    ink: str
    style: str
    width: float
    about: str


LOOKS = {
    "float": Look("#7a828c", "#e4e7eb", "#1c2127", "solid", 1.0, "values in float"),
    "half": Look("#b37400", "#f6d999", "#1c2127", "solid", 1.0, "values in float of 16 bits or less"),
    "eight": Look("#0072b2", "#0072b2", "#ffffff", "solid", 2.2, "values in 8-bit integers"),
    "few": Look("#009e73", "#00805d", "#ffffff", "dashed", 2.2, "values in 7 bits or less"),
    "wide": Look("#b0588a", "#a44b7e", "#ffffff", "solid", 2.2, "values in 9 to 16 bits"),
    "count": Look("#7a828c", "#ffffff", "#1c2127", "dotted", 1.2, "sizes, indices, masks"),
}
"""Kind of format → its look. Text on `fill` has a contrast of 4.5 and more."""


@dataclass(frozen=True)
class Format:
    """The format of a value.

    Args:
        word: such as u8. scale, zero: of integers, if known. share: what shares a scale – "" the whole tensor.
        bits: 0 if it is no format of fewbit's. dynamic: the range is measured at run time.
    """

    word: str
    scale: tuple[float, ...] = ()
    zero: tuple[int, ...] = ()
    share: str = ""
    bits: int = 0
    dynamic: bool = False

    @property
    def kind(self) -> str:
        """Which of `LOOKS`."""
        if self.word in ("f32", "f64"):
            return "float"
        if self.word in FLOATS:
            return "half"
        if not self.bits:
            return "count"
        return "few" if self.bits < 8 else "eight" if self.bits == 8 else "wide"

    @property
    def integer(self) -> bool:
        """Whether it is one of few bits, with a scale."""
        return self.bits > 0

    @property
    def steps(self) -> str:
        """Scale and zero point: `0.0213, z 12`; those of many channels as their ends; empty if unknown."""
        if self.dynamic:
            return "range at run time"
        if not self.scale:
            return ""
        lo, hi = min(self.scale), max(self.scale)
        text = number(lo) if lo == hi else f"{number(lo)} … {number(hi)}"
        zeros = set(self.zero) - {0}
        return text + (f", z {self.zero[0]}" if zeros and len(set(self.zero)) == 1 else ", z differs" if zeros else "")

    def __str__(self) -> str:
        return self.word + (f" {self.share}" if self.share else "")


FLOAT = Format("f32")


def number(x: float) -> str:
    """Four digits."""
    return f"{x:.4g}"


def of_type(dtype: Any) -> Format:
    """The format of a value of this type of onnx_ir; unknown types count as float."""
    name = "FLOAT" if dtype is None else str(dtype.name)
    word = WORDS.get(name, "f8" if name.startswith("FLOAT8") else name.lower())
    return Format(word, bits=int(word[1:]) if word[0] in "us" and word[1:].isdecimal() else 0)


def of_spec(spec: QuantSpec, scale: Sequence[float] = (), zero: Sequence[int] = ()) -> Format:
    """The format that a plan wishes; `8` if the sign is left to the data."""
    sign = "" if spec.signed is None else "s" if spec.signed else "u"
    share = {"tensor": "", "channel": "per channel", "group": f"groups of {spec.group_size}"}[spec.granularity]
    word = f"{sign}{spec.bits}" if sign else f"int{spec.bits}"
    return Format(word, tuple(scale), tuple(zero), share, spec.bits, spec.dynamic)


def of_grid(dtype: Any, scale: Any, zero: Any, block: int = 0, limits: tuple[int, int] | None = None) -> Format:
    """The format of integers with constant scale and zero point.

    Args:
        dtype: type of onnx_ir. scale, zero: arrays, or None if computed at run time or left out.
        block: size of groups. limits: what the integers are cut to, for formats narrower than their storage.
    """
    plain = of_type(dtype)
    if not plain.bits:  # int32 biases have a scale, too
        return Format(plain.word, _flat(scale), ())
    word, bits = plain.word, plain.bits
    if limits is not None:
        bits = min(bits, max(int(limits[1] - limits[0]).bit_length(), 1))
        word = f"{word[0]}{bits}"
    share = "" if scale is None or np.size(scale) < 2 else f"groups of {block}" if block else "per channel"
    zeros = tuple(int(z) for z in np.ravel(zero)) if zero is not None else ()
    return Format(word, _flat(scale), zeros, share, bits, dynamic=scale is None)


def _flat(array: Any) -> tuple[float, ...]:
    return tuple(float(x) for x in np.ravel(array)) if array is not None else ()
