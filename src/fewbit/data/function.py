"""`module:function` -> what the function returns.

The module is looked up in the current directory first, then among the installed ones.
The function is called without arguments, once for each pass over the data.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fewbit.errors import DataError, FewbitError, UsageError, unknown

PATTERN = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")


@contextmanager
def _their_code(what: str) -> Iterator[None]:
    """Whatever the user's code raises becomes a DataError that says where it came from."""
    try:
        yield
    except FewbitError:
        raise
    except Exception as e:  # foreign code may raise anything
        raise DataError(f"{what} raised {type(e).__name__}: {e}") from e


def load_function(text: str) -> Callable[[], Any]:
    """Import the function that `module:function` names.

    Raises:
        UsageError: there is no such module, or what it holds under this name cannot be called.
        UnknownName: the module has no such function.
        DataError: the module raised while it was imported.
    """
    found = PATTERN.fullmatch(text)
    assert found, text
    module_name, name = found.groups()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # stays: the function may import its neighbours when called
    importlib.invalidate_caches()
    try:
        with _their_code(f"importing {module_name!r}"):
            module = importlib.import_module(module_name)
    except DataError as e:
        cause = e.__cause__
        if isinstance(cause, ModuleNotFoundError) and f"{module_name}.".startswith(f"{cause.name}."):
            raise UsageError(
                f"{text}: there is no module {cause.name!r}, neither in {os.getcwd()} nor installed"
            ) from cause
        raise
    if not hasattr(module, name):
        callables = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise unknown(f"function in module {module_name!r}", name, callables)
    function = getattr(module, name)
    if not callable(function):
        raise UsageError(f"{text} is a {type(function).__name__}, not a function; name one that gives batches")
    return said(function, text)


def said(function: Callable[[], Any], what: str) -> Callable[[], Any]:
    """The function, its errors said as ours."""

    def call() -> Any:
        with _their_code(what):
            return function()

    return call


def guarded(what: str, items: Iterable[Any]) -> Iterator[Any]:
    """The items, and errors of the code that makes them said as ours."""
    with _their_code(what):
        iterator = iter(items)
    while True:
        with _their_code(what):
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
