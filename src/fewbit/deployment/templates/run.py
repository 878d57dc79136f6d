"""Run the network on an image, on arrays, or on a sample that came with it.

python run.py photo.jpg                   an image, prepared as network.json says
python run.py x.npy                       an array, as the network takes it
python run.py ids=ids.npy mask=mask.npy   one file for each input
python run.py                             the first sample of inputs/
python run.py --random                    random numbers
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
from feeds import HERE, Broken, files_fed, random_feeds, read_about, sample

TIMED = 20


def main():
    """Read the words of the command line, run, print; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="an image or .npy file for each input")
    parser.add_argument("--random", action="store_true", help="random numbers instead of files")
    parser.add_argument("--threads", type=count, default=0, help="cores to use (default: all)")
    parser.add_argument("--top", type=count, default=5, help="how many of the largest numbers of an output to print")
    parser.add_argument("--time", action="store_true", help=f"time {TIMED} runs as well")
    parser.add_argument("--save", metavar="FOLDER", help="write the outputs there, as .npy files")
    words = parser.parse_args()
    if words.random and words.files:
        parser.error("give files or --random, not both")
    try:
        run(words)
    except Broken as e:
        print(f"the folder is incomplete: {e}", file=sys.stderr)
        return 2
    return 0


def count(text):
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)


def run(words):
    """Feed, run, print, save."""
    about = read_about()
    feeds = random_feeds(about) if words.random else files_fed(words.files, about) if words.files else sample(0, about)
    saving(words.save, {})  # a place that cannot be written is told before the work
    network = opened(about, words.threads)
    outputs = answered(network, about, feeds)
    for name, x in outputs.items():
        print(told(name, x, words.top))
    saving(words.save, {o["file"]: outputs[o["name"]] for o in about["outputs"]})
    if words.time:
        print(f"{clocked(lambda: network.run(feeds)) * 1000:.3f} ms a run, the median of {TIMED}")


def saving(folder, arrays):
    """Write arrays into a folder, which is made if it is not there."""
    if folder is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise SystemExit(f"cannot write to {folder}: no permission")
        for file, x in arrays.items():
            np.save(Path(folder) / file, x)
    except OSError as e:
        raise SystemExit(f"cannot write to {folder}: {e.strerror or e}") from e


def answered(network, about, feeds):
    """What the network answers, by name, in the order of network.json."""
    from network import engine_errors

    try:
        outputs = network.run(feeds)
    except engine_errors() as e:
        given = ", ".join(f"{name} {list(x.shape)}" for name, x in feeds.items())
        raise SystemExit(f"{network.engine} cannot compute with {given}: {first_line(e)}") from e
    lost = [o["name"] for o in about["outputs"] if o["name"] not in outputs]
    if lost:
        raise Broken(f"{about['model']} has no output {', '.join(lost)}")
    return {o["name"]: outputs[o["name"]] for o in about["outputs"]}


def opened(about, threads):
    """The network of the folder."""
    from network import Network, engine_errors

    if not (HERE / about["model"]).is_file():
        raise Broken(f"{about['model']} is missing")
    try:
        return Network(HERE / about["model"], threads)
    except engine_errors() as e:
        raise Broken(f"{about['model']} cannot be loaded: {first_line(e)}") from e


def first_line(error):
    """What an engine says, without where in its source it says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [x for x in lines if not x.startswith(("Exception from ", "Check '"))] or [type(error).__name__]
    text = " ".join(told[:2]) if told[0].endswith(":") else told[0]
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text


def told(name, x, top):
    """An output in some lines: the largest numbers of a row of scores, else what it spans."""
    head = f"{name}: {x.dtype}{list(x.shape)}"
    if x.ndim < 1 or x.ndim > 2 or x.shape[-1] < 2:
        return f"{head}  {x.ravel()[:top].tolist()}" if x.size <= top else f"{head}  from {x.min()} to {x.max()}"
    rows = x.reshape(-1, x.shape[-1])
    lines = []
    for i, row in enumerate(rows[:top]):
        best = np.argsort(row, kind="stable")[::-1][:top]
        lines.append(f"  {i}: " + "  ".join(f"{k}: {row[k]:.5g}" for k in best))
    return "\n".join([f"{head}  index: number, largest first", *lines])


def clocked(run):
    """Median of the seconds of some runs."""
    times = []
    for _ in range(TIMED):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[TIMED // 2]


if __name__ == "__main__":
    sys.exit(main())
