"""What a verb says: its result on stdout, as text or as one JSON document; remarks, warnings and errors on stderr.

    a pipe, a file      plain text, as wide as it comes out
    a terminal          laid out for its width, heads in bold, rules as lines, alarms in red
    COLUMNS             that width, in a pipe as well
    NO_COLOR, TERM=dumb no colours, nothing but text         FORCE_COLOR    colours in a pipe, too

Colours are those of the terminal's own theme, and none that is pale on white or dark on black.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from fewbit.cli.bar import Say, Tick, work
from fewbit.core.tables import page, wrapped

__all__ = ["Say", "Tick", "answer", "progress", "say", "show", "tell", "work"]

RULE = re.compile(r"-+(  -+)*")
LOUD = re.compile(r"!+$|! .* !$")
KINDS = {"error": "bold red", "warning": "bold magenta", "note": "bold"}
KIND = re.compile(rf"({'|'.join(KINDS)}): ")

COPIED = re.compile(r"\s+(--|fewbit |pip |skip_quant_node=)")
"""Lines to be copied: the terminal breaks them, so that they are copied whole."""

NARROW = 40
"""Columns that text is laid out for at least."""


def columns(stream: Any) -> int | None:
    """Columns that text on a stream should have; None if there is no end to them."""
    said = os.environ.get("COLUMNS", "")
    if said.isdecimal() and int(said):
        return max(int(said), NARROW)
    if not stream.isatty():
        return None
    found = 0
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = os.get_terminal_size(stream.fileno()).columns
    return max(found or 80, NARROW)


def decorated(stream: Any) -> Any:
    """A console for a stream that takes bold and colours; None for one that does not."""
    if not (stream.isatty() or os.environ.get("FORCE_COLOR")):
        return None
    from rich.console import Console

    found = Console(file=stream, highlight=False, soft_wrap=True, markup=False, emoji=False)
    return found if found.color_system is not None else None


def show(text: str) -> None:
    """Print a result; laid out and decorated if a person reads it on a terminal."""
    _put(text, sys.stdout)


def tell(kind: str, text: str) -> None:
    """Print `kind: text` on stderr; kind: error, warning."""
    _put(f"{kind}: {text}", sys.stderr)


def say(text: str) -> None:
    """A remark that is no part of the result, on stderr."""
    _put(text, sys.stderr)


def _put(text: str, stream: Any) -> None:
    room, console = columns(stream), decorated(stream)
    lines = [part for line in text.split("\n") for part in _fitting(line, room)]
    if console is None:
        print("\n".join(lines), file=stream, flush=stream is sys.stderr)
        return
    from rich.text import Text

    line_of = "─" if _can_write(stream, "─") else "-"
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        found = Text(line.replace("-", line_of) if RULE.fullmatch(line) else line, style=_style(line, after))
        if kind := KIND.match(line):
            found.stylize(KINDS[kind[1]], 0, kind.end() - 1)
        console.print(found)


def _fitting(line: str, room: int | None) -> list[str]:
    """A line that is too long as several; tables and frames have been made to fit."""
    if room is None or len(line) <= room or COPIED.match(line):
        return [line]
    return wrapped(line, room) if KIND.match(line) is None else wrapped(line, room, hang=2)


def _style(line: str, after: str) -> str:
    if RULE.fullmatch(after):
        return "bold"
    if RULE.fullmatch(line):
        return "dim"
    return "bold red" if LOUD.match(line) else ""


def _can_write(stream: Any, text: str) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def show_json(found: Any) -> None:
    """Print one JSON document."""
    from fewbit.core.tables import dumps

    sys.stdout.write(dumps(found))


def answer(text: Callable[[], str], found: Callable[[], Any], *, json: bool, quiet: bool) -> None:
    """Print a result in the form that was asked for. JSON is asked for by name: it comes even if quiet.

    Args:
        text: makes the text, laid out for where it goes. found: makes the plain data.
    """
    if json:
        show_json(found())
    elif not quiet:
        with page(columns(sys.stdout)):
            made = text()
        show(made)


def list_networks(*, json: bool, quiet: bool) -> None:
    """Print the reference networks."""
    from fewbit.api.simulating import reference_networks
    from fewbit.core.tables import table

    found = reference_networks()
    rows = [(name, f"{count:,}") for name, count in found.items()]
    answer(lambda: table(("<network", ">parameters"), rows), lambda: found, json=json, quiet=quiet)


@contextlib.contextmanager
def progress(what: str, total: int | None, *, unit: str = "batches", quiet: bool = False) -> Iterator[Tick | None]:
    """As `work`, of one stage."""
    with work(what, total, unit=unit, quiet=quiet) as (tick, _):
        yield tick
