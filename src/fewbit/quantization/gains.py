"""How much the outputs of a network mind noise in its weights, and what its layers read.

    noise     Σ over outputs of error energy ÷ signal energy, when one weight is replaced by a rounded one
    moments   H = mean x·xᵀ of the inputs of a layer: with δ what rounding does to the weight, δᵀ·H·δ is its error

Weights are fed to the network like inputs, so that it is loaded once, whatever is replaced. Noise of different weights
adds up, and grows with the square of the steps, as long as the network changes little: one run a weight is enough to
know what any steps will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.metrics import ErrorSums
from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.core.spec import QuantSpec
from fewbit.errors import DataError
from fewbit.graph.follow import follow
from fewbit.graph.model import Model
from fewbit.quantization.linear import Linear, choose, linear_layers, patches, size_of
from fewbit.quantization.packed import own_weights, weights_of
from fewbit.quantization.static import part_for

Array = NDArray[Any]
Open = Callable[[Model], Runner]

TINY = 1e-30

MEMORY = 1 << 30
"""Bytes for the moments of all layers."""

ROWS, LEAST = 4, 256
"""Rows that moments are taken of, in all, as a multiple of K, which counts as this at least."""


class Noise:
    """Noise at the outputs of a network for other weights.

    Args:
        model: the float network. plan: whose packed weights may be replaced. batches: what is run. open: loads a model.

    Raises:
        DataError: no output is floating-point and finite, so that there is nothing to measure.
    """

    def __init__(self, model: Model, plan: Plan, batches: Sequence[Any], open: Open) -> None:
        self.weights: dict[str, Array] = weights_of(model, plan)
        self.batches = batches
        own, self.names = own_weights(model, plan)
        self.runner = open(fed(own, self.names.values()))
        self.truth = [_floats(self._run(b.feeds, {})) for b in batches]
        names = self.truth[0] if self.truth else {}
        if not names or not all(np.isfinite(x).all() for t in self.truth for x in t.values()):
            raise DataError("the network answers no finite floating-point numbers; there is nothing to judge steps by")

    def of(self, changed: Mapping[str, Array]) -> tuple[float, float]:
        """Noise ÷ signal, in power, summed over outputs, and the cosine of the worst; (inf, 0) if one is not finite."""
        sums = {name: ErrorSums() for name in self.truth[0]}
        for batch, truth in zip(self.batches, self.truth, strict=True):
            found = self._run(batch.feeds, changed)
            for name, s in sums.items():
                if not np.isfinite(found[name]).all():
                    return math.inf, 0.0
                s.update(truth[name], found[name])
        return sum(s.ee / max(s.rr, TINY) for s in sums.values()), min(s.cosine for s in sums.values())

    def _run(self, feeds: Mapping[str, Array], changed: Mapping[str, Array]) -> dict[str, Array]:
        weights = {self.names[key]: w for key, w in {**self.weights, **changed}.items()}
        return self.runner.run({**feeds, **weights})


def fed(model: Model, names: Iterable[str]) -> Model:
    """The same network with some of its weights as inputs; `model` is used up."""
    for name in names:
        value = model.graph.initializers.pop(name)
        value.const_value = None
        model.graph.inputs.append(value)
    return model


def _floats(outputs: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.array(x) for name, x in outputs.items() if x.dtype.kind == "f"}


# -- what layers read ------------------------------------------------------------------------------------------------


def layers_of(model: Model, plan: Plan) -> list[Linear]:
    """The layers of a weight-only plan that are matrix products with a packed weight of their own."""
    eight = {
        k: replace(v, spec=QuantSpec(8, signed=True)) if v.storage == "packed" else v for k, v in plan.values.items()
    }
    found = linear_layers(model, replace(plan, values=eight))  # which asks for widths that this search is still to find
    return [layer for layer in found if plan.values[layer.key].storage == "packed"]


def moments_of(
    model: Model, layers: Sequence[Linear], batches: Sequence[Any], open: Open, memory: int = MEMORY
) -> dict[str, tuple[Array, int]]:
    """Moments of what layers read.

    Args:
        model: the float network. layers: whose. batches: what is run. open: loads a model.
        memory: bytes for matrices; where they do not suffice, the largest layers get a diagonal.

    Returns:
        layer → (group, K, K) or (group, K), and how many rows it is the mean of.
    """
    if not layers:
        return {}
    inputs = {i.name for i in model.inputs}
    runner = open(part_for(model, list(dict.fromkeys(n for x in layers for n in (x.x, x.y) if n not in inputs))))
    samples, full = max(1, sum(map(size_of, batches))), _full(layers, memory)
    sums: dict[str, Array] = {}
    count = dict.fromkeys((x.name for x in layers), 0)
    for seed, batch in enumerate(batches):
        seen = {**batch.feeds, **runner.run(batch.feeds)}
        for layer in layers:
            shape = seen[layer.y].shape
            most = -(-ROWS * max(layer.weight.shape[-1], LEAST) // samples) * size_of(batch)
            x = patches(layer, seen[layer.x], shape, choose(layer, shape, most, seed))
            square = np.matmul(x, x.transpose(0, 2, 1)) if layer.name in full else np.square(x).sum(-1)
            sums[layer.name] = sums[layer.name] + square if layer.name in sums else square
            count[layer.name] += x.shape[-1]
    return {name: (s / np.float32(max(count[name], 1)), count[name]) for name, s in sums.items()}


def _full(layers: Sequence[Linear], memory: int) -> set[str]:
    """Layers that get a matrix: small ones first, as long as there is room."""
    found = set()
    for layer in sorted(layers, key=lambda x: x.groups * x.weight.shape[-1] ** 2):
        memory -= 4 * layer.groups * layer.weight.shape[-1] ** 2
        if memory < 0:
            break
        found.add(layer.name)
    return found


# -- what layers behind make of it -----------------------------------------------------------------------------------


def read_behind(model: Model, layers: Sequence[Linear]) -> dict[str, Array]:
    """How strongly noise of each output of a layer is read, relative to its other outputs, (group·out,).

    The energy of the weights that read it, times the same of those: down to where values are added or the network
    ends, which counts 1 for all. Layers whose readers cannot be followed are left out.
    """
    by_name, found = {layer.name: layer for layer in layers}, dict[str, Array]()
    for layer in reversed(layers):
        trail = follow(model.node(layer.name))
        if trail is None or isinstance(trail, str) or not all(r.node in by_name for r in trail.site.reads):
            continue
        gains = np.zeros(trail.site.channels)
        for read in trail.site.reads:
            reader = by_name[read.node]
            g, o = reader.weight.shape[:2]
            own = found.get(read.node, np.ones(g * o)).reshape(g, o, 1)
            energy = (np.square(reader.weight, dtype=np.float64) * own).sum(1).reshape(len(read.index), -1).sum(1)
            np.add.at(gains, np.asarray(read.index), energy)
        if gains.size == layer.weight.shape[0] * layer.weight.shape[1]:
            found[layer.name] = gains
    return found
