"""Cross-layer equalization: weights of neighbours get channels of the same size.

    W₁_i / s_i      W₂_i · s_i      s_i = √(r₁_i · r₂_i) / r₂_i      ⇒      max|W₁_i| = max|W₂_i| = √(r₁_i · r₂_i)

r₁_i is the largest weight that makes channel i, r₂_i the largest that reads it. A chain of layers is swept until the
factors stand still. High-bias absorption then takes from each channel what it never falls below,

    b₁ - c      b₂ + W₂·c      c = max(0, min v)        exact on the data seen; Nagel et al. guess β - 3γ from BatchNorm

A Clip(0, hi) stands in the way unless no channel reached hi on the data: then it becomes a Relu. (The paper drops every
ReLU6. Networks that lean on it do not survive this: EfficientNet-Lite0 is left with 0.6 dB in float.)

This is for weights with one scale a tensor (silero-vad: SQNR 1.9 → 6.2 dB). With one a channel the weights gain little,
and the channels of activations may come to differ more (11.5 → 8.6 dB): there `fewbit.quantization.smooth` is the one.

Source: Nagel, van Baalen, Blankevoort, Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction", 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fewbit.core.plan import Plan, Rescale
from fewbit.graph.follow import Site
from fewbit.graph.model import Model, op_name
from fewbit.graph.rescale import reach, sites, why_not_absorb
from fewbit.graph.rules import linear
from fewbit.quantization.channels import F64, ChannelRange, range_of, unclipped
from fewbit.quantization.smooth import LEAST, SAME

ROUNDS = 50
STILL = 1e-3
"""Relative change of a factor below which it stands still."""


def equalize(
    model: Model, plan: Plan, maxima: Mapping[str, ChannelRange] | None = None, *, absorb: bool = False
) -> tuple[Rescale, ...]:
    """Factors for all sites between layers of weights that the plan makes integer.

    Args:
        model: the fused float network. plan: made for it.
        maxima: ranges of what `equalizable` sites watch; without them, sites with a Clip are left out.
        absorb: move high biases as well, where nothing pads zeros; needs maxima.

    Returns:
        one rescale for each site where it changes anything.

    Raises:
        NotCalibrated: a range is missing.
    """
    known = maxima or {}
    chosen = [s for s in equalizable(model, plan) if not s.clips or (maxima is not None and unclipped(s, maxima))]
    scales = _balanced(model, chosen)
    found = []
    for site, s in zip(chosen, scales, strict=True):
        c = _high(model, site, known) / s if absorb else np.zeros_like(s)
        if s.max() > SAME * s.min() or c.any():
            amounts = tuple(c.tolist()) if c.any() else ()
            why = "cross-layer equalization" + (" and high-bias absorption" if c.any() else "")
            found.append(Rescale(site.value, tuple(s.tolist()), tuple(site.clips), amounts, why))
    return tuple(found)


def equalizable(model: Model, plan: Plan) -> list[Site]:
    """Sites with weights on both sides, all of them integer in the plan."""

    def integer(name: str) -> bool:
        return name in plan.nodes and plan.nodes[name].quantized

    weighted = [s for s in sites(model) if op_name(model.node(s.maker)) in linear.OPS]
    return [s for s in weighted if integer(s.maker) and all(integer(r.node) for r in s.reads)]


def _balanced(model: Model, chosen: Sequence[Site]) -> list[F64]:
    """Factors of each site, (C,)."""
    names = {s.maker for s in chosen} | {r.node for s in chosen for r in s.reads}
    weights = {name: reach(model.node(name)) for name in sorted(names)}  # (groups, out / groups, in / groups)
    scales = [np.ones(s.channels) for s in chosen]
    for _ in range(ROUNDS):
        moved = 0.0
        for k, site in enumerate(chosen):
            s = _step(weights, site)
            made = weights[site.maker]
            weights[site.maker] = made / s.reshape(made.shape[0], -1, 1)
            for read in site.reads:
                w = weights[read.node]
                weights[read.node] = w * s[np.array(read.index)].reshape(w.shape[0], 1, -1)
            scales[k] = scales[k] * s
            moved = max(moved, float(np.abs(np.log(s)).max()))
        if moved < STILL:
            break
    return scales


def _step(weights: Mapping[str, F64], site: Site) -> F64:
    """√(r₁ / r₂); 1 for a channel that nobody makes or reads."""
    r1, r2 = weights[site.maker].max(2).reshape(-1), np.zeros(site.channels)
    for read in site.reads:
        np.maximum.at(r2, np.array(read.index), weights[read.node].max(1).reshape(-1))
    used = (r1 > 0) & (r2 > 0)
    if not used.any():
        return np.ones(site.channels)
    s = np.sqrt(np.where(used, r1, 1.0) / np.where(used, r2, 1.0))
    middle = np.exp(np.log(s[used]).mean())
    return np.where(used, np.clip(s, LEAST * middle, middle / LEAST), 1.0)


def _high(model: Model, site: Site, maxima: Mapping[str, ChannelRange]) -> F64:
    """What each channel never falls below; zeros if it cannot be moved."""
    if why_not_absorb(model, site):
        return np.zeros(site.channels)
    return np.maximum(range_of(maxima, site.value).lo, 0.0)
