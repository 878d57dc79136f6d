"""Accuracy at effort fast, default and best, network by network, against the quantizers of the peers.

    python bench/accuracy.py [--peers PYTHON] [--aimet PYTHON] [--only NAME …] [--tools TOOL …] [--skip-slow]

Every tool calibrates on the same feeds in a process of its own; `judge.py` runs the files in ONNX Runtime on others.
EfficientNet-Lite0 is taken further: without any float layer (`fewbit-full-*`), its error split into that of weights and
of activations, with 4-bit weights (`*-w4-*`, the demo network too), and by a budget (`fewbit-agreement`).
`--peers` and `--aimet` name interpreters of environments that have nncf and aimet-onnx. Results are written after every
network; what is not in `--only` and `--tools` keeps the results that it has, if they are of as many samples.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from accuracy_page import page, sqnr
from common import RESULTS, write
from inside import split
from networks import JUDGE, PEERS, hand_over, limited, verdicts
from zoo.fetch import Unavailable
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.core.plan import Plan
from fewbit.data.base import Batch
from fewbit.engines import open_runner
from fewbit.search.macs import counted_macs, integer_share

NAMES = (
    "efficientnet_lite0",
    "rapidocr_rec",
    "rapidocr_det",
    "minilm",
    "silero_vad_half",
    "silero_vad_16k_sequence",
    "magika",
    "basic_pitch",
    "demo",
)
EFFORTS = ("fast", "default", "best")
TOOLS = (
    *(f"fewbit-{e}" for e in EFFORTS),
    "ort-minmax",
    "ort-percentile",
    "nncf",
    "nncf-full",
    "nncf-transformer",
    "aimet",
    "aimet-enhanced",
    "aimet-cle",
)
MORE = {
    "efficientnet_lite0": (
        *(f"fewbit-full-{e}" for e in EFFORTS),
        *(f"fewbit-w4-{e}" for e in EFFORTS),
        "fewbit-agreement",
        "aimet-w4",
    ),
    "demo": (*(f"fewbit-w4-{e}" for e in EFFORTS), "aimet-w4", "aimet-w4-adaround"),
}
SLOW = ("ort-percentile", "nncf-full", "aimet-enhanced", "aimet-w4-adaround")
SPLIT = tuple(f"fewbit-full-{e}" for e in EFFORTS)
WARM_UP = 8
"""Samples of the runs that only fill the cache of compiled code."""


def wanted(name: str, args: argparse.Namespace) -> list[str]:
    """Tools for one network."""
    tools = [t for t in (*TOOLS, *MORE.get(name, ())) if t in args.tools]
    return [t for t in tools if not (args.skip_slow and t in SLOW)]


def interpreter(tool: str, args: argparse.Namespace) -> str:
    """The environment that a tool lives in."""
    if tool.startswith("fewbit"):
        return sys.executable
    return str(args.aimet if tool.startswith("aimet") else args.peers)


def warm_up(tools: Iterable[str], folder: Path) -> None:
    """Compiled code into its cache: it is not to be part of the wall times."""
    demo = NETWORKS["demo"]
    hand_over(islice(demo.calib(), WARM_UP), folder / "warm.npz")
    for tool in tools:
        words = (tool, str(demo.build()), str(folder / "warm.npz"), str(folder / "warm.onnx"))
        limited(sys.executable, PEERS, *words, "--samples", str(WARM_UP))


def quantized(name: str, model: Path, folder: Path, tools: Iterable[str], args: argparse.Namespace) -> dict[str, Any]:
    """Run the tools; `NAME-TOOL.onnx` in the folder and what each took, or its error."""
    data, found = folder / f"{name}.npz", {}
    hand_over(islice(NETWORKS[name].calib(), args.calib), data)
    for tool in tools:
        out = folder / f"{name}-{tool}.onnx"
        words = (tool, str(model), str(data), str(out), "--samples", str(args.calib))
        told = limited(interpreter(tool, args), PEERS, *words)
        if "error" not in told:
            told["size"] = out.stat().st_size / model.stat().st_size
        print(name, tool, told, file=sys.stderr, flush=True)
        found[tool] = told
    return found


def measure(name: str, folder: Path, tools: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """All about one network: of the float one, and of what each tool made of it."""
    network = NETWORKS[name]
    try:
        model = network.build()
        told = quantized(name, model, folder, tools, args)
    except Unavailable as e:
        return {"note": network.note, "error": str(e), "tools": {}}
    files = {t: folder / f"{name}-{t}.onnx" for t in tools if "error" not in told[t]}
    limits = ("--samples", str(args.samples), "--rounds", str(args.rounds))
    pairs = [f"{t}={f}" for t, f in {"float": model, **files}.items()]
    judged = limited(sys.executable, JUDGE, name, "onnxruntime", *pairs, *limits)
    if isinstance(judged.get("error"), str):
        return {"note": network.note, "error": f"judge.py: {judged['error']}", "tools": told}
    sample = Batch(dict(next(iter(network.calib()))), None, 0, ["first"])
    work = counted_macs(fb.fuse(fb.load(model)), sample, partial(open_runner, "onnxruntime"))
    for tool, file in files.items():
        told[tool] |= judged[tool]
        if tool.startswith("fewbit"):
            plan = file.with_suffix(".plan.json")
            told[tool] |= verdicts(plan) | {"macs": 100 * integer_share(Plan.load(plan), work)}
        if tool in SPLIT:
            told[tool]["split"] = split(model, plan, [f for f, _ in islice(network.judge(), args.samples)])
    return {"note": network.note, "bytes": model.stat().st_size, "float": judged["float"], "tools": told}


def merged(before: dict[str, Any], now: dict[str, Any], order: Iterable[str]) -> dict[str, Any]:
    """New results over old ones of as many samples, tools in order; figures of other samples cannot stand beside."""
    alike = all(before.get(k) == now[k] for k in ("calib", "samples"))
    tools = (before.get("tools", {}) if alike else {}) | now["tools"]
    return {**now, "tools": {t: tools[t] for t in order if t in tools}}


def main() -> None:
    every = tuple(dict.fromkeys((*TOOLS, *(t for more in MORE.values() for t in more))))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--aimet", default=sys.executable)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--tools", nargs="+", choices=every, default=every)
    parser.add_argument("--skip-slow", action="store_true", help=f"leave out {', '.join(SLOW)}")
    parser.add_argument("--calib", type=int, default=100)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    before = RESULTS / "accuracy.json"
    held = json.loads(before.read_text("utf-8"))["networks"] if before.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        warm_up([t for t in TOOLS[: len(EFFORTS)] if t in args.tools], Path(folder))
    for name in args.only:
        start, tools = time.perf_counter(), wanted(name, args)
        with tempfile.TemporaryDirectory() as folder:
            now = measure(name, Path(folder), tools, args) | {"calib": args.calib, "samples": args.samples}
        held[name] = merged(held.get(name, {}), now, (*TOOLS, *MORE.get(name, ())))
        figures = {t: sqnr(held[name], t) for t in tools}
        print(name, f"{time.perf_counter() - start:.0f} s", figures, file=sys.stderr, flush=True)
        results = {n: held[n] for n in NAMES if n in held}
        write("accuracy", {"networks": results}, page(results), show=False)


if __name__ == "__main__":
    main()
