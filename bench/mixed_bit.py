"""Mixed bit: MindSpore Lite's algorithm (twin) beside ours at the same size, and both at the same cosine.

    python bench/mixed_bit.py [--only NAME …] [--fit 32] [--judge 48]

Sizes are coded weights (entropy, tables, scales) and all that stays float. Ours is fitted to some samples; SQNR and
cosine are of others. For the plain ResNets, MindSpore Lite 2.0 is known to make 8.7 and 19.0 MB of 24.5 and 23.2 dB.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, table, write
from zoo.base import Feeds
from zoo.fetch import made
from zoo.nets import NETWORKS
from zoo.resnets import resnet
from zoo.vision import noise

import fewbit as fb
from fewbit.api.common import target_named
from fewbit.config import QuantConfig
from fewbit.core.metrics import ErrorSums
from fewbit.core.plan import Plan
from fewbit.data.base import Batch
from fewbit.engines import open_runner
from fewbit.graph.model import Model
from fewbit.quantization.mixed import auto_tuned, mixed_plan
from fewbit.quantization.mixed_output import output_plan
from fewbit.quantization.packed import coded_bits, weights_of, with_weights
from fewbit.quantization.weight_only import make_weight_plan

PEER = {"resnet18_plain": (8.7, 24.5), "resnet50_plain": (19.0, 23.2)}
SCALES = {"efficientnet_lite0": (0.02, 0.05)}
COSINE = ("efficientnet_lite0",)
NAMES = ("resnet18_plain", "resnet50_plain", "resnet18_centred", "resnet50_centred", "efficientnet_lite0")
HELD = 16
"""Samples of each stage of auto_tune."""


def network(name: str) -> tuple[Path, list[Feeds], list[Feeds]]:
    """File, samples to fit to, samples to judge on."""
    if name in NETWORKS:
        n = NETWORKS[name]
        return n.build(), list(n.calib()), [f for f, _ in n.judge()]
    depth, plain = int(name[6:8]), name.endswith("plain")
    path = made(f"{name}.onnx", partial(resnet, depth=depth, plain=plain))
    return path, list(noise(32, seed=0)), list(noise(16, seed=1))


def batches(feeds: Sequence[Feeds], size: int = 4) -> list[Batch]:
    """Feeds of one sample, a few together."""
    found = []
    for i in range(0, len(feeds), size):
        some = feeds[i : i + size]
        joined = {k: np.concatenate([f[k] for f in some]) for k in some[0]}
        found.append(Batch(joined, None, i // size, [str(i + j) for j in range(len(some))]))
    return found


def open_(model: Model) -> Any:
    return open_runner("onnxruntime", model, threads=2)


def judged(model: Model, held: Sequence[Batch]) -> Callable[[Plan], ErrorSums]:
    """What judges a plan by the worst output."""
    runner = open_(model)
    truth = [runner.run(b.feeds) for b in held]

    def judge(plan: Plan) -> ErrorSums:
        other = open_(with_weights(model, plan))
        sums = {name: ErrorSums() for name in truth[0]}
        for batch, t in zip(held, truth, strict=True):
            for name, x in other.run(batch.feeds).items():
                sums[name].update(t[name], x)
        return min(sums.values(), key=lambda s: s.cosine)

    return judge


def megabytes(model: Model, plan: Plan) -> float:
    rest = model.nbytes - sum(w.nbytes for w in weights_of(model, plan).values())
    return (rest + coded_bits(model, plan) / 8) / 1e6


def figures(model: Model, judge: Callable[[Plan], ErrorSums], make: Callable[[], Plan]) -> dict[str, float]:
    begin = time.perf_counter()
    plan = make()
    seconds = time.perf_counter() - begin
    sums = judge(plan)
    return {"mb": megabytes(model, plan), "sqnr": sums.sqnr_db, "cosine": sums.cosine, "seconds": seconds}


def measure(name: str, fit: int, judge_on: int) -> dict[str, Any]:
    """All about one network."""
    path, calib, held = network(name)
    model = fb.fuse(fb.load(path))
    data, judge = batches(list(islice(calib, fit))), judged(model, batches(held[:judge_on]))
    found: dict[str, Any] = {"float_mb": model.nbytes / 1e6, "scales": {}}
    for scale in SCALES.get(name, (0.02,)):
        config = QuantConfig(quant_type="weight", bit_num=0, init_scale=scale)
        plan = make_weight_plan(model, config, target_named("onnxruntime"))
        found["scales"][str(scale)] = {
            "twin": figures(model, judge, lambda p=plan, c=config: mixed_plan(model, p, c)),
            "ours": figures(model, judge, lambda p=plan, c=config: output_plan(model, p, c, data, open_)),
        }
    if name in COSINE:
        config = QuantConfig(quant_type="weight", bit_num=0, auto_tune=True)
        plan = make_weight_plan(model, config, target_named("onnxruntime"))
        tune = judged(model, data[: -(-HELD // 4)])
        found["auto_tune"] = {
            "twin": figures(model, judge, lambda: auto_tuned(model, plan, config, lambda p: tune(p).cosine)),
            "ours": figures(model, judge, lambda: output_plan(model, plan, config, data, open_)),
        }
    return found


def page(results: dict[str, Any]) -> str:
    """The text for people."""
    rows, tuned = [], []
    for name, found in results.items():
        for scale, both in found["scales"].items():
            peer = PEER.get(name, (None, None)) if scale == "0.02" else (None, None)
            t, o = both["twin"], both["ours"]
            sure = [x for x in (*peer, t["mb"], t["sqnr"], o["mb"], o["sqnr"], o["sqnr"] - t["sqnr"])]
            rows.append([name, found["float_mb"], scale, *sure, t["seconds"], o["seconds"]])
        if "auto_tune" in found:
            t, o = found["auto_tune"]["twin"], found["auto_tune"]["ours"]
            tuned.append(
                [name, found["float_mb"], t["mb"], t["cosine"], t["seconds"], o["mb"], o["cosine"], o["seconds"]]
            )
    head = ["network", "float MB", "init_scale", "MindSpore Lite MB", "dB", "twin MB", "dB", "ours MB", "dB", "gain dB"]
    both = ["network", "float MB", "twin MB", "cosine", "s", "ours MB", "cosine", "s"]
    return "\n\n".join(
        [
            "Output SQNR on samples that nothing was fitted to. MindSpore Lite's figures: its own random weights.",
            table([*head, "twin s", "ours s"], rows),
            "## auto_tune: the smallest network with a cosine of 0.995\n\nTuned on calibration samples, judged on "
            "others.",
            table(both, tuned),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--fit", type=int, default=32)
    parser.add_argument("--judge", type=int, default=48)
    args = parser.parse_args()
    before = RESULTS / "mixed_bit.json"
    held = json.loads(before.read_text("utf-8"))["networks"] if before.exists() else {}
    for name in args.only:
        held[name] = measure(name, args.fit, args.judge)
        print(name, held[name], file=sys.stderr, flush=True)
        results = {n: held[n] for n in NAMES if n in held}
        write("mixed_bit", {"networks": results}, page(results), show=name == args.only[-1])


if __name__ == "__main__":
    main()
