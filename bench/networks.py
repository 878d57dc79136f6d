"""Every network of the zoo: does it become integer, does that run in both engines, what is lost, what is gained.

    python bench/networks.py [--peers PYTHON] [--only NAME …] [--calib 100] [--samples 200] [--rounds 20]

fewbit (naive, smart, target onnxruntime), ONNX Runtime's quantizer (MinMax, QDQ, u8 × s8 per channel) and NNCF
calibrate on the same feeds, each in a process of its own; `judge.py` then runs their files in ONNX Runtime and in
OpenVINO. `--peers` names the interpreter of an environment that has nncf. Results are written after every network; with
`--only`, the others keep the results that they have.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, cell, child, table, write
from zoo.fetch import Unavailable
from zoo.nets import NETWORKS, UNAVAILABLE

PEERS, JUDGE = Path(__file__).with_name("peers.py"), Path(__file__).with_name("judge.py")
TOOLS = {"fewbit": "fewbit-naive", "ort": "ort-minmax", "nncf": "nncf"}
ENGINES = ("onnxruntime", "openvino")
LIMIT = 600
"""Seconds for one process."""

REASONS = 4
"""Reasons for float layers that the text names, most frequent first."""


def limited(python: str, script: Path, *args: str) -> dict[str, Any]:
    """Run a process; one that takes too long is an error too."""
    try:
        return child(python, script, *args, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {LIMIT} s"}


def hand_over(feeds: Iterable[dict[str, Any]], path: Path) -> int:
    """Write feeds in the form that peers.py reads; samples may differ in shape."""
    held = {f"{i}/{name}": x for i, f in enumerate(feeds) for name, x in f.items()}
    np.savez(path, **held)
    return len({key.split("/")[0] for key in held})


def verdicts(plan: Path) -> dict[str, Any]:
    """How many layers became integer, and why the others did not, quoted names left out."""
    nodes = json.loads(plan.read_text("utf-8"))["nodes"].values()
    kept = Counter(re.sub(r"'[^']*'", "'…'", n["reason"]) for n in nodes if not n["quantized"])
    return {"layers": len(nodes), "integer": sum(n["quantized"] for n in nodes), "kept": dict(kept.most_common())}


def measure(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All about one network."""
    network = NETWORKS[name]
    try:
        model = network.build()
        data = folder / f"{name}.npz"
        hand_over(islice(network.calib(), args.calib), data)
    except Unavailable as e:
        return {"note": network.note, "error": str(e)}
    size = model.stat().st_size
    found: dict[str, Any] = {"note": network.note, "bytes": size, "tools": {}, "engines": {}}
    files = {"float": model}
    for tool, word in TOOLS.items():
        out = folder / f"{name}-{tool}.onnx"
        python = sys.executable if tool == "fewbit" else args.peers
        told = limited(python, PEERS, word, str(model), str(data), str(out), "--samples", str(args.calib))
        if "error" not in told:
            files[tool] = out
            told["size"] = out.stat().st_size / size
        found["tools"][tool] = told
    if "fewbit" in files:
        found["tools"]["fewbit"] |= verdicts(files["fewbit"].with_suffix(".plan.json"))
    words = [f"{tool}={file}" for tool, file in files.items()]
    for engine in ENGINES:
        limits = ("--samples", str(args.samples), "--rounds", str(args.rounds))
        found["engines"][engine] = limited(sys.executable, JUDGE, name, engine, *words, *limits)
    return found


def at(found: dict[str, Any], *path: str) -> Any:
    """A figure, or None where it was not measured."""
    for word in path:
        found = found.get(word, {}) if isinstance(found, dict) else {}
    return None if found == {} else found


def tasks(found: dict[str, Any], tool: str) -> str:
    """Figures of the task, float → integer, then those of their agreement."""
    ours, theirs = (at(found, "engines", "onnxruntime", t, "task") or {} for t in ("float", tool))
    parts = [f"{word} {cell(ours[word])} → {cell(theirs.get(word))}" for word in ours]
    agreement = at(found, "engines", "onnxruntime", tool, "agreement")
    parts += [f"same class {cell(agreement)} %"] if agreement is not None else []
    versus = at(found, "engines", "onnxruntime", tool, "versus") or {}
    return "; ".join(parts + [f"{word} {cell(x)}" for word, x in versus.items()])


def ours(found: dict[str, Any]) -> list[Any]:
    """What became of the network with fewbit."""
    tool = found.get("tools", {}).get("fewbit", {})
    row = [f"{tool['integer']} of {tool['layers']}" if "layers" in tool else "error", tool.get("size")]
    for engine in ENGINES:
        here = at(found, "engines", engine, "fewbit") or {}
        row += [here.get("ratio"), here.get("sqnr"), here.get("cosine")]
    return [*row, tasks(found, "fewbit")]


def peers(found: dict[str, Any]) -> list[Any]:
    """fewbit beside the peers, in ONNX Runtime."""
    row = []
    for tool in TOOLS:
        here = at(found, "engines", "onnxruntime", tool) or {}
        row += [at(found, "tools", tool, "seconds"), here.get("ratio"), here.get("sqnr"), here.get("cosine")]
    return row


def troubles(name: str, found: dict[str, Any]) -> list[str]:
    """Everything that failed, one line each."""
    lines = [f"* {name}: {found['error']}"] if "error" in found else []
    for tool, told in found.get("tools", {}).items():
        lines += [f"* {name}, {tool}: {told['error']}"] if "error" in told else []
    for engine, told in found.get("engines", {}).items():
        lines += [f"* {name} in {engine}: {told['error']}"] if "error" in told else []
        for tool, here in told.items():
            if isinstance(here, dict) and "error" in here:
                lines.append(f"* {name} by {tool} in {engine}: {here['error']}")
    return lines


def kept(name: str, found: dict[str, Any]) -> str:
    """Why layers stay float, most frequent reasons first."""
    reasons = at(found, "tools", "fewbit", "kept") or {}
    text = "; ".join(f"{n}× {reason}" for reason, n in islice(reasons.items(), REASONS))
    return f"* {name}: {text}{'; …' if len(reasons) > REASONS else ''}" if reasons else ""


def page(results: dict[str, Any]) -> str:
    """The text for people."""
    head = ["network", "integer layers", "size ÷ float"]
    head += [f"{engine}: {word}" for engine in ("ORT", "OpenVINO") for word in ("latency ÷ float", "SQNR dB", "cosine")]
    beside = [f"{tool}: {word}" for tool in TOOLS for word in ("s", "latency ÷ float", "SQNR dB", "cosine")]
    parts = [
        "Batch 1, one thread, in turns. SQNR and cosine: the worst output, against float on the same engine, on "
        "samples that were not calibrated on; OpenVINO's float layers run in its default precision. `–`: not measured, "
        "see the last section; SQNR `–` with cosine 1: no difference.",
        table([*head, "task, in ORT"], [[n, *ours(f)] for n, f in results.items()]),
        "## Beside the peers, in ONNX Runtime\n\nSeconds are for quantizing, without verification.",
        table(["network", *beside], [[n, *peers(f)] for n, f in results.items()]),
        "## Layers that fewbit keeps float\n\n" + "\n".join(filter(None, (kept(n, f) for n, f in results.items()))),
        "## Networks\n\n" + "\n".join(f"* {n}: {f['note']}" for n, f in results.items() if f["note"]),
        "Not here: " + "; ".join(f"{n} ({why})" for n, why in UNAVAILABLE.items()) + ".",
        "## What failed\n\n" + ("\n".join(line for n, f in results.items() for line in troubles(n, f)) or "Nothing."),
    ]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--calib", type=int, default=100)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    before = RESULTS / "networks.json"
    held = json.loads(before.read_text("utf-8"))["networks"] if before.exists() else {}
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            held[name] = measure(name, Path(folder), args)
        print(name, *ours(held[name]), *troubles(name, held[name]), file=sys.stderr, flush=True)
        results = {n: held[n] for n in NETWORKS if n in held}
        with contextlib.redirect_stdout(io.StringIO()):  # the text would come after every network
            write("networks", {"networks": results}, page(results))


if __name__ == "__main__":
    main()
