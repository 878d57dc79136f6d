"""Rewrite a float network so that fewer, larger operators do the same: what is one operator is quantized once.

    tidy up → recognise activations and normalizations → fold into weights → again, until nothing changes

Patterns come before folding, since the constants of an activation would otherwise disappear into weights.
The result computes what the model did, up to rounding. It is the network that plans, calibration and reports speak of.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from fewbit.graph.model import Model
from fewbit.graph.rewrite import Change, Report, Rule, apply
from fewbit.graph.rules.activations import GELU, HARD_SIGMOID, HARD_SWISH, SWISH
from fewbit.graph.rules.affine import BATCHNORM, BATCHNORM_ALONE, BATCHNORM_BEFORE, SCALE, SCALE_BEFORE
from fewbit.graph.rules.bias import BIAS
from fewbit.graph.rules.clip import CLIP
from fewbit.graph.rules.constants import AXES, CONSTANTS, SHAPES
from fewbit.graph.rules.layernorm import LAYERNORM
from fewbit.graph.rules.pad import PAD
from fewbit.graph.rules.shift import SHIFT
from fewbit.graph.rules.tidy import TIDY

PHASES: tuple[tuple[Rule[Any], ...], ...] = (
    (SHAPES, AXES, CONSTANTS, TIDY, CLIP),
    (LAYERNORM, GELU, HARD_SWISH, HARD_SIGMOID, SWISH),
    (PAD, BATCHNORM, SCALE, BIAS, BATCHNORM_BEFORE, SCALE_BEFORE, SHIFT, BATCHNORM_ALONE),
)
"""Rules in the order in which they are tried; a phase runs until it changes nothing more."""

RULES: tuple[Rule[Any], ...] = tuple(rule for phase in PHASES for rule in phase)

log = logging.getLogger("fewbit")


def fuse(model: Model, without: Collection[Rule[Any]] = ()) -> Model:
    """A copy of a float network with all rules applied, but for those left out; the original stays as it is.

    `aliases` of the result tells which node does the work of one that is gone ("" if none needs to).
    """
    return fuse_with_report(model, without)[0]


def fuse_with_report(model: Model, without: Collection[Rule[Any]] = ()) -> tuple[Model, Report]:
    """As `fuse`, and what was changed, and what was recognised but refused, and why."""
    fused = model.clone()
    before = {str(n.name) for n in fused.graph}
    fused.drop_unused()
    changes: list[Change] = []
    while True:
        reports = [apply(fused, [rule for rule in phase if rule not in without]) for phase in PHASES]
        changes += [c for r in reports for c in r.changes]
        if not any(reports):
            break
    for name in sorted(before - {str(n.name) for n in fused.graph}):
        fused.aliases.setdefault(name, "")
    report = Report(tuple(changes), tuple(r for part in reports for r in part.refusals))
    for line in report.lines():
        log.debug(line)
    return fused, report
