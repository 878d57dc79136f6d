"""Facts of made-up reports: one of ResNet-50's size, small ones where much went wrong, one with next to nothing."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np

BINS = 128
STAGES = ((3, 64, 256, 56), (4, 128, 512, 28), (6, 256, 1024, 14), (3, 512, 2048, 7))
Json = dict[str, Any]


def resnet50() -> Json:
    """As many layers, channels and multiplications as ResNet-50 has; nothing went wrong. Yours to change."""
    found: Json = json.loads(_resnet50())
    return found


@cache
def _resnet50() -> str:
    rng = np.random.default_rng(50)
    layers = [_layer(rng, i, *found) for i, found in enumerate(_walk())]
    integer = sum(layer["integer"] for layer in layers)
    macs = sum(layer["macs"] or 0 for layer in layers)
    return json.dumps({
        "fewbit": "0.8.0", "title": "resnet50-int8", "made": "2026-11-22 05:00 UTC",
        "summary": {
            "model": "resnet50.onnx", "quantized": "resnet50-int8.onnx", "target": "onnxruntime",
            "engine": "ONNX Runtime 1.27.0", "machine": "x86_64, 16 cores, AVX512 VNNI, Linux 6.8", "threads": 4,
            "versions": {"fewbit": "0.8.0", "numpy": "2.4.1", "onnx": "1.20.0", "onnxruntime": "1.27.0"},
            "command": "fewbit report resnet50.onnx resnet50-int8.onnx --data imagenet/val --samples 64 "
            "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --target onnxruntime -o report.html",
            "samples": 64, "size": {"float": 102_161_408, "quantized": 25_731_072},
            "latency": {"float_ms": 21.43, "quantized_ms": 8.91, "ratio": 0.416, "ratio_low": 0.401,
                        "ratio_high": 0.433, "batch": 1},
            "accuracy": {"float": {"1": 0.8034, "5": 0.9511}, "quantized": {"1": 0.8011, "5": 0.9502},
                         "agreement": 0.9718, "samples": 5000, "fixed": 38, "broken": 50},
            "cosine": 0.99871, "sqnr": 26.4, "macs": {"total": macs, "integer": macs, "share": 1.0},
            "layers": {"total": len(layers), "integer": integer},
            "problems": [], "advice": [], "notes": ["accuracy: 5000 images, in the order of the folder"],
            "corrections": ["equalize: cosine 0.99682 → 0.99802, kept", "bias: cosine 0.99802 → 0.99871, kept"],
            "warnings": [],
        },
        "outputs": [_error("logits", "Gemm", 26.4, rng) | {"node": "fc"}],
        "layers": layers, "profile": _profile(layers), "sensitivity": _sensitivity(layers, rng), "sizes": _sizes(),
        "sweeps": _sweeps(),
    })  # fmt: skip


def troubled() -> Json:
    """Nine layers: slower than float, answers NaN, names that want to be markup, and most parts missing."""
    facts = resnet50()
    layers = facts["layers"][:9]
    names = ("<script>alert(1)</script>", "x" * 300, "", "слой/слоя 层 🙂", "\"&amp;'</script>")
    for layer, name in zip(layers, names, strict=False):
        layer["name"] = layer["node"] = name
    layers[2] |= {"sqnr": "nan", "cosine": "nan", "max_abs": "inf", "own": None}
    layers[3] |= {"histogram": None, "weights": None, "integer": False, "format": None, "range": None,
                  "scale": None, "zero_point": None, "verdict": "the input's range is not known: 'слой'"}  # fmt: skip
    layers[4] |= {"sqnr": "inf", "own": "inf", "cosine": 1.0, "max_abs": 0.0}
    layers[5] |= {"sqnr": 3.2, "own": 4.0, "clip": 0.31, "cosine": 0.81}
    facts["summary"] |= {
        "problems": ["SLOWER THAN FLOAT on this machine: 1.31x its latency (1.22–1.40), batch 1. Most time is lost in "
                     "conv1 (+20 us).",
                     "THE OUTPUT IS OFF: cosine against float nan, it should be at least 0.98. Worst layers: <b>fc</b> "
                     "(Gemm, nan dB)."],
        "advice": ["try all corrections, which takes minutes: effort = best",
                   "keep the layers that add most noise in float: exclude_layers = fc, conv2"],
        "warnings": ["2 samples were left out"], "cosine": "nan", "sqnr": "nan", "accuracy": None,
        "latency": {"float_ms": 3.1, "quantized_ms": 4.06, "ratio": 1.31, "ratio_low": 1.22, "ratio_high": 1.4,
                    "batch": 1},
        "layers": {"total": 9, "integer": 8},
        "command": "fewbit report 'a b.onnx' </script><img src=x onerror=alert(1)>",
    }  # fmt: skip
    facts["title"] = "<script>alert('title')</script>"
    facts["outputs"] = [_error("", "Softmax", "nan", np.random.default_rng(1)) | {"cosine": "nan", "node": ""}]
    return facts | {
        "layers": layers,
        "profile": _profile(layers, slower=True),
        "sensitivity": None,
        "sizes": None,
        "sweeps": [],
    }


def whole() -> Json:
    """All that a report can have, of the nine layers of `troubled`."""
    full = resnet50()
    return troubled() | {key: full[key] for key in ("sensitivity", "sizes", "sweeps")}


def bare() -> Json:
    """What is left of a report when nothing could be measured."""
    empty = dict.fromkeys(
        ("model", "quantized", "target", "engine", "machine", "threads", "versions", "command", "samples", "size",
         "latency", "accuracy", "cosine", "sqnr", "macs", "layers", "problems", "advice", "notes", "corrections",
         "warnings")
    )  # fmt: skip
    layer = dict.fromkeys(
        ("id", "name", "node", "op", "sqnr", "own", "cosine", "max_abs", "clip", "sparsity", "integer", "verdict",
         "format", "scale", "zero_point", "range", "range_reason", "macs", "us_float", "us_quantized", "histogram",
         "weights")
    )  # fmt: skip
    parts = dict.fromkeys(("title", "made", "outputs", "profile", "sensitivity", "sizes", "sweeps"))
    return {"fewbit": "0.8.0", "summary": empty, "layers": [layer | {"id": 0}], **parts}


def _walk() -> list[tuple[str, str, int, int, int]]:
    """ResNet-50's values: (node, op, channels out, products a channel, pixels)."""
    found = [("conv1", "Conv", 64, 147, 112 * 112), ("relu", "Relu", 64, 0, 112 * 112)]
    found += [("maxpool", "MaxPool", 64, 0, 56 * 56)]
    inner = 64
    for stage, (blocks, mid, out, side) in enumerate(STAGES, 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            found += [(f"{at}.conv1", "Conv", mid, inner, side * side), (f"{at}.relu1", "Relu", mid, 0, side * side),
                      (f"{at}.conv2", "Conv", mid, 9 * mid, side * side), (f"{at}.relu2", "Relu", mid, 0, side * side),
                      (f"{at}.conv3", "Conv", out, mid, side * side)]  # fmt: skip
            if not block:
                found += [(f"{at}.downsample.0", "Conv", out, inner, side * side)]
            found += [(f"{at}.add", "Add", out, 0, side * side), (f"{at}.relu3", "Relu", out, 0, side * side)]
            inner = out
    return [*found, ("avgpool", "GlobalAveragePool", 2048, 0, 1), ("fc", "Gemm", 1000, 2048, 1)]


def _layer(rng: np.random.Generator, i: int, node: str, op: str, channels: int, inner: int, pixels: int) -> Json:
    name = "/" + "/".join(node.split(".")) + f"/{op}_output_0"
    relu, sqnr = op in ("Relu", "MaxPool"), float(38 - 0.1 * i + rng.normal(0, 2.5) - 9 * (rng.random() < 0.05))
    values = np.abs(rng.normal(0, 1.2, 20_000)) if relu else rng.standard_t(6, 20_000) * 1.2
    hi = float(np.quantile(values, 0.9995))
    lo = 0.0 if relu else float(np.quantile(values, 0.0005))
    scale = (hi - lo) / 255
    zero = round(-lo / scale)
    back = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
    edges = np.linspace(min(values.min(), 0), values.max(), BINS + 1)
    macs = inner * channels * pixels if inner else None
    us = round((macs or 1e6) / 2e5 * rng.uniform(0.8, 1.3), 1)
    return {
        "id": i, **_error(name, op, sqnr, rng), "node": node, "own": sqnr + float(rng.uniform(1, 6)),
        "clip": float(np.mean((values < lo) | (values > hi))),
        "sparsity": 0.46 if relu else float(np.mean(values == 0)),
        "integer": True,
        "verdict": "integer: onnxruntime has it for uint8" if inner else "integer: passes its input's format on",
        "format": "uint8", "scale": scale, "zero_point": zero, "range": [lo, hi], "range_reason": "entropy, 64 samples",
        "macs": macs, "us_float": us, "us_quantized": round(us * rng.uniform(0.25, 0.7), 1),
        "histogram": {
            "low": float(edges[0]), "step": float(edges[1] - edges[0]),
            "float": np.histogram(values, edges)[0].tolist(), "quantized": np.histogram(back, edges)[0].tolist(),
            "below": [0, 0], "above": [0, 0],
        },
        "weights": _weights(rng, node, channels) if inner else None,
    }  # fmt: skip


def _error(name: str, op: str, sqnr: float | str, rng: np.random.Generator) -> Json:
    cosine = 1 - 0.5 * 10 ** (-sqnr / 10) if isinstance(sqnr, float) else "nan"
    return {"name": name, "op": op, "sqnr": sqnr, "cosine": cosine, "max_abs": float(rng.uniform(0.05, 0.6))}


def _weights(rng: np.random.Generator, node: str, channels: int) -> Json:
    spread = rng.lognormal(-2.4, 0.5, channels)
    high, low = spread * rng.uniform(1, 1.5, channels), -spread * rng.uniform(1, 1.5, channels)
    limit = np.maximum(high, -low)
    return {
        "name": f"{node}.weight", "format": "int8", "granularity": "channel", "channels": channels, "bits": 8,
        "low": low.tolist(), "high": high.tolist(), "limit_low": (-limit).tolist(), "limit_high": limit.tolist(),
        "sqnr": rng.normal(42, 2, channels).tolist(), "sparsity": 0.0021, "clip": 0.0,
    }  # fmt: skip


def _profile(layers: list[Json], slower: bool = False) -> Json:
    rows: list[Json] = []
    for layer in layers:
        us, factor = layer["us_float"], 1.4 if slower else 1.0
        to = layer["us_quantized"] * factor
        rows.append({"layer": layer["node"], "op_float": layer["op"], "us_float": us, "op_int": f"QLinear{layer['op']}",
                     "types": "uint8,int8", "us_int": to, "ratio": to / us, "lost": to - us})  # fmt: skip
    rows.append({"layer": "input_QuantizeLinear", "op_float": "", "us_float": None, "op_int": "QuantizeLinear",
                 "types": "float32", "us_int": 41.0, "ratio": None, "lost": None})  # fmt: skip
    rows.sort(key=lambda r: -(r["lost"] if r["lost"] is not None else -1e9))
    totals: list[dict[str, list[float]]] = [{}, {}]
    for row in rows:
        for found, side in zip(totals, ("float", "int"), strict=True):
            op, us = row[f"op_{side}"], row[f"us_{side}"]
            if op:
                count, so_far = found.get(op, [0, 0.0])
                found[op] = [count + 1, so_far + us]
    return {
        "us_float": sum(us for _, us in totals[0].values()), "us_quantized": sum(us for _, us in totals[1].values()),
        "rows": rows, "float_operators": totals[0], "int_operators": totals[1],
    }  # fmt: skip


def _sensitivity(layers: list[Json], rng: np.random.Generator) -> Json:
    rows = [
        {"layer": x["node"], "op": x["op"], "alone": float(rng.normal(42, 5)), "left": float(rng.normal(27, 0.5))}
        for x in layers if x["macs"]
    ]  # fmt: skip
    return {"kind": "estimated", "about": "estimated from 64 samples: the noise of each layer, carried to the output",
            "rows": sorted(rows, key=lambda r: r["alone"])}  # fmt: skip


def _sizes() -> Json:
    keys = ("form", "file", "compression", "load_s", "load_mib", "peak_mib", "latency", "cosine", "sqnr", "note")
    rows = (
        ("float", 102_161_408, 1.0, 0.31, 121.0, 160.0, 1.0, 1.0, "inf", ""),
        ("full 8", 25_731_072, 3.97, 0.22, 48.0, 71.0, 0.416, 0.99871, 26.4, ""),
        ("weight 8", 25_802_100, 3.96, 0.41, 140.0, 171.0, 1.02, 0.99991, 37.2, ""),
        ("weight 4", 13_402_880, 7.62, 0.44, 141.0, 172.0, 1.05, 0.9921, 18.0, ""),
        ("mixed", 15_120_640, 6.76, 0.43, 141.0, 172.0, 1.04, 0.9975, 23.1, ""),
        ("dynamic 8", None, None, None, None, None, None, None, None, "ConvInteger is not in this engine's build"),
    )
    return {"about": "ONNX Runtime 1.27.0, 4 threads, batch 1", "rows": [dict(zip(keys, r, strict=True)) for r in rows]}


def _sweeps() -> list[Json]:
    rows = []
    for merge in (False, True):
        for kind, gain in (("layer", 0.0), ("channel", 0.06)):
            for ranges, more in (("naive", 0.0), ("kl", 0.03)):
                for bits in range(2, 9):
                    top1 = 0.80 * min(1.0, max(0.001, 1 - 2.2 ** (3.1 - bits) + gain + more - 0.04 * merge))
                    rows.append({
                        "bits": bits, "quant_type": kind, "ranges": ranges, "merge_bn": merge, "top1": top1,
                        "drop": 0.8034 - top1, "agreement": top1 * 1.1, "fixed": 10, "broken": 40,
                    })  # fmt: skip
    about = "resnet50 on imagenet/val, 5000 images"
    return [{"network": "resnet50", "data": "imagenet/val", "about": about, "top1": 0.8034, "rows": rows}]
