"""Target tensorrt beside target onnxruntime: what of a network becomes integer, NVIDIA's rules, error in two engines.

    FEWBIT_ZOO=… python bench/tensorrt_check.py [--only NAME …] [--calib 64] [--samples 200]

TensorRT itself does not run here, so there are no times. SQNR and agreement are against the float network on the same
engine: ONNX Runtime (for target tensorrt every Q and DQ as it stands, the rest in float) and OpenVINO in f32, also with
its optimizer off, when it too computes what stands in the file. With `--only`, the other networks keep the results that
they have.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from common import RESULTS, cell, table, write
from judge import far, same_class
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.errors import EngineError, FewbitWarning
from fewbit.graph.model import Model
from fewbit.graph.tensorrt_legal import ILLEGAL, check_tensorrt

RUNS = (
    ("demo", "fast"), ("demo", "default"), ("resnet50_random", "fast"), ("efficientnet_lite0", "fast"),
    ("efficientnet_lite0", "default"), ("rapidocr_cls", "fast"), ("basic_pitch", "fast"), ("minilm", "fast"),
)  # fmt: skip
TARGETS = ("onnxruntime", "tensorrt")
ENGINES: dict[str, dict[str, Any]] = {
    "onnxruntime": {}, "openvino": {"precision": "f32"}, "openvino plain": {"precision": "f32", "optimize": False},
}  # fmt: skip
"""Column → options of the engine that its first word names."""


def answers(name: str, model: Model, feeds: Sequence[Mapping[str, Any]], **options: Any) -> list[dict[str, Any]]:
    """What an engine makes of all samples."""
    runner = open_runner(name, model, threads=2, **options)
    return [runner.run(f) for f in feeds]


def measure(name: str, effort: str, calib: int, samples: int) -> dict[str, Any]:
    """Both targets of one network."""
    network = NETWORKS[name]
    data, feeds = list(islice(network.calib(), calib)), [f for f, _ in islice(network.judge(), samples)]
    given = fb.load(network.build())
    truth = {e: answers(e.split()[0], given, feeds, **options) for e, options in ENGINES.items()}
    found: dict[str, Any] = {"samples": len(feeds), "calibration": len(data), "targets": {}}
    for target in TARGETS:
        start = time.perf_counter()
        made = fb.quantize(given, data, target=target, effort=effort, verify=False)
        rules = Counter((v.severity, v.rule) for v in check_tensorrt(made))
        told: dict[str, Any] = {
            "seconds": time.perf_counter() - start,
            "layers": len(made.plan.nodes),
            "integer": sum(n.quantized for n in made.plan.nodes.values()),
            "illegal": {rule: n for (kind, rule), n in rules.items() if kind == ILLEGAL},
            "slow": {rule: n for (kind, rule), n in rules.items() if kind != ILLEGAL},
        }
        for engine, options in ENGINES.items():
            try:
                theirs = answers(target if engine == "onnxruntime" else "openvino", made, feeds, **options)
            except EngineError as e:
                told[engine] = {"error": str(e)}
                continue
            told[engine] = far(truth[engine], theirs)
            if network.scores:
                told[engine]["agreement"] = same_class(network.scores, truth[engine], theirs)
        found["targets"][target] = told
    return found


def words(rules: Mapping[str, int]) -> str:
    """Rules and how often each is broken."""
    return ", ".join(f"{n} {rule}" for rule, n in rules.items()) or "none"


def text(results: Mapping[str, Any]) -> str:
    """The table."""
    head = ("network", "effort", "target", "integer layers", "illegal for TensorRT", "costs it speed", "ORT: SQNR dB",
            "same class %", "OpenVINO: SQNR dB", "same class %", "optimizer off: SQNR dB", "same class %")  # fmt: skip
    rows = []
    for key, found in results.items():
        for target, told in found["targets"].items():
            figures = [cell(told[e].get(f)) for e in ENGINES for f in ("sqnr", "agreement")]
            rows.append([*key.split("/"), target, f"{told['integer']} of {told['layers']}", words(told["illegal"]),
                         words(told["slow"]), *figures])  # fmt: skip
    note = (
        "Against the float network on the same engine. Target tensorrt has s8 with zero point 0 for activations, so a "
        "value behind a ReLU has half the steps that target onnxruntime (u8) gives it; and it keeps no layer float for "
        "the sake of a CPU's speed. It did not run on an NVIDIA GPU. In basic_pitch OpenVINO's optimizer computes one "
        "output of the tensorrt form otherwise; with it off the answers are those of ONNX Runtime."
    )
    return f"{note}\n\n{table(head, rows)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--calib", type=int, default=64)
    parser.add_argument("--samples", type=int, default=200)
    args = parser.parse_args()
    file = RESULTS / "tensorrt.json"
    results: dict[str, Any] = json.loads(file.read_text("utf-8"))["results"] if file.exists() else {}
    warnings.simplefilter("ignore", FewbitWarning)
    for name, effort in RUNS:
        if args.only is not None and name not in args.only:
            continue
        results[f"{name}/{effort}"] = measure(name, effort, args.calib, args.samples)
        ordered = {f"{n}/{e}": results[f"{n}/{e}"] for n, e in RUNS if f"{n}/{e}" in results}
        write("tensorrt", {"results": ordered}, text(ordered), show=False)
        print(name, effort, json.dumps(results[f"{name}/{effort}"]["targets"]))


if __name__ == "__main__":
    main()
