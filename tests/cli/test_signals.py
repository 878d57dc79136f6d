"""Ctrl-C and SIGTERM at work: an exit code that says so, no partial output, nothing temporary; --resume goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SLOW = """
import pathlib, time
import numpy as np

def batches():
    x = np.load("x.npy")
    for i in range(200):
        if i == 8:
            pathlib.Path("well on the way").touch()
        if i >= 8 and pathlib.Path("slow").exists():
            time.sleep(0.02)
        yield x[i % 12 : i % 12 + 1] * (1 + i)
"""

EAGER = """
import sys
from fewbit.quantization import checkpoint
checkpoint.EVERY = 0.0  # seconds between two; nobody has read it yet
from fewbit.cli import main
sys.exit(main())
"""


@pytest.fixture
def place(tmp_path: Path, data: Path) -> Path:
    """A folder with slow data, and a folder `out` in it."""
    import numpy as np

    (tmp_path / "out").mkdir()
    (tmp_path / "slowly.py").write_text(SLOW)
    np.save(tmp_path / "x.npy", np.load(data)["x"])
    (tmp_path / "slow").touch()
    return tmp_path


def start(place: Path, *words: object, code: str | None = None) -> subprocess.Popen[str]:
    """Start a command in `place`."""
    head = ["-c", code] if code else ["-m", "fewbit"]
    return subprocess.Popen(
        [sys.executable, *head, *map(str, words)], cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def stop(place: Path, process: subprocess.Popen[str], number: int) -> tuple[str, str]:
    """Send a signal once data is being read, and wait for the end."""
    mark, limit = place / "well on the way", time.monotonic() + 60
    while not mark.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    return process.communicate(timeout=60)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize(
    ("verb", "number", "code", "word"),
    [("quantize", signal.SIGINT, 130, "interrupted"), ("calibrate", signal.SIGTERM, 143, "terminated")],
    ids=["ctrl-c", "sigterm"],
)
def test_a_signal_ends_the_work_and_leaves_nothing(
    place: Path, net: Path, verb: str, number: int, code: int, word: str
) -> None:
    process = start(place, verb, net, "-o", "out/q.onnx", "--data", "slowly:batches")
    out, err = stop(place, process, number)
    assert (process.returncode, out, err) == (code, "", f"{word}\n")
    assert names(place / "out") == []


def test_an_interrupted_calibration_goes_on_to_the_same_result(place: Path, net: Path) -> None:
    words = ["quantize", net, "--data", "slowly:batches", "--no-verify", "--quantize-mode", "full"]
    words += ["--calib-mode", "entropy"]
    process = start(place, *words, "-o", "out/q.onnx", "--resume", code=EAGER)
    _, err = stop(place, process, signal.SIGTERM)
    assert process.returncode == 143 and err.endswith("the same command goes on from there\nterminated\n")
    assert names(place / "out") == ["q.onnx.calib"]
    (place / "slow").unlink()
    for again in (["out/q.onnx", "--resume"], ["out/r.onnx"]):
        process = start(place, *words, "-o", *again)
        assert process.communicate(timeout=60)[1] == "" and process.returncode == 0
    assert names(place / "out") == ["q.onnx", "q.plan.json", "r.onnx", "r.plan.json"]
    resumed, whole = ((place / "out" / f"{n}.plan.json").read_text() for n in "qr")
    assert resumed == whole


@pytest.mark.parametrize(("number", "code", "word"), [(2, 130, "interrupted"), (15, 143, "terminated")])
@pytest.mark.parametrize("error", ["ImportError('in C')", "fewbit.errors.EngineError('in C')"])
def test_a_signal_counts_whatever_it_turns_into(number: int, code: int, word: str, error: str) -> None:
    """As compiled code does it that is stopped in its import."""
    script = f"""
import os, sys, fewbit.errors
from fewbit.cli import app, main
class Command:
    def main(self, **_):
        try:
            os.kill(os.getpid(), {number})
        except BaseException:
            raise {error}
app.command = Command
sys.exit(main(["x"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"{word}\n")
