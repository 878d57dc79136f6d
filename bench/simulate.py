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
import copy
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean, median
from typing import Any

import torch
from common import RESULTS, table, write

import fewbit as fb
from fewbit.api.sweeping import sweep
from fewbit.config.train import TrainConfig
from fewbit.data.datasets import open_dataset
from fewbit.report.pictures import can_plot
from fewbit.report.sweep import Sweep, SweepRow
from fewbit.report.sweep_plot import save_plot
from fewbit.torch.merging import merge_bn
from fewbit.torch.pretrained import cache, find

DATASET = "fashion-mnist"
EPOCHS = {"resnet8": 5, "resnet20": 8, "mobilenet0.25": 6}
"""Of the float networks."""
IMAGES = 10_000
DROP = 0.001
"""Most that 8 bits may lose, one scale a channel."""
MERGED = (False, True)
WHERE = ("beside", "merged")
KINDS = ("layer", "channel")
BITS = (8, 6, 5, 4, 3)

KL_WHY = """In 10 bins: how much of what the layer reads, zeros left out, lies in the ten fullest of 2048 bins.

The first runs had the search as published, with no limit to what it cuts off, and MobileNet with kl answered by
chance at 5 and 4 bits. Why: P has what is cut off in its last bin, so cutting costs next to nothing where that
bin holds most of Q as well. Background of one colour gives such bins. Of what `blocks.0.0.conv` reads, bin 19 of
2048 holds 5.9 %, those below it 2.8 %; at 4 bits i = 20 has KL 0.58, i = 976 has 0.67 and keeps 99.4 % of the
values where the other keeps 9. At 5 bits it is bin 56 of `blocks.0.2.conv` (0.90 against 1.32). At 8 bits i = 256,
where there are as many levels as bins, kept 68 % of it, and 90 % in a layer of resnet8: the 0.69 and 3.40 points
that were lost. The floor of 1e-7 has no part in it.

Since then at most 1 % of the values are cut off; where there are no such bins the search keeps more by itself, and
thresholds are those of before. On 2,000 images, one scale a channel, kl before, with the limit, and naive:

| | 8 bits | 6 bits | 5 bits | 4 bits | 3 bits |
|---|---|---|---|---|---|
| resnet8 | 86.9, 89.8, 89.7 | 89.9, 89.9, 89.4 | 89.8, 89.8, 89.4 | 82.6, 82.6, 87.8 | 71.5, 71.5, 66.1 |
| mobilenet0.25 | 89.3, 89.9, 90.1 | 89.6, 89.9, 90.0 | 10.0, 89.5, 90.3 | 10.0, 83.7, 44.5 | 73.5, 73.5, 66.3 |

On 10,000 images, one scale a channel, kl with the limit loses 0.10, 0.16 and -0.07 points at 8 bits (resnet8,
mobilenet0.25, resnet20), and gains over naive 0.19 and 0.02 (resnet8, mobilenet0.25) at 6 bits, 0.10 and -0.34 at 5:
equal within two standard errors. At 4 bits kl loses on resnet8, as is known. At 3 bits it wins, and on MobileNet at 4
as well: there naive loses 11 to 46 points, and keeps less of the largest value than kl. So (a) is shown in part."""
MERGE_WHY = """Shown for MobileNet at 4 and 3 bits, and not at 8. The worst layer's channels lie 5.3 times apart when
merged (2.4 bits). That this is why 8 bits suffice was not tested; weights of ImageNet's MobileNet were not looked
at."""
FROM = "One seed of each network, all of it run at one time with one state of the code (2026-11-22), beside other work."
"""What the runs of 2026-11-22 showed, and what they did not."""

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
    kept = {"ranges": ranges(known.net, words), "spikes": spikes(known.net, words), "spreads": spreads(known.net)}
    return replace(found, network=f"{name}, seed {seed}"), kept


def spikes(net: torch.nn.Module, words: Mapping[str, Any]) -> dict[str, float]:
    """How much of what a layer reads, zeros left out, lies in the ten fullest of 2048 bins."""
    found: dict[str, float] = {}

    def look(name: str, x: torch.Tensor) -> None:
        size = x.abs()[x != 0]
        bins = torch.histc(size, 2048, 0, float(size.max()))
        found[name] = float(bins.topk(10).values.sum() / bins.sum())

    looked(net, words, look)
    return found


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
    top: dict[str, float] = {}
    looked(net, words, lambda name, x: top.__setitem__(name, float(x.abs().max())))
    return top


def looked(net: torch.nn.Module, words: Mapping[str, Any], look: Callable[[str, torch.Tensor], None]) -> None:
    """Look at what each layer reads of the calibration images."""
    part = open_dataset(DATASET, split="train").subset(per_class=words["num_sample"], seed=words["fixed_random_seed"])
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    hooks = [
        m.register_forward_pre_hook(lambda module, given, name=n: look(name, given[0]))
        for n, m in net.named_modules()
        if isinstance(m, kinds)
    ]
    with torch.inference_mode():
        net.eval()(torch.from_numpy(part.normalized()))
    for hook in hooks:
        hook.remove()


def spreads(net: torch.nn.Module) -> dict[str, dict[str, float]]:
    """Each convolution's largest weight over the largest one of its median channel, BatchNorm beside and merged."""
    merged = copy.deepcopy(net)
    merge_bn(merged, sample=torch.zeros(2, *open_dataset(DATASET, split="test").shape))
    found: dict[str, dict[str, float]] = {}
    for word, each in (("beside", net), ("merged", merged)):
        convs = {n: m.weight for n, m in each.named_modules() if isinstance(m, torch.nn.Conv2d)}
        tops = {n: w.detach().abs().amax((1, 2, 3)) for n, w in convs.items()}
        found[word] = {n: float(t.max() / t.median()) for n, t in tops.items()}
    return found


def grid(found: Mapping[str, Any]) -> Grid:
    """Rows of a sweep by bits, kind, ranges and whether BatchNorm is merged."""
    rows = [SweepRow(**r) for r in found["rows"]]
    return {(r.bits, r.quant_type, r.ranges, r.merge_bn): r for r in rows}


def variance(r: SweepRow) -> float:
    """Of the drop: the same images before and after, so only flips count."""
    assert r.fixed is not None and r.broken is not None and r.drop is not None
    return ((r.fixed + r.broken) / IMAGES - r.drop**2) / IMAGES


def gain(grids: Sequence[Grid], a: Cell, b: Cell) -> tuple[float, float] | None:
    """How many points of top-1 setting a has over b, and at most what standard error.

    Each is paired with float on the same images; what errors they have in common besides would make it smaller. With
    several seeds: of the mean. None: one of them was not measured.
    """
    if not all(a in g and b in g for g in grids):
        return None
    gains = [100 * ((g[a].top1 or 0) - (g[b].top1 or 0)) for g in grids]
    images = math.sqrt(sum(variance(g[a]) + variance(g[b]) for g in grids)) * 100 / len(grids)
    return fmean(gains), images


def told(found: tuple[float, float] | None) -> str:
    return "" if found is None else f"{found[0]:+.2f} ± {found[1]:.2f}"


def sign(found: tuple[float, float] | None) -> str:
    """Which way, if it is more than two standard errors."""
    if found is None:
        return ""
    value, error = found
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
                gains = [gain(grids, (b, kind, "kl", merged), (b, kind, "naive", merged)) for b in BITS]
                signs = list(zip(map(sign, gains[1:]), ("better", "better", "worse", "worse"), strict=True))
                hits, against = sum(x == y for x, y in signs), sum({x, y} == {"better", "worse"} for x, y in signs)
                rows.append([name, kind, WHERE[merged], *map(told, gains), str(hits), str(against)])
    return rows


def merge_rows(results: Mapping[str, Any]) -> list[list[Any]]:
    """(b): what merging BatchNorm changes."""
    rows = []
    for name, grids in by_network(results):
        for kind in KINDS:
            gains = [gain(grids, (b, kind, "naive", True), (b, kind, "naive", False)) for b in BITS]
            rows.append([name, kind, *map(told, gains)])
    return rows


def spread_rows(results: Mapping[str, Any]) -> list[list[Any]]:
    """How far channels of a weight lie apart."""
    return [
        [key, *(f"{median(x.values()):.1f}, {max(x.values()):.1f}" for x in map(found["spreads"].get, WHERE))]
        for key, found in results.items()
    ]


def eight_rows(results: Mapping[str, Any]) -> list[list[Any]]:
    """(c): what 8 bits lose."""
    rows = []
    for name, grids in by_network(results):
        for mode, merged in product(("naive", "kl"), MERGED):
            cells = [r for g in grids if (r := g.get((8, "channel", mode, merged))) is not None]
            if not cells:
                continue
            drop = fmean(r.drop or 0 for r in cells)
            error = math.sqrt(sum(map(variance, cells))) / len(cells)
            each = ", ".join(f"{100 * (r.drop or 0):.2f}" for r in cells)
            verdict = "reached" if drop <= DROP + 1e-9 else "missed"
            rows.append([name, mode, WHERE[merged], f"{100 * drop:.3f} ± {100 * error:.3f}", each, verdict])
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
        spiky = found["spikes"]
        worst = max((n for n in spiky if n in found["ranges"]["naive"]), key=lambda n, s=spiky: s[n])
        rows.append([*row, worst, f"{100 * spiky[worst]:.0f} ({100 * median(spiky.values()):.0f})"])
    return rows


def top1_rows(grids: Sequence[Grid]) -> list[list[Any]]:
    """The grid of a network, mean over seeds."""
    rows = []
    for merged, kind, mode in product(MERGED, KINDS, ("naive", "kl")):
        cells = [[g.get((b, kind, mode, merged)) for g in grids] for b in BITS]
        tops = [f"{100 * fmean(r.top1 for r in some):.2f}" if all(some) else "" for some in cells]
        rows.append([kind, mode, WHERE[merged], *tops])
    return rows


def page(results: Mapping[str, Any]) -> str:
    """The text for people."""
    bits = [f"{b} bits" for b in BITS]
    parts = [
        "Top-1 in % on 10,000 test images, inputs (unsigned) and weights with the same bits, ranges measured on "
        f"{next(iter(results.values()))['num_sample']} training images a class, no retraining. ±: standard error, "
        "paired on the same images; mean over seeds. –: not measured.",
        FROM,
    ]
    for name, grids in by_network(results):
        tops = [f"{100 * r['sweep']['top1']:.2f}" for k, r in results.items() if k.split("/")[0] == name]
        parts.append(f"## {name}: float {', '.join(tops)}\n\n![{name}](simulate_{name}.svg)")
        parts.append(table(["weights", "ranges", "BatchNorm", *bits], top1_rows(grids)))
    parts.append("## (a) kl over naive, points\n\nKnown: better at 6 and 5 bits, worse at 4 and 3. As known, against: "
                 "of these four, more than two standard errors that way, and the other way.")  # fmt: skip
    parts.append(table(["network", "weights", "BatchNorm", *bits, "as known", "against"], kl_rows(results)))
    parts.append("### What ranges keep of the largest value that a layer reads: median over layers (least)")
    head = ["network/seed", "naive", *(f"kl, {b}" for b in bits), "spikiest layer", "in 10 bins % (median layer)"]
    parts.append(table(head, range_rows(results)))
    parts.append(KL_WHY)
    parts.append("## (b) Merging BatchNorm, naive ranges: points of top-1 gained\n\nKnown, MobileNet at 8 bits on "
                 "ImageNet: 73.28 to 15…33 with one scale a layer, to 72.0…72.7 with one a channel.")  # fmt: skip
    parts.append(table(["network", "weights", *bits], merge_rows(results)))
    parts.append("### The largest weight of a convolution over that of its median channel: median layer, worst layer")
    parts.append(table(["network/seed", "BatchNorm beside", "merged"], spread_rows(results)))
    parts.append(MERGE_WHY)
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
            held[f"{name}/{seed}"] = {"sweep": found.to_json(), **kept, "num_sample": args.num_sample}
            write("simulate", {"results": dict(sorted(held.items()))}, page(held), show=False)
    print(page(held))


if __name__ == "__main__":
    main()
