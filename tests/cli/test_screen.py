"""What a terminal shows and a pipe gets."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from fewbit.cli.bar import LONGEST
from fewbit.cli.screen import answer, progress, show, work
from fewbit.core.tables import frame, table

REPORT = "\n".join(
    [table(("<layer", ">dB"), [("conv1", "31.2")]), "note: one thing", frame(["ALARM"]), "x" * 200, "[bold]a[/] :cat:"]
)
ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "40")


def test_a_pipe_gets_the_very_text(capsys: pytest.CaptureFixture[str]) -> None:
    show(REPORT)
    assert capsys.readouterr().out == REPORT + "\n"


def test_a_terminal_gets_the_same_decorated(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stdout", seen)
    show(REPORT)
    text = seen.getvalue()
    assert ANSI.sub("", text) == REPORT.replace("-----  ----", "─────  ────") + "\n"
    assert "\x1b[1mlayer    dB\x1b[0m" in text and "\x1b[1;31m! ALARM !\x1b[0m" in text


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stdout", seen)
    monkeypatch.setenv("NO_COLOR", "1")
    show(REPORT)
    assert "\x1b[31m" not in seen.getvalue() and "\x1b[1;31m" not in seen.getvalue()


@pytest.mark.parametrize(("json_", "quiet", "said"), [(False, False, "text\n"), (False, True, "")])
def test_an_answer_is_text_unless_quiet(
    capsys: pytest.CaptureFixture[str], json_: bool, quiet: bool, said: str
) -> None:
    answer(lambda: "text", dict, json=json_, quiet=quiet)
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("quiet", [False, True])
def test_json_is_printed_even_if_quiet(capsys: pytest.CaptureFixture[str], quiet: bool) -> None:
    answer(lambda: "text", lambda: {"a": float("inf")}, json=True, quiet=quiet)
    assert json.loads(capsys.readouterr().out) == {"a": "inf"}


def test_progress_shows_rate_and_time_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setenv("COLUMNS", "120")
    with progress("calibrating", 4) as tick:
        assert tick is not None
        for n in range(1, 5):
            tick(n, n * 8)
    text = ANSI.sub("", seen.getvalue())
    assert "calibrating" in text and "4/4 batches" in text and re.search(r"[\d,.]+ samples/s", text)
    assert re.search(r"\d:\d\d:\d\d .*\d:\d\d:\d\d", text)  # so far, and left


def stage(text: str) -> list[str]:
    """What the bar said, line by line, without the bar itself."""
    return [re.sub(r"[━╸╺ ]+", " ", line).strip() for line in re.split(r"[\r\n]+", ANSI.sub("", text)) if line.strip()]


def test_a_bar_goes_from_stage_to_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setenv("COLUMNS", "120")
    now = [0.0]
    monkeypatch.setattr("rich.console.monotonic", lambda: now[0])

    def shown(do: object, *words: object) -> str:
        seen.seek(0), seen.truncate()
        now[0] += 10
        do(*words)  # type: ignore[operator]
        do.__self__.bar.refresh()  # type: ignore[attr-defined]
        return stage(seen.getvalue())[-1]

    with work("calibrating", 4) as (tick, say):
        assert shown(tick, 2, 16) == "calibrating 2/4 batches 1.6 samples/s 0:00:10 -:--:--"
        assert shown(say, "smooth quant", 0, 3).startswith("smooth quant 0/3 steps 0:00:00")
        assert shown(say, "rounding [a0]", 1, 3) == "rounding [a0] 1/3 steps 0:00:10 -:--:--"
        assert shown(say, "layer after layer", 1, 40).startswith("layer after layer 1/40 steps 0:00:00")
        assert shown(say, "refining", 2, 3) == "refining 2/3 steps 0:00:30 0:00:20"
        assert shown(say, "timing without " + "x" * 99, 0, 0).startswith("timing without xx")
        assert "… 7/? steps" in shown(say, "timing without " + "x" * 99, 7, 0)
        assert shown(say, "refining", 0, 3).startswith("refining 0/3 steps 0:00:00")  # begins anew
    assert LONGEST < 60


def test_a_bar_counts_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Terminal()
    monkeypatch.setattr(sys, "stderr", seen)
    monkeypatch.setenv("COLUMNS", "120")
    with progress("measuring layers", 2, unit="networks") as tick:
        assert tick is not None
        tick(2, 0)
    assert "2/2 networks" in ANSI.sub("", seen.getvalue()) and "batches" not in seen.getvalue()


def test_progress_is_silent_elsewhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with progress("calibrating", 4) as tick:
        assert tick is None
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress("calibrating", 4, quiet=True) as tick:
        assert tick is None
    with work("calibrating", 4, quiet=True) as found:
        assert found == (None, None)
    assert capsys.readouterr().err == "" and sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
