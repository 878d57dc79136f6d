"""Steps by cosine, as ncnn's calibration tool searches them (its method eq).

    step = s / f,  f = 0.5, 0.515 … 1.985;   the f that makes Σ over images cos(Ŵ·x̂ + b, W·x + b) largest

First the step of each output channel of the weight, one after the other, the others as they are so far; then that of
the input. Layers are looked at one by one, each with the float values in front of it, on at most 50 images. ncnn
compares all of a layer's answer, behind its activation, and gives each layer a step of its own for its input; here it
is a part of the answer, before the activation, and a value has one step for all of its readers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.params import QuantParams, params_from_range
from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.graph.emit import MOST_CUT, weight_params_of
from fewbit.graph.model import Model
from fewbit.quantization.linear import Linear, choose, linear_layers, patches, size_of, sums

Array = NDArray[Any]
Open = Callable[[Model], Runner]

WORD = "eq"
IMAGES = 50
PLACES = 16
"""Places of each image that are looked at."""

FACTORS = 0.5 + 0.015 * np.arange(100)
TINY = 1e-30


def search_cosine(model: Model, plan: Plan, batches: Iterable[Any], open: Open, part: Callable[..., Model]) -> Plan:
    """A plan with the best steps of all layers whose input is calibrated by `eq`.

    Args:
        model: the float network of the plan. plan: calibrated. batches: the first 50 samples are used.
        open: loads a model. part: the part of a network that leads to some values.
    """
    layers = [x for x in linear_layers(model, plan) if x.rounded and plan.values[x.x].calib_mode == WORD]
    if not layers:
        return plan
    fed = {i.name for i in model.inputs}
    names = list(dict.fromkeys(n for layer in layers for n in (layer.x, layer.y) if n not in fed))
    rows = _rows(layers, batches, open(part(model, names)))
    total: dict[str, Array] = {}
    for layer in layers:
        plan, gained = _layer(plan, layer, *rows[layer.name])
        total[layer.x] = total.get(layer.x, 0) + gained
    for name, gained in total.items():
        group = plan.values[name].group
        lo, hi = plan.values[name].lo, plan.values[name].hi
        assert lo is not None and hi is not None
        f = float(FACTORS[int(np.argmax(gained))])
        plan = plan.with_ranges({group: (lo / f, hi / f)})
    return plan


Rows = tuple[Array, Array, Array]
"""Inputs of a layer (group, K, rows), its answers (group, out, rows), and the image that each row is of."""


def _rows(layers: Sequence[Linear], batches: Iterable[Any], runner: Runner) -> dict[str, Rows]:
    kept: dict[str, list[Rows]] = {layer.name: [] for layer in layers}
    images = 0
    for batch in batches:
        if images >= IMAGES:
            break
        seen = {**batch.feeds, **runner.run(batch.feeds)}
        count = size_of(batch)
        for layer in layers:
            y = seen[layer.y]
            each = _rows_of_images(layer, seen[layer.x], y, min(count, IMAGES - images), count, images)
            kept[layer.name] += each
        images += count
    return {n: tuple(np.concatenate(p, -1) for p in zip(*found, strict=True)) for n, found in kept.items()}  # type: ignore[misc]


def _rows_of_images(layer: Linear, x: Array, y: Array, use: int, count: int, first: int) -> list[Rows]:
    if len(x) != count or len(y) != count:  # samples do not lie along the first axis: all of it is one image
        places = choose(layer, y.shape, PLACES * count, first)
        return [(patches(layer, x, y.shape, places), sums(layer, y, places), np.full(places.size, first))]
    found = []
    for i in range(use):
        one = y[i : i + 1]
        places = choose(layer, one.shape, PLACES, first + i)
        rows = patches(layer, x[i : i + 1], one.shape, places), sums(layer, one, places)
        found.append((*rows, np.full(places.size, first + i)))
    return found


def _layer(plan: Plan, layer: Linear, x: Array, y: Array, image: Array) -> tuple[Plan, Array]:
    """The plan with the weight's best steps, and what each factor of the input's step then gives."""
    images, image = np.unique(image, return_inverse=True)
    split = np.zeros((image.size, images.size), np.float32)
    split[np.arange(image.size), image] = 1
    bias = layer.bias.reshape(layer.groups, -1, 1)
    act = plan.params(layer.x)
    params = weight_params_of(plan, layer.key, layer.stored(layer.weight))
    factors = FACTORS[MOST_CUT.get(params.spec.bits, MOST_CUT[7]) >= FACTORS]
    signal = (y * y) @ split
    rounded = act.fake(x)

    def dots(answer: Array) -> tuple[Array, Array]:
        """⟨y, ŷ⟩ and ⟨ŷ, ŷ⟩ of each output on each image, (outputs, images)."""
        answer = answer + bias
        return tuple(((a * answer) @ split).reshape(-1, images.size) for a in (y, answer))  # type: ignore[return-value]

    tried = [dots(_fake(layer, params, f) @ rounded) for f in factors]
    power = signal.reshape(-1, images.size).sum(0)
    best = _each_output(np.stack([a for a, _ in tried], 1), np.stack([b for _, b in tried], 1), power, factors, params)
    chosen = params.scale / best.reshape(params.scale.shape).astype(np.float32)
    values = {**plan.values, layer.key: replace(plan.values[layer.key], scale=tuple(map(float, chosen.reshape(-1))))}
    plan = replace(plan, values=values)
    weight = _fake(layer, weight_params_of(plan, layer.key, layer.stored(layer.weight)), 1.0)
    v = plan.values[layer.x]
    assert v.lo is not None and v.hi is not None
    gained = []
    for f in FACTORS:
        same, square = (d.sum(0) for d in dots(weight @ params_from_range(act.spec, v.lo / f, v.hi / f).fake(x)))
        gained.append(float((same / np.sqrt(np.maximum(power * square, TINY))).sum()))
    return plan, np.asarray(gained)


def _fake(layer: Linear, params: QuantParams, factor: float) -> Array:
    scaled = QuantParams(params.spec, (params.scale / np.float32(factor)).astype(np.float32), params.zero_point)
    return layer.matrix(scaled.fake(layer.stored(layer.weight)))


def _each_output(same: Array, square: Array, power: Array, factors: Array, params: QuantParams) -> Array:
    """The best factor of each output, found one after the other; of all together, where they share a scale.

    Args:
        same, square: (outputs, factors, images). power: of the float answer, (images,).
    """
    if params.scale.size == 1:
        cosine = same.sum(0) / np.sqrt(np.maximum(power * square.sum(0), TINY))
        return np.asarray(factors[[int(cosine.sum(-1).argmax())]])
    start = int(np.abs(factors - 1).argmin())
    at = np.full(len(same), start)
    sum_same, sum_square = same[:, start].sum(0), square[:, start].sum(0)
    for j in range(len(same)):
        tried_same = sum_same - same[j, at[j]] + same[j]
        tried_square = sum_square - square[j, at[j]] + square[j]
        at[j] = int((tried_same / np.sqrt(np.maximum(power * tried_square, TINY))).sum(-1).argmax())
        sum_same, sum_square = tried_same[at[j]], tried_square[at[j]]
    return np.asarray(factors[at])
