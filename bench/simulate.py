"""What so many bits cost without retraining, and whether the known orderings hold here.

    python bench/simulate.py [--only mobilenet0.25 …] [--seeds 0 1 2] [--num-sample 50] [--threads 2]

The whole grid, 8 to 3 bits × layer or channel × naive or kl ranges × BatchNorm beside or merged, on the 10,000 test
images of Fashion-MNIST; ranges of unsigned inputs measured beforehand, the first convolution float. Float networks are
trained once and kept in $FEWBIT_CACHE.

KNOWN  (a) kl ranges beat naive ones at 6 and 5 bits, and lose at 4 and 3
       (b) merging BatchNorm ruins MobileNet with one scale a layer, not with one a channel
       (c) 8 bits with one scale a channel lose next to nothing
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median
from typing import Any

import torch
from common import RESULTS, table, write

import fewbit as fb
from fewbit.api.sweeping import sweep
from fewbit.config.train import TrainConfig
from fewbit.data.datasets import open_dataset
from fewbit.report.sweep import Sweep, SweepRow
from fewbit.report.sweep_plot import can_plot, save_plot
from fewbit.torch.pretrained import cache, find

DATASET = "fashion-mnist"
EPOCHS = {"resnet8": 5, "resnet20": 8, "mobilenet0.25": 6}
"""Of the float networks."""
IMAGES = 10_000
DROP = 0.001
"""Most that 8 bits may lose, one scale a channel."""
MERGED = (False, True)
KINDS = ("layer", "channel")
BITS = (8, 6, 5, 4, 3)

Cell = tuple[int, str, str, bool]
Grid = dict[Cell, SweepRow]


def say(what: str, done: int, of: int) -> None:
    print(f"{what}: {done} of {of}", file=sys.stderr, flush=True)


def swept(name: str, seed: int, per_class: int, threads: int) -> tuple[Sweep, dict[str, Any]]:
    """The grid of one float network, and its ranges."""
    known = find(name, DATASET, recipe=TrainConfig(epochs=EPOCHS[name], amp=True, seed=seed), progress=say)
    words = {"num_sample": per_class, "fixed_random_seed": 7 + seed, "threads": threads}
    store = cache() / f"sweep-{name}-{seed}-{per_class}.part"  # an interrupted sweep goes on
    found = sweep(known.net, None, None, dataset=DATASET, store=store, say=say, **words)
    return replace(found, network=f"{name}, seed {seed}"), ranges(known.net, words)


def ranges(net: torch.nn.Module, words: Mapping[str, Any]) -> dict[str, Any]:
    """What kl and naive keep of each layer's input, as shares of its largest value, and which values that cuts off."""
    found: dict[str, Any] = {"largest": largest(net, words)}
    for mode, bits in (("naive", 8), *(("kl", b) for b in BITS)):
        told = fb.simulate(
            net, dataset=DATASET, limit=10, quantize_input_offline=True, calib_mode=mode, input_bits_width=bits,
            weight_bits_width=8, **words,
        )  # fmt: skip
        found["naive" if mode == "naive" else f"kl{bits}"] = dict(told.ranges)
    return found


def largest(net: torch.nn.Module, words: Mapping[str, Any]) -> dict[str, float]:
    """The largest magnitude that each layer reads of the calibration images."""
    part = open_dataset(DATASET, split="train").subset(per_class=words["num_sample"], seed=words["fixed_random_seed"])
    top: dict[str, float] = {}

    def look(name: str) -> Any:
        return lambda module, given: top.__setitem__(name, max(top.get(name, 0.0), float(given[0].abs().max())))

    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    hooks = [m.register_forward_pre_hook(look(n)) for n, m in net.named_modules() if isinstance(m, kinds)]
    with torch.inference_mode():
        net.eval()(torch.from_numpy(part.normalized()))
    for hook in hooks:
        hook.remove()
    return top


def grid(found: Mapping[str, Any]) -> Grid:
    """Rows of a sweep by bits, kind, ranges and whether BatchNorm is merged."""
    rows = [SweepRow(**r) for r in found["rows"]]
    return {(r.bits, r.quant_type, r.ranges, r.merge_bn): r for r in rows}


def variance(r: SweepRow) -> float:
    """Of the drop: the same images before and after, so only flips count."""
    assert r.fixed is not None and r.broken is not None and r.drop is not None
    return ((r.fixed + r.broken) / IMAGES - r.drop**2) / IMAGES


def gain(grids: Sequence[Grid], a: Cell, b: Cell) -> tuple[float, float]:
    """How many points of top-1 setting a has over b, and at most what standard error.

    Each is paired with float on the same images; what errors they have in common besides would make it smaller. With
    several seeds: of the mean.
    """
    gains = [100 * ((g[a].top1 or 0) - (g[b].top1 or 0)) for g in grids]
    images = math.sqrt(sum(variance(g[a]) + variance(g[b]) for g in grids)) * 100 / len(grids)
    return fmean(gains), images


def sign(value: float, error: float) -> str:
    """Which way, if it is more than two standard errors."""
    return "equal" if abs(value) <= 2 * error else "better" if value > 0 else "worse"


def by_network(results: Mapping[str, Any]) -> Iterator[tuple[str, list[Grid]]]:
    """Networks with the grids of their seeds."""
    for name in EPOCHS:
        some = [grid(r["sweep"]) for k, r in results.items() if k.split("/")[0] == name]
        if some:
            yield name, some


def kl_rows(results: Mapping[str, Any]) -> list[list[Any]]:
    """(a): what kl gains over naive."""
    rows = []
    for name, grids in by_network(results):
        for merged in MERGED:
            for kind in KINDS:
                told = [gain(grids, (b, kind, "kl", merged), (b, kind, "naive", merged)) for b in BITS]
                signs = ["better" if b in (6, 5) else "worse" for b in BITS[1:]]
                hits = sum(sign(*t) == s for t, s in zip(told[1:], signs, strict=True))
                against = sum({sign(*t), s} == {"better", "worse"} for t, s in zip(told[1:], signs, strict=True))
                where = "merged" if merged else "beside"
                rows.append([name, kind, where, *(f"{v:+.2f} ± {e:.2f}" for v, e in told), hits, against])
    return rows


def merge_rows(results: Mapping[str, Any]) -> list[list[Any]]:
    """(b): what merging BatchNorm changes."""
    rows = []
    for name, grids in by_network(results):
        for kind in KINDS:
            told = [gain(grids, (b, kind, "naive", True), (b, kind, "naive", False)) for b in BITS]
            rows.append([name, kind, *(f"{v:+.2f} ± {e:.2f}" for v, e in told)])
    return rows


def eight_rows(results: Mapping[str, Any]) -> list[list[Any]]:
    """(c): what 8 bits lose."""
    rows = []
    for name, grids in by_network(results):
        for mode in ("naive", "kl"):
            for merged in MERGED:
                cells = [g[8, "channel", mode, merged] for g in grids]
                drop = fmean(r.drop or 0 for r in cells)
                error = math.sqrt(sum(map(variance, cells))) / len(cells)
                each = ", ".join(f"{100 * (r.drop or 0):.2f}" for r in cells)
                verdict = "reached" if drop <= DROP else "missed"
                rows.append(
                    [
                        name,
                        mode,
                        "merged" if merged else "beside",
                        f"{100 * drop:.3f} ± {100 * error:.3f}",
                        each,
                        verdict,
                    ]
                )
    return rows


def range_rows(results: Mapping[str, Any]) -> list[list[Any]]:
    """What ranges keep of the largest value: median and least over layers."""
    rows = []
    for key, found in results.items():
        top = found["ranges"]["largest"]
        row: list[Any] = [key]
        for word in ("naive", *(f"kl{b}" for b in BITS)):
            kept = [x / top[n] for n, x in found["ranges"][word].items() if top.get(n)]
            row.append(f"{median(kept):.2f} ({min(kept):.2f})")
        rows.append(row)
    return rows


def top1_rows(grids: Sequence[Grid]) -> list[list[Any]]:
    """The grid of a network, mean over seeds."""
    ways = [(k, m, g) for g in MERGED for k in KINDS for m in ("naive", "kl")]
    return [
        [kind, mode, "merged" if merged else "beside"]
        + [f"{100 * fmean(g[b, kind, mode, merged].top1 or 0 for g in grids):.2f}" for b in BITS]
        for kind, mode, merged in ways
    ]


def page(results: Mapping[str, Any]) -> str:
    """The text for people."""
    bits = [f"{b} bits" for b in BITS]
    parts = [
        "Top-1 in % on 10,000 test images, inputs (unsigned) and weights with the same bits, ranges measured on "
        f"{next(iter(results.values()))['num_sample']} training images a class, no retraining. ±: standard error, "
        "paired on the same images; mean over seeds."
    ]
    for name, grids in by_network(results):
        tops = [f"{100 * r['sweep']['top1']:.2f}" for k, r in results.items() if k.split("/")[0] == name]
        parts.append(f"## {name}: float {', '.join(tops)}\n\n![{name}](simulate_{name}.svg)")
        parts.append(table(["weights", "ranges", "BatchNorm", *bits], top1_rows(grids)))
    parts.append("## (a) kl over naive, points\n\nKnown: better at 6 and 5 bits, worse at 4 and 3. As known, against: "
                 "of these four, more than two standard errors that way, and the other way.")  # fmt: skip
    parts.append(table(["network", "weights", "BatchNorm", *bits, "as known", "against"], kl_rows(results)))
    parts.append("### What ranges keep of the largest value that a layer reads: median over layers (least)")
    parts.append(table(["network/seed", "naive", *(f"kl, {b}" for b in bits)], range_rows(results)))
    parts.append("## (b) Merging BatchNorm, naive ranges: points of top-1 gained\n\nKnown, MobileNet at 8 bits on "
                 "ImageNet: 73.28 to 15…33 with one scale a layer, to 72.0…72.7 with one a channel.")  # fmt: skip
    parts.append(table(["network", "weights", *bits], merge_rows(results)))
    parts.append(f"## (c) 8 bits, one scale a channel: points lost, bar {100 * DROP:.1f}")
    parts.append(table(["network", "ranges", "BatchNorm", "lost", "each seed", "bar"], eight_rows(results)))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=list(EPOCHS), default=list(EPOCHS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--num-sample", type=int, default=50, help="calibration images of each class")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.only:
        for seed in args.seeds:
            found, kept = swept(name, seed, args.num_sample, args.threads)
            if can_plot() and seed == min(args.seeds):
                save_plot(found, RESULTS / f"simulate_{name}.svg")
            path = RESULTS / "simulate.json"  # read now: another process may have added to it
            held = json.loads(path.read_text("utf-8"))["results"] if path.exists() else {}
            held[f"{name}/{seed}"] = {"sweep": found.to_json(), "ranges": kept, "num_sample": args.num_sample}
            write("simulate", {"results": dict(sorted(held.items()))}, page(held), show=False)
    print(page(held))


if __name__ == "__main__":
    main()
