"""Smart mode that measures: is any network of the zoo slower than float afterwards, in either engine?

    python bench/measured.py [--only NAME …] [--limit 60] [--rounds 30]

`quantize(effort="fast", measure=True, target=ENGINE)` with a time limit for each network and an empty cache of timings;
then the result against the user's own float file, one thread, batch 1, in turns, with median and quartiles. OpenVINO
runs the float file in its default precision, which is bf16 where the CPU has it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import sys
import tempfile
import time
import warnings
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from common import RESULTS, table, turns, write
from zoo.fetch import Unavailable
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.errors import FewbitError, FewbitWarning

ENGINES = ("onnxruntime", "openvino")
SAMPLES = 16


def measure(name: str, engine: str, limit: float, rounds: int) -> dict[str, Any]:
    """One network on one engine."""
    network = NETWORKS[name]
    model = fb.load(network.build())
    feeds = list(islice(network.calib(), SAMPLES))
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)
        q = fb.quantize(model, feeds, target=engine, effort="fast", measure=True, verify=False, time_limit=limit)
    seconds = time.perf_counter() - start
    runners = {n: partial(open_runner(engine, m, threads=1).run, feeds[0]) for n, m in (("float", model), ("ours", q))}
    times = turns(runners, rounds, slice_=0.02)
    ratios = np.array(times["ours"]) / np.array(times["float"])
    low, mid, high = (float(x) for x in np.quantile(ratios, (0.25, 0.5, 0.75)))
    integer = sum(n.quantized for n in q.plan.nodes.values())
    note = q.report.measured if q.report is not None else ""
    return {"seconds": seconds, "layers": len(q.plan.nodes), "integer": integer, "ratio": mid, "low": low, "high": high,
            "note": note}  # fmt: skip


def page(results: dict[str, Any]) -> str:
    """The text for people."""
    rows, failed = [], []
    for name, found in results.items():
        row: list[Any] = [name]
        for engine in ENGINES:
            f = found.get(engine, {})
            if "error" in f:
                failed.append(f"* {name} in {engine}: {f['error']}")
            span = f"{f['low']:.2f}–{f['high']:.2f}" if "ratio" in f else "–"
            row += [f"{f['integer']} of {f['layers']}" if "ratio" in f else "–", f.get("ratio"), span, f.get("seconds")]
        rows.append(row)
    head = [f"{e}: {w}" for e in ("ORT", "OpenVINO") for w in ("integer layers", "latency ÷ float", "quartiles", "s")]
    notes = [f"* {n}, {e}: {f[e]['note']}" for n, f in results.items() for e in ENGINES if f.get(e, {}).get("note")]
    return "\n\n".join([
        "Effort fast, smart mode with --measure, against the file as it came. A ratio with no integer layer is that of "
        "the fused float network: nothing paid.",
        table(["network", *head], rows),
        "## What was found\n\n" + "\n".join(notes),
        "## What failed\n\n" + ("\n".join(failed) or "Nothing."),
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--limit", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    before = RESULTS / "measured.json"
    held = json.loads(before.read_text("utf-8"))["networks"] if before.exists() else {}
    for name in args.only:
        for engine in args.engines:
            with tempfile.TemporaryDirectory() as cache:
                os.environ["FEWBIT_CACHE"] = cache
                try:
                    found = measure(name, engine, args.limit, args.rounds)
                except (FewbitError, Unavailable) as e:
                    found = {"error": str(e)[:300]}
            held.setdefault(name, {})[engine] = found
            print(name, engine, found, file=sys.stderr, flush=True)
        results = {n: held[n] for n in NETWORKS if n in held}
        with contextlib.redirect_stdout(io.StringIO()):
            write("measured", {"networks": results}, page(results))
    slow = [n for n, f in held.items() for e in ENGINES if f.get(e, {}).get("ratio", math.nan) > 1.02]
    print(f"slower than float by more than 2 %: {', '.join(slow) or 'none'}")


if __name__ == "__main__":
    main()
