"""Keywords that a function does not have become fewbit's error, with the nearest one that it has."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fewbit.errors import unknown

P = ParamSpec("P")
T = TypeVar("T")


def own_words(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which says so itself: `UnknownName` instead of TypeError."""
    allowed = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **words: P.kwargs) -> T:
        for word in words:
            if word not in allowed:
                raise unknown(f"word of {function.__name__}", word, allowed)
        return function(*args, **words)

    return checked
