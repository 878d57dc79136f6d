"""Latency over float of integer networks made by fewbit and by the peers: two engines, batch 1 and 32, one thread.

python bench/latency.py [--peers PYTHON] [--rounds 20] [--networks resnet50_random,efficientnet_lite0]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import child, table, take_turns, write
from zoo.nets import NETWORKS

from fewbit import load
from fewbit.engines import open_runner
from fewbit.errors import FewbitError

PEERS = Path(__file__).with_name("peers.py")
TOOLS = {"fewbit": "fewbit-naive", "onnxruntime's quantizer": "ort-minmax", "nncf": "nncf"}
OWN = {("fewbit", "openvino"): "fewbit-openvino"}
"""fewbit makes files for an engine, the peers one for all."""
ENGINES = ("onnxruntime", "openvino")


def quantized(network: str, folder: str, python: str, samples: int) -> dict[str, str]:
    """Quantize one network with each tool; those that fail are told on stderr and left out."""
    model = str(NETWORKS[network].build())
    feeds = [f for f, _ in zip(NETWORKS[network].calib(), range(samples), strict=False)]
    data = f"{folder}/{network}.npy"
    np.save(data, np.concatenate([next(iter(f.values())) for f in feeds]))
    files = {"float": model}
    for name, tool in [*TOOLS.items(), *((f"{n}@{e}", tool) for (n, e), tool in OWN.items())]:
        out = f"{folder}/{network}-{tool}.onnx"
        answer = child(python if tool[0] in "on" else sys.executable, PEERS, tool, model, data, out, "--samples", "32")
        if "error" in answer:
            print(network, name, answer["error"], file=sys.stderr)
        else:
            files[name] = out
    return files


def measure(files: dict[str, str], engine: str, feeds: dict[str, Any], rounds: int) -> dict[str, float]:
    """Median seconds of each file on one engine."""
    runs = {}
    mine = {name: files.get(f"{name}@{engine}", file) for name, file in files.items() if "@" not in name}
    for name, file in mine.items():
        try:
            runner = open_runner(engine, load(file, allow_quantized=True), threads=1)
            runner.run(feeds)
            runs[name] = partial(runner.run, feeds)
        except FewbitError as e:
            print(engine, name, e, file=sys.stderr)
    return take_turns(runs, rounds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--networks", default="resnet50_random,efficientnet_lite0")
    args = parser.parse_args()
    data = {}
    with tempfile.TemporaryDirectory() as folder:
        for network in args.networks.split(","):
            files = quantized(network, folder, args.peers, 32)
            sample = next(iter(NETWORKS[network].calib()))
            for engine in ENGINES:
                for batch in (1, 32):
                    feeds = {k: np.repeat(v[:1], batch, axis=0) for k, v in sample.items()}
                    times = measure(files, engine, feeds, args.rounds if batch == 1 else max(5, args.rounds // 4))
                    ratios = {n: t / times["float"] for n, t in times.items()}
                    peers = [r for n, r in ratios.items() if n not in ("float", "fewbit")]
                    best = ratios["fewbit"] / min(peers) if peers and "fewbit" in ratios else None
                    data[f"{network}/{engine}/{batch}"] = {"seconds": times, "ratio": ratios, "against_best_peer": best}
                    print(network, engine, batch, ratios, best, file=sys.stderr, flush=True)
    write("latency", {"rows": data}, page(data))


def page(data: dict[str, Any]) -> str:
    """The result for people."""
    head = ["network", "engine", "batch", "float ms", *(f"{n} ÷ float" for n in TOOLS), "fewbit ÷ best peer"]
    rows = []
    for name, f in data.items():
        network, engine, batch = name.split("/")
        ratios = [f["ratio"].get(n) for n in TOOLS]
        rows.append([network, engine, int(batch), f["seconds"]["float"] * 1e3, *ratios, f["against_best_peer"]])
    return table(head, rows)


if __name__ == "__main__":
    main()
