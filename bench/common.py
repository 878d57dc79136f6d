"""What the bench scripts share: the machine in words, child processes, timing in turns, result files."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("fewbit", "onnxruntime", "openvino", "onnx", "onnx-ir", "numpy", "numba", "nncf", "torch")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16")


def machine() -> dict[str, Any]:
    """Processor, its integer instructions, cores, and the versions of what is compared."""
    info = Path("/proc/cpuinfo")
    text = info.read_text("utf-8") if info.exists() else ""
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "")
    words = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    return {
        "cpu": model or platform.processor(),
        "flags": [f for f in FLAGS if f in words],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "versions": {p: v for p in PACKAGES if (v := installed(p))},
    }


def installed(package: str) -> str:
    """Version of a package, empty if it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def child(python: str, script: Path, *args: str, timeout: float = 1200, threads: int = 2) -> dict[str, Any]:
    """Run a script in a process of its own; it prints one JSON line last. A failure comes back as {"error": …}."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    try:
        found = subprocess.run(
            [python, str(script), *args], capture_output=True, text=True, timeout=timeout, env=env, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {timeout:.0f} s"}
    lines = [line for line in found.stdout.splitlines() if line.startswith("{")]
    if found.returncode or not lines:
        last = (found.stderr.strip() or found.stdout.strip()).splitlines()[-1:]
        return {"error": last[0][:200] if last else f"exit code {found.returncode}"}
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def take_turns(runs: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3) -> dict[str, float]:
    """Median seconds of each, timed in turns so that drift of the machine hits all alike."""
    return {name: median(t) for name, t in turns(runs, rounds, warmup).items()}


def turns(
    runs: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 3, slice_: float = 0.0
) -> dict[str, list[float]]:
    """Seconds a run, one number for each round; a turn takes `slice_` seconds or one run, whichever is longer."""
    repeat = {name: _runs_in(run, slice_, warmup) for name, run in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for _ in range(repeat[name]):
                run()
            times[name].append((time.perf_counter() - start) / repeat[name])
    return times


def _runs_in(run: Callable[[], object], slice_: float, warmup: int) -> int:
    """How many runs a slice takes, after the warm-up."""
    took = 0.0
    for _ in range(max(1, warmup)):
        start = time.perf_counter()
        run()
        took = time.perf_counter() - start
    return max(1, round(slice_ / took))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell(c) for c in row) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: object) -> str:
    """Numbers short, nothing as a dash."""
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value)


def write(name: str, data: Mapping[str, Any], text: str, *, show: bool = True) -> None:
    """Keep a result: `<name>.json` for machines, `<name>.md` for people, both with the machine on top."""
    RESULTS.mkdir(exist_ok=True)
    here = machine()
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": here, **data}, indent=1) + "\n", "utf-8")
    (RESULTS / f"{name}.md").write_text(f"# {name}\n\n{head(here)}\n\n{text}\n", "utf-8")
    if show:
        print(text)


def head(machine: Mapping[str, Any]) -> str:
    """Machine, versions and date in one line."""
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags'])}; {versions}; {machine['date']}"
