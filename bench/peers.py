"""One quantizer, one model, one process: called by the other scripts. Prints one JSON line.

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
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import installed

Feeds = dict[str, np.ndarray[Any, Any]]
Run = Callable[[str, str, str, int], float]
"""Model, data, file to write, samples → seconds."""


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


def run_fewbit(**words: Any) -> Run:
    def run(model: str, data: str, out: str, count: int) -> float:
        import fewbit as fb
        from fewbit import api  # noqa: F401  # imports are not timed

        given = data if data.endswith(".npy") else samples(model, data, count)
        start = time.perf_counter()
        fb.quantize(model, given, num_calib_batches=count, verify=False, workers=2, **words).save(out)
        return time.perf_counter() - start

    return run


def prepared(model: str, out: str) -> str:
    """ONNX Runtime's preparation (constants folded, BatchNorm merged), in a file of its own."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = out + ".pre.onnx"
    try:
        quant_pre_process(model, ready, skip_symbolic_shape=True)
    except Exception as e:  # it fails in many ways on networks with control flow; quantize the file as it is then
        print(f"quant_pre_process: {e}", file=sys.stderr)
        shutil.copyfile(model, ready)
    return ready


def run_ort(method: str) -> Run:
    def run(model: str, data: str, out: str, count: int) -> float:
        from onnxruntime.quantization import (
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
            shape_inference,  # noqa: F401  # imports are not timed
        )
        from onnxruntime.quantization.calibrate import CalibrationDataReader

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left = samples(model, data, count)

            def get_next(self) -> Feeds | None:
                return next(self.left, None)

        words = {
            "quant_format": QuantFormat.QDQ,
            "per_channel": True,
            "activation_type": QuantType.QUInt8,
            "weight_type": QuantType.QInt8,
            "calibrate_method": getattr(CalibrationMethod, method),
        }
        start = time.perf_counter()
        ready = prepared(model, out)
        try:
            quantize_static(ready, out, Reader(), **words)
        except ValueError as e:  # on its own preparation of magika; the file as it is goes through
            print(f"after quant_pre_process: {e}", file=sys.stderr)
            quantize_static(model, out, Reader(), **words)
        took = time.perf_counter() - start
        Path(ready).unlink(missing_ok=True)
        return took

    return run


def run_nncf(kind: str = "", **words: Any) -> Run:
    def run(model: str, data: str, out: str, count: int) -> float:
        import nncf
        import onnx

        total, read = feeds(model, data)
        count = min(count, total)
        given = words | ({"model_type": getattr(nncf.ModelType, kind)} if kind else {})
        start = time.perf_counter()
        dataset = nncf.Dataset(list(range(count)), read)
        onnx.save(nncf.quantize(onnx.load(model), dataset, subset_size=count, **given), out)
        return time.perf_counter() - start

    return run


def run_aimet(scheme: str = "min_max", weights: str = "int8", *, equalize: bool = False, rounding: int = 0) -> Run:
    """`rounding`: iterations of AdaRound a layer."""

    def run(model: str, data: str, out: str, count: int) -> float:
        import aimet_onnx
        import onnx
        from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
        from aimet_onnx.cross_layer_equalization import equalize_model
        from onnxruntime.quantization import shape_inference  # noqa: F401  # imports are not timed

        start = time.perf_counter()
        given = list(samples(model, data, count))
        ready = prepared(model, out)
        net = onnx.load(ready)
        (equalize_model if equalize else fold_all_batch_norms_to_weight)(net)
        kinds = {"param_type": getattr(aimet_onnx, weights), "activation_type": aimet_onnx.int8}
        sim = aimet_onnx.QuantizationSimModel(
            net, quant_scheme=scheme, dummy_input=given[0], config_file="default", **kinds
        )
        if rounding:
            aimet_onnx.apply_adaround(sim, given, num_iterations=rounding)
        sim.compute_encodings(given)
        onnx.save(sim.to_onnx_qdq(prequantize_constants=True), out)
        took = time.perf_counter() - start
        Path(ready).unlink(missing_ok=True)
        return took

    return run


RANGES: dict[str, Any] = {"effort": "fast", "target": "onnxruntime", "quantize_mode": "smart"}
"""Calibrated ranges and nothing after them: what peers without corrections do."""

W4: dict[str, Any] = {"weight_bit_num": 4, "quantize_mode": "full"}

TOOLS: dict[str, Run] = {
    "float": run_float,
    "fewbit-naive": run_fewbit(**RANGES, calib_mode="naive"),
    "fewbit-entropy": run_fewbit(**RANGES, calib_mode="entropy"),
    "fewbit-percentile": run_fewbit(**RANGES, calib_mode="percentile"),
    "fewbit-naive-full": run_fewbit(**RANGES | {"quantize_mode": "full"}, calib_mode="naive"),
    "fewbit-openvino": run_fewbit(**RANGES | {"target": "openvino"}, calib_mode="naive"),
    "fewbit-fast": run_fewbit(effort="fast"),
    "fewbit-default": run_fewbit(effort="default"),
    "fewbit-best": run_fewbit(effort="best"),
    "fewbit-full-fast": run_fewbit(effort="fast", quantize_mode="full"),
    "fewbit-full-default": run_fewbit(effort="default", quantize_mode="full"),
    "fewbit-full-best": run_fewbit(effort="best", quantize_mode="full"),
    "fewbit-w4-fast": run_fewbit(effort="fast", **W4),
    "fewbit-w4-default": run_fewbit(effort="default", **W4),
    "fewbit-w4-best": run_fewbit(effort="best", **W4),
    "fewbit-agreement": run_fewbit(min_agreement=0.97, time_limit=240),
    "ort-minmax": run_ort("MinMax"),
    "ort-entropy": run_ort("Entropy"),
    "ort-percentile": run_ort("Percentile"),
    "nncf": run_nncf(),
    "nncf-full": run_nncf(fast_bias_correction=False),
    "nncf-transformer": run_nncf("TRANSFORMER"),
    "aimet": run_aimet(),
    "aimet-enhanced": run_aimet("tf_enhanced"),
    "aimet-cle": run_aimet(equalize=True),
    "aimet-w4": run_aimet(weights="int4"),
    "aimet-w4-adaround": run_aimet(weights="int4", rounding=1000),
}

MEMORY = 16 << 30
"""Bytes for one process; a tool that wants more fails by itself, before the machine does."""

PACKAGES = {"float": "onnxruntime", "fewbit": "fewbit", "ort": "onnxruntime", "nncf": "nncf", "aimet": "aimet-onnx"}


def peak_mib() -> float:
    """Largest resident set of this program; `ru_maxrss` would count that of the process that started it too."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(re.findall(r"VmHWM:\s+(\d+)", status.read_text("utf-8"))[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("tool", choices=TOOLS)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--samples", type=int, default=100)
    args = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    seconds = TOOLS[args.tool](args.model, args.data, args.out, args.samples)
    package = PACKAGES[args.tool.split("-")[0]]
    print(json.dumps({"seconds": seconds, "rss_mib": peak_mib(), "version": f"{package} {installed(package)}"}))


if __name__ == "__main__":
    sys.exit(main())
