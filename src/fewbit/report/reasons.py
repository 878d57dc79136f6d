"""Layers kept in float, put together by reason.

    pool1: its input 'a' comes from float
    pool2: its input 'b' comes from float   →   2 MaxPool – its input '…' comes from float: pool1, pool2

What differs from layer to layer gives way to "…"; what the user asked for stays in his words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fewbit.core.plan import Plan
from fewbit.core.reasons import general
from fewbit.core.tables import listed


@dataclass(frozen=True)
class Kept:
    """One layer that stays float. `op`: its operator. `reason`: as the plan gives it."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True)
class Group:
    """Layers with the same kind of reason. `ops`: operator → how many of them. `nodes`: in graph order."""

    reason: str
    ops: Mapping[str, int]
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        ops = ", ".join(op if n == 1 else f"{n} {op}" for op, n in self.ops.items())
        return f"{ops} – {self.reason}: {listed(self.nodes)}"


def kept_float(plan: Plan, ops: Mapping[str, str]) -> tuple[Kept, ...]:
    """The layers that a plan keeps in float. `ops`: layer → operator."""
    return tuple(Kept(node, ops.get(node, "?"), reason) for node, reason in plan.kept_float().items())


def grouped(kept: Iterable[Kept]) -> list[Group]:
    """One entry for each kind of reason, the most frequent first; those of equal size in graph order."""
    found: dict[str, list[Kept]] = {}
    for k in kept:
        found.setdefault(general(k.reason), []).append(k)
    groups = [
        Group(
            reason if len({k.reason for k in ks}) > 1 else ks[0].reason,
            dict(Counter(k.op for k in ks).most_common()),
            tuple(k.node for k in ks),
        )
        for reason, ks in found.items()
    ]
    return sorted(groups, key=lambda g: -len(g.nodes))
