"""One stored weight as bytes: how its integers and parameters lie in a `.fewbit` file.

    f32 scale[n] | zero point[n], in the integer type of the format | f32 gain[n] | f32 offset[n] | coded integers

What is there of the first four stands in the entry that goes with the bytes; zero points that are all 0 are left out.
Integers are entropy-coded (`fse`) or packed (`bitpack`), whichever is smaller. All is little-endian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core import fse
from fewbit.core.bitpack import pack_bits, packed_size, unpack_bits
from fewbit.core.params import IntArray, QuantParams
from fewbit.core.spec import QuantSpec
from fewbit.core.stored import StoredWeight
from fewbit.errors import ConfigError, ModelFormatError, UsageError

FORMS = ("fse", "packed")
PARTS = ("scale", "zero", "gain", "offset")
TYPES: dict[str, tuple[type, ...]] = {
    "bits": (int,), "signed": (bool,), "symmetric": (bool,), "granularity": (str,), "axis": (int, type(None)),
    "group_size": (int, type(None)), "narrow": (bool,), "dynamic": (bool,),
}  # fmt: skip

MOST_RATIO, FREE = 4096, 1 << 20
"""Integers that a coded byte may stand for, and how many are allowed in any case: a file of some bytes must not unfold
into more than the memory holds. Real weights stay far below; what does not is packed."""

SEGMENT, MOST_SEGMENTS = 1 << 18, 64
"""Integers in a segment, which is what one thread decodes; and segments at most."""

LARGEST_GROUP = 1024
"""Groups may be longer than their axis, but only up to this: each is unfolded before it is cut."""


@dataclass(frozen=True)
class Entry:
    """What a header says of one weight.

    Args:
        shape: of the weight. spec: its format, resolved.
        form: how the integers are coded, one of `FORMS`. parts: what precedes them, in the order of `PARTS`.

    Raises:
        ConfigError: these contradict each other.
    """

    shape: tuple[int, ...]
    spec: QuantSpec
    form: str
    parts: tuple[str, ...]

    def __post_init__(self) -> None:
        spec, shape = self.spec, self.shape
        if self.form not in FORMS:
            raise ConfigError(f"form is {self.form!r}; allowed: {', '.join(FORMS)}")
        if not self.parts or self.parts[0] != "scale" or self.parts != tuple(p for p in PARTS if p in self.parts):
            raise ConfigError(f"parts are {list(self.parts)}; scale must be there, then any of {', '.join(PARTS[1:])}")
        if len(shape) > 32 or any(d < 0 for d in shape) or math.prod(max(d, 1) for d in shape) >= 1 << 48:
            raise ConfigError(f"shape is {list(shape)}; no weight has it")
        if spec.signed is None:
            raise ConfigError("it is open whether the format is signed")
        if spec.axis is not None and not -len(shape) <= spec.axis < len(shape):
            raise ConfigError(f"axis {spec.axis} is not one of the shape {list(shape)}")
        if spec.group_size and spec.axis is not None and spec.group_size > max(shape[spec.axis], LARGEST_GROUP):
            raise ConfigError(f"groups of {spec.group_size} are longer than an axis of {shape[spec.axis]}")

    @property
    def count(self) -> int:
        """How many integers it has."""
        return math.prod(self.shape)

    @property
    def scale_shape(self) -> tuple[int, ...]:
        """Shape of the scale, and of everything that goes with it."""
        axis, shape = self.spec.axis, list(self.shape)
        if axis is None:
            return ()
        if self.spec.group_size is None:
            return (shape[axis],)
        shape[axis] = -(-shape[axis] // self.spec.group_size)
        return tuple(shape)

    def to_json(self) -> dict[str, Any]:
        """Fields for the header."""
        parts = list(self.parts)
        return {"shape": list(self.shape), "spec": self.spec.to_json(), "form": self.form, "parts": parts}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Entry:
        """Inverse of `to_json`; the fields are not trusted, others beside them are let be.

        Raises:
            ModelFormatError: a field is missing, of another type, or contradicts another one.
        """
        shape, spec, form, parts = (fields.get(key) for key in ("shape", "spec", "form", "parts"))
        if not isinstance(shape, list) or any(type(d) is not int for d in shape):
            raise ModelFormatError(f"shape is {shape!r:.80}; it must be a list of whole numbers")
        if not isinstance(parts, list) or any(type(p) is not str for p in parts) or type(form) is not str:
            raise ModelFormatError(f"form is {form!r:.80}, parts are {parts!r:.80}; they must be words")
        if not isinstance(spec, dict) or any(type(v) not in TYPES.get(k, (type(v),)) for k, v in spec.items()):
            raise ModelFormatError(f"the format is {spec!r:.200}, which has a field of the wrong type")
        try:
            return cls(tuple(shape), QuantSpec.from_json(spec), form, tuple(parts))
        except UsageError as e:
            raise ModelFormatError(str(e)) from e


def to_block(weight: StoredWeight) -> tuple[Entry, bytes]:
    """The bytes of a weight, and the entry that goes with them.

    Raises:
        ConfigError: the weight contradicts itself.
    """
    spec, params = weight.params.spec, weight.params
    form, coded = _code(weight.q, spec)
    numbers = {"scale": params.scale.astype("<f4")}
    if params.zero_point.any():
        numbers["zero"] = params.zero_point.astype(_little(spec))
    numbers |= {k: a.astype("<f4") for k, a in (("gain", weight.gain), ("offset", weight.offset)) if a is not None}
    entry = Entry(tuple(weight.q.shape), spec, form, tuple(numbers))
    for key, array in numbers.items():
        if array.shape != entry.scale_shape:
            raise ConfigError(
                f"{key} has the shape {array.shape}; a weight of {weight.q.shape} needs {entry.scale_shape}"
            )
    return entry, b"".join([*(a.tobytes() for a in numbers.values()), coded])


def _code(q: IntArray, spec: QuantSpec) -> tuple[str, bytes]:
    """The smaller one of the two forms."""
    if q.size and not spec.qmin <= int(q.min()) <= int(q.max()) <= spec.qmax:
        raise ConfigError(f"integers from {q.min()} to {q.max()} are outside of {spec.qmin} … {spec.qmax}")
    size = packed_size(spec.bits, q.size)
    coded = _entropy_coded(q) if fse.entropy(q) * q.size / 8 < size else None
    if coded is not None and len(coded) < size and q.size <= _most(len(coded)):
        return "fse", coded
    if spec.bits == 1 and spec.signed:
        return "packed", pack_bits(np.where(q < 0, -1, 0), 1)
    return "packed", pack_bits(q if spec.signed else q.astype(np.int32) - (1 << (spec.bits - 1)), spec.bits)


def _entropy_coded(q: IntArray) -> bytes | None:
    try:
        return fse.encode(q, segments=max(1, min(MOST_SEGMENTS, q.size // SEGMENT)))
    except ConfigError:  # 65,536 different integers are one too many
        return None


def _most(size: int) -> int:
    """How many integers so many bytes may stand for."""
    return max(FREE, MOST_RATIO * size)


def _little(spec: QuantSpec) -> np.dtype[Any]:
    return np.dtype(spec.storage).newbyteorder("<")


def from_block(entry: Entry, data: bytes, threads: int | None = None) -> StoredWeight:
    """Inverse of `to_block`; neither the entry nor the data is trusted.

    Raises:
        ModelFormatError: the data is not what the entry says.
    """
    spec, n, at = entry.spec, math.prod(entry.scale_shape), 0
    found: dict[str, NDArray[Any]] = {}
    for key in entry.parts:
        kind = _little(spec) if key == "zero" else np.dtype("<f4")
        if at + n * kind.itemsize > len(data):
            raise ModelFormatError(f"it has {len(data):,} bytes, but the {key} of {entry.shape} ends behind them")
        array = np.frombuffer(data, kind, n, at).reshape(entry.scale_shape)
        found[key] = array.astype(kind.newbyteorder("="))
        at += n * kind.itemsize
    for key in {"gain", "offset"} & set(found):
        if not np.isfinite(found[key]).all():
            raise ModelFormatError(f"its {key} is not finite")
    try:
        params = QuantParams(spec, found["scale"], found.get("zero", np.zeros(entry.scale_shape, np.int32)))
    except ConfigError as e:
        raise ModelFormatError(str(e)) from e
    q = _integers(entry, data[at:], threads).reshape(entry.shape)
    return StoredWeight(q, params, found.get("gain"), found.get("offset"))


def _integers(entry: Entry, coded: bytes, threads: int | None) -> IntArray:
    spec = entry.spec
    q: IntArray
    if entry.form == "fse":
        if entry.count > _most(len(coded)):
            raise ModelFormatError(f"{entry.count:,} integers in {len(coded):,} bytes; so many do not fit in there")
        q = fse.decode(coded, entry.count, spec.storage, threads)
    else:
        raw = unpack_bits(coded, spec.bits, entry.count)
        if spec.bits == 1 and spec.signed:
            return (2 * raw + 1).astype(np.int8)
        q = (
            raw.astype(spec.storage)
            if spec.signed
            else (raw.astype(np.int32) + (1 << (spec.bits - 1))).astype(spec.storage)
        )
    low, high = (int(q.min()), int(q.max())) if q.size else (spec.qmin, spec.qmax)
    if low < spec.qmin or high > spec.qmax or (spec.bits == 1 and spec.signed and not q.all()):
        raise ModelFormatError(f"integers from {low} to {high} are not of the format, {spec.qmin} … {spec.qmax}")
    return q
