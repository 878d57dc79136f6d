"""The text of accuracy.py: a summary, a table for each network, then the parts that only some networks have."""

from __future__ import annotations

import math
from typing import Any

from common import cell, table

Found = dict[str, Any]
EFFORTS = ("fast", "default", "best")
LITE0 = "efficientnet_lite0"


def sqnr(found: Found, tool: str) -> float | None:
    """In dB; inf if there is no difference; None if it was not measured."""
    told = found.get("tools", {}).get(tool, {})
    if "cosine" not in told:
        return None
    return math.inf if told["sqnr"] is None else float(told["sqnr"])


def gain(found: Found, ours: str, theirs: str) -> float | None:
    """How many dB the one is better."""
    a, b = sqnr(found, ours), sqnr(found, theirs)
    return None if a is None or b is None or math.isinf(a) or math.isinf(b) else a - b


def best_peer(found: Found) -> str:
    """The peer with the highest SQNR at 8 bits; empty if none has any."""
    figures = {t: sqnr(found, t) for t in found.get("tools", {}) if not t.startswith("fewbit") and "-w4" not in t}
    known = {t: x for t, x in figures.items() if x is not None}
    return max(known, key=lambda t: known[t], default="")


def tools_of(found: Found, tool: str, key: str) -> Any:
    """A figure of a tool, or None."""
    return found.get("tools", {}).get(tool, {}).get(key)


def times(found: Found, tool: str, other: str = "nncf") -> float | None:
    """Wall time over that of another tool."""
    ours, theirs = tools_of(found, tool, "seconds"), tools_of(found, other, "seconds")
    return ours / theirs if ours and theirs else None


def summary(results: dict[str, Found]) -> str:
    head = ["network", "best peer", "its SQNR dB", *(f"fewbit {e}" for e in EFFORTS), "best − best peer dB"]
    head += ["same class %: best peer", *EFFORTS, "NNCF s", *(f"{e} ÷ NNCF" for e in EFFORTS)]
    rows = []
    for name, f in results.items():
        peer, words = best_peer(f), [f"fewbit-{e}" for e in EFFORTS]
        row = [name, peer, sqnr(f, peer), *(sqnr(f, w) for w in words), gain(f, words[-1], peer)]
        row += [tools_of(f, t, "agreement") for t in (peer, *words)]
        rows.append([*row, tools_of(f, "nncf", "seconds"), *(times(f, w) for w in words)])
    return table(head, rows)


def task(found: Found, told: Found) -> str:
    """Figures of the task, those of the float network in brackets, then those of their agreement."""
    ours = found.get("float", {}).get("task") or {}
    parts = [f"{word} {cell((told.get('task') or {}).get(word))} ({cell(x)})" for word, x in ours.items()]
    return "; ".join(parts + [f"{word} {cell(x)}" for word, x in (told.get("versus") or {}).items()])


def one(found: Found) -> str:
    """Table of one network, a tool a row."""
    head = ["tool", "SQNR dB", "cosine", "same class %", "task (float)", "s", "peak MiB", "latency ÷ float"]
    head += ["size ÷ float", "integer layers", "MACs in integer layers %"]
    rows = []
    for tool, told in found["tools"].items():
        row = [tool, sqnr(found, tool), told.get("cosine"), told.get("agreement")]
        row += [task(found, told) if "cosine" in told else "failed" if "error" in told else ""]
        row += [told.get(k) for k in ("seconds", "rss_mib", "ratio", "size")]
        layers = f"{told['integer']} of {told['layers']}" if "layers" in told else None
        rows.append([*row, layers, told.get("macs")])
    return table(head, rows)


def without_float(found: Found) -> str:
    """EfficientNet-Lite0, every layer integer: dB over each peer."""
    peers = [t for t in found["tools"] if not t.startswith("fewbit") and "-w4" not in t]
    words = [w for e in EFFORTS if (w := f"fewbit-full-{e}") in found["tools"]]
    rows = [
        [
            w,
            tools_of(found, w, "macs"),
            tools_of(found, w, "agreement"),
            sqnr(found, w),
            *(gain(found, w, p) for p in peers),
        ]
        for w in words
    ]
    return table(["", "MACs in integer layers %", "same class %", "SQNR dB", *(f"over {p}" for p in peers)], rows)


def sides(found: Found) -> str:
    """EfficientNet-Lite0: the error of weights alone and of activations alone."""
    rows = []
    for effort in EFFORTS:
        parts = tools_of(found, f"fewbit-full-{effort}", "split")
        rows += [[effort, parts["both"], parts["weights"], parts["activations"]]] if parts else []
    return table(["effort", "both: SQNR dB", "weights alone", "activations alone"], rows)


def four_bits(results: dict[str, Found]) -> str:
    """W4A8: rounding to the nearest against adaptive rounding."""
    tools = [*(f"fewbit-w4-{e}" for e in EFFORTS), "aimet-w4", "aimet-w4-adaround"]
    head = ["network", *(f"{t}: SQNR dB" for t in tools), "fewbit: best − fast dB", "aimet: AdaRound − nearest dB"]
    rows = []
    for name, f in results.items():
        if any(t in f["tools"] for t in tools):
            gains = [gain(f, "fewbit-w4-best", "fewbit-w4-fast"), gain(f, "aimet-w4-adaround", "aimet-w4")]
            rows.append([name, *(sqnr(f, t) for t in tools), *gains])
    return table(head, rows)


def budget(found: Found) -> str:
    """EfficientNet-Lite0 with min_agreement 0.97."""
    told = found["tools"].get("fewbit-agreement", {})
    row = [told.get(k) for k in ("macs", "agreement", "sqnr", "ratio", "seconds")]
    head = ["MACs in integer layers %", "same class %", "SQNR dB", "latency ÷ float", "s"]
    return table(head, [row])


def troubles(name: str, found: Found) -> list[str]:
    """Everything that failed, one line each."""
    lines = [f"* {name}: {found['error']}"] if "error" in found else []
    return lines + [f"* {name}, {tool}: {told['error']}" for tool, told in found["tools"].items() if "error" in told]


def page(results: dict[str, Found]) -> str:
    """The text for people."""
    versions = sorted({t["version"] for f in results.values() for t in f["tools"].values() if "version" in t})
    parts = [
        f"Tools: {', '.join(versions)}.",
        "SQNR and cosine: the worst output against float in ONNX Runtime, on samples that were not calibrated on; "
        "inf: no difference. Seconds: from file to file, imports left out, 2 threads; latency: batch 1, one thread, in "
        "turns with float. fewbit in smart mode where nothing else is said. `–`: not measured, see the last section.",
        summary(results),
        *(f"## {name}\n\n{f['note']}\n\n{one(f)}" for name, f in results.items()),
    ]
    lite0 = results.get(LITE0)
    if lite0:
        parts += [
            f"## {LITE0} without float layers\n\nfewbit with `quantize_mode = full`: dB over each peer.\n\n"
            + without_float(lite0),
            "Its error, split (engine's optimizer off): the side that is not named has 16 bits.\n\n" + sides(lite0),
            f"## {LITE0} with `min_agreement = 0.97`\n\n" + budget(lite0),
        ]
    parts += [
        "## 4-bit weights, 8-bit activations\n\nPer channel, no float layers; fewbit: `fast` rounds to the nearest, "
        "`best` adapts the rounding.\n\n" + four_bits(results),
        "## What failed\n\n" + ("\n".join(line for n, f in results.items() for line in troubles(n, f)) or "Nothing."),
    ]
    return "\n\n".join(parts)
