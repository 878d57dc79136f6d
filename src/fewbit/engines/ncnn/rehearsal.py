"""A network's first run in ncnn, in a process of its own: what ends that process must not end the caller's.

Gather → Concat → Gather, as pnnx writes it, corrupts the heap of ncnn 1.0.20261020
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.engines.ncnn.param import Layer
from fewbit.engines.ncnn.runtime import written
from fewbit.engines.ncnn.weights import Weights
from fewbit.errors import EngineError

SECONDS = 600
"""That the run may take."""

PROGRAM = """
import sys
import ncnn
import numpy as np
folder = sys.argv[1]
feeds = dict(np.load(folder + "/feeds.npz"))
for light in (False, True):
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    if net.load_param(folder + "/net.param") or net.load_model(folder + "/net.bin"):
        break
    for _ in range(2):
        with net.create_extractor() as extractor:
            extractor.set_light_mode(light)
            held = [ncnn.Mat(x).clone() for x in feeds.values()]
            for name, mat in zip(feeds, held):
                extractor.input(name, mat)
            for name in sys.argv[2:]:
                extractor.extract(name)
"""
"""Only numpy and the runtime: nothing of ours has to be imported."""


def rehearse(
    layers: Sequence[Layer], weights: Weights, feeds: Mapping[str, NDArray[Any]], blobs: Iterable[str]
) -> None:
    """Run a network once, elsewhere; what it answers, and why it fails, is left to the run that counts.

    Args:
        feeds: blob → its values without the batch axis. blobs: outputs.

    Raises:
        EngineError: the process was ended by a signal.
    """
    with tempfile.TemporaryDirectory(prefix="fewbit-ncnn-") as folder:
        where = Path(folder)
        written(where, layers, weights)
        kinds = {n: np.int32 if x.dtype.kind in "iub" else np.float32 for n, x in feeds.items()}
        arrays: dict[str, Any] = {n: np.ascontiguousarray(x, kinds[n]) for n, x in feeds.items()}
        np.savez(where / "feeds.npz", **arrays)
        words = [sys.executable, "-c", PROGRAM, folder, *blobs]
        try:
            done = subprocess.run(words, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return
    if done.returncode < 0:
        raise EngineError(
            f"ncnn was ended by signal {-done.returncode} when it ran this network ({_said(layers)}); the fault is in "
            "ncnn. Take what it does not bear out of the network, or take another target: onnxruntime, openvino"
        )


def _said(layers: Sequence[Layer]) -> str:
    kinds = [x.type for x in layers if x.type not in ("Input", "Split")]
    return ", ".join(dict.fromkeys(kinds))
