"""Several instances and Ctrl-C: all of them end, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(word) for word in found.split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to see other processes")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
    ids=["ctrl-c", "sigterm"],
)
def test_instances_end_when_the_command_is_interrupted(
    net: Path, tmp_path: Path, number: int, code: int, word: str
) -> None:
    words = ["benchmark", str(net), "--instances", "1", "--min-time", "600", "--warmup", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fewbit", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)}, start_new_session=True,
    )  # fmt: skip
    limit, started = time.monotonic() + 60, list[int]()
    while not started and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
        started = children(process.pid)
    time.sleep(0.5)  # it may be loading, or running; neither must matter
    os.killpg(process.pid, number)  # as a terminal does: all of them hear it
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "") and err.strip() == word
    assert started and not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert [p for p in tmp_path.iterdir() if p.name.startswith("fewbit")] == []  # libraries may leave marks of theirs
