"""Weights of products with all kinds of attributes, biases and sides: fitted to data, never much worse than nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from tests.models import info, node, proto, run

NETWORKS = 24


def product(rng: np.random.Generator) -> tuple[Any, tuple[int, ...]]:
    """A network of one Gemm, MatMul or Conv at random, and the shape of its input."""
    made = (_gemm, _gemm, _matmul, _conv)[int(rng.integers(4))]
    op, x, weights, names, words = made(rng)
    shown = proto([node(op, names, "y", "layer", **words)], [info("x", x)], [info("y", None)], weights)
    return shown, x


def _floats(rng: np.random.Generator, *shape: int) -> Any:
    return (rng.standard_normal(shape) + rng.choice([0, 0.5])).astype(np.float32)


def _gemm(rng: np.random.Generator) -> tuple[Any, ...]:
    m, k, n = (int(rng.choice(c)) for c in ((1, 6, 40), (40, 48), (30, 40)))
    words = {"transA": int(rng.integers(2)), "transB": int(rng.integers(2))}
    words |= {"alpha": float(rng.choice([1, 0.5, -3])), "beta": float(rng.choice([1, 0, 0.3]))}
    if rng.random() < 0.2:
        weights = {"w": _floats(rng, *((k, n) if words["transA"] else (n, k)))}
        return "Gemm", (m, k) if words["transB"] else (k, m), weights, "w x", words
    weights = {"w": _floats(rng, *((n, k) if words["transB"] else (k, n)))}
    shapes = [None, (), (1,), (n,), (1, n), (m, 1), (m, n)]
    shape = shapes[int(rng.integers(len(shapes)))]
    if shape is not None:
        weights["b"] = 3 * _floats(rng, *shape)
    return "Gemm", (k, m) if words["transA"] else (m, k), weights, "x w b" if "b" in weights else "x w", words


def _matmul(rng: np.random.Generator) -> tuple[Any, ...]:
    x, w, names = [
        ((6, 40), (40, 30), "x w"), ((40,), (40, 30), "x w"), ((2, 3, 40), (40, 30), "x w"),
        ((3, 6, 40), (3, 40, 30), "x w"), ((40, 6), (30, 40), "w x"), ((2, 40, 6), (30, 40), "w x"),
        ((40,), (30, 40), "w x"), ((2, 40, 6), (2, 30, 40), "w x"), ((6, 40), (40, 1), "x w"),
    ][int(rng.integers(9))]  # fmt: skip
    return "MatMul", x, {"w": _floats(rng, *w)}, names, {}


def _conv(rng: np.random.Generator) -> tuple[Any, ...]:
    rank, group = int(rng.integers(1, 4)), int(rng.choice([1, 2, 8]))
    kernel = tuple(int(k) for k in rng.integers(1, 4, rank))
    words: dict[str, Any] = {"group": group, "strides": [int(s) for s in rng.integers(1, 3, rank)]}
    pad = rng.choice(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER", "pads"])
    words |= {"pads": [int(p) for p in rng.integers(0, 3, 2 * rank)]} if pad == "pads" else {"auto_pad": str(pad)}
    if not str(pad).startswith("SAME"):
        words["dilations"] = [int(d) for d in rng.integers(1, 3, rank)]
    weights = {"w": _floats(rng, 64, 16 // group, *kernel)}
    if rng.random() < 0.5:
        weights["b"] = _floats(rng, 64)
    return "Conv", (2, 16, *[7] * rank), weights, "x w b" if "b" in weights else "x w", words


def sqnr(truth: fb.Model, found: fb.Model, feeds: list[dict[str, Any]]) -> float:
    noise = signal = 0.0
    for f in feeds:
        a, b = run(truth, f)["y"], run(found, f)["y"]
        noise, signal = noise + float(((a - b) ** 2).sum()), signal + float((a**2).sum())
    return float(10 * np.log10(signal / max(noise, 1e-12 * signal, 1e-30)))


@pytest.mark.filterwarnings("ignore::fewbit.errors.FewbitWarning")
@pytest.mark.parametrize("seed", range(NETWORKS))
def test_data_never_hurts(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    made, shape = product(rng)
    path = tmp_path / "p.onnx"
    path.write_bytes(made.SerializeToString())
    feeds = [{"x": (rng.standard_normal(shape) + 0.3).astype(np.float32)} for _ in range(24)]
    words: dict[str, Any] = {"quant_type": "weight", "verify": False, "min_quant_weight_size": 1}
    plain = fb.quantize(path, bit_num=4, quant_strategy="MAX_MIN", bias_correction=False, **words)
    fitted = fb.quantize(path, feeds[:12], bit_num=4, **words)
    mixed = fb.quantize(path, feeds[:12], bit_num=0, **words)
    truth = fb.load(path)
    nearest = sqnr(truth, plain, feeds[12:])
    assert sqnr(truth, fitted, feeds[12:]) > nearest - 1
    assert sqnr(truth, mixed, feeds[12:]) > 15
