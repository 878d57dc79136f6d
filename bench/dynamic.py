"""Dynamic quantization: what each operator costs on each engine, and what becomes of MiniLM, beside ONNX Runtime's own.

    python bench/dynamic.py [--only TEXT] [--rounds N]

One layer alone, all rows of the target taken, one thread, float and integer in turns; a ratio is the median over the
rounds of integer ÷ float. Writes results/dynamic.json and .md; with `--only`, cases whose name contains this are shown
and nothing is written. MiniLM is loaded in a process of its own for its memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import child, table, turns, write
from onnx import TensorProto, helper, numpy_helper
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.errors import FewbitWarning
from fewbit.graph.files import from_proto
from fewbit.graph.model import Model

SLICE = 0.01
LENGTHS = (16, 64, 128)
"""Words of a text."""

SAMPLES = 120
LAYERS = {"onnxruntime": ("auto", "ACWL"), "openvino": ("auto",)}
"""Engine → strategies that it has."""


def layer(op: str, shape: list[int], weights: Mapping[int, tuple[int, ...]], bias: int = 0, **attrs: Any) -> Model:
    """One node; `weights`: input → shape. What is no weight is computed: x, and y for a second one."""
    rng = np.random.default_rng(0)
    names, inits = ["", ""] + [""] * max(0, max(weights, default=0) - 1), []
    for i, dims in weights.items():
        names[i] = f"w{i}"
        data = (rng.standard_normal(dims) / np.sqrt(dims[-1])).astype(np.float32)
        inits.append(numpy_helper.from_array(data, names[i]))
    if bias:
        inits.append(numpy_helper.from_array(rng.standard_normal(bias).astype(np.float32), "b"))
        names.append("b")
    kind, free = TensorProto.INT64 if op == "Gather" else TensorProto.FLOAT, iter("xy")
    shapes, ins = {"x": shape, "y": [*shape[:-2], shape[-1], shape[-2]]}, []
    for i, name in enumerate(names):
        if not name:
            names[i] = next(free)
            ins.append(helper.make_tensor_value_info(names[i], kind, shapes[names[i]]))
    outs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node(op, names, ["out"], name="layer", **attrs)], "net", ins, outs, inits)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


def _lstm(op: str, units: int, steps: int = 32) -> Callable[[], Model]:
    gates = {"LSTM": 4, "GRU": 3}[op] * units
    weights = {1: (1, gates, units), 2: (1, gates, units)}
    return partial(layer, op, [steps, 1, units], weights, hidden_size=units)


def _product(rows: int, inner: int, outer: int) -> Callable[[], Model]:
    return partial(layer, "MatMul", [1, rows, inner], {1: (inner, outer)})


def _gemm(rows: int, inner: int, outer: int, **attrs: Any) -> Callable[[], Model]:
    shape = [inner, rows] if attrs.get("transA") else [rows, inner]
    return partial(layer, "Gemm", shape, {1: (outer, inner)}, outer, transB=1, **attrs)


CASES: dict[str, Callable[[], Model]] = {
    **{f"MatMul {m}×{k}→{n}": _product(m, k, n) for m, k, n in (
        (1, 64, 64), (128, 64, 64), (1, 128, 128), (1, 128, 256), (1, 256, 256), (1, 256, 512), (1, 384, 384),
        (16, 384, 384), (16, 384, 1536), (128, 384, 384), (128, 384, 1536), (128, 1536, 384),
    )},
    "MatMul 8·64×256→512 (batched weights)": partial(layer, "MatMul", [8, 64, 256], {1: (8, 256, 512)}),
    "MatMul W·x 64×64×64": partial(layer, "MatMul", [2, 64, 64], {0: (64, 64)}),
    "MatMul W·x 256×256×64": partial(layer, "MatMul", [2, 256, 64], {0: (256, 256)}),
    "MatMul W·x 512×512×128": partial(layer, "MatMul", [2, 512, 128], {0: (512, 512)}),
    **{f"MatMul computed 12·{t}×{d}×{t}": partial(layer, "MatMul", [1, 12, t, d], {}) for t, d in (
        (16, 32), (64, 32), (128, 32), (128, 64), (384, 64), (512, 64),
    )},
    **{f"Gemm {m}×{k}→{n}": _gemm(m, k, n) for m, k, n in (
        (1, 64, 10), (32, 64, 10), (1, 512, 1000), (1, 1024, 1024), (32, 1024, 1024),
    )},
    "Gemm 32×1024→1024, α β transA": _gemm(32, 1024, 1024, alpha=0.5, beta=2.0, transA=1),
    **{f"LSTM {h}, 32 steps": _lstm("LSTM", h) for h in (32, 64, 128, 256, 512)},
    "GRU 256, 32 steps": _lstm("GRU", 256),
    "Gather 16 of 30522×384": partial(layer, "Gather", [1, 16], {0: (30522, 384)}),
    "Gather 128 of 30522×384": partial(layer, "Gather", [1, 128], {0: (30522, 384)}),
    "Conv 3×3 64 56²": partial(layer, "Conv", [1, 64, 56, 56], {1: (64, 64, 3, 3)}, pads=[1] * 4),
}  # fmt: skip


def feeds_of(model: Model) -> dict[str, Any]:
    """Random numbers; rows of a table."""
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {}
    for i in model.inputs:
        shape = [int(d or 0) for d in i.shape]
        floats = i.dtype.kind == "f"
        found[i.name] = rng.standard_normal(shape).astype(np.float32) if floats else rng.integers(0, 30000, shape)
    return found


def measure(name: str, engine: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Strategy → ratio, error relative to float, what ran."""
    model = CASES[name]()
    feeds = feeds_of(model)
    found: dict[str, dict[str, Any]] = {}
    runners = {"float": open_runner(engine, model)}
    for strategy in LAYERS[engine]:
        made = fb.quantize(
            model, quant_type="dynamic", quant_strategy=strategy, quantize_mode="full", target=engine, verify=False
        )
        verdict = made.plan.nodes["layer"]
        if not verdict.quantized:
            found[strategy] = {"float": verdict.reason}
            continue
        runners[strategy] = open_runner(engine, made)
    times = turns({k: partial(r.run, feeds) for k, r in runners.items()}, rounds, slice_=SLICE)
    theirs = runners["float"].run(feeds)["out"]
    for strategy, runner in runners.items():
        ratios = [a / b for a, b in zip(times[strategy], times["float"], strict=True)]
        ran = Counter(e.op.split(".")[-1] + "*" * e.integer for e in runner.executed())
        error = np.linalg.norm(runner.run(feeds)["out"] - theirs) / np.linalg.norm(theirs)
        found[strategy] = {
            "us": round(median(times[strategy]) * 1e6, 1), "ratio": round(median(ratios), 3),
            "error": round(float(error), 4), "runs": " ".join(f"{n}× {o}" if n > 1 else o for o, n in ran.items()),
        }  # fmt: skip
    return found


# -- MiniLM -----------------------------------------------------------------------------------------------------------


def forms(source: Path, folder: Path) -> dict[str, dict[str, Path]]:
    """Engine → form → file."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    ort, ov = {"float": source}, {"float": source}
    for word, strategy in (("fewbit ALWC", "ALWC"), ("fewbit ACWL", "ACWL")):
        ort[word] = folder / f"{word}.onnx"
        fb.quantize(source, quant_type="dynamic", quant_strategy=strategy, verify=False).save(ort[word])
    ort["ORT quantize_dynamic"] = folder / "ort.onnx"
    quantize_dynamic(source, ort["ORT quantize_dynamic"], per_channel=True, weight_type=QuantType.QInt8)
    ov["fewbit"] = folder / "ov.onnx"
    fb.quantize(source, quant_type="dynamic", target="openvino", verify=False).save(ov["fewbit"])
    return {"onnxruntime": ort, "openvino": ov}


def minilm(rounds: int) -> dict[str, dict[str, dict[str, Any]]]:
    """Engine → form → size, memory, latency by length, cosine to float."""
    network, found = NETWORKS["minilm"], {}
    texts = [f for f, _ in islice(network.judge(), SAMPLES)]
    with tempfile.TemporaryDirectory() as folder:
        source = network.build()
        for engine, files in forms(source, Path(folder)).items():
            runners = {k: open_runner(engine, fb.load(p, allow_quantized=True)) for k, p in files.items()}
            theirs = [runners["float"].run(f) for f in texts]
            here = {k: _form(k, p, engine, runners[k], texts, theirs, source) for k, p in files.items()}
            for length in LENGTHS:
                for k, ratio in _latency(runners, length, rounds).items():
                    here[k][f"latency {length}"] = ratio
            found[engine] = here
    return found


def _form(word: str, path: Path, engine: str, runner: Any, texts: Any, theirs: Any, source: Path) -> dict[str, Any]:
    ours = [runner.run(f) for f in texts]
    cosines = [float(np.vdot(a["embedding"], b["embedding"])) for a, b in zip(ours, theirs, strict=True)]
    norms = [np.linalg.norm(a["embedding"]) * np.linalg.norm(b["embedding"]) for a, b in zip(ours, theirs, strict=True)]
    versus = NETWORKS["minilm"].versus
    assert versus is not None
    told = child(sys.executable, Path(__file__), "--resident", str(path), engine, threads=1)
    return {
        "MB": path.stat().st_size / 1e6, "÷": source.stat().st_size / path.stat().st_size,
        "RSS MiB": told.get("rss_mib"), "cosine": float(np.mean(np.array(cosines) / norms)),
        "least cosine": float(np.min(np.array(cosines) / norms)), **versus(theirs, ours),
        **({"error": told["error"]} if "error" in told else {}), "form": word,
    }  # fmt: skip


def _latency(runners: Mapping[str, Any], length: int, rounds: int) -> dict[str, dict[str, float]]:
    ids = np.random.default_rng(0).integers(1000, 20000, (1, length))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    times = turns({k: partial(r.run, feeds) for k, r in runners.items()}, rounds, slice_=5 * SLICE)
    return {
        k: {"ms": round(median(t) * 1e3, 3),
            "ratio": round(median(a / b for a, b in zip(t, times["float"], strict=True)), 3)}
        for k, t in times.items()
    }  # fmt: skip


def resident(path: str, engine: str) -> None:
    """Load a network, run it, and print how much memory the process then holds above what it began with."""
    before = _rss()
    runner = open_runner(engine, fb.load(path, allow_quantized=True))
    ids = np.ones((1, 128), np.int64)
    for _ in range(3):
        runner.run({"input_ids": ids, "attention_mask": ids})
    print(json.dumps({"rss_mib": _rss() - before}))


def _rss() -> float:
    line = next(x for x in Path("/proc/self/status").read_text("utf-8").splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


# -- the page ---------------------------------------------------------------------------------------------------------


def page(layers: Mapping[str, Any], nets: Mapping[str, Any]) -> str:
    """The text for people."""
    parts = ["One thread, batch 1, float and integer in turns; latency is a share of float's on the same engine."]
    for engine, found in nets.items():
        head = ["MiniLM", "MB", "÷ float", "RSS MiB", "cosine", "least cosine", "similarity r"]
        rows = [
            [k, f["MB"], f["÷"], f["RSS MiB"], *(f"{f[c]:.4f}" for c in ("cosine", "least cosine", "similarity r")),
             *(f[f"latency {n}"]["ratio"] for n in LENGTHS)]
            for k, f in found.items()
        ]  # fmt: skip
        parts += [f"## MiniLM in {engine}", table([*head, *(f"latency, {n} tokens" for n in LENGTHS)], rows)]
    for engine, cases in layers.items():
        rows = []
        for name, found in cases.items():
            for strategy, f in found.items():
                if strategy != "float":
                    rows.append([name, strategy, f.get("ratio"), f.get("error"), f.get("runs") or f["float"]])
        parts += [f"## Layers alone in {engine}", table(["layer", "strategy", "÷ float", "error", "runs"], rows)]
    parts.append("`*` computes in integers. error: norm of the difference ÷ norm of the float output.")
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="", help="cases whose name contains this; nothing is written then")
    parser.add_argument("--engine", choices=LAYERS, help="this engine alone, with --only")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--resident", nargs=2, metavar=("FILE", "ENGINE"), help="memory of one network (used inside)")
    args = parser.parse_args()
    warnings.simplefilter("ignore", FewbitWarning)  # rows that cost are what is measured
    if args.resident:
        resident(*args.resident)
        return
    layers: dict[str, dict[str, Any]] = {}
    for engine in [args.engine] if args.engine else LAYERS:
        for name in CASES:
            if args.only.lower() in name.lower():
                found = layers.setdefault(engine, {})[name] = measure(name, engine, args.rounds)
                print(engine, name, found, file=sys.stderr, flush=True)
    if not args.only:
        nets = minilm(args.rounds)
        write("dynamic", {"rounds": args.rounds, "layers": layers, "minilm": nets}, page(layers, nets))


if __name__ == "__main__":
    main()
