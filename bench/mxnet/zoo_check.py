"""Every classifier of MXNet's zoos: does it come in, and answer as in MXNet?

    python bench/mxnet/zoo_check.py --oracle PYTHON [--only NAME …] [--folder FOLDER]

`--oracle` names the interpreter of an environment with mxnet 1.9.1; `zoo_make.py` runs there, one network after the
other, and its files (up to 600 MB) are deleted after each. The network is run by ONNX Runtime with its optimizer off,
and with it on. Results are written after every network; with `--only`, the other rows stay.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from common import RESULTS, table, write  # noqa: E402

import fewbit as fb  # noqa: E402
from fewbit.graph.files import to_bytes  # noqa: E402

SIZES = ("0.25", "0.5", "0.75", "1.0")
NETWORKS = (
    "alexnet",
    *(f"densenet{n}" for n in (121, 161, 169, 201)),
    "inceptionv3",
    *(f"mobilenet{s}" for s in SIZES),
    *(f"mobilenetv2_{s}" for s in SIZES),
    *(f"resnet{n}_v{v}" for v in (1, 2) for n in (18, 34, 50, 101, 152)),
    "squeezenet1.0",
    "squeezenet1.1",
    *(f"vgg{n}{bn}" for n in (11, 13, 16, 19) for bn in ("", "_bn")),
    "inception-bn",
    "resnet-152",
)
BAR = 1e-3
NAME = "mxnet_zoo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oracle", required=True, help="interpreter of an environment with mxnet 1.9.1")
    parser.add_argument("--only", nargs="*", default=NETWORKS, choices=NETWORKS, metavar="NAME")
    parser.add_argument("--folder", help="for temporary files; default: the system's")
    args = parser.parse_args()
    kept = RESULTS / f"{NAME}.json"
    rows: dict[str, Any] = json.loads(kept.read_text("utf-8"))["networks"] if kept.exists() else {}
    for name in args.only:
        rows[name] = one(args.oracle, name, args.folder)
        print(name, rows[name], flush=True)
        ordered = {n: rows[n] for n in NETWORKS if n in rows}
        write(NAME, {"bar": BAR, "networks": ordered}, page(ordered), show=False)


def one(oracle: str, name: str, parent: str | None) -> dict[str, Any]:
    """Make a network, check it, delete it."""
    with tempfile.TemporaryDirectory(prefix="zoo-", dir=parent) as folder:
        made = subprocess.run(
            [oracle, str(HERE / "zoo_make.py"), name, folder], capture_output=True, text=True, check=False
        )
        if made.returncode:
            return {"error": (made.stderr.strip().splitlines() or ["no message"])[-1][:200]}
        try:
            return checked(Path(folder))
        except fb.FewbitError as e:
            return {"error": str(e)[:300]}


def checked(folder: Path) -> dict[str, Any]:
    """Import and compare."""
    start = time.perf_counter()
    model = fb.load(folder / "net-symbol.json")
    seconds = time.perf_counter() - start
    with np.load(folder / "net.npz") as file:
        data, outs = file["data"], {k: file[k] for k in file.files if k != "data"}
    found = {
        "nodes": len(model.nodes),
        "parameters": sum(int(np.prod(v.shape)) for v in model.graph.initializers.values()),
        "import_seconds": round(seconds, 2),
        **differences(model, data, outs["out"], outs["exact"]),
    }
    if "logits" in outs:
        logits = fb.load(folder / "logits-symbol.json", params=folder / "net-0000.params")
        more = differences(logits, data, outs["logits"], outs["logits_exact"])
        found |= {f"logits_{k}": v for k, v in more.items()}
    return found


def differences(model: Any, data: np.ndarray, wanted: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Largest absolute differences to MXNet's output, and of both to its output in double precision."""
    proto = to_bytes(model)
    levels = {"off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL, "on": ort.GraphOptimizationLevel.ORT_ENABLE_ALL}
    found = {"mean_output": float(np.abs(wanted).mean()), "rounding_mxnet": float(np.abs(wanted - exact).max())}
    for key, level in levels.items():
        options = ort.SessionOptions()
        options.graph_optimization_level, options.log_severity_level = level, 3
        session = ort.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {"data": data})
        found[f"difference_{key}"] = float(np.abs(got - wanted).max())
        found[f"rounding_{key}"] = float(np.abs(got - exact).max())
    return found


def page(rows: dict[str, Any]) -> str:
    """The result as a page."""
    cells = []
    for name, row in rows.items():
        if "error" in row:
            cells.append([name, *(None,) * 9, row["error"]])
            continue
        worst = max(v for k, v in row.items() if "difference" in k)
        cells.append([
            name, row["nodes"], row["parameters"] / 1e6, row["import_seconds"], row["mean_output"],
            f"{row['difference_off']:.1e}", f"{row['difference_on']:.1e}",
            f"{row['rounding_off']:.1e}", f"{row['rounding_mxnet']:.1e}",
            f"{row['logits_difference_off']:.1e}" if "logits_difference_off" in row else None,
            "yes" if worst <= BAR else "NO",
        ])  # fmt: skip
    head = ["network", "nodes", "million weights", "import s", "mean abs output", "largest difference, optimizer off",
            "on", "to double precision", "MXNet's own to that", "in front of softmax", f"≤ {BAR:g}"]  # fmt: skip
    passed = sum(1 for c in cells if c[-1] == "yes")
    first = (
        "Random weights, real statistics of batch normalization, two images; largest absolute difference to the output "
        "of MXNet 1.9.1, and of both to MXNet in double precision.\n\n"
        f"{passed} of {len(rows)} networks within {BAR:g}.\n\n"
    )
    return first + table(head, cells)


if __name__ == "__main__":
    main()
