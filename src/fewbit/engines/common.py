"""What runners share: feeds checked before an engine sees them, one spelling for types, messages cut to the point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fewbit.core.runner import Feeds
from fewbit.errors import EngineError, unknown

if TYPE_CHECKING:  # reading the tables of targets must not load onnx
    from fewbit.graph.model import TensorInfo

T = TypeVar("T")

WARM_UP = 2
"""Runs before a profile that do not count."""

SMALL_INTEGERS = frozenset("u2 s2 u4 s4 u8 s8 u16 s16".split())


def check_feeds(inputs: Sequence[TensorInfo], feeds: Feeds) -> None:
    """Raise EngineError unless there is one array for each input, of its type and shape.

    Engines answer a wrong feed with text about their insides or, worse, with numbers (OpenVINO takes any shape).
    """
    known = {i.name: i for i in inputs}
    for name in feeds:
        if name not in known:
            raise EngineError(str(unknown("input", name, known)))
    for name, info in known.items():
        if name not in feeds:
            raise EngineError(f"there is no array for input {info}; given: {', '.join(feeds) or 'nothing'}")
        x = np.asarray(feeds[name])
        if x.dtype.kind not in "OSU" and x.dtype != info.dtype:
            raise EngineError(f"input {info} was given {x.dtype.name}; it takes {info.dtype.name}")
        fixed = [isinstance(want, int) for want in info.shape]
        if x.ndim != len(fixed) or any(f and w != g for f, w, g in zip(fixed, info.shape, x.shape, strict=True)):
            raise EngineError(f"input {info} was given shape {list(x.shape)}")


def told(do: Callable[[], T], what: str, errors: tuple[type[Exception], ...]) -> T:
    """Do something; an engine's own `errors` become EngineError: what could not be done, and why in one line."""
    try:
        return do()
    except errors as e:
        raise EngineError(f"{what}: {first_line(e)}") from e


def first_line(error: Exception) -> str:
    """What an engine's message says, without where in its source it was said."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    point = [line for line in lines if not line.startswith(("Exception from ", "Check '"))]
    text = (point or lines or [type(error).__name__])[0]
    if text.endswith(":") and len(point) > 1:
        text += " " + point[point.index(text) + 1]
    if text.startswith("[ONNXRuntimeError]"):  # "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : what it is about"
        text = text.split(" : ", 3)[-1]
    return text


def shapes_of(feeds: Feeds) -> str:
    """Feeds as they stand in messages: `x[1, 3, 224, 224], mask[1, 7]`."""
    return ", ".join(f"{name}{list(np.shape(x))}" for name, x in feeds.items())


def short(word: str) -> str:
    """One spelling for the types of all engines: `uint8` and `u8` → "u8", `int8` and `i8` → "s8", `float` → "f32"."""
    word = {"float": "float32", "double": "float64"}.get(word.lower(), word.lower())
    kind, bits = word.rstrip("0123456789"), word.lstrip("abcdefghijklmnopqrstuvwxyz")
    return {"float": "f", "bfloat": "bf", "uint": "u", "int": "s", "i": "s", "boolean": "bool"}.get(kind, kind) + bits


def takes_integers(types: str) -> bool:
    """Whether the first input, the data, is of at most 16 bits and whole: `u8 s8 s32` is, `s64 s64` (shapes) is not."""
    return types.split(" ")[0] in SMALL_INTEGERS
