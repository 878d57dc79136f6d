"""Blocks that a network repeats, found by what they do and not by what they are called.

    items     a ─ b ─ ┬ c ─ d ┬ e ─ …          cut where a single value goes on: a | b | c d e | …
    units     a relu | b | c d e relu | …      what only clamps or normalizes belongs to what is in front
    repeats   U V U V U V W X                  the shortest row of units that repeats: (U V) × 3

Two units are alike if they hold the same operators with the same attributes, wired the same way. Values that many
layers along the network read (a mask, a position) do not count as going on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SMALL = frozenset(
    "Relu Clip LeakyRelu PRelu Sigmoid Tanh HardSwish HardSigmoid Gelu Elu Selu BatchNormalization Dropout Identity "
    "LayerNormalization InstanceNormalization".split()
)
LEAST = 3
"""Layers of a block."""

LONGEST = 48
"""Units of a block."""

MANY = 3
"""Readers from which on a value that also reaches far does not count as going on."""

FAR = 0.25
"""Share of the network that such a value reaches over."""


@dataclass(frozen=True)
class Item:
    """A layer, or a group of layers. `reads`: numbers of the items in front that it reads, in its order of inputs."""

    id: str
    op: str
    looks: Any
    reads: tuple[int, ...]
    size: int = 1


@dataclass(frozen=True)
class Block:
    """Items by number, one after the other. `row`: number of the row of alike blocks that it is part of, or -1."""

    items: tuple[int, ...]
    row: int


def blocks(items: Sequence[Item]) -> list[Block]:
    """The repeated blocks among items in topological order; and those with branches that do not repeat."""
    cut = units(items)
    known: dict[Any, int] = {}
    looks = [known.setdefault(_looks(items, u), len(known)) for u in cut]
    sizes = [sum(items[i].size for i in u) for u in cut]
    found: list[Block] = []
    at, row = 0, 0
    while at < len(cut):
        period, count = _best(looks, at)
        if count > 1 and sum(sizes[at : at + period]) < LEAST:
            at += period * count  # layers in a row, as in a plain stack: no blocks
        elif count > 1:
            for k in range(count):
                inside = cut[at + k * period : at + (k + 1) * period]
                found.append(Block(tuple(i for u in inside for i in u), row))
            at, row = at + period * count, row + 1
        else:
            found += [Block(tuple(cut[at]), -1)] if len(cut[at]) > LEAST else []
            at += 1
    return found


def _best(looks: Sequence[int], at: int) -> tuple[int, int]:
    """(units in a block, how many blocks) of the shortest block that repeats from here on; (1, 1) if there is none."""
    for period in range(1, min(LONGEST, (len(looks) - at) // 2) + 1):
        count = 1
        first = looks[at : at + period]
        while looks[at + count * period : at + (count + 1) * period] == first:
            count += 1
        if count > 1:
            return period, count
    return 1, 1


def units(items: Sequence[Item]) -> list[list[int]]:
    """Items between places where a single value goes on; small ones belong to the unit in front."""
    far = _far(items)
    last: dict[int, int] = {}
    for i, item in enumerate(items):
        for r in item.reads:
            last[r] = i
    found: list[list[int]] = []
    current: list[int] = []
    alive: set[int] = set()
    for i, item in enumerate(items):
        current.append(i)
        alive = {a for a in alive if last[a] > i}
        if last.get(i, i) > i and i not in far:
            alive.add(i)
        if len(alive) <= 1 and alive <= {i}:
            alone = len(current) == 1 and item.op in SMALL and item.size == 1
            if alone and found:
                found[-1] += current
            else:
                found.append(current)
            current = []
    return [*found, current] if current else found


def _far(items: Sequence[Item]) -> set[int]:
    """Items whose values many others read, all along."""
    readers: dict[int, list[int]] = {}
    for i, item in enumerate(items):
        for r in set(item.reads):
            readers.setdefault(r, []).append(i)
    return {r for r, who in readers.items() if len(who) >= MANY and who[-1] - r >= FAR * len(items)}


def _looks(items: Sequence[Item], unit: Sequence[int]) -> Any:
    """What a unit does: its items, and which of them read which."""
    place: Mapping[int, int] = {i: k for k, i in enumerate(unit)}
    return tuple((x.op, x.looks, tuple(place.get(r, -1) for r in x.reads) or (-1,)) for x in (items[i] for i in unit))
