"""Where a command starts and ends: whatever happens inside becomes an exit code and a line on stderr.

    FewbitError              error: …                       1, or 2 for words that the user chose
    wrong flag or verb       error: …; see its --help       2
    Ctrl-C, SIGTERM          interrupted                    130, 143
    reader of stdout gone    (nothing)                      1
    anything else            the traceback, and a request to report it      1

Work is unwound in every case, so that temporary files go.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TextIO

from fewbit.errors import FewbitError, FewbitWarning

INTERRUPTED, TERMINATED = 130, 143
REPORT = "error: this is a bug in fewbit, not in what you did; please report it with the lines above and the command"


class _Terminated(BaseException):
    """SIGTERM came: unwinds like Ctrl-C, so that temporary files are removed on the way."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Nothing escapes but exceptions of the interpreter itself."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no "÷" gets "?", not a traceback
    try:
        with _sigterm(), _warnings():
            code = _dispatch(words)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        return _end("interrupted", INTERRUPTED)
    except _Terminated:
        return _end("terminated", TERMINATED)
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # or the interpreter complains when it flushes at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except FewbitError as e:
        return _end(f"error: {e}", e.exit_code)
    except Exception:  # the boundary: a bug must end in a message and an exit code, too
        traceback.print_exc()
        return _end(REPORT, 1)


def _dispatch(words: list[str]) -> int:
    from typer import TyperException

    from fewbit.cli.app import command

    try:
        # typer turns Ctrl-C into the code 130 by itself
        code = command().main(args=words or ["--help"], prog_name="fewbit", standalone_mode=False)
    except TyperException as e:
        path = getattr(getattr(e, "ctx", None), "command_path", "fewbit")
        return _end(f"error: {_lower(e.format_message())}\nsee: {path} --help", e.exit_code)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _end(text: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    return code


@contextlib.contextmanager
def _sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _warnings() -> Iterator[None]:
    """Show each of our warnings as one line, every time; others as Python does."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, FewbitWarning):
            print(f"warning: {message}", file=sys.stderr, flush=True)
        else:
            others(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        others = warnings.showwarning
        warnings.showwarning = show
        warnings.simplefilter("always", FewbitWarning)
        yield
