"""Plans in which one layer is integer and all else float; and a float network that is computed once for all of them.

    plan         x ─ Q ─ conv1 ─ Q ─ conv2 ─ Q ─ …
    conv2 alone  x ───── conv1 ─ Q ─ conv2 ─ Q ─ …       what it reads, its weight, what it makes, what it absorbs

    march        x ─ conv1 ─ u ─│─ conv2 ─ …             u is kept: only the part behind it runs with conv2 integer

That saves a third of the time on EfficientNet-Lite0 (16 samples: 11.2 s of processor instead of 16.7).
The rounding of u counts for both, conv1 and conv2: it goes away only if both are float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from fewbit.core.plan import NodePlan, Plan
from fewbit.core.runner import Runner
from fewbit.data.base import Batch
from fewbit.graph.model import Model
from fewbit.graph.part import can_be_fed, live, part

Arrays = dict[str, NDArray[Any]]
Open = Callable[[Model], Runner]

FLOAT = NodePlan(False, "float for a measurement")


def carriers(plan: Plan) -> list[str]:
    """Integer layers that add an error of their own, in graph order: not those that only move values."""
    return [k for k, n in plan.nodes.items() if n.quantized and not n.absorbed_by and n.outputs[:1] != ("same",)]


def all_float(plan: Plan) -> Plan:
    """The plan with nothing integer; its float rewrites stay."""
    return replace(plan, values={}, nodes=dict.fromkeys(plan.nodes, FLOAT))


def only(model: Model, plan: Plan, layer: str) -> Plan:
    """The plan with one layer integer, and what it absorbs."""
    verdict, nodes = plan.nodes[layer], {str(n.name): n for n in model.nodes}
    mine = {layer, *(k for k, n in plan.nodes.items() if n.absorbed_by == layer)}
    keys = []
    for value, role in zip(nodes[layer].inputs, verdict.roles, strict=False):
        if value is not None and role in ("act", "weight"):
            keys.append(plan.weight_key(str(value.name), layer) or str(value.name))
    inner = {v for name in mine for v in nodes[name].inputs}
    for index, value in enumerate(v for name in mine for v in nodes[name].outputs if v not in inner):
        if verdict.outputs[min(index, len(verdict.outputs) - 1)] in ("act", "fork"):
            keys.append(str(value.name))
    return replace(
        plan,
        values={k: plan.values[k] for k in keys if k in plan.values},
        nodes={k: n if k in mine else FLOAT for k, n in plan.nodes.items()},
    )


class March:
    """A float network, computed for all batches up to a cut that moves on from layer to layer.

    Args:
        model: the network. batches: the data. open: loads a model into an engine.
        limit: bytes of values that may be kept; where a cut needs more, an earlier one serves.
    """

    def __init__(self, model: Model, batches: Sequence[Batch], open: Open, limit: int) -> None:
        self.model, self.open, self.limit = model, open, limit
        self.place = {str(n.name): i for i, n in enumerate(model.nodes)}
        self.made_at = {str(v.name): i for i, n in enumerate(model.nodes) for v in n.outputs}
        self.at = 0
        self.kept: list[Arrays] = [dict(b.feeds) for b in batches]

    def to(self, layer: str) -> None:
        """Move the cut in front of a layer, if what is live there can be kept. Layers come in graph order."""
        at = self.place[layer]
        names = live(self.model, at)
        if at <= self.at or set(names) == self.kept[0].keys() or not can_be_fed(self.model, names):
            return
        step = self._part(self.model, [n for n in names if n not in self.kept[0]])
        found: list[Arrays] = []
        for kept in self.kept:
            new = step(kept)
            found.append({n: new[n] if n in new else kept[n] for n in names})
            if sum(x.nbytes for x in found[0].values()) * len(self.kept) > self.limit:
                return
        self.at, self.kept = at, found

    def behind(self, model: Model) -> Iterator[Arrays]:
        """Outputs, batch by batch, of a network that is this one up to the cut; those made before it are left out."""
        outputs = [o.name for o in self.model.outputs if self.made_at.get(o.name, -1) >= self.at]
        run = self._part(model, outputs)
        return (run(kept) for kept in self.kept)

    def _part(self, model: Model, outputs: Sequence[str]) -> Callable[[Arrays], Arrays]:
        """What runs a network from the kept values to these."""
        if not outputs:
            return lambda kept: {}
        some = part(model, {n: x.ndim for n, x in self.kept[0].items()}, outputs)
        runner, fed = self.open(some), [i.name for i in some.inputs]
        return lambda kept: runner.run({n: kept[n] for n in fed})
