"""Verbs on a real terminal, narrow and wide: what fits, what is decorated, what is left of the bar."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

CALLS = """
import sys
from fewbit.cli import main
for words in {calls!r}:
    print("##", *words[:1], flush=True)
    main(words)
    sys.stdout.flush()
"""
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def on_a_terminal(columns: int, calls: list[list[str]], **env: str) -> str:
    """Everything that a terminal of that width gets, commands one after the other in one process."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    script = CALLS.format(calls=calls)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=theirs, stdout=theirs, stderr=theirs, env=kept | {"TERM": "xterm"} | env
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so that the other end is closed
            break
        if not part:
            break
        found += part
    os.close(ours)
    assert process.wait(timeout=60) == 0
    return found.decode()


def stays(text: str) -> list[str]:
    """The lines that were there: a bar begins at the start of its line again."""
    return [re.split(r"\r(?!$)", ANSI.sub("", line))[-1].rstrip() for line in text.split("\n")]


@pytest.fixture(scope="module")
def calls(net: Path, quantized: Path, data: Path) -> list[list[str]]:
    return [
        [],
        ["compare", str(net), str(quantized), "--data", str(data)],
        ["inspect", str(net)],
        ["targets"],
        ["targets", "onnxruntime"],
        ["quantize", str(net), "--dry-run"],
        ["quantise"],
    ]


@pytest.mark.parametrize("columns", [80, 160])
def test_every_line_fits_and_is_decorated(columns: int, calls: list[list[str]]) -> None:
    text = on_a_terminal(columns, calls)
    lines = stays(text)
    assert max(map(len, lines)) <= columns
    assert "\x1b[1m" in text and "─────" in text and "\x1b[1;31merror:" in text
    plain = "\n".join(lines)
    assert "━" in text and "\x1b[2K" in text[text.rindex("━") :]  # the bar came and went
    assert "worst layers, 5 of 5" in plain and "did you mean 'quantize'?" in plain
    assert ("openvino  tensorrt" in plain.split("when", 1)[1].split("\n")[0]) == (columns == 160)


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"NO_COLOR": "1"}], ids=str)
def test_a_terminal_that_wants_no_colours_gets_none(env: dict[str, str], data: Path, net: Path) -> None:
    text = on_a_terminal(80, [["inspect", str(net)], ["quantise"]], **env)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    assert ("\x1b[" in text) == ("NO_COLOR" in env)  # bold is no colour
