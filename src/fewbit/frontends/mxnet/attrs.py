"""Attributes of MXNet layers: text that is read as what the operator expects.

    "(3, 3)" → (3, 3)    "3" → (3, 3) for two axes    "True", "1" → True    "0.5" → 0.5    "None" → nothing

Files of Python 2 write whole numbers as `3L`. Every attribute that is read is remembered: what nobody asked for may
change the result, and is refused in the end.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from fewbit.errors import ModelFormatError, UnsupportedModel, one_of

YES, NO = ("true", "1"), ("false", "0")

HARMLESS = frozenset({"workspace", "cudnn_tune", "cudnn_off", "cudnn_algo_verbose", "cudnn_algo_fwd_prec",
                      "cudnn_algo_bwd_filter_prec", "cudnn_algo_bwd_data_prec", "ctx", "momentum",
                      "grad_scale", "sparse_grad", "num_args", "key_var_num_args"})  # fmt: skip
"""Attributes that never change what a network answers: where and how fast it runs, and how it is trained."""


class Attrs:
    """The attributes of one layer.

    Args:
        given: as the file has them. what: the layer, for messages.
    """

    def __init__(self, given: Mapping[str, str], what: str) -> None:
        self._given = {k: v for k, v in given.items() if not (k.startswith("__") and k.endswith("__"))}
        self._what = what
        self._read: set[str] = set()

    def text(self, key: str, default: str = "") -> str:
        """As it is written."""
        self._read.add(key)
        return self._given.get(key, default)

    def has(self, key: str) -> bool:
        """Whether it is given and not None."""
        return self.text(key, "None") not in ("None", "")

    def word(self, key: str, default: str, allowed: Sequence[str]) -> str:
        """One of these words."""
        text = self.text(key, default)
        if text not in allowed:
            one_of(f"{key} of {self._what}", text, allowed)
        return text

    def flag(self, key: str, default: bool) -> bool:
        """True or False."""
        text = self.text(key, str(default)).lower()
        if text not in YES + NO:
            raise self._bad(key, "True or False")
        return text in YES

    def number(self, key: str, default: float | None = None) -> float:
        """A number; one without default must be there."""
        if default is not None and not self.has(key):
            return default
        try:
            found = float(self.text(key).removesuffix("f"))
        except ValueError:
            raise self._bad(key, "a number") from None
        if found != found:  # NaN
            raise self._bad(key, "a number")
        return found

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number; one without default must be there."""
        if default is not None and not self.has(key):
            return default
        try:
            return int(self.text(key).strip().removesuffix("L"))
        except ValueError:
            raise self._bad(key, "a whole number") from None

    def maybe(self, key: str) -> int | None:
        """A whole number, or None."""
        return self.whole(key) if self.has(key) else None

    def wholes(self, key: str, default: Sequence[int] | None = None, *, count: int | None = None) -> tuple[int, ...]:
        """Whole numbers; a lone one stands for `count` equal ones. One without default must be there."""
        found = self.items(key, default)
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in found):
            raise self._bad(key, "whole numbers")
        return self._times(key, found, count)

    def numbers(
        self, key: str, default: Sequence[float] | None = None, *, count: int | None = None
    ) -> tuple[float, ...]:
        """Numbers, as `wholes`."""
        found = self.items(key, default)
        if not all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in found):
            raise self._bad(key, "numbers")
        return self._times(key, tuple(map(float, found)), count)

    def items(self, key: str, default: Sequence[Any] | None = None) -> tuple[Any, ...]:
        """What stands in a tuple, numbers or None (as in `begin` of slice)."""
        if not self.has(key):
            if default is None:
                raise self._bad(key, "given")
            return tuple(default)
        try:
            found = ast.literal_eval(self.text(key).replace("L", ""))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise self._bad(key, "numbers such as (3, 3)") from None
        return tuple(found) if isinstance(found, (tuple, list)) else (found,)

    def skip(self, *keys: str) -> None:
        """Say that these do not matter here."""
        self._read.update(keys)

    def check(self) -> None:
        """Raise if the file says something that nobody asked for.

        Raises:
            UnsupportedModel: it might change the result.
        """
        left = [k for k in self._given if k not in self._read and k not in HARMLESS]
        if left:
            said = ", ".join(f"{k}={self._given[k]!r}" for k in left)
            raise UnsupportedModel(f"{self._what} has {said}, which fewbit does not know for this operator")

    def _times(self, key: str, found: tuple[Any, ...], count: int | None) -> tuple[Any, ...]:
        if count is None or len(found) == count:
            return found
        if len(found) == 1:
            return found * count
        if not found:
            return found
        raise self._bad(key, f"{count} numbers")

    def _bad(self, key: str, wanted: str) -> ModelFormatError:
        return ModelFormatError(f"{self._what}: {key} is {self._given.get(key)!r}; it must be {wanted}")
