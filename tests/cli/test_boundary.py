"""Whatever happens inside a command ends as an exit code and a line on stderr."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fewbit.cli import app, main
from fewbit.cli.start import STEPS
from fewbit.errors import BadSample, EngineError, FewbitWarning, UsageError
from tests.cli.conftest import Cli, golden


def instead(monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None, text: str = "") -> None:
    """Let every command raise `error`, or print `text`."""

    class Command:
        def main(self, **_: object) -> None:
            if error is not None:
                raise error
            print(text)

    monkeypatch.setattr(app, "command", Command)


def test_help_lists_the_verbs(cli: Cli) -> None:
    done = cli("--help")
    assert (done.code, done.err) == (0, "")
    golden("help", done.out)


@pytest.mark.parametrize("words", [["-h"], ["help"], ["help", "quantize"]], ids=" ".join)
def test_there_are_several_calls_for_help(cli: Cli, words: list[str]) -> None:
    assert cli(*words).out == cli(*words[1:], "--help").out


def test_fewbit_alone_shows_where_to_begin(cli: Cli) -> None:
    done = cli()
    assert (done.code, done.err) == (0, "")
    verbs = re.findall(r"^ +fewbit (\w+)", done.out, re.MULTILINE)
    assert len(verbs) == 4 and set(verbs) <= set(app.VERBS) and "fewbit --help" in done.out
    golden("start", done.out)


def test_the_examples_at_the_start_are_words_that_the_verbs_take() -> None:
    for _, example in STEPS:
        _, verb, *words = example.split()
        app.verb_command(verb).make_context(verb, words)


@pytest.mark.parametrize("verb", app.VERBS)
def test_every_verb_explains_itself(cli: Cli, verb: str) -> None:
    done = cli(verb, "--help")
    assert done.code == 0 and f"Usage: fewbit {verb}" in done.out
    short = next(line for line in cli("--help").out.splitlines() if line.startswith(f"  {verb} "))
    assert not short.endswith("...")


def test_flags_stand_under_headings(cli: Cli) -> None:
    out = cli("quantize", "--help").out
    order = [out.index(h) for h in ("Arguments:", "Options:", "How to quantize:", "How data is read:")]
    assert order == sorted(order)


def test_the_version(cli: Cli) -> None:
    import fewbit

    assert cli("--version").out == f"fewbit {fewbit.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quantise"], "error: no such command 'quantise'; did you mean 'quantize'?\nsee: fewbit --help"),
        (["quantize", "--calib-mod", "x"], "error: no such option: --calib-mod; did you mean '--calib-mode'"),
        (["inspect"], "error: missing argument 'MODEL'\nsee: fewbit inspect --help"),
        (["quantize"], "error: there is no network; give MODEL, or --zoo NAME for one of MXNet's zoo"),
        (["quantize", "n", "--batch-size", "two"], "error: invalid value for '--batch-size'"),
        (["quantize", "n", "--threads", "0"], "error: invalid value for '--threads'"),
    ],
)
def test_wrong_words_are_bad_usage(cli: Cli, words: list[str], message: str) -> None:
    done = cli(*words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("a wrong word"), 2, "error: a wrong word\nsee: fewbit --help\n"),
        (UsageError("a is 1; it must be 2"), 2, "error: a is 1; it must be 2\n"),
        (EngineError("it refused"), 1, f"error: it refused; {EngineError.remedy}\n"),
        (EngineError("it refused; try that"), 1, "error: it refused; try that\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=["usage", "with-advice", "other", "other-with-advice", "ctrl-c"],
)
def test_our_errors_are_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    instead(monkeypatch, error)
    done = cli("x")
    assert (done.code, done.out, done.err) == (code, "", said)


def test_a_bug_keeps_its_traceback_and_asks_for_a_report(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, ZeroDivisionError("by nought"))
    done = cli("x")
    assert done.code == 1
    assert "Traceback" in done.err and "by nought" in done.err and "please report it" in done.err.splitlines()[-1]


def test_a_warning_is_one_line_every_time(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Command:
        def main(self, **_: object) -> None:
            for _ in range(2):
                warnings.warn("mind this", FewbitWarning, stacklevel=1)

    monkeypatch.setattr(app, "command", Command)
    assert cli("x").err == "warning: mind this\n" * 2


def test_other_warnings_are_left_to_python(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Command:
        def main(self, **_: object) -> None:
            warnings.warn("not ours", UserWarning, stacklevel=1)

    seen: list[str] = []
    monkeypatch.setattr(app, "command", Command)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, *_: seen.append(str(message))
        assert cli("x").err == ""
    assert seen == ["not ours"]


def test_the_process_is_left_as_it_was(cli: Cli) -> None:
    def state() -> tuple[object, ...]:
        signals = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        return signals, warnings.showwarning, list(warnings.filters), sys.stdout

    before = state()
    cli("--version")
    assert state() == before


def test_a_reader_that_goes_away_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    instead(monkeypatch, text="much")
    monkeypatch.setattr(sys, "stdout", Gone())
    assert main(["x"]) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["targets"], ["targets", "--json"], ["--help"], ["--version"]], ids=" ".join)
def test_a_full_disk_under_stdout_is_said(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "fewbit", *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        1,
        "error: cannot write to stdout: No space left on device; see where it is sent to\n",
    )


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("words", ["", "targets", "targets --json", "--version", "--help", "completion bash"])
def test_a_closed_stdout_is_said(words: str) -> None:
    done = subprocess.run(f"{sys.executable} -m fewbit {words} >&-", shell=True, capture_output=True, text=True)
    said = "error: cannot write to stdout: it is closed; see where it is sent to\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_who_has_nothing_to_say_needs_no_streams(net: Path, data: Path, tmp_path: Path) -> None:
    words = f"quantize {net} -o {tmp_path / 'q.onnx'} --data {data} --quiet --no-verify"
    closed = f"{sys.executable} -m fewbit {words} <&- >&- 2>&-"
    assert subprocess.run(closed, shell=True).returncode == 0 and (tmp_path / "q.onnx").stat().st_size
    wrong = subprocess.run(f"{sys.executable} -m fewbit targets nosuch 2>&-", shell=True, capture_output=True)
    assert (wrong.returncode, wrong.stdout) == (2, b"")


def test_other_files_are_not_taken_for_stdout(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, OSError(28, "No space left on device"))
    done = cli("x")
    assert done.code == 1 and "stdout" not in done.err and "please report it" in done.err


def test_words_of_python_are_said_as_flags(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(monkeypatch, BadSample("cannot be read; or use skip_bad to leave it out"))
    assert cli("x").err == "error: cannot be read; or use --skip-bad to leave it out\n"


def test_a_terminal_without_our_letters_gets_question_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    instead(monkeypatch, text="int8 ÷ float")
    with io.TextIOWrapper(raw, encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["x"]) == 0
        assert raw.getvalue() == b"int8 ? float\n"


def test_the_page_on_the_command_line_names_every_verb() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    assert all(f"`fewbit {verb}" in page for verb in app.VERBS)


def test_python_m_fewbit_is_fewbit(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "fewbit", "quantise"], capture_output=True, text=True, cwd=tmp_path,
                          env=os.environ | {"COLUMNS": "80"})  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "") and "did you mean 'quantize'" in done.stderr
