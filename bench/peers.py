"""One quantizer, one model, one process: called by calibration.py, latency.py and networks.py. Prints one JSON line.

    python peers.py TOOL MODEL DATA OUT.onnx [--samples N]
        DATA.npy    the one input; first axis = samples
        DATA.npz    any inputs: the key `7/mask` holds input `mask` of sample 7, whatever its shape

Tools: see TOOLS below; `float` is the forward alone.
Timed: from reading the model to the file on disk, imports left out; fewbit runs without its verification, which no peer
has. Memory: the peak resident set of this process, imports included.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Feeds = dict[str, np.ndarray[Any, Any]]


def inputs_of(model: str) -> list[str]:
    import onnx

    graph = onnx.load(model, load_external_data=False).graph
    weights = {t.name for t in graph.initializer}
    return [i.name for i in graph.input if i.name not in weights]


def feeds(model: str, data: str) -> tuple[int, Callable[[int], Feeds]]:
    """Number of samples, and a function that reads one of them from disk."""
    held = np.load(data, mmap_mode="r")
    if data.endswith(".npy"):
        (name,) = inputs_of(model)
        return len(held), lambda i: {name: np.array(held[i : i + 1])}
    names: dict[int, list[str]] = {}
    for key in held.files:
        number, name = key.split("/", 1)
        names.setdefault(int(number), []).append(name)
    return len(names), lambda i: {name: held[f"{i}/{name}"] for name in names[i]}


def samples(model: str, data: str, count: int) -> Iterator[Feeds]:
    """Samples one by one, read from disk as they are needed."""
    total, read = feeds(model, data)
    for i in range(min(count, total)):
        yield read(i)


def run_float(model: str, data: str, out: str, count: int) -> float:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for x in samples(model, data, 3):
        session.run(None, x)
    start = time.perf_counter()
    for x in samples(model, data, count):
        session.run(None, x)
    return time.perf_counter() - start


def run_fewbit(mode: str, scope: str = "smart", target: str = "onnxruntime") -> Callable[[str, str, str, int], float]:
    def run(model: str, data: str, out: str, count: int) -> float:
        import fewbit as fb
        from fewbit import api  # noqa: F401  # imports are not timed

        given = data if data.endswith(".npy") else samples(model, data, count)
        start = time.perf_counter()
        fb.quantize(
            model,
            given,
            calib_mode=mode,
            quantize_mode=scope,
            target=target,
            num_calib_batches=count,
            verify=False,
            workers=2,
        ).save(out)
        return time.perf_counter() - start

    return run


def run_ort(method: str) -> Callable[[str, str, str, int], float]:
    def run(model: str, data: str, out: str, count: int) -> float:
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.calibrate import CalibrationDataReader
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left = samples(model, data, count)

            def get_next(self) -> Feeds | None:
                return next(self.left, None)

        start = time.perf_counter()
        ready = out + ".pre.onnx"
        try:
            quant_pre_process(model, ready, skip_symbolic_shape=True)
        except Exception as e:  # it fails in many ways on networks with control flow; quantize the file as it is then
            print(f"quant_pre_process: {e}", file=sys.stderr)
            shutil.copyfile(model, ready)
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

    total, read = feeds(model, data)
    count = min(count, total)
    start = time.perf_counter()
    onnx.save(nncf.quantize(onnx.load(model), nncf.Dataset(list(range(count)), read), subset_size=count), out)
    return time.perf_counter() - start


TOOLS: dict[str, Callable[[str, str, str, int], float]] = {
    "float": run_float,
    "fewbit-naive": run_fewbit("naive"),
    "fewbit-entropy": run_fewbit("entropy"),
    "fewbit-percentile": run_fewbit("percentile"),
    "fewbit-naive-full": run_fewbit("naive", "full"),
    "fewbit-openvino": run_fewbit("naive", target="openvino"),
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
