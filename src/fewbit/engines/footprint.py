"""What a model file costs a process that has the engine and nothing of fewbit: seconds to load, memory at its highest.

    parent ── file, feeds ──▶ python: import the engine │ load │ run twice   ── seconds, MiB ──▶

Memory is counted from where the process stood with the engine imported. A process of its own for each file, since what
was once allocated is not given back.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.core.runner import Feeds
from fewbit.engines.base import engine_of
from fewbit.errors import EngineError, UsageError

CHILD = """
import json, resource, sys, time
import numpy as np
engine, path, feeds = sys.argv[1:4]
def highest():
    try:  # what getrusage says begins with what the parent had
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**10
    except OSError:
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
feeds = dict(np.load(feeds))
if engine == "openvino":
    import openvino
    core = openvino.Core()
    start, before = time.perf_counter(), highest()
    network = core.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": 1})
    run = lambda: network(feeds)
else:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    start, before = time.perf_counter(), highest()
    network = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    run = lambda: network.run(None, feeds)
seconds, load = time.perf_counter() - start, highest()
run(), run()
print(json.dumps([seconds, load - before, highest() - before]))
"""

PATIENCE = 600.0
"""Seconds that loading and running may take."""


@dataclass(frozen=True)
class Footprint:
    """One file in one process.

    Args:
        load_s: seconds to load it. load_mib: memory at its highest while loading. peak_mib: while running as well.
    """

    load_s: float
    load_mib: float
    peak_mib: float


def footprint(engine: str, path: Path, feeds: Feeds) -> Footprint:
    """Load and run a model file in a process of its own, on one thread.

    Args:
        engine: "onnxruntime", "openvino", or a target whose name starts with one.
        path: an `.onnx` file. feeds: what to run it on.

    Raises:
        EngineError: the process failed; with what it said last.
        UsageError: this system does not tell how much memory a process used.
    """
    if sys.platform == "win32":
        raise UsageError("the memory of a process cannot be measured on Windows; everything else can")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "feeds.npz"
        arrays: dict[str, Any] = {k: np.asarray(v) for k, v in feeds.items()}
        np.savez(file, **arrays)
        words = [sys.executable, "-I", "-c", CHILD, engine_of(engine), str(path), str(file)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            raise EngineError(f"loading and running {path.name} took more than {PATIENCE:g} seconds") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        raise EngineError(f"{engine_of(engine)} in a process of its own, {path.name}: {said[-1]}")
    return Footprint(*json.loads(done.stdout.strip().splitlines()[-1]))
