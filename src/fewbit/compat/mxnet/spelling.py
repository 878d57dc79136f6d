"""Calls by position in the order of MXNet 1.x, where it differs from that of 2.x."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def spelled(old: str, is_old: Callable[[Sequence[Any]], bool]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Take a call by position in either order.

    Args:
        old: parameters in the order of 1.x. is_old: whether positional arguments are in that order.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **words: P.kwargs) -> R:
            if not is_old(args):
                return function(*args, **words)
            if len(args) > len(old.split()):
                raise TypeError(f"{function.__name__}: {len(args)} arguments; MXNet 1.x has {len(old.split())}")
            named: Any = dict(zip(old.split(), args, strict=False)) | words
            return function(**named)  # type: ignore[call-arg]

        return call

    return wrap
