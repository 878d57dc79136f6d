"""Which layers the noise at the outputs comes from, told from debug tables alone: traced back through the layers.

    noise of a value    1 / cosine² − 1: noise ÷ signal, in power
    of its own          a layer has at least that of its weights and of rounding its output, scale² / 12 ÷ mean square,
                        and what its output has beyond `PASSED_ON` times the noise that it reads
    passed on           the rest: charged to the makers of what it reads, each by the power of its noise

    out ← last: 20 % own ← conv2: 10 % own ← conv1: all the rest            charged 0.20, 0.08, 0.72 of out's noise

A layer far down may look bad only since it amplifies what came in: that is charged to where it came from. A value that
is made by a layer in float, of which the tables may not tell, is taken to come from the layer in front of its reader.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from fewbit.report.debug_read import DebugTables, Tensor

NOTHING_LEFT = 100.0
"""Noise ÷ signal (-20 dB) from which on more makes no difference."""

PASSED_ON = 4.0
"""Times that a layer makes the noise ÷ signal it reads larger, at most.

On EfficientNet-Lite0 in 8 bits the order of layers then agrees best with what `fewbit sensitivity` measures: rank
correlation 0.75 with one scale a channel, 0.76 with one a tensor; 0.34 and 0.47 with 2, 0.72 and 0.77 with 8. The noise
of weights and rounding alone gives 0.04 and 0.49, its growth from input to output 0.47 and 0.62.
"""


@dataclass
class _Layer:
    """What the tables tell of one layer. front: the layer before it in the tables."""

    front: str | None
    reads: list[Tensor] = field(default_factory=list)
    makes: list[Tensor] = field(default_factory=list)
    least: float = 0.0

    @property
    def noise(self) -> float:
        """Of its output."""
        return max((noise(t.cosine) for t in self.makes), default=0.0)


def noise(cosine: float) -> float:
    """Noise ÷ signal in power, for noise that has nothing to do with the signal; inf for nan."""
    if math.isnan(cosine):
        return math.inf
    return min(NOTHING_LEFT, 1 / cosine**2 - 1) if cosine > 0 else NOTHING_LEFT


def rounding(tables: DebugTables, t: Tensor) -> float:
    """Noise of rounding a value to its steps; 0 where that cannot be told."""
    found = tables.scale(t) ** 2 / 12 / t.power if t.power > 0 else 0.0
    return min(NOTHING_LEFT, found) if not math.isnan(found) else 0.0


def blame(tables: DebugTables) -> dict[str, float]:
    """Layer → noise ÷ signal at the network's outputs that is charged to it; inf if it breaks them."""
    layers = _layers(tables)
    makers = {t.name: node for node, layer in layers.items() for t in layer.makes}
    order = {node: i for i, node in enumerate(layers)}
    pending = _ends(tables, layers)
    found = dict.fromkeys(layers, 0.0)
    for node, layer in reversed(layers.items()):
        charge = pending.get(node, 0.0)
        if not charge:
            continue
        kept, parts = _split(layer, charge)
        found[node] += kept
        for t, part in parts:
            maker = makers.get(t.name)
            if maker is None:
                maker, share = layer.front, 1.0
            else:  # a range measured at run time rounds what is read, which is the reader's own
                share = _ratio(min(layers[maker].noise, noise(t.cosine)), noise(t.cosine))
            if maker is None or order[maker] >= order[node]:  # nobody, or a table that contradicts itself
                found[node] += part
            else:
                pending[maker] = pending.get(maker, 0.0) + part * share
                found[node] += part * (1 - share) if share < 1 else 0.0
    return found


def _split(layer: _Layer, charge: float) -> tuple[float, list[tuple[Tensor, float]]]:
    """What a layer keeps of a charge, and what is passed on to each value that it reads."""
    read = max((noise(t.cosine) for t in layer.reads), default=0.0)
    if math.isinf(layer.noise):
        broken = [t for t in layer.reads if math.isinf(noise(t.cosine))]
        return (0.0, [(t, charge) for t in broken]) if broken else (charge, [])
    own = min(layer.noise, max(layer.least, layer.noise - PASSED_ON * read))
    kept = charge * _ratio(own, layer.noise)
    powers = [noise(t.cosine) * (t.power if t.power > 0 else 1.0) for t in layer.reads]
    if not sum(powers):
        return charge, []
    return kept, [(t, (charge - kept) * p / sum(powers)) for t, p in zip(layer.reads, powers, strict=True) if p]


def _ratio(part: float, whole: float) -> float:
    return part / whole if 0 < whole < math.inf else 1.0


def _layers(tables: DebugTables) -> dict[str, _Layer]:
    """The layers in the order of the tables."""
    found: dict[str, _Layer] = {}
    for t in tables.tensors:
        if t.node not in found:
            found[t.node] = _Layer(next(reversed(found), None))
        layer = found[t.node]
        if t.weight:
            layer.least += noise(t.cosine)
        elif t.output:
            layer.makes.append(t)
            layer.least += rounding(tables, t)
        else:
            layer.reads.append(t)
    return found


def _ends(tables: DebugTables, layers: dict[str, _Layer]) -> dict[str, float]:
    """Layers that make outputs of the network → noise there; what a layer in float makes is charged to the last one."""
    made = {t.name: node for node, layer in layers.items() for t in layer.makes}
    found = {made[name]: layers[made[name]].noise for name in tables.outputs if name in made}
    last = next(reversed(made.values()), None)
    others = [noise(cosine) for name, cosine in tables.outputs.items() if name not in made]
    if last is not None and (others or not found):
        found[last] = max(found.get(last, 0.0), *others) if others else layers[last].noise
    return found
