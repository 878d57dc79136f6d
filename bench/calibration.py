"""Calibration: wall time over the float forward, and peak memory at 100 and 400 samples, against the peers, in one run.

    python bench/calibration.py [--peers PYTHON] [--rounds 3] [--skip-ort-entropy]

ResNet-50 with random weights (bench/zoo), 1×3×224×224 normal random images, 2 threads. Every measurement is a process
of its own; rounds are interleaved; medians. `--peers` names the interpreter of an environment that has nncf.
ONNX Runtime's entropy mode keeps every value of every sample: about 12 GB.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import child, table, write
from zoo.nets import NETWORKS

PEERS = Path(__file__).with_name("peers.py")
TOOLS = ("float", "fewbit-naive", "fewbit-entropy", "ort-minmax", "ort-entropy", "nncf")


def kl_milliseconds() -> float:
    """Median time of one KL search over an 8001-bin histogram of normal data."""
    from fewbit.core.threshold import entropy_threshold

    x = np.random.default_rng(0).standard_normal(1_000_000)
    top = float(np.abs(x).max())
    hist, edges = np.histogram(x, 8001, (-top, top))
    times = []
    for _ in range(21):
        start = time.perf_counter()
        entropy_threshold(hist, edges, 255)
        times.append(time.perf_counter() - start)
    return median(times) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip-ort-entropy", action="store_true")
    args = parser.parse_args()
    model = str(NETWORKS["resnet50_random"].build())
    tools = [t for t in TOOLS if not (t == "ort-entropy" and args.skip_ort_entropy)]
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/images.npy"
        np.save(data, np.random.default_rng(0).standard_normal((400, 3, 224, 224), dtype=np.float32))
        for tool in ("fewbit-naive", "fewbit-entropy"):  # compiled code into its cache
            child(sys.executable, PEERS, tool, model, data, f"{folder}/out.onnx", "--samples", "2")
        found: dict[str, list[dict[str, Any]]] = {t: [] for t in tools}
        for n in range(args.rounds):
            for tool in tools:
                if tool == "ort-entropy" and n:
                    continue  # once is enough of 12 GB
                python = sys.executable if tool.startswith(("fewbit", "float")) else args.peers
                found[tool].append(child(python, PEERS, tool, model, data, f"{folder}/out.onnx"))
                print(n, tool, found[tool][-1], file=sys.stderr, flush=True)
        long = {
            tool: child(sys.executable, PEERS, tool, model, data, f"{folder}/out.onnx", "--samples", "400")
            for tool in ("fewbit-naive", "fewbit-entropy")
        }
    forward = median(f["seconds"] for f in found["float"])
    data_out: dict[str, Any] = {}
    for tool in tools:
        good = [f for f in found[tool] if "seconds" in f]
        if not good:
            data_out[tool] = {"error": found[tool][0]["error"]}
            continue
        seconds, rss = median(f["seconds"] for f in good), median(f["rss_mib"] for f in good)
        more = long.get(tool, {}).get("rss_mib")
        data_out[tool] = {"seconds": seconds, "ratio": seconds / forward, "rss_mib": rss, "rss_mib_400": more}
    kl = kl_milliseconds()
    write("calibration", {"tools": data_out, "kl_ms": kl, "rounds": args.rounds}, page(data_out, kl))


def page(tools: dict[str, Any], kl: float) -> str:
    """The result for people."""
    rows: list[list[Any]] = []
    for tool, f in tools.items():
        if "error" in f:
            rows.append([tool, f["error"], None, None, None])
            continue
        more = f["rss_mib_400"]
        growth = f"{(more / f['rss_mib'] - 1) * 100:+.1f} %" if more else None
        rows.append([tool, f["seconds"], f["ratio"], f["rss_mib"], growth])
    text = table(["tool", "wall s", "÷ float forward", "peak RSS MiB", "growth 100 → 400 samples"], rows)
    return f"{text}\n\nKL search of one 8001-bin histogram: {kl:.2f} ms."


if __name__ == "__main__":
    main()
