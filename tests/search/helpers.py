"""A network of many layers, and a judge that adds up noise instead of running anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.graph.model import Model
from fewbit.search.budget import Found, search
from fewbit.search.figures import Figures
from tests.models import TARGET, info, load, node, plan_for, proto, weight

FULL = QuantConfig(quantize_mode="full")


@lru_cache(maxsize=32)
def chain(count: int) -> tuple[Model, Plan]:
    """x → l0 → l1 → … , each a MatMul, and a calibrated plan in which all are integer."""
    nodes = [node("MatMul", f"v{i} w{i}", f"v{i + 1}", f"l{i}") for i in range(count)]
    weights = {f"w{i}": weight(4, 4, seed=i) for i in range(count)}
    model = load(proto(nodes, [info("v0", ["n", 4])], [info(f"v{count}", ["n", 4])], weights))
    return model, plan_for(model)


class Bench:
    """Layers l0, l1 … with their noise, multiplications and integer ÷ float time; what is integer adds its noise.

    Args:
        floor: noise that no float layer takes away. quiet: word in a plan's `data` → factor for its noise.
    """

    def __init__(
        self,
        noise: Sequence[float],
        macs: Sequence[int],
        times: Sequence[float] = (),
        *,
        floor: float = 0.0,
        quiet: Mapping[str, float] | None = None,
    ) -> None:
        self.model, self.plan = chain(len(noise))
        names = [f"l{i}" for i in range(len(noise))]
        self.noise = dict(zip(names, noise, strict=True))
        self.macs = dict(zip(names, macs, strict=True))
        self.times = dict(zip(names, times, strict=True)) if times else {}
        self.floor, self.quiet, self.judged, self.ranked = floor, quiet or {}, 0, 0

    def figures(self, integer: Sequence[str], factor: float = 1.0) -> Figures:
        power = self.floor + factor * sum(self.noise[n] for n in integer)
        whole = sum(self.macs.values())
        took = sum(m * (self.times.get(n, 1) if n in integer else 1) for n, m in self.macs.items())
        return Figures(
            sqnr=-10 * math.log10(power) if power else math.inf,
            cosine=1 - power / 2,
            agreement=None,
            drop=None,
            latency=took / whole if self.times else None,
            macs=sum(self.macs[n] for n in integer) / whole,
        )

    def judge(self, plan: Plan) -> Figures:
        self.judged += 1
        return self.figures(integer(plan), self.quiet.get(plan.data, 1.0))

    def rank(self, plan: Plan) -> list[tuple[str, float, int]]:
        self.ranked += 1
        return [(n, self.noise[n], self.macs[n]) for n in self.noise if n in integer(plan)]

    def search(self, budgets: Mapping[str, float], **words: Any) -> Found:
        given = {"rank": self.rank, "judge": self.judge} | words
        return search(self.model, self.plan, FULL, TARGET, budgets, **given)

    def cost(self, floats: Sequence[str]) -> tuple[int, int]:
        return sum(self.macs[n] for n in floats), len(floats)

    def greedy(self, budgets: Mapping[str, float], order: Sequence[str]) -> tuple[int, int]:
        """Cost of turning layers float one by one in this order until the budget is met."""
        least = budgets["min_sqnr"]
        for k in range(len(order) + 1):
            if self.figures(order[k:]).sqnr >= least:
                return self.cost(order[:k])
        raise AssertionError("even all layers in float miss the budget")


def integer(plan: Plan) -> list[str]:
    return [n for n, v in plan.nodes.items() if v.quantized]


def floats(plan: Plan) -> list[str]:
    return list(plan.kept_float())
