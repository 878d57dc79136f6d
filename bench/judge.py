"""One network, one engine, one process: called by networks.py. Prints one JSON line.

    python judge.py NETWORK ENGINE float=FILE [TOOL=FILE …] [--samples N] [--rounds N]

For each file: SQNR and cosine of its worst output against the float file on the same engine, over all judged samples;
share of samples with the same highest class; figures of the task; and latency ÷ float, one thread, batch 1, in turns.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from common import take_turns
from zoo.nets import NETWORKS, Network

from fewbit import load
from fewbit.core.metrics import ErrorSums
from fewbit.engines import open_runner
from fewbit.errors import FewbitError

SECONDS = 0.3
"""Small networks are timed for at least this long."""


def far(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """SQNR and cosine of the output that is furthest from float, and its name."""
    sums: dict[str, ErrorSums] = {}
    for a, b in zip(ours, theirs, strict=True):
        for name in a:
            sums.setdefault(name, ErrorSums()).update(a[name], b[name])
    name, worst = min(sums.items(), key=lambda pair: pair[1].cosine)
    sqnr = worst.sqnr_db
    return {"output": name, "cosine": worst.cosine, "sqnr": sqnr if math.isfinite(sqnr) else None}


def same_class(output: str, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """Percent of samples with the same highest score."""
    pairs = zip(ours, theirs, strict=True)
    return 100 * float(np.mean([a[output].argmax(-1) == b[output].argmax(-1) for a, b in pairs]))


def told(network: Network, outputs: dict[str, list[dict[str, Any]]], labels: list[Any]) -> dict[str, dict[str, Any]]:
    """What is measured of each file but its speed."""
    found: dict[str, dict[str, Any]] = {}
    for name, theirs in outputs.items():
        found[name] = {"task": network.metric(theirs, labels)} if network.metric else {}
        if name == "float" or "float" not in outputs:
            continue
        ours = outputs["float"]
        found[name] |= far(ours, theirs)
        if network.scores:
            found[name]["agreement"] = same_class(network.scores, ours, theirs)
        if network.versus:
            found[name]["versus"] = network.versus(ours, theirs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("engine")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    network = NETWORKS[args.network]
    given = list(islice(network.judge(), args.samples))
    feeds, labels = [f for f, _ in given], [y for _, y in given]
    runners, outputs, refused = {}, {}, {}
    for name, file in (f.split("=", 1) for f in args.files):
        try:
            runner = open_runner(args.engine, load(file, allow_quantized=True), threads=1)
            outputs[name] = [runner.run(f) for f in feeds]
            runners[name] = partial(runner.run, feeds[0])
        except FewbitError as e:
            refused[name] = {"error": str(e)[:300]}
    found = refused | told(network, outputs, labels)
    if "float" in runners:
        start = time.perf_counter()
        runners["float"]()
        enough = int(SECONDS / max(1e-6, time.perf_counter() - start))
        times = take_turns(runners, min(1000, max(args.rounds, enough)))
        for name, seconds in times.items():
            found[name] |= {"ms": seconds * 1e3, "ratio": seconds / times["float"]}
    print(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
