"""Whether the folder is as it was written, and this machine computes what the machine did that wrote it.

    python verify.py     exit code 0: all as expected; 1: an output or a file differs; 2: the folder is incomplete

Files: their sums in SHA256SUMS. Outputs: inputs/ → the network, compared with expected/. Numbers with fractions:
distance ÷ length of the vectors of all numbers of an output. Whole numbers: share that differs. What is allowed stands
in network.json.
"""

import argparse
import hashlib
import sys

import numpy as np
from feeds import HERE, Broken, counted, read_about, sample
from run import answered, count, opened

SUMS = "SHA256SUMS"


def main():
    """Look at the files, run all samples; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=count, default=0, help="cores to use (default: all)")
    words = parser.parse_args()
    changed, missing = unlike_sums()
    for verdict, names in (("CHANGED", changed), ("MISSING", missing)):
        for name in names:
            print(f"{verdict} {name}", flush=True)
    try:
        good = compared(words.threads, changed)
        if missing:
            raise Broken(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    except Broken as e:
        print(f"the folder is incomplete: {e}", file=sys.stderr)
        return 2
    except SystemExit as e:  # the engine refuses a sample
        print(e, file=sys.stderr)
        return 1
    return int(bool(changed) or not good)


def unlike_sums():
    """Files that are no longer what SHA256SUMS says, and those that are gone."""
    try:
        lines = (HERE / SUMS).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        print(f"{SUMS} is missing or damaged: nobody can tell whether files were changed", file=sys.stderr)
        return [], []
    changed, missing = [], []
    for line in lines:
        wanted, gap, name = line.partition("  ")
        if line.startswith("#") or not gap:
            continue
        try:
            with open(HERE / name, "rb") as file:
                found = hashlib.sha256()
                while piece := file.read(2**20):
                    found.update(piece)
        except OSError:
            missing.append(name)
            continue
        if found.hexdigest() != wanted:
            changed.append(name)
    return changed, missing


def compared(threads, changed):
    """Run all samples and print how far every output is from what is expected; whether all are near enough."""
    about = read_about()
    if about["samples"] < 1:
        raise Broken("network.json says that there are no samples")
    worst, network = {}, opened(about, threads)
    for number in range(about["samples"]):
        found = answered(network, about, sample(number, about))
        for name, expected in sample(number, about, "expected").items():
            worst[name] = max(worst.get(name, 0.0), difference(found[name], expected))
    failed = 0
    for output in about["outputs"]:
        name, most = output["name"], output["tolerance"]
        good = worst[name] <= most
        failed += not good
        print(f"{'ok  ' if good else 'DIFFERS'} {name}: {worst[name]:.2g} (at most {most:g})")
    verdict = f"{counted(failed, 'output')} {'differs' if failed == 1 else 'differ'}" if failed else "all as expected"
    if changed:
        one = len(changed) == 1
        verdict = (
            verdict.replace("all as", "outputs as")
            + f"; {counted(len(changed), 'file')} "
            + ("is not what was written" if one else "are not what was written")
        )
    print(f"{network.engine}, {counted(about['samples'], 'sample')}: {verdict}")
    return not failed


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
