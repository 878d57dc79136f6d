"""The settings of one layer. Each that is read is remembered: what nobody asked for may change the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.errors import ModelFormatError, UnsupportedModel, one_of
from fewbit.frontends.caffe.message import Message

LARGEST = float(np.finfo(np.float32).max)

FILLERS = frozenset({"weight_filler", "bias_filler", "filler", "scale_filler", "slope_filler", "shift_filler"})
"""Settings that only say what weights were before they were trained."""


class Settings:
    """The message of one layer.

    Args:
        given: None if the file has none; then everything has its default. what: the layer, for messages.
    """

    def __init__(self, given: Message | None, what: str) -> None:
        self._given = given if given is not None else Message("Layer")
        self._what = what
        self._read: set[str] = set()

    def has(self, key: str) -> bool:
        """Whether it is given."""
        self._read.add(key)
        return self._given.has(key)

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number; one without default must be there."""
        return int(self._one(key, default))

    def positive(self, key: str, default: int | None = None) -> int:
        """A whole number of at least one."""
        found = self.whole(key, default)
        if found < 1:
            raise ModelFormatError(f"{self._what}: {key} is {found}; it must be at least 1")
        return found

    def number(self, key: str, default: float | None = None) -> float:
        """A number; one without default must be there."""
        return self._finite(key, self._one(key, default))

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        return bool(self._one(key, default))

    def word(self, key: str, default: str, allowed: Sequence[str]) -> str:
        """One of these words."""
        return one_of(f"{key} of {self._what}", str(self._one(key, default)), allowed)

    def wholes(self, key: str) -> tuple[int, ...]:
        """Whole numbers, as many as are given."""
        self._read.add(key)
        return tuple(int(n) for n in self._given.all(key))

    def numbers(self, key: str) -> tuple[float, ...]:
        """Numbers, as many as are given."""
        self._read.add(key)
        return tuple(self._finite(key, n) for n in self._given.all(key))

    def message(self, key: str) -> Message | None:
        """A message in this one; None if it is not given."""
        self._read.add(key)
        found: Message | None = self._given.one(key)
        return found

    def inner(self, key: str) -> Settings:
        """The settings in a message in this one."""
        return Settings(self.message(key), self._what)

    def skip(self, *keys: str) -> None:
        """Say that these do not matter here."""
        self._read.update(keys)

    def check(self) -> None:
        """Raise if the file says something that nobody asked for.

        Raises:
            UnsupportedModel: it might change the result.
        """
        left = [k for k in self._given.given if k not in self._read and k not in FILLERS]
        left += [f"field {n}" for n in self._given.odd]
        if left:
            raise UnsupportedModel(f"{self._what} has {', '.join(left)}, which fewbit does not know for this layer")

    def _finite(self, key: str, number: float | str) -> float:
        found = float(np.float32(number)) if abs(float(number)) <= LARGEST else np.inf  # as Caffe keeps it
        if not np.isfinite(found):
            raise ModelFormatError(f"{self._what}: {key} is {number}; it must be a number that a float can hold")
        return found

    def _one(self, key: str, default: float | str | None) -> float | str:
        self._read.add(key)
        found: float | str | None = self._given.one(key, default)
        if found is None:
            raise ModelFormatError(f"{self._what} lacks {key}, which must be given")
        return found
