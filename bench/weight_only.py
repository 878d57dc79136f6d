"""Weights in 8 to 2 bits, everything computed in float: what is lost, and what the corrections win back.

    python bench/weight_only.py [--only NAME …] [--bits N …] [--calib 40] [--samples 120] [--best]

Of each network: channels and groups of 128 and 32; nearest integers as they are (`MAX_MIN` without bias correction),
what is done without data, the default effort, and with `--best` effort best. Judged by the float network with the
numbers that the packed integers stand for, which is what engines compute with after load. Effective bits count scales,
zero points and offsets. Results are written after every network; rows that are not asked for stay.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from itertools import islice
from typing import Any

import numpy as np
from common import RESULTS, table, write
from judge import told
from zoo.fetch import Unavailable
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.core.plan import Plan
from fewbit.engines import open_runner
from fewbit.graph.emit import stored_weight, weight_params_of
from fewbit.graph.model import Model
from fewbit.quantization.correct_weights import in_float
from fewbit.quantization.packed import weights_of

NAMES = ("minilm", "efficientnet_lite0", "rapidocr_rec", "demo")
BITS = (8, 6, 5, 4, 3, 2)
GRAINS: dict[str, dict[str, Any]] = {"channel": {}, "group 128": {"group_size": 128}, "group 32": {"group_size": 32}}
"""What shares a scale → words of the config."""

STRATEGIES: dict[str, dict[str, Any]] = {
    "nearest": {"quant_strategy": "MAX_MIN", "bias_correction": False},
    "no data": {},
    "default": {},
    "best": {"effort": "best"},
}
HALF, WHOLE = 16, 32
"""Bits of a number that float16 holds, and of any other."""


def effective_bits(model: Model, plan: Plan) -> float:
    """Bits a weight takes, with all that belongs to it."""
    bits = count = 0
    for key, w in weights_of(model, plan).items():
        value, params = plan.values[key], weight_params_of(plan, key, w)
        stored = stored_weight(plan, key, w)
        zero = 8 if params.zero_point.any() else 0
        bits += w.size * value.spec.bits + params.scale.size * zero + room(stored.step)
        bits += room(stored.offset) if stored.offset is not None else 0
        count += w.size
    return bits / max(count, 1)


def room(numbers: Any) -> int:
    """Bits that scales or offsets take: half precision if that holds them all."""
    short = np.array_equal(numbers.astype(np.float16).astype(np.float32), numbers)
    return int(numbers.size) * (HALF if short else WHOLE)


def outputs(model: Model, feeds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a network answers."""
    runner = open_runner("onnxruntime", model)
    return [dict(runner.run(f)) for f in feeds]


def row(fused: Model, strategy: str, words: dict[str, Any], batches: list[Any], told_of: Any) -> dict[str, Any]:
    """One plan: made, corrected, judged."""
    start = time.perf_counter()
    plan = fb.make_plan(fused, quant_type="weight", **words)
    if strategy != "nearest":
        plan, _ = fb.correct(fused, plan, None if strategy == "no data" else batches)
    seconds = time.perf_counter() - start
    return told_of(in_float(fused, plan)) | {"bits": effective_bits(fused, plan), "seconds": seconds}


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """All rows of one network: `BITS, GRAIN, STRATEGY` → figures."""
    network = NETWORKS[name]
    try:
        fused = fb.fuse(fb.load(network.build()))
        calib = [dict(f) for f in islice(network.calib(), args.calib)]
        given = list(islice(network.judge(), args.samples))
    except Unavailable as e:
        return {"note": network.note, "error": str(e)}
    feeds, labels = [f for f, _ in given], [y for _, y in given]
    truth = outputs(fused, feeds)

    def judged(model: Model) -> dict[str, Any]:
        return told(network, {"float": truth, "packed": outputs(model, feeds)}, labels)["packed"]

    found = {}
    for bits in args.bits:
        for grain, shape in GRAINS.items():
            if grain != "channel" and name not in args.groups:
                continue
            for strategy, more in STRATEGIES.items():
                if strategy == "best" and not args.best:
                    continue
                words = {"bit_num": bits, **shape, **more}
                found[f"{bits}, {grain}, {strategy}"] = row(fused, strategy, words, calib, judged)
                print(name, bits, grain, strategy, found[f"{bits}, {grain}, {strategy}"], file=sys.stderr, flush=True)
    task = network.metric(truth, labels) if network.metric else {}
    return {"note": network.note, "task": task, "rows": found}


def agreement(figures: dict[str, Any]) -> float | None:
    """Same class in percent, or another figure of agreement."""
    return figures.get("agreement", next(iter(figures.get("versus", {}).values()), None))


def lines(found: dict[str, Any]) -> list[list[Any]]:
    """Rows of a table: bits and grain, then SQNR, cosine and agreement by strategy."""
    names = dict.fromkeys(key.rsplit(", ", 1)[0] for key in found["rows"])
    out = []
    for head in names:
        line: list[Any] = [head]
        for strategy in STRATEGIES:
            figures = found["rows"].get(f"{head}, {strategy}", {})
            line += [
                figures.get("bits"),
                figures.get("sqnr"),
                round4(figures.get("cosine")),
                round4(agreement(figures)),
            ]
        out.append([*line, found["rows"].get(f"{head}, default", {}).get("seconds")])
    return out


def round4(figure: float | None) -> str | None:
    """Four digits behind the point, which three would round to 1."""
    return None if figure is None else f"{figure:.4f}" if abs(figure) <= 1 else f"{figure:.1f}"


def page(results: dict[str, Any]) -> str:
    """The text for people."""
    head = ["bits, scale"]
    for strategy in STRATEGIES:
        head += [f"{strategy}: bits", "SQNR dB", "cosine", "agreement"]
    parts = []
    for name, found in results.items():
        parts.append(f"## {name}\n\n{found['note']}")
        parts.append(found["error"] if "error" in found else table([*head, "default s"], lines(found)))
    how = "Agreement: same class in percent; for minilm the correlation of all similarities of sentences."
    return "\n\n".join([how, *parts])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--groups", nargs="*", choices=NAMES, default=["minilm"], help="networks with groups, too")
    parser.add_argument("--bits", nargs="+", type=int, choices=BITS, default=BITS)
    parser.add_argument("--calib", type=int, default=40)
    parser.add_argument("--samples", type=int, default=120)
    parser.add_argument("--best", action="store_true")
    args = parser.parse_args()
    before = RESULTS / "weight_only.json"
    held = json.loads(before.read_text("utf-8"))["networks"] if before.exists() else {}
    for name in args.only:
        now = measure(name, args)
        now["rows"] = {**held.get(name, {}).get("rows", {}), **now.get("rows", {})}
        held[name] = now
        results = {n: held[n] for n in NAMES if n in held}
        write("weight_only", {"networks": results}, page(results), show=False)


if __name__ == "__main__":
    main()
