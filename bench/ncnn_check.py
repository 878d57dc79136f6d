"""ncnn: does its runtime compute what was simulated, what do integers cost, and what 6 bits for Winograd.

    python bench/ncnn_check.py [--only demo mobilenet0.25 resnet20 efficientnet_lite0]

Networks are quantized as by default, or with another calib_mode, for both targets: `ncnn` (6 bits where ncnn computes
by Winograd) and `ncnn-8bit`. `same` is the share of images for which ncnn's int8 network names the class that the
simulation names; `plain`: the same without packed kernels, whose depthwise layers multiply by reciprocals of 12 bits on
x86; `float`: the class that the float network names. Times are ncnn's, float and int8 in turns, one image, one thread;
"direct" is without Winograd.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, table, take_turns, write

import fewbit as fb
from fewbit.core.metrics import sqnr_db
from fewbit.engines import engine_version, open_runner
from fewbit.engines.ncnn.integer import NO_WINOGRAD, is_integer
from fewbit.engines.ncnn.runtime import load
from fewbit.engines.ncnn.weights import FUSED
from fewbit.graph.model import Model

TARGETS = ("ncnn", "ncnn-8bit")
PRETRAINED = ("mobilenet0.25", "resnet20")
MODES = {"efficientnet_lite0": ("naive", "mse")}
IMAGES, CALIBRATION = 1000, 320
ROUNDS = 15
BARS = {"same": 0.995, "float": 0.9}


@dataclass(frozen=True)
class Case:
    """A network with data: to calibrate on, to judge on, and the labels of some of these."""

    model: Model
    calib: np.ndarray[Any, Any]
    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]


def pretrained(name: str) -> Case:
    """A network trained on Fashion-MNIST, as bench/qat.py trains it."""
    from qat import DATASET, recipe

    from fewbit.data.datasets import open_dataset
    from fewbit.torch.pretrained import find

    net = find(name, DATASET, recipe=recipe(name, 0)).net.eval()
    train, test = (open_dataset(DATASET, split=s) for s in ("train", "test"))
    calib = train.subset(limit=CALIBRATION, seed=0)
    some = calib.normalized(slice(0, CALIBRATION))
    return Case(_exported(net, some[:2]), some, test.normalized(slice(0, IMAGES)), np.asarray(test.labels[:IMAGES]))


def _exported(net: Any, sample: Any) -> Model:
    import tempfile

    import torch

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder) / "net.onnx"
        batch = {0: torch.export.Dim("batch")}
        torch.onnx.export(
            net, (torch.from_numpy(sample),), str(file), dynamo=True, external_data=False, input_names=["image"],
            output_names=["logits"], dynamic_shapes=(batch,), verbose=False,
        )  # fmt: skip
        return fb.load(file)


def zoo(name: str) -> Case:
    from zoo.nets import NETWORKS

    network = NETWORKS[name]
    judged = list(network.judge())
    first = next(iter(judged[0][0]))
    return Case(
        fb.load(network.build()),
        np.concatenate([f[first] for f in network.calib()]),
        np.concatenate([f[first] for f, _ in judged])[:IMAGES],
        np.array([-1 if label is None else label for _, label in judged])[:IMAGES],
    )


def measure(name: str) -> Iterator[dict[str, Any]]:
    """Both targets."""
    case = pretrained(name) if name in PRETRAINED else zoo(name)
    x, out = case.model.inputs[0].name, case.model.outputs[0].name
    small = 1 if isinstance(case.model.inputs[0].shape[0], int) else 32
    truth = answers(open_runner("onnxruntime", case.model), x, out, case.images, small)
    for target, mode in product(TARGETS, MODES.get(name, ("naive",))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fb.FewbitWarning)
            q = fb.quantize(case.model, {x: case.calib}, target=target, calib_mode=mode, batch_size=small, verify=False)
        simulated = answers(open_runner("onnxruntime", q, literal=True), x, out, case.images, small)
        runner: Any = open_runner("ncnn", q)
        plain = answers(open_runner("ncnn", q, optimize=False), x, out, case.images, small)
        found = answers(runner, x, out, case.images, small)
        net, known = runner.net, case.labels >= 0
        integer = [layer for layer in net.layers if is_integer(layer)]
        feeds, blobs = {net.inputs[x]: case.images[0]}, list(net.outputs.values())
        ways = {
            "float": load(net.float_layers, net.float_weights), "int8": load(net.layers, net.weights),
            "int8 direct": load(net.layers, net.weights, winograd=False),
        }  # fmt: skip
        seconds = take_turns({k: partial(r.run, feeds, blobs) for k, r in ways.items()}, ROUNDS)
        yield {
            "network": name, "target": target, "calib_mode": mode, "images": len(found),
            "same": same(found, simulated), "plain": same(plain, simulated),
            "float": same(found, truth), "simulated_float": same(simulated, truth),
            "top1": {
                k: float((v.argmax(1) == case.labels)[known].mean())
                for k, v in {"float": truth, "simulated": simulated, "ncnn": found}.items()
            } if known.any() else {},
            "labelled": int(known.sum()),
            "sqnr": sqnr_db(truth, found), "sqnr_simulated": sqnr_db(simulated, found),
            "layers": len(integer), "hand_on": sum(i.int(8) > FUSED for i in integer),
            "six_bits": sum(v.spec.bits == 6 for v in q.plan.values.values()),
            "direct": sum(i.int(31) == NO_WINOGRAD for i in integer), "notes": list(net.notes),
            "ms": {k: 1000 * v for k, v in seconds.items()},
        }  # fmt: skip


def answers(runner: Any, x: str, out: str, images: Any, step: int) -> Any:
    return np.concatenate([runner.run({x: images[i : i + step]})[out] for i in range(0, len(images), step)])


def same(a: Any, b: Any) -> float:
    return float((a.argmax(1) == b.argmax(1)).mean())


def text(rows: list[dict[str, Any]]) -> str:
    head = "network|target|calib_mode|int8 layers|6 bits|no Winograd|same %|plain %|float %|top-1 % float|ncnn|SQNR dB|"
    head += "to simulation|ms float|int8|direct"
    lines = []
    for r in rows:
        shares = [r["same"], r["plain"], r["float"], r["top1"]["float"], r["top1"]["ncnn"]]
        times = [r["ms"][k] for k in ("float", "int8", "int8 direct")]
        line = [r[k] for k in ("network", "target", "calib_mode", "layers", "six_bits", "direct")]
        line += [f"{100 * s:.1f}" for s in shares]
        lines.append([*line, f"{r['sqnr']:.1f}", f"{r['sqnr_simulated']:.1f}", *(f"{t:.2f}" for t in times)])
    bars = [
        f"{r['network']}, {r['target']}, {r['calib_mode']}: {word} {100 * r[word]:.1f} %, bar {100 * least:.1f} %: "
        + ("met" if r[word] >= least else "MISSED")
        for r in rows
        for word, least in BARS.items()
        if (word == "float") == (r["network"] == "efficientnet_lite0")
    ]
    versions = f"{engine_version('ncnn')}, pnnx {version('pnnx')}. Other work ran on the machine: times are rough."
    images = ", ".join(dict.fromkeys(f"{r['network']} {r['images']} ({r['labelled']} labelled)" for r in rows))
    notes = [n for r in rows for n in r["notes"]]
    doc = "\n".join((__doc__ or "").splitlines()[4:]).strip()
    return "\n\n".join(
        [
            doc,
            f"{versions} Images: {images}.",
            table(head.split("|"), lines),
            "\n".join(f"- {b}" for b in (*bars, *notes)),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="ncnn against simulation and float")
    parser.add_argument("--only", nargs="*", default=["demo", *PRETRAINED, "efficientnet_lite0"])
    given = parser.parse_args()
    file = RESULTS / "ncnn.json"
    kept = json.loads(file.read_text("utf-8"))["rows"] if file.exists() else []
    rows = [r for r in kept if r["network"] not in given.only]
    for name in given.only:
        for row in measure(name):
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    write("ncnn", {"bars": BARS, "rows": rows}, text(rows))


if __name__ == "__main__":
    main()
