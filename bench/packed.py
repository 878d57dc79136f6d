"""Packed weights: size of the file against bits ÷ 32, what loading it costs, and how fast it is, beside the float file.

    python bench/packed.py [--rounds N] [--only NAME]

Nearest integers, one scale a channel and a tensor, no data: nothing here depends on which integers they are. Loading
and memory are those of a process that has the engine and nothing else, median of five; latency in turns with float, one
thread. Writes results/packed.json and .md; with `--only`, shows one network and writes nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from common import table, turns, write
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.engines.footprint import Footprint, footprint
from fewbit.errors import FewbitWarning

NAMES = ("resnet50_random", "efficientnet_lite0", "minilm", "rapidocr_rec")
FORMS = [(b, "channel-wise") for b in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)] + [(3, "tensor-wise"), (8, "tensor-wise")]
MEASURED = (3, 4, 8)
"""Widths, one scale a channel, that are loaded and timed as well."""

ENGINES = ("onnxruntime", "openvino")
LOADS, SLICE = 5, 0.05


def sizes(name: str, folder: Path) -> tuple[list[dict[str, Any]], dict[str, Path]]:
    """Rows of one network, and its files by form."""
    fused = fb.fuse(fb.load(NETWORKS[name].build()))
    files = {"float": folder / f"{name}.onnx"}
    fused.save(files["float"])
    whole, rows = files["float"].stat().st_size, []
    for bits, grain in FORMS:
        plan = fb.make_plan(fused, quant_type="weight", bit_num=bits, quantize_granularity=grain)
        made = fb.apply(fused, plan)
        file = folder / f"{name}-{bits}-{grain}.onnx"
        made.save(file)
        files[f"{bits}-{grain}"] = file
        stored = sum(w.q.size for w in made.stored.values())
        ideal, size = whole - 4 * stored + stored * bits / 8, file.stat().st_size
        scales = sum(w.params.scale.size for w in made.stored.values())
        rows.append({
            "network": name, "bits": bits, "scales": grain, "bytes": size, "float": whole, "ideal": ideal,
            "over": size / ideal - 1, "met": size <= 1.02 * ideal + 4096, "weights_per_scale": stored / max(1, scales),
        })  # fmt: skip
    return rows, files


def costs(name: str, files: dict[str, Path], rounds: int) -> Iterator[dict[str, Any]]:
    """Loading, memory and latency of some of the files, on both engines."""
    feeds = next(iter(NETWORKS[name].calib()))
    forms = ["float", *(f"{b}-channel-wise" for b in MEASURED)]
    for engine in ENGINES:
        runners = {f: open_runner(engine, fb.load(files[f], allow_quantized=True), threads=1) for f in forms}
        times = turns({f: (lambda r=r: r.run(feeds)) for f, r in runners.items()}, rounds, 3, SLICE)
        del runners
        for form in forms:
            found: list[Footprint] = [footprint(engine, files[form], feeds) for _ in range(LOADS)]
            ratio = median(a / b for a, b in zip(times[form], times["float"], strict=True))
            yield {
                "network": name, "engine": engine, "form": form, "load_s": median(f.load_s for f in found),
                "load_mib": median(f.load_mib for f in found), "peak_mib": median(f.peak_mib for f in found),
                "ms": 1e3 * median(times[form]), "latency": ratio,
            }  # fmt: skip


def page(rows: list[dict[str, Any]], loads: list[dict[str, Any]]) -> str:
    """The tables."""
    first = [
        (
            r["network"], r["bits"], r["scales"].split("-")[0], f"{r['bytes'] / 1e6:.2f}",
            f"{r['float'] / r['bytes']:.2f}", f"{r['over']:+.2%}", "yes" if r["met"] else "no",
            f"{r['weights_per_scale']:.0f}",
        )
        for r in rows
    ]  # fmt: skip
    second = [
        (
            r["network"], r["engine"], r["form"], f"{r['load_s']:.2f}", f"{r['load_mib']:.0f}", f"{r['peak_mib']:.0f}",
            f"{r['ms']:.2f}", f"{r['latency']:.3f}",
        )
        for r in loads
    ]  # fmt: skip
    return "\n\n".join([SIZE, table(SIZE_HEAD, first), COST, table(COST_HEAD, second)])


SIZE = """## Size

Over: against the bytes of what stays float and bits ÷ 8 a weight; scales and zero points are part of what is over."""
SIZE_HEAD = (
    "network", "bits", "a scale for each", "MB", "times smaller", "over bits ÷ 32", "within 2 % + 4 kB",
    "weights a scale",
)  # fmt: skip
COST = """## Loading and running

A process with the engine alone, over its start; latency in turns, one thread, batch 1."""
COST_HEAD = ("network", "engine", "form", "load s", "load MiB", "peak MiB", "ms", "latency ÷ float")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    warnings.simplefilter("ignore", FewbitWarning)
    rows: list[dict[str, Any]] = []
    loads: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in [args.only] if args.only else NAMES:
            found, files = sizes(name, Path(folder))
            rows += found
            loads += costs(name, files, args.rounds)
    text = page(rows, loads)
    if args.only:
        print(text)
    else:
        write("packed", {"rounds": args.rounds, "sizes": rows, "loads": loads}, text)


if __name__ == "__main__":
    main()
