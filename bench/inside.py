"""What is inside of a network that fewbit made: where its error comes from.

`split` takes the error apart by making one side of a calibrated plan so fine that only the other one is left:

    weights alone       activations at 16 bits
    activations alone   weights at 16 bits, without the corrections that were made for their 8 or 4 bits
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

import fewbit as fb
from fewbit.core.metrics import ErrorSums
from fewbit.core.plan import Plan
from fewbit.engines import open_runner
from fewbit.graph.model import Model

Feeds = Mapping[str, np.ndarray[Any, Any]]

FINE = 16
"""Bits whose error does not count beside that of 8."""


def only_weights(plan: Plan) -> Plan:
    """The plan with activations too fine to matter."""
    values = {
        k: v if v.role == "weight" else replace(v, spec=replace(v.spec, bits=FINE)) for k, v in plan.values.items()
    }
    return replace(plan, values=values)


def only_activations(plan: Plan) -> Plan:
    """The plan with weights too fine to matter."""
    values = {
        k: replace(v, spec=replace(v.spec, bits=FINE), scale=(), nudge="") if v.role == "weight" else v
        for k, v in plan.values.items()
    }
    nodes = {k: replace(n, bias=()) for k, n in plan.nodes.items()}
    return replace(plan, values=values, nodes=nodes)


def split(model: Path, plan: Path, feeds: Sequence[Feeds]) -> dict[str, float | None]:
    """SQNR of the worst output, in dB, of the plan and of its two sides; ONNX Runtime without its optimizer."""
    fused, made = fb.fuse(fb.load(model)), Plan.load(plan)
    theirs = [dict(r) for r in outputs(fused, feeds, optimize=True)]
    forms = {"both": made, "weights": only_weights(made), "activations": only_activations(made)}
    return {word: worst(theirs, outputs(fb.apply(fused, form), feeds, optimize=False)) for word, form in forms.items()}


def outputs(model: Model, feeds: Iterable[Feeds], *, optimize: bool) -> Iterable[Feeds]:
    """What it answers."""
    runner = open_runner("onnxruntime", model, threads=2, optimize=optimize)
    return (runner.run(f) for f in feeds)


def worst(ours: Iterable[Feeds], theirs: Iterable[Feeds]) -> float | None:
    """SQNR of the output that is furthest off; None if there is no difference."""
    sums: dict[str, ErrorSums] = {}
    for a, b in zip(ours, theirs, strict=True):
        for name in a:
            sums.setdefault(name, ErrorSums()).update(a[name], b[name])
    least = min(s.sqnr_db for s in sums.values())
    return least if isfinite(least) else None
