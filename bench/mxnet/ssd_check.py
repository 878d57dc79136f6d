"""SSD300 on VGG16, random weights: is what fewbit imports what MXNet computes, and what becomes integer.

    oracle/bin/python tests/golden/mxnet/make/ssd_vgg16.py FOLDER       (see there)
    python bench/mxnet/ssd_check.py FOLDER                              writes results/mxnet_ssd.json and .md

Detections are compared as rows, in MXNet's own order, and as sets: is there, for each of MXNet's that is not
suppressed, one of ours of the same class whose score and corners differ by less than TOLERANCE. In 8 bits: one that
overlaps by a half. Scores of random weights lie close together, so that is less than a trained network keeps; what
goes into the last layer, which stays float, is compared by SQNR.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import take_turns, write

import fewbit as fb
from fewbit.core.detection import overlaps
from fewbit.core.metrics import sqnr_db
from fewbit.engines import open_runner
from fewbit.graph.model import Model

Array = NDArray[Any]
TOLERANCE = 1e-3
PARTS = {
    "cls_prob": "cls_prob_output",
    "loc": "multibox_loc_pred_output",
    "anchors": "multibox_anchors_output",
    "detection": "detection_output",
}


def found_again(theirs: Array, ours: Array, exact: bool = True) -> tuple[int, int]:
    """How many detections (rows with an id) there are, and how many of them are in both."""
    total = both = 0
    for a, b in zip(theirs, ours, strict=True):
        a, b = a[a[:, 0] >= 0], b[b[:, 0] >= 0]
        if exact:
            near = (np.abs(a[:, None] - b[None]) < TOLERANCE).all(-1)
        else:
            near = (a[:, None, 0] == b[None, :, 0]) & (overlaps(a[:, 2:], b[:, 2:]) >= 0.5)
        total += len(a)
        both += int(near.any(1).sum())
    return total, both


def network(folder: Path) -> Model:
    """The network, with the values that its last layer reads as outputs."""
    symbol, params = folder / "ssd300_parts-symbol.json", folder / "ssd300-0000.params"
    return fb.load(symbol, params=params, input_shapes={"data": (None, 3, 300, 300)})


def compared(folder: Path) -> dict[str, Any]:
    """Largest differences to MXNet's outputs, and how detections agree."""
    model = network(folder)
    with np.load(folder / "ssd300.npz") as file:
        wanted = dict(file)
    found = open_runner("onnxruntime", model, threads=2).run({"data": wanted["data"]})
    answer: dict[str, Any] = {}
    for name, output in PARTS.items():
        assert found[output].shape == wanted[name].shape, name
        difference = np.abs(found[output] - wanted[name])
        answer[name] = float((difference[:, :400] if name == "detection" else difference).max())  # nms_topk is 400
    total, both = found_again(wanted["detection"], found["detection_output"])
    ids = np.array_equal(found["detection_output"][..., 0] >= 0, wanted["detection"][..., 0] >= 0)
    return answer | {"detections": total, "found again": both, "same rows kept": bool(ids)}


def quantized(folder: Path) -> dict[str, Any]:
    """What runs in integers after quantizing with eight synthetic images."""
    model = network(folder)
    with np.load(folder / "ssd300.npz") as file:
        theirs = dict(file)
    data = theirs["data"]
    rng = np.random.default_rng(1)
    more = [
        np.float32(np.roll(data, s, (2, 3)) * rng.uniform(0.8, 1.0)) for s in ((0, 0), (60, 20), (20, 140), (200, 80))
    ]
    answer: dict[str, Any] = {}
    begin = time.perf_counter()
    runners = {"float": open_runner("onnxruntime", model, threads=1)}
    for mode in ("smart", "full"):
        q = fb.quantize(model, np.concatenate(more), quantize_mode=mode, effort="fast", batch_size=2)
        runners[mode] = open_runner("onnxruntime", q, threads=1)
        runs = runners[mode].executed()
        tail = [x for x in runs if x.node.startswith("detection")]
        convs = Counter(x.integer for x in runs if x.op.rpartition(".")[2] in ("QLinearConv", "Conv", "FusedConv"))
        found = runners[mode].run({"data": data})
        total, both = found_again(theirs["detection"], found["detection_output"], exact=False)
        answer[mode] = {
            "integer convolutions": convs[True],
            "float convolutions": [x.node for x in runs if x.op.rpartition(".")[2] == "Conv"],
            "heads in integers": sum("pred_conv" in x.node and x.op.endswith("QLinearConv") for x in runs),
            "tail in integers": sorted({x.op for x in tail if x.integer}),
            "tail in float": sorted({x.op for x in tail if not x.integer}),
            "planned in the tail": [n for n, p in q.plan.nodes.items() if n.startswith("detection") and p.quantized],
            "SQNR dB": {k: round(sqnr_db(theirs[k], found[PARTS[k]]), 1) for k in ("cls_prob", "loc")},
            "detections found again": f"{both} of {total}",
            "finite": all(bool(np.isfinite(x).all()) for x in found.values()),
        }
    answer["seconds"] = round(time.perf_counter() - begin, 1)
    image = {"data": data[:1]}
    times = take_turns({k: (lambda r=r: r.run(image)) for k, r in runners.items()}, rounds=5, warmup=1)
    answer["ms"] = {k: round(t * 1000, 1) for k, t in times.items()}
    return answer


def page(same: dict[str, Any], ints: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = ["SSD300 on VGG16, random weights, two images; made by `bench/mxnet/ssd_check.py`.", ""]
    lines += ["| against MXNet 1.9.1 | largest difference |", "|---|---|"]
    lines += [f"| {k} | {same[k]:.2g} |" for k in PARTS]
    lines += ["", f"Detections found again: {same['found again']} of {same['detections']}.", ""]
    lines += ["| 8 bits on ONNX Runtime, one thread | smart | full |", "|---|---|---|"]
    for key in ("integer convolutions", "heads in integers", "tail in integers", "SQNR dB", "detections found again"):
        lines.append(f"| {key} | " + " | ".join(_cell(ints[m][key]) for m in ("smart", "full")) + " |")
    ms = ints["ms"]
    return "\n".join([*lines, f"| ms an image (float: {ms['float']}) | {ms['smart']} | {ms['full']} |"])


def _cell(x: Any) -> str:
    if isinstance(x, dict):
        return ", ".join(f"{k} {v}" for k, v in x.items())
    return ", ".join(x) or "none" if isinstance(x, list) else str(x)


def main() -> None:
    """Check, print, write."""
    parser = argparse.ArgumentParser(description="SSD300: import and 8 bits")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    same = compared(folder)
    print(json.dumps(same, indent=2), flush=True)
    ints = quantized(folder)
    write("mxnet_ssd", {"float": same, "int8": ints}, page(same, ints))


if __name__ == "__main__":
    main()
