"""Whether this machine computes what the machine did that made this folder: inputs/ → outputs, compared with expected/.

    python verify.py               exit code 0: all within the tolerance of network.json; 1: not

Numbers with fractions: distance ÷ length of the vectors of all numbers of an output. Whole numbers: share that differs.
"""

import argparse
import json
import sys

import numpy as np
from run import HERE, sample


def main():
    """Run all samples; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=0, help="cores to use (default: all)")
    words = parser.parse_args()
    about = json.loads((HERE / "network.json").read_text("utf-8"))
    from network import Network

    network = Network(HERE / about["model"], words.threads)
    worst = {}
    for number in range(about["samples"]):
        found = network.run(sample(number, about))
        for output in about["outputs"]:
            name = output["name"]
            expected = np.load(HERE / "expected" / str(number) / output["file"], allow_pickle=False)
            worst[name] = max(worst.get(name, 0.0), difference(found[name], expected))
    failed = 0
    for output in about["outputs"]:
        name, most = output["name"], output["tolerance"]
        good = worst[name] <= most
        failed += not good
        print(f"{'ok  ' if good else 'DIFFERS'} {name}: {worst[name]:.2g} (at most {most:g})")
    verdict = "all as expected" if not failed else f"{failed} outputs differ"
    print(f"{network.engine}, {about['samples']} samples: {verdict}")
    return int(failed > 0)


def difference(found, expected):
    """0 = the same; inf = of another shape, or finite where the other is not."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if expected.dtype.kind != "f":
        return float((found != expected).mean()) if expected.size else 0.0
    a, b = found.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(np.isfinite(a), finite) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    length = np.linalg.norm(b[finite])
    distance = np.linalg.norm(a[finite] - b[finite])
    return float(distance / length) if length else float(distance)


if __name__ == "__main__":
    sys.exit(main())
