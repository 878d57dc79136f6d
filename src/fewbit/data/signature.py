"""What the model's inputs take, and whether given values fit.

    float64 -> float32, int -> float, bool -> any      cast
    float -> int, int -> narrower int                  cast if every value stays the same, else BadSample
    text, objects, complex numbers                     DataError
    NaN, inf, overflow by the cast                     BadSample

The batch axis is the first axis of the first input. An input whose first axis is fixed at another size
(the state of an LSTM, `(2, N, 128)`) or that has no axis is *whole*: each batch carries it as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewbit.data.base import Array, Shape, TensorInfo
from fewbit.errors import BadSample, ConfigError, DataError

SWAPS = {"NHWC": (0, 3, 1, 2), "NCHW": (0, 2, 3, 1), "HWC": (2, 0, 1), "CHW": (1, 2, 0)}


@dataclass(frozen=True)
class Slot:
    """One input of the model. `stacked`: its first axis counts samples."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    stacked: bool

    def __str__(self) -> str:
        return f"input {self.name!r} ({self.dtype} {show(self.shape)})"

    @property
    def one(self) -> Shape:
        """Shape of one sample."""
        return self.shape[1:] if self.stacked else self.shape

    @property
    def many(self) -> Shape:
        """Shape of an array of samples."""
        return ("N", *self.one)

    @property
    def batch(self) -> Shape:
        """Shape of what is fed at once, the number of samples left open."""
        return self.many if self.stacked else self.shape


@dataclass(frozen=True)
class Signature:
    """All inputs of the model; `batch` is the batch size that the model fixes, or None."""

    slots: tuple[Slot, ...]
    batch: int | None

    @property
    def names(self) -> list[str]:
        """Input names, in the order of the model."""
        return [s.name for s in self.slots]

    @property
    def stacked(self) -> bool:
        """Whether every input counts samples along its first axis."""
        return all(s.stacked for s in self.slots)

    def group(self, batch_size: int) -> int:
        """Samples in one batch: what the model fixes, else `batch_size`.

        Raises:
            ConfigError: an input cannot hold more than one sample.
        """
        size = self.batch or batch_size
        if size > 1 and not self.stacked:
            whole = next(s for s in self.slots if not s.stacked)
            raise ConfigError(
                f"{whole} has no batch axis, so {size} samples cannot share a batch; "
                "use batch_size 1, or hand an iterable of ready batches"
            )
        return size

    def only(self, what: str) -> Slot:
        """The one input that `what` feeds.

        Raises:
            DataError: the model has several.
        """
        if len(self.slots) > 1:
            raise DataError(
                f"{what} feeds one input, and the model has {len(self.slots)}: {', '.join(self.names)}; "
                "hand a mapping from input name to data, or an .npz with these keys"
            )
        return self.slots[0]


def read_signature(inputs: Sequence[TensorInfo]) -> Signature:
    """Find the batch axis of a model's inputs.

    Raises:
        DataError: the model has no input, or one that takes no numbers.
    """
    if not inputs:
        raise DataError("the model has no input, so there is nothing to feed it; leave the data out")
    lead = inputs[0].shape[0] if inputs[0].shape else None
    slots = []
    for i in inputs:
        if not _is_number(np.dtype(i.dtype)):
            raise DataError(f"input {i.name!r} takes {i.dtype}; fewbit feeds numbers only")
        same = bool(i.shape) and (i.shape[0] == lead or not (isinstance(i.shape[0], int) or isinstance(lead, int)))
        slots.append(Slot(i.name, np.dtype(i.dtype), tuple(i.shape), same))
    return Signature(tuple(slots), lead if isinstance(lead, int) else None)


def show(shape: Iterable[object]) -> str:
    """A shape for a message: (N, 3, ?, ?)."""
    return "(" + ", ".join("?" if d is None else str(d) for d in shape) + ")"


def counted(n: int, word: str) -> str:
    """A number and its noun for a message: 1 sample, 2 samples."""
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def fit_shape(slot: Slot, want: Shape, got: tuple[int, ...], where: str, error: type[DataError] = DataError) -> None:
    """Compare a shape with one that the slot takes.

    Raises:
        DataError: or the subclass `error`; names the axis and what to do.
    """
    if len(got) != len(want):
        text = f"{where} has shape {show(got)}: {len(got)} axes, and {slot} takes {len(want)}, {show(want)}"
        if _fits(want[1:], got):
            text += "; if it is one sample, add the first axis: x[None]"
        raise error(text)
    if _fits(want, got):
        return
    axis = next(i for i, (w, g) in enumerate(zip(want, got, strict=True)) if isinstance(w, int) and w != g)
    text = f"{where} has shape {show(got)}, and {slot} takes {show(want)}: axis {axis} is {got[axis]}, not {want[axis]}"
    for layout, swap in SWAPS.items():
        if len(want) == len(swap) and _fits(want, tuple(got[i] for i in swap)):
            text += f"; the data looks like {layout}: use x.transpose{swap}"
    raise error(text)


def _fits(want: Shape, got: tuple[int, ...]) -> bool:
    if len(want) != len(got):
        return False
    return all(w == g or not isinstance(w, int) for w, g in zip(want, got, strict=True))


def fit_values(slot: Slot, x: Array, names: Sequence[str]) -> Array:
    """Bring values to the dtype of the input, contiguous in memory.

    Args:
        x: shape `slot.batch`.
        names: the samples in it, for messages.

    Raises:
        DataError: the values are no numbers.
        BadSample: a value is not finite or would change.
    """
    check_numbers(slot, x.dtype, names[0])
    y = x
    if x.dtype != slot.dtype:
        with np.errstate(over="ignore", invalid="ignore"):
            y = x.astype(slot.dtype)
    if _is_float(slot.dtype):
        if not np.isfinite(y).all():
            _reject(slot, x, ~np.isfinite(y), names, f"not finite as {slot.dtype}", "repair the data")
    elif x.dtype != slot.dtype:
        # the sign is compared too: int8 -1 -> uint8 255 -> int8 -1 survives the way back
        wrong = (y.astype(x.dtype) != x) | ((y < 0) != (x < 0))
        if wrong.any():
            _reject(slot, x, wrong, names, f"not exact as {slot.dtype}", f"hand {slot.dtype} data, or round it first")
    return np.ascontiguousarray(y) if y.ndim else y


def check_numbers(slot: Slot, dtype: np.dtype[Any], where: str) -> None:
    """Refuse what is no number.

    Raises:
        DataError: names the dtype.
    """
    if not _is_number(dtype):
        raise DataError(f"{where} has dtype {dtype}, and {slot} takes numbers: whole, real or true/false")


def _reject(slot: Slot, x: Array, wrong: Array, names: Sequence[str], fault: str, advice: str) -> None:
    at = [int(i) for i in np.argwhere(wrong)[0]]
    value = x[tuple(at)]
    row = at.pop(0) if slot.stacked else 0
    many = int((wrong[row] if slot.stacked else wrong).sum())
    values = f"{many} values that are" if many > 1 else "a value that is"
    raise BadSample(f"{names[row]} has {values} {fault}: {value} at {show(at)} of {slot}; {advice} or use skip_bad")


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or (dtype.kind == "V" and "float" in dtype.name)  # bfloat16 and the like have kind V


def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iub" or _is_float(dtype)


def to_array(value: object, where: str) -> Array:
    """Turn a tensor of any framework, or plain numbers, into an array; nothing is imported for it.

    Raises:
        BadSample: it cannot become one.
    """
    try:
        if not isinstance(value, np.ndarray):
            for step in ("detach", "cpu", "numpy"):  # torch: off the graph, off the device
                method = getattr(value, step, None)
                value = method() if callable(method) else value
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as e:
        raise BadSample(f"{where} cannot become an array: {e}") from e
