"""Where a command starts and ends: whatever happens inside becomes an exit code and a line on stderr.

    FewbitError              error: …; what to do next      1, or 2 for words that the user chose
    wrong flag or verb       error: …, see: … --help        2
    Ctrl-C, SIGTERM          interrupted                    130, 143
    reader of stdout gone    (nothing)                      1
    stdout cannot be written error: cannot write to stdout  1
    anything else            the traceback, and a request to report it      1

Work is unwound in every case, so that temporary files go. A signal counts whatever becomes of it on the way: an import
that it stops inside of compiled code ends as an ImportError.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

from fewbit.cli.typed import remember
from fewbit.errors import FewbitError, FewbitWarning, OutputError, UsageError

INTERRUPTED, TERMINATED = 130, 143
ENDS = {signal.SIGINT: ("interrupted", INTERRUPTED), signal.SIGTERM: ("terminated", TERMINATED)}
REPORT = "error: this is a bug in fewbit, not in what you did; please report it with the lines above and the command"

FLAGS = {
    r"\bskip_bad\b": "--skip-bad",
    r"allow it with overwrite": "allow it with --overwrite",
    r"when the network is loaded \(input_shapes\)": "with --input-shapes",
    r"or load it with allow_quantized=True.*": "or use inspect, compare, evaluate or benchmark, which take either",
}
"""Words of the Python interface in messages → what to say on the command line."""


class _Terminated(BaseException):
    """SIGTERM came: unwinds like Ctrl-C, so that temporary files are removed on the way."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Nothing escapes but exceptions of the interpreter itself."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    remember(words)
    _take_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no "÷" gets "?", not a traceback
    came: list[int] = []
    try:
        with _signals(came), _warnings(), contextlib.redirect_stdout(_Stdout(sys.stdout or _Closed())):
            code = _dispatch(words)
            sys.stdout.flush()
            return code
    except KeyboardInterrupt:
        return _end(*ENDS[signal.SIGINT])
    except _Terminated:
        return _end(*ENDS[signal.SIGTERM])
    except Exception as e:  # the boundary: a bug must end in a message and an exit code, too
        if came:
            return _end(*ENDS[signal.Signals(came[-1])])
        if isinstance(e, FewbitError):
            return _error(*_told(e, words), code=e.exit_code)
        if isinstance(e, BrokenPipeError):
            return 1
        traceback.print_exc()
        return _end(REPORT, 1)


def in_flags(text: str) -> str:
    """A message with words of the command line in place of those of Python."""
    for word, flag in FLAGS.items():
        text = re.sub(word, flag, text)
    return text


def _take_closed_streams() -> None:
    """See to it that no file gets the number of a stream that is closed, or words meant for that went into it."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(number)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  as long as the process


class _Closed(io.StringIO):
    """Stdout that was closed before we began (`>&-`): nothing can be written there; a quiet verb has no need to."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed")


class _Stdout:
    """Stdout, that tells its own failures from those of other files. The first one stays: typer's help tries twice."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.failed: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        return self._told(self.stream.write, text)

    def flush(self) -> None:
        self._told(self.stream.flush)

    def _told(self, do: Callable[..., Any], *args: str) -> Any:
        if self.failed is not None:
            raise self.failed
        try:
            return do(*args)
        except OSError as e:
            self.failed = e
            with contextlib.suppress(OSError, ValueError):  # or the interpreter complains when it flushes at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
            if not isinstance(e, BrokenPipeError):
                self.failed = OutputError(f"cannot write to stdout: {e.strerror or e}; see where it is sent to")
            raise self.failed from None


def _dispatch(words: list[str]) -> int:
    if not words:
        from fewbit.cli.screen import answer
        from fewbit.cli.start import start

        answer(start, dict, json=False, quiet=False)
        return 0
    if words[0] == "completion" and words[2:4] == ["--next", "--"]:  # at each Tab: at once, around typer
        from fewbit.cli.completion import answer_tab

        return answer_tab(words[1], words[4:])
    if words[0] == "help":
        words = [*words[1:], "--help"]
    from typer import TyperException

    from fewbit.cli.app import command

    try:
        # typer turns Ctrl-C into the code 130 by itself
        code = command().main(args=words, prog_name="fewbit", standalone_mode=False)
    except TyperException as e:
        path = getattr(getattr(e, "ctx", None), "command_path", "fewbit")
        return _error(_words_of(e), f"see: {path} --help", code=e.exit_code)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def _words_of(e: Any) -> str:
    """What typer found wrong, in our words: `no such option: --calib-mod; did you mean '--calib-mode'?`."""
    near = sorted(getattr(e, "possibilities", None) or ())
    text = e.message if near else e.format_message()
    text, _, named = text.partition(". Did you mean ")
    choice = named.rstrip("?").replace("', '", "' or '") or " or ".join(map(repr, near))
    return text[:1].lower() + text[1:].rstrip(".") + (f"; did you mean {choice}?" if choice else "")


def _told(e: FewbitError, words: Sequence[str]) -> tuple[str, str]:
    """What an error says, and what to do next where it does not say that itself."""
    text = in_flags(str(e))
    if e.says_what_to_do():
        return text, ""
    if not isinstance(e, UsageError):
        return f"{text}; {e.remedy}", ""
    from fewbit.cli.app import VERBS

    verb = f" {words[0]}" if words[0] in VERBS else ""
    return text, f"see: fewbit{verb} --help"


def _error(text: str, more: str = "", *, code: int) -> int:
    from fewbit.cli.screen import say, tell

    with contextlib.suppress(OSError):
        tell("error", text)
        if more:
            say(more)
    return code


def _end(text: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
    return code


@contextlib.contextmanager
def _signals(came: list[int]) -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does; both are noted in `came`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else _Terminated

    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, stop)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, or somebody else's
        before[signal.SIGINT] = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _warnings() -> Iterator[None]:
    """Show each of our warnings, every time, as one line (of a file); others as Python does."""
    from fewbit.cli.screen import tell

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, FewbitWarning):
            tell("warning", in_flags(str(message)))
        else:
            others(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        others = warnings.showwarning
        warnings.showwarning = show
        warnings.simplefilter("always", FewbitWarning)
        yield
