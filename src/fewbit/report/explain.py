"""Three things to look for in a debug folder, as MindSpore Lite's manual advises, done by rule.

    cosine    a layer's output is far from float                               Output, Dequant: cosine low
    ranges    Add, Concat and the like join values of unlike ranges            Input, Origin: Min … Max
    clip      much of a value lies outside of the range that it was given      Dequant: Clip high

A layer whose output is off may only pass on what came in. So the noise at the network's outputs is traced back to
where it begins, see `fewbit.report.blame`, and a fourth kind of finding is where much of it does. Few layers are
proposed: the first that are to blame for `ENOUGH` of what all found are, at most `MOST`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

from fewbit.report.blame import blame, noise
from fewbit.report.debug_read import DebugTables, Tensor, read_debug
from fewbit.report.explanation import Explanation, Finding

LOW_COSINE = 0.99
"""17 dB: an eighth of the signal is noise. Networks of some fifty such layers end below the 0.98 that is fair."""

UNLIKE = 8.0
"""Ratio of two ranges: joined in one format the smaller one is left with 5 of 8 bits."""

HIGH_CLIP = 0.01
"""Share of a value that is cut off: one in a hundred is more than what calibrators leave out (0.01 to 0.1 %)."""

OVERSHOOT = 0.05
"""How far, of the range, values must be cut off. Less can be rounding: half a step of 4 bits is 0.033 of the range."""

WORTH = 0.002
"""Noise ÷ signal at the outputs (27 dB, cosine 0.999) from which on a layer in float is worth its time."""

SOURCE = 0.1
"""Share of the noise at the outputs that makes a layer a finding even if its own output is near float."""

ENOUGH, MOST = 0.9, 5

JOINS = frozenset({"add", "addfusion", "addn", "sum", "sub", "subfusion", "eltwise", "concat", "concatv2"})
"""Operators that join values, in ONNX and in MindSpore Lite, in small letters."""


def explain(folder: str | Path) -> Explanation:
    """Read a debug folder, of fewbit or of MindSpore Lite, and say what stands out in it.

    Raises:
        UsageError: no such folder, or no table in it. DataError: a table is damaged; names file, line and column.
    """
    return explained(read_debug(folder))


def explained(found: DebugTables) -> Explanation:
    """What stands out."""
    own = blame(found)
    joins, blameless = _ranges(found, own)
    findings = [*_cosines(found.tensors, own), *joins, *_clips(found.tensors, own)]
    findings += _sources(found.tensors, own, {f.node for f in findings})
    if not any(t.output for t in found.tensors):
        findings += _weights(found.tensors)
    ranked = tuple(sorted(findings, key=lambda f: -f.benefit))
    nodes = {t.node for t in found.tensors}
    integer = nodes if found.scales is None else nodes & set(found.scales)
    return Explanation(
        found.rounds, len(nodes), found.cosine, ranked, _proposal(ranked, integer - blameless), notes=_notes(found)
    )


# -- the three --------------------------------------------------------------------------------------------------------


def _cosines(tensors: Iterable[Tensor], own: Mapping[str, float]) -> list[Finding]:
    return [
        Finding(
            "cosine", t.node, t.op, t.name, t.cosine,
            f"cosine below {LOW_COSINE}; it may be passed on from layers in front: the last column is what begins here",
            own[t.node],
        )
        for t in tensors
        if t.output and not t.weight and not t.cosine >= LOW_COSINE
    ]  # fmt: skip


def _ranges(tables: DebugTables, own: Mapping[str, float]) -> tuple[list[Finding], set[str]]:
    """Joins of values whose ranges differ; and layers that are noisy for no other reason.

    Where the inputs share a scale the smaller one is rounded in steps of the larger one as soon as it is made. That
    noise shows at the layer that makes it, and goes if the join is float.
    """
    makers = {t.name: t.node for t in tables.tensors if t.output}
    joined: dict[str, list[Tensor]] = {}
    for t in tables.tensors:
        if t.op.lower() in JOINS and not t.output and not t.weight and _reach(t) > 0:
            joined.setdefault(t.node, []).append(t)
    found: list[Finding] = []
    blameless: set[str] = set()
    for node, inputs in joined.items():
        small, large = min(inputs, key=_reach), max(inputs, key=_reach)
        ratio = _reach(large) / _reach(small)
        if not ratio >= UNLIKE:
            continue
        benefit = own.get(node, 0.0)
        if tables.scale(small) == tables.scale(large):
            maker = makers.get(small.name)
            benefit = max(benefit, own.get(maker or node, 0.0))
            if maker is not None:
                blameless.add(maker)
        reason = f"another input reaches {UNLIKE:g} times as far, or farther; its steps are wide for this one"
        found.append(Finding("ranges", node, small.op, small.name, ratio, reason, benefit))
    return found, blameless


def _clips(tensors: Iterable[Tensor], own: Mapping[str, float]) -> list[Finding]:
    """Values that are cut off, once each: where they are made, else where they are read first."""
    cut: dict[str, Tensor] = {}
    for t in tensors:
        if t.clip > HIGH_CLIP and _overshoot(t) > OVERSHOOT and (t.name not in cut or t.output):
            cut[t.name] = t
    reason = (
        f"more than {HIGH_CLIP:.0%} of it lies outside of its range; other data or another calib_mode may help, too"
    )
    return [Finding("clip", t.node, t.op, t.name, t.clip, reason, own[t.node]) for t in cut.values()]


def _sources(tensors: Iterable[Tensor], own: Mapping[str, float], known: Set[str]) -> list[Finding]:
    """Layers that little can be seen of and that much of the noise at the outputs comes from."""
    whole = sum(own.values())
    reason = f"{SOURCE:.0%} or more of the noise at the outputs begins here, as far as the tables tell"
    return [
        Finding("source", t.node, t.op, t.name, own[t.node] / whole, reason, own[t.node])
        for t in tensors
        if t.output and not t.weight and t.node not in known and WORTH <= own[t.node] < math.inf
        and own[t.node] >= SOURCE * whole
    ]  # fmt: skip


def _weights(tensors: Iterable[Tensor]) -> list[Finding]:
    """Weights far from float, where the tables tell of nothing else."""
    reason = f"cosine of the weight below {LOW_COSINE}; more bits, or scales for smaller groups, may help, too"
    return [
        Finding("weight", t.node, t.op, t.name, t.cosine, reason, noise(t.cosine))
        for t in tensors
        if t.weight and not t.cosine >= LOW_COSINE
    ]


def _reach(t: Tensor) -> float:
    """Largest magnitude in the float network; 0 if not told or not finite."""
    reach = max(abs(x) for x in t.original) if t.original is not None else 0.0
    return reach if math.isfinite(reach) else 0.0


def _overshoot(t: Tensor) -> float:
    """How far values stand out of the dequantized range, as a share of the original one."""
    if t.original is None:
        return 0.0
    (lo, hi), (low, high) = t.original, t.dequantized
    return max(low - lo, hi - high) / (hi - lo) if hi > lo else 0.0


# -- what to do about it ----------------------------------------------------------------------------------------------


def _proposal(findings: Iterable[Finding], candidates: Set[str]) -> tuple[str, ...]:
    """Few of the candidates, best first."""
    best: dict[str, float] = {}
    for f in findings:
        if f.benefit >= WORTH and f.node in candidates:
            best[f.node] = max(best.get(f.node, 0.0), f.benefit)
    ranked = sorted(best, key=lambda node: -best[node])
    endless = [node for node in ranked if math.isinf(best[node])]
    if endless:
        return tuple(endless[:MOST])
    chosen: list[str] = []
    whole, done = sum(best.values()), 0.0
    for node in ranked[:MOST]:
        if done >= ENOUGH * whole:
            break
        chosen.append(node)
        done += best[node]
    return tuple(chosen)


def _notes(found: DebugTables) -> tuple[str, ...]:
    notes = []
    if not any(t.output for t in found.tensors):
        notes.append("the tables tell of weights only; hand data when quantizing to learn of activations and outputs")
    if found.scales is None:
        notes.append("there is no quant_param.csv to tell which layers are integer; float ones may be proposed, too")
    return tuple(notes)
