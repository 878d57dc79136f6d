"""One quantizer, one model, one process: called by calibration.py, latency.py and networks.py. Prints one JSON line.

    python peers.py TOOL MODEL DATA.npy OUT.onnx [--samples N]        data: first axis = samples, one input

Tools: see TOOLS below; `float` is the forward alone.
Timed: from reading the model to the file on disk, imports left out; fewbit runs without its verification, which no peer
has. Memory: the peak resident set of this process, imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def inputs_of(model: str) -> list[str]:
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    return [i.name for i in graph.input if i.name not in weights]


def samples(data: str, count: int) -> Iterator[np.ndarray[Any, Any]]:
    """Samples one by one, read from disk as they are needed."""
    x = np.load(data, mmap_mode="r")
    for i in range(min(count, len(x))):
        yield np.array(x[i : i + 1])


def run_float(model: str, data: str, out: str, count: int) -> float:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (name, *_) = inputs_of(model)
    for x in samples(data, 3):
        session.run(None, {name: x})
    start = time.perf_counter()
    for x in samples(data, count):
        session.run(None, {name: x})
    return time.perf_counter() - start


def run_fewbit(mode: str, scope: str = "smart") -> Callable[[str, str, str, int], float]:
    def run(model: str, data: str, out: str, count: int) -> float:
        import fewbit as fb
        from fewbit import api  # noqa: F401  # imports are not timed

        start = time.perf_counter()
        fb.quantize(
            model, data, calib_mode=mode, quantize_mode=scope, num_calib_batches=count, verify=False, workers=2
        ).save(out)
        return time.perf_counter() - start

    return run


def run_ort(method: str) -> Callable[[str, str, str, int], float]:
    def run(model: str, data: str, out: str, count: int) -> float:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.calibrate import CalibrationDataReader
        from onnxruntime.quantization.shape_inference import quant_pre_process

        (name, *_) = inputs_of(model)

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left = samples(data, count)

            def get_next(self) -> dict[str, Any] | None:
                x = next(self.left, None)
                return None if x is None else {name: x}

        start = time.perf_counter()
        ready = out + ".pre.onnx"
        quant_pre_process(model, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
        )
        took = time.perf_counter() - start
        Path(ready).unlink(missing_ok=True)
        return took

    return run


def run_nncf(model: str, data: str, out: str, count: int) -> float:
    import nncf
    import onnx

    (name, *_) = inputs_of(model)
    start = time.perf_counter()
    found = nncf.Dataset(list(range(count)), lambda i: {name: np.array(np.load(data, mmap_mode="r")[i : i + 1])})
    onnx.save(nncf.quantize(onnx.load(model), found, subset_size=count), out)
    return time.perf_counter() - start


TOOLS: dict[str, Callable[[str, str, str, int], float]] = {
    "float": run_float,
    "fewbit-naive": run_fewbit("naive"),
    "fewbit-entropy": run_fewbit("entropy"),
    "fewbit-percentile": run_fewbit("percentile"),
    "fewbit-naive-full": run_fewbit("naive", "full"),
    "ort-minmax": run_ort("MinMax"),
    "ort-entropy": run_ort("Entropy"),
    "ort-percentile": run_ort("Percentile"),
    "nncf": run_nncf,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--samples", type=int, default=100)
    args = parser.parse_args()
    seconds = TOOLS[args.tool](args.model, args.data, args.out, args.samples)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "rss_mib": rss}))


if __name__ == "__main__":
    sys.exit(main())
