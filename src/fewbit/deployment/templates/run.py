"""Run the network on an image, on arrays, or on a sample that came with it.

python run.py photo.jpg                   an image, prepared as network.json says
python run.py x.npy                       an array, as the network takes it
python run.py ids=ids.npy mask=mask.npy   one file for each input
python run.py                             the first sample of inputs/
python run.py --random                    random numbers
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
TIMED = 20


def main():
    """Read the words of the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="an image or .npy file for each input")
    parser.add_argument("--random", action="store_true", help="random numbers instead of files")
    parser.add_argument("--threads", type=int, default=0, help="cores to use (default: all)")
    parser.add_argument("--top", type=int, default=5, help="how many of the largest numbers of an output to print")
    parser.add_argument("--time", action="store_true", help=f"time {TIMED} runs as well")
    parser.add_argument("--save", metavar="FOLDER", help="write the outputs there, as .npy files")
    words = parser.parse_args()
    about = json.loads((HERE / "network.json").read_text("utf-8"))
    feeds = random_feeds(about) if words.random else files_fed(words.files, about) if words.files else sample(0, about)
    from network import Network

    network = Network(HERE / about["model"], words.threads)
    outputs = network.run(feeds)
    for output in about["outputs"]:
        print(told(output["name"], outputs[output["name"]], words.top))
    if words.save:
        Path(words.save).mkdir(parents=True, exist_ok=True)
        for output in about["outputs"]:
            np.save(Path(words.save) / output["file"], outputs[output["name"]])
    if words.time:
        print(f"{clocked(lambda: network.run(feeds)) * 1000:.3f} ms a run, the median of {TIMED}")


def files_fed(files, about):
    """One array for each input, out of files: in the order of the inputs, or as name=file."""
    inputs = {i["name"]: i for i in about["inputs"]}
    feeds = {}
    for position, text in enumerate(files):
        name, equals, file = text.rpartition("=")
        if not equals or name not in inputs:
            name, file = (list(inputs) + [""] * len(files))[position], text
        if name not in inputs:
            raise SystemExit(f"the network has {len(inputs)} inputs: {', '.join(inputs)}; {len(files)} files are given")
        feeds[name] = array_of(file, inputs[name])
    missing = [name for name in inputs if name not in feeds]
    if missing:
        raise SystemExit(f"there is no file for input {', '.join(missing)}")
    return feeds


def array_of(file, entry):
    """A .npy file as it is; an image as the recipe of the input says."""
    if not Path(file).is_file():
        raise SystemExit(f"there is no file {file}")
    if file.endswith(".npy"):
        return np.ascontiguousarray(np.load(file, allow_pickle=False), np.dtype(entry["type"]))
    if not entry["image"]:
        raise SystemExit(f"input {entry['name']} takes no images: {entry['why']}; hand it as .npy")
    from preprocess import load_image

    return load_image(file, entry["image"])


def sample(number, about):
    """A sample that came with the network."""
    folder = HERE / "inputs" / str(number)
    return {i["name"]: np.load(folder / i["file"], allow_pickle=False) for i in about["inputs"]}


def random_feeds(about):
    """Random numbers; axes that are free have length 1."""
    rng = np.random.default_rng(0)
    feeds = {}
    for entry in about["inputs"]:
        shape = [d if isinstance(d, int) else 1 for d in entry["shape"]]
        kind = np.dtype(entry["type"])
        x = rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape)
        feeds[entry["name"]] = np.asarray(x, kind)
    return feeds


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
    main()
