"""What was typed, so that a report can say how to make it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextvars import ContextVar

_words: ContextVar[tuple[str, ...]] = ContextVar("words", default=())


def remember(words: Sequence[str]) -> None:
    """Keep the words of the command that is being run."""
    _words.set(tuple(words))


def command_line() -> str:
    """The command that is being run, to be copied into a shell."""
    return shlex.join(["fewbit", *_words.get()])
