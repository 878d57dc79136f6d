"""The entropy coder: how near to the entropy, and how fast, on drawn integers and on real weights in steps.

    python bench/fse.py [--count 1000000] [--only NETWORK …] [--rounds 9]

Drawn: integers from distributions that weights resemble, and some that no weight does. Real: every weight of two and
more axes of a network, rounded to one step a layer such that the error is 2 % or 5 % of the weights' norm. `stream` is
what the coded bits take over the entropy, `buffer` what the whole buffer takes, with its table of 8 bytes a value;
`fixed` is whole bits without coding. Decoding runs on one thread, into int16; MB/s counts 2 bytes an integer.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from common import table, take_turns, write
from numpy.typing import NDArray
from zoo.fetch import Unavailable
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.core import fse
from fewbit.core.fse_tables import table_log

Drawn = Callable[[np.random.Generator, int], NDArray[Any]]

DISTRIBUTIONS: dict[str, Drawn] = {
    "normal, σ = 12": lambda r, n: r.normal(0, 12, n),
    "normal, σ = 0.3": lambda r, n: r.normal(0, 0.3, n),
    "normal, σ = 1000": lambda r, n: r.normal(0, 1000, n),
    "Laplace, 12": lambda r, n: r.laplace(0, 12, n),
    "Student t, 2 degrees": lambda r, n: r.standard_t(2, n) * 3,
    "Cauchy": lambda r, n: r.standard_cauchy(n) * 3,
    "flat, 256 values": lambda r, n: r.integers(-128, 128, n),
    "two values, 0.1 %": lambda r, n: r.random(n) < 0.001,
    "95 % zeros": lambda r, n: (r.random(n) < 0.05) * r.normal(0, 30, n),
}
REAL = ("minilm", "efficientnet_lite0", "resnet50_random")
ERRORS = (0.02, 0.05)
HEAD = ["integers", "count", "values", "log", "prescribed log", "entropy", "bits", "stream %", "prescribed %",
        "buffer %", "fixed", "decode MB/s", "million/s"]  # fmt: skip


def measure(parts: list[NDArray[np.int16]], rounds: int) -> dict[str, Any]:
    """Several arrays, each coded on its own, together one row."""
    count = sum(q.size for q in parts)
    coded = [fse.encode(q) for q in parts]
    taken = [fse.from_buffer(c, np.int32) for c in coded]
    prescribed = [
        fse.from_buffer(fse.encode(q, table_log(t.f.size)), np.int32) for q, t in zip(parts, taken, strict=True)
    ]
    for q, data in zip(parts, coded, strict=True):
        assert np.array_equal(fse.decode(data, q.size, np.int16), q.reshape(-1))
    seconds = take_turns({"decode": partial(decode_all, coded, [q.size for q in parts])}, rounds)["decode"]
    fixed = sum(q.size * max(1, math.ceil(math.log2(int(q.max()) - int(q.min()) + 1))) for q in parts) / count
    return {
        "count": count,
        "values": max(t.f.size for t in taken),
        "log": max(t.log for t in taken),
        "prescribed_log": max(t.log for t in prescribed),
        "entropy": sum(fse.entropy(q) * q.size for q in parts) / count,
        "bits": sum(t.bits for t in taken) / count,
        "prescribed_bits": sum(t.bits for t in prescribed) / count,
        "buffer_bits": 8 * sum(map(len, coded)) / count,
        "fixed_bits": fixed,
        "decode_mb_s": 2 * count / seconds / 1e6,
    }


def decode_all(coded: list[bytes], counts: list[int]) -> None:
    for data, count in zip(coded, counts, strict=True):
        fse.decode(data, count, np.int16, threads=1)


def drawn(kind: str, count: int) -> list[NDArray[np.int16]]:
    real = np.rint(np.asarray(DISTRIBUTIONS[kind](np.random.default_rng(0), count), np.float64))
    return [np.clip(real, -32768, 32767).astype(np.int16)]


def in_steps(name: str, error: float) -> list[NDArray[np.int16]]:
    """The weights of a network; rounding to a step s has the error s / √12."""
    found = []
    for value in fb.fuse(fb.load(NETWORKS[name].build())).weights():
        w = value.const_value.numpy() if value.const_value is not None else np.zeros(0)
        if w.dtype == np.float32 and w.ndim >= 2 and w.size >= 1024 and w.any():
            step = error * math.sqrt(12) * float(np.sqrt(np.mean(np.square(w, dtype=np.float64))))
            found.append(np.clip(np.rint(w / step), -32768, 32767).astype(np.int16))
    return found


def over(bits: float, entropy: float) -> str:
    return f"{(bits / entropy - 1) * 100:+.2f}"


def row(name: str, m: dict[str, Any]) -> list[Any]:
    e, speed = m["entropy"], m["decode_mb_s"]
    return [name, f"{m['count']:,}", m["values"], m["log"], m["prescribed_log"], f"{e:.4f}", f"{m['bits']:.4f}",
            over(m["bits"], e), over(m["prescribed_bits"], e), over(m["buffer_bits"], e), f"{m['fixed_bits']:.2f}",
            f"{speed:.0f}", f"{speed / 2:.0f}"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=REAL)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for kind in DISTRIBUTIONS:
        for count in (20_000, args.count):
            results[f"{kind}; {count:,}"] = measure(drawn(kind, count), args.rounds)
    missing = []
    for name in args.only:
        for error in ERRORS:
            try:
                results[f"{name}, error {error}"] = measure(in_steps(name, error), args.rounds)
            except Unavailable as e:
                missing.append(f"{name}: {e}")
                break
    write("fse", {"rows": results, "left_out": missing, "rounds": args.rounds}, page(results, missing))


def page(results: dict[str, Any], missing: list[str]) -> str:
    """The result for people."""
    text = table(HEAD, [row(name, m) for name, m in results.items()])
    text += (
        "\n\n`stream`, `prescribed` (the size of table that the format prescribes) and `buffer` are over the entropy; "
    )
    text += "of a network, values and logs are those of its largest layer, the other numbers are over all."
    return text + "".join(f"\n\nLeft out: {line}" for line in missing)


if __name__ == "__main__":
    main()
