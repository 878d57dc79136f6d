"""Which layers to keep from 8 bits: the smallest sets that lift the outputs by some decibels.

    share of layer k   c_k = whole · alone_k / Σ alone       noise powers add
    without a set F    whole - Σ c_k over k in F             → expected SQNR of the worst output

Sets grow by the layer that takes most from the worst output. `alone` counts a value that two layers share twice, so
the shares are scaled to what the whole network has; a set of neighbours gains more than expected, one apart less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.target import Target
from fewbit.graph.model import Model
from fewbit.quantization.restrict import restrict
from fewbit.search.candidates import candidate
from fewbit.search.noise import Noise, sqnr_of

STEPS = (3.0, 6.0, 12.0)
"""Decibels that a set should gain at least, one proposal each."""


def sets(alone: Mapping[str, Noise], whole: Noise) -> list[tuple[tuple[str, ...], float]]:
    """Layers to keep from 8 bits, and the SQNR expected then; smallest set first, less than half of the layers.

    Args:
        alone: noise of each layer alone, one number an output. whole: of the network as planned.
    """
    shares, rest = _shares(alone, whole), list(whole)
    start, found, chosen = sqnr_of(whole), [], list[str]()
    steps = [s for s in STEPS if math.isfinite(start)]
    while steps and shares and len(chosen) < max(1, (len(alone) - 1) // 2):
        best = min(shares, key=lambda k: max(r - c for r, c in zip(rest, shares[k], strict=True)))
        rest = [max(0.0, r - c) for r, c in zip(rest, shares.pop(best), strict=True)]
        chosen.append(best)
        expected = sqnr_of(rest)
        if expected >= start + steps[0]:
            found.append((tuple(chosen), expected))
            steps = [s for s in steps if expected < start + s]
    return found


def _shares(alone: Mapping[str, Noise], whole: Noise) -> dict[str, list[float]]:
    totals = [sum(n[i] for n in alone.values()) for i in range(len(whole))]
    return {
        k: [w * a / t if t and math.isfinite(t) else 0.0 for w, a, t in zip(whole, n, totals, strict=True)]
        for k, n in alone.items()
    }


def with_proposal(
    model: Model,
    plan: Plan,
    config: QuantConfig,
    target: Target,
    *,
    floats: Sequence[str] = (),
    wide: Sequence[str] = (),
) -> Plan:
    """The plan with some layers float, or with 16 bits; what else is float in it stays so."""
    if wide:
        settings = {k: v for k, v in config.overrides.items() if k not in wide}
        settings |= {k: {**config.overrides.get(k, {}), "bit_num": 16} for k in wide}
        return restrict(model, plan, replace(config, overrides=settings), target, plan.kept_float())
    gone = set(floats) | {k for k, n in plan.nodes.items() if n.absorbed_by in floats}
    return candidate(model, plan, config, target, dict.fromkeys(sorted(gone), "kept float by a search"))
