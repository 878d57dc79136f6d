"""What each operator costs in integers, and what the engine then really runs.

    python bench/operators.py onnxruntime|openvino [--only TEXT] [--rounds N]

prints the table behind `pays` and `slow` of the targets and writes results/operators-<engine>.json and .md.
One thread; float and all quantized variants take turns; a ratio is the median over the rounds of int8 ÷ float.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from common import turns, write
from operator_graphs import CORE, FLOAT, SUPPORT, Case, Net, Types

from fewbit.engines import onnxruntime, openvino
from fewbit.errors import EngineError
from fewbit.graph.files import from_proto
from fewbit.graph.model import Model

BEST = Types("u8", "s8")
MIXES = (
    BEST,
    Types("u8", "s8", channel=False),
    Types("u8", "u8", channel=False),
    Types("s8", "s8"),
    Types("s8", "s8", channel=False),
    Types("u16", "s8"),
)
OPENERS = {
    "onnxruntime": {"": onnxruntime.open_onnxruntime},
    "openvino": {
        "f32": lambda m: openvino.open_openvino(m, precision="f32"),
        "default": lambda m: openvino.open_openvino(m),
    },
}
SLICE = 0.004
"""Seconds that one turn of one variant takes at least."""


def graphs(case: Case, engine: str) -> dict[str, Net]:
    """The variants of a case by name."""
    how = {"edges": "int", "free": True} if engine == "onnxruntime" else {"edges": "float", "free": False}
    nets = {"float": Net(FLOAT, **how)}
    if not case.support:
        return nets | {str(t): Net(t, **how) for t in MIXES}
    nets |= {str(t): Net(t, **how) for t in (BEST, Types("s8", "s8"))}
    ways = ("float", "bare") if engine == "onnxruntime" else ("bare",)  # OpenVINO moves Q and DQ where it likes
    return nets | {f"op {leave}": Net(BEST, leave=leave, **how) for leave in ways}


def measure(case: Case, engine: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Variant → ms, ratio to float, what ran; a refused variant has the reason instead."""
    found: dict[str, dict[str, Any]] = {}
    runs: dict[str, Callable[[], object]] = {}
    for name, net in graphs(case, engine).items():
        case.build(net)
        for tag, opener in OPENERS[engine].items():
            key = f"{tag} {name}".strip()
            try:
                model = from_proto(net.proto())
                runner = opener(model)
                feeds = feeds_of(model)
                runner.run(feeds)
            except EngineError as e:
                found[key] = {"refused": str(e)[:200]}
                continue
            runs[key] = partial(runner.run, feeds)
            found[key] = {"runs": [f"{e.op.split('.')[-1]}[{e.types}]{'*' * e.integer}" for e in runner.executed()]}
    times = turns(runs, rounds, slice_=SLICE)
    for key, seconds in times.items():
        tag = next(t for t in sorted(OPENERS[engine], reverse=True) if key.startswith(t))
        ratios = [a / b for a, b in zip(seconds, times[f"{tag} float".strip()], strict=True)]
        found[key] |= {"ms": round(median(seconds) * 1000, 4), "ratio": round(median(ratios), 3)}
    return found


def pays(case: Case, found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """What stands in the tables: integer ÷ float for an operator alone; for one between others, their time with it
    integer ÷ their time with it float; of medians. By precision of the float parts, where the engine has several."""
    out = {}
    for key, f in found.items():
        tag = key.removesuffix(f"{BEST}").strip() if key.endswith(f"{BEST}") else None
        if tag is None or "ms" not in f:
            continue
        against = [f"{tag} {k}".strip() for k in (("op float", "op bare") if case.support else ("float",))]
        base = next((found[k]["ms"] for k in against if k in found and "ms" in found[k]), None)
        if base:
            out[tag or "float"] = round(f["ms"] / base, 2)
    return out


def feeds_of(model: Model) -> dict[str, np.ndarray[Any, Any]]:
    """Random numbers that use the whole range of integers; row numbers for an embedding."""
    rng = np.random.default_rng(0)
    feeds = {}
    for i in model.inputs:
        shape = [d if isinstance(d, int) else 1 for d in i.shape]
        if i.dtype.kind == "f":
            feeds[i.name] = rng.standard_normal(shape).astype(i.dtype)
        else:
            wide = i.dtype.itemsize > 2
            low, high = (0, 30000) if wide else (np.iinfo(i.dtype).min, np.iinfo(i.dtype).max)
            feeds[i.name] = rng.integers(low, high, shape).astype(i.dtype)
    return feeds


def lines_of(case: str, found: dict[str, dict[str, Any]]) -> list[str]:
    """Markdown rows; `*` marks operators that compute in integers."""
    rows = []
    for key, f in found.items():
        if "refused" in f:
            rows.append(f"| {case} | {key} | – | – | refused: {f['refused']} |")
            continue
        ops: dict[str, int] = {}
        for op in f["runs"]:
            ops[op] = ops.get(op, 0) + 1
        ran = ", ".join(f"{n}× {op}" if n > 1 else op for op, n in ops.items())
        rows.append(f"| {case} | {key} | {f['ms']:.3f} | {f['ratio']:.2f} | {ran} |")
    return rows


HEAD = ["| case | types | ms | ÷ float | what runs (* in integers) |", "|---|---|---|---|---|"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("engine", choices=sorted(OPENERS))
    parser.add_argument("--only", default="", help="cases whose name contains this; nothing is written then")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    print("\n".join(HEAD))
    table: dict[str, Any] = {}
    for case in (*CORE, *SUPPORT):
        if args.only.lower() in case.name.lower():
            found = measure(case, args.engine, args.rounds)
            table[case.name] = {"op": case.op, "pays": pays(case, found), "variants": found}
            print(
                "\n".join(lines_of(case.name, found)), f"\n  {case.name} pays: {table[case.name]['pays']}", flush=True
            )
    if args.only:
        return
    write(f"operators-{args.engine}", {"rounds": args.rounds, "cases": table}, page(table, args.rounds), show=False)


def page(cases: dict[str, Any], rounds: int) -> str:
    """The result for people."""
    short = ["| case | pays |", "|---|---|"]
    short += [f"| {n} | {', '.join(f'{t}: {r:.2f}' for t, r in c['pays'].items())} |" for n, c in cases.items()]
    rows = [line for n, c in cases.items() for line in lines_of(n, c["variants"])]
    parts = [
        f"1 thread; medians of {rounds} rounds.",
        (pays.__doc__ or "").replace("\n    ", " "),
        "\n".join(short),
        "## All variants",
        "\n".join([*HEAD, *rows]),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
