"""The options of an operator, by the names that the schema has for them: `StrideH`, `FusedActivationFunction`.

A file need not hold any: then each option has the schema's default.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from fewbit.errors import ModelFormatError

BROKEN = (struct.error, ValueError, IndexError, TypeError, OverflowError, AttributeError, UnicodeError)
"""What the schema package and NumPy raise where a file points out of itself."""


class Options:
    """The options of one operator.

    Args:
        table: of the schema package; None if the file has none. size: of the file, which nothing can exceed.
    """

    def __init__(self, table: Any = None, size: int = 0) -> None:
        self._table, self._size = table, size

    def whole(self, key: str, default: int = 0) -> int:
        """A whole number."""
        return int(self._get(key, default))

    def number(self, key: str, default: float = 0.0) -> float:
        """A finite number."""
        found = float(self._get(key, default))
        if not abs(found) < float("inf"):
            raise ModelFormatError(f"the option {key} is {found}; it must be a finite number")
        return found

    def flag(self, key: str) -> bool:
        """True or False."""
        return bool(self._get(key, False))

    def word(self, key: str, words: Mapping[int, str]) -> str:
        """What a number stands for."""
        found = self.whole(key)
        if found not in words:
            raise ModelFormatError(f"the option {key} is {found}; it must be one of {sorted(words)}")
        return words[found]

    def wholes(self, key: str) -> tuple[int, ...] | None:
        """Whole numbers; None if there are none."""
        length = int(self._get(f"{key}Length", 0))
        if 4 * length > self._size:
            raise ModelFormatError(f"the option {key} has {length} numbers; the file is damaged")
        return tuple(self._get(key, 0, i) for i in range(length)) if length else None

    def _get(self, key: str, default: Any, *args: int) -> Any:
        if self._table is None:
            return default
        try:
            return getattr(self._table, key)(*args)
        except BROKEN as e:
            raise ModelFormatError(f"the option {key} cannot be read ({type(e).__name__}); the file is damaged") from e
