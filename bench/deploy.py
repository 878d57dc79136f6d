"""Every target × some networks: size, speed, agreement of what `fewbit deploy` writes with float and simulation.

    python bench/deploy.py [--only NAME …] [--targets NAME …] [--judge 200] [--rounds 30] [--quick]

Each network is quantized for the target (defaults, 100 samples), deployed – which runs the folder's own checks – and
compared: the engine's answers with those of the float network, and with Q and DQ as they stand. Latency is integer ÷
float in the same engine, one thread, batch 1, in turns, median and quartiles. TensorRT does not run here: its form is
run in ONNX Runtime for the numbers, and has no time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, table, write
from zoo.base import Network, top1
from zoo.fetch import Unavailable, made
from zoo.nets import NETWORKS
from zoo.vision import demo_calib, demo_judge

import fewbit as fb
from fewbit.core.metrics import sqnr_db
from fewbit.core.timing import Ratio, clock_for, in_turns, ratio, runs_in_a_slice
from fewbit.deployment import DEPLOYERS
from fewbit.engines import open_runner
from fewbit.errors import FewbitError, FewbitWarning

CALIB, EPOCHS = 100, 15
NOT_TIMED = {"tensorrt": "onnxruntime"}
"""Targets that do not run here → the engine whose numbers stand in."""

DATA_FILES = (".npy", ".npz", ".json", ".md", ".py", ".txt", ".cpp", ".hpp", ".table")
"""Files of a folder that are not the network."""


def mobilenet(path: Path) -> None:
    """MobileNetV2 for 28 x 28 images, trained for some seconds on what the demo's network says to 320."""
    import torch
    from torch.nn.functional import cross_entropy

    from fewbit.data.demo import DEMO_MODEL, demo_calibration
    from fewbit.torch.nets import build
    from fewbit.torch.onnx import module_to_onnx

    torch.manual_seed(0)
    net = build("mobilenetv2_1.0", 10, 1)
    images = demo_calibration()["image"]
    x, teacher = torch.from_numpy(images), open_runner("onnxruntime", fb.load(DEMO_MODEL))
    y = torch.from_numpy(teacher.run({"image": images})["logits"].argmax(1))
    steps = torch.optim.Adam(net.parameters(), 2e-3)
    net.train()
    for _ in range(EPOCHS):
        for part in torch.randperm(len(x)).split(32):
            steps.zero_grad()
            cross_entropy(net(x[part]), y[part]).backward()
            steps.step()
    module_to_onnx(net.eval(), (x[:2],)).save(path)


def mobilenet_feeds(feeds: Iterator[Any]) -> Iterator[Any]:
    """Those of the demo, under the name of the network's own input."""
    name = fb.load(made("mobilenetv2_quick.onnx", mobilenet)).inputs[0].name
    return ({name: next(iter(f.values()))} for f in feeds)


MOBILENET = Network(
    "mobilenetv2_quick",
    build=lambda: made("mobilenetv2_quick.onnx", mobilenet),
    calib=lambda: mobilenet_feeds(demo_calib()),
    judge=lambda: zip(mobilenet_feeds(f for f, _ in demo_judge()), (y for _, y in demo_judge()), strict=True),
    metric=top1(""),
    note="MobileNetV2 for 28 x 28, trained for some seconds on 320 images of Fashion-MNIST",
)

CHOSEN = {n.name: n for n in (NETWORKS["demo"], NETWORKS["resnet50_random"], MOBILENET, NETWORKS["efficientnet_lite0"])}


def runs_on(target: str) -> str:
    """The engine that runs a target's network here."""
    return NOT_TIMED.get(target, target)


def measure(network: Network, target: str, folder: Path, judge: int, rounds: int) -> dict[str, Any]:
    """One network on one target."""
    model = fb.load(network.build())
    feeds = list(islice(network.calib(), CALIB))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)
        q = fb.quantize(model, feeds, target=target, verify=False)
        done = fb.deploy(q, target, folder / f"{network.name}-{target}", data=feeds[:8])
    size = sum(n for f, n in done.sizes.items() if not f.endswith(DATA_FILES))
    judged = list(islice((f for f, _ in network.judge()), judge))
    runners = {name: open_runner(runs_on(target), m, threads=1) for name, m in (("float", model), ("int8", q))}
    answers = {name: [first(r.run(f)) for f in judged] for name, r in runners.items()}
    literal = open_runner("onnxruntime", q, literal=True)
    answers["simulation"] = [first(literal.run(f)) for f in judged]
    found: dict[str, Any] = {
        "bytes": size, "bytes_float": network.build().stat().st_size, "samples": len(judged),
        "checks": done.checks, "notes": done.notes,
        "integer": sum(n.quantized for n in q.plan.nodes.values()), "layers": len(q.plan.nodes),
    }  # fmt: skip
    for other in ("float", "simulation"):
        pairs = list(zip(answers["int8"], answers[other], strict=True))
        found[f"agreement_{other}"] = float(np.mean([a.argmax() == b.argmax() for a, b in pairs]))
        found[f"sqnr_{other}"] = sqnr_db(np.stack(answers["int8"]), np.stack(answers[other]))
    if target not in NOT_TIMED:
        found |= timed([partial(runners[n].run, feeds[0]) for n in ("int8", "float")], rounds)
    return found


def first(outputs: Any) -> Any:
    """The first output of one sample."""
    return np.asarray(next(iter(outputs.values()))).reshape(-1)


def timed(runs: list[Any], rounds: int) -> dict[str, Any]:
    """Integer ÷ float, in turns."""
    clock = clock_for(1)
    count = runs_in_a_slice(runs, clock)
    ours, theirs = in_turns(runs, count, rounds, clock)
    r: Ratio = ratio(ours, theirs)
    return {"ms": 1e3 * float(np.median(ours)), "ms_float": 1e3 * float(np.median(theirs)),
            "ratio": r.mid, "low": r.low, "high": r.high}  # fmt: skip


def page(results: dict[str, Any]) -> str:
    """The text for people."""
    rows, failed = [], []
    for name, targets in results.items():
        for target, f in targets.items():
            if "error" in f:
                failed.append(f"* {name}, {target}: {f['error']}")
                continue
            span = f"{f['ratio']:.2f} ({f['low']:.2f}–{f['high']:.2f})" if "ratio" in f else "–"
            rows.append([
                name, target, f"{f['integer']} of {f['layers']}", f"{f['bytes'] / f['bytes_float']:.3f}",
                f.get("ms_float"), f.get("ms"), span, f"{f['agreement_float']:.1%}", f"{f['sqnr_float']:.1f}",
                f"{f['agreement_simulation']:.1%}", f"{f['sqnr_simulation']:.1f}", f["samples"],
            ])  # fmt: skip
    head = [
        "network", "target", "integer layers", "size ÷ float", "float ms", "int8 ms", "int8 ÷ float",
        "same top-1 as float", "dB", "same top-1 as the simulation", "dB", "samples",
    ]  # fmt: skip
    notes = "\n".join(f"* {n}: {CHOSEN[n].note}" for n in results if n in CHOSEN)
    return "\n\n".join([
        "Size: files of the network. Latency: the same engine, one thread, batch 1, in turns. Simulation: Q and DQ as "
        "they stand, all else in float32. tensorrt: its form, run in ONNX Runtime.",
        table(head, rows), notes, "## What failed\n\n" + ("\n".join(failed) or "Nothing."),
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=list(CHOSEN), default=list(CHOSEN))
    parser.add_argument("--targets", nargs="*", choices=list(DEPLOYERS), default=list(DEPLOYERS))
    parser.add_argument("--judge", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="the demo alone, few samples, nothing written")
    args = parser.parse_args()
    names, judge, rounds = (["demo"], 20, 2) if args.quick else (args.only, args.judge, args.rounds)
    results: dict[str, Any] = {}
    if not args.quick and (RESULTS / "deploy.json").exists() and args.only != list(CHOSEN):
        results = json.loads((RESULTS / "deploy.json").read_text("utf-8"))["networks"]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for target in args.targets:
                try:
                    with contextlib.redirect_stdout(sys.stderr):
                        found = measure(CHOSEN[name], target, Path(folder), judge, rounds)
                except (FewbitError, Unavailable) as e:
                    found = {"error": str(e)}
                results.setdefault(name, {})[target] = found
                print(name, target, {k: v for k, v in found.items() if k not in ("checks", "notes")}, file=sys.stderr)
                if not args.quick:
                    write("deploy", {"networks": results}, page(results), show=False)
    print(page(results))


if __name__ == "__main__":
    main()
