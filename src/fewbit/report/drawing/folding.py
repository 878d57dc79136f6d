"""What is folded into what: a tree of groups over the layers of a network.

    name scopes            layer1 ─ layer1.0 ─ conv1
    repeated blocks        where a group, or the network, still has more than `FEW` parts: block 1, block 2, …
    rows of alike blocks   blocks 3 – 8, which are six times the same
    sizes                  Shape ─ Gather ─ Concat ─ …, which only tell others what shape to give
    part 1, part 2, …      what is still too much for a picture

The tree is made for one stage and holds for all: layers of other stages go where their partner is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fewbit.report.drawing.data import Box, Group
from fewbit.report.drawing.repeats import Item, blocks, units
from fewbit.report.drawing.scopes import LEAST, Path, guessed, scopes, tidy, title

FEW = 9
"""Parts of a group that need no further folding."""

SIZES = "#sizes"
"""What keys of groups of sizes start with."""

LEAST_IN_ROW = 3
"""Alike blocks that are put into a group of their own."""

MANY, PIECE = 40, 12
"""Parts of a group that are too many for a picture, and how many then go together."""

BUDGET = 48
"""Boxes that a picture has at most before groups in it stay folded, if that is left to us."""


@dataclass(frozen=True)
class Part:
    """A layer to be grouped.

    Args:
        looks: what makes two of them alike. reads: names of the layers in front. counts: it gives sizes or indices.
    """

    name: str
    op: str
    looks: Any
    reads: tuple[str, ...]
    counts: bool = False


@dataclass
class Tree:
    """Groups.

    Args:
        paths: layer → groups around it, outermost first. titles: group → for people. alike: group → what it looks like
            inside. rows: group → how many alike blocks it is a row of.
    """

    paths: dict[str, Path] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    alike: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


def fold(parts: Sequence[Part]) -> Tree:
    """Find the groups of a network; its layers in topological order."""
    tree = Tree(scopes(p.name for p in parts))
    if guessed(p.name for p in parts):
        split = {s for s in dict.fromkeys(s for path in tree.paths.values() for s in path) if _split(tree, parts, s)}
        tree.paths = tidy({n: tuple(s for s in path if s not in split) for n, path in tree.paths.items()})
    for path in tree.paths.values():
        tree.titles.update((scope, title(scope)) for scope in path)
    _fold(tree, list(parts), 0, "")
    gather_sizes(tree, parts)
    return tree


def _split(tree: Tree, parts: Sequence[Part], scope: str) -> bool:
    """Whether values leave a scope and come back: conv_1, bn_1, conv_2, bn_2 are no groups conv and bn."""
    outside: set[str] = set()
    for p in parts:
        inside = scope in tree.paths[p.name]
        if any(r in outside for r in p.reads) or (not inside and any(scope in tree.paths.get(r, ()) for r in p.reads)):
            if inside:
                return True
            outside.add(p.name)
    return False


def gather_sizes(tree: Tree, parts: Sequence[Part]) -> None:
    """Put what only computes sizes to where they are used, and into groups: what hangs together within one group."""
    counting = {p.name: p for p in parts if p.counts}
    readers: dict[str, list[str]] = defaultdict(list)
    for p in parts:
        for r in p.reads:
            readers[r].append(p.name)
    for name in reversed(counting):
        paths = {tree.paths[r] for r in readers[name]}
        if len(paths) == 1 and len(path := paths.pop()) > len(tree.paths[name]):
            tree.paths[name] = path
    leader = {name: name for name in counting}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for p in counting.values():
        for r in p.reads:
            if r in counting and tree.paths[r] == tree.paths[p.name]:
                leader[find(p.name)] = find(r)
    together: dict[str, list[Part]] = defaultdict(list)
    for name, p in counting.items():
        together[find(name)].append(p)
    for first, members in together.items():
        if len(members) >= LEAST:
            _wrap(tree, members, len(tree.paths[first]), f"{SIZES} {first}", "sizes")


def _fold(tree: Tree, parts: list[Part], depth: int, where: str) -> None:
    """Fold what is inside of one group, and then each group in there."""
    inside = _inside(tree, parts, depth)
    for key, members in inside.items():
        if not key.startswith("\n"):
            tree.alike[key] = _alike(members)
    if len(inside) > FEW and where not in tree.rows:
        _repeat(tree, inside, depth, where)
        inside = _inside(tree, parts, depth)
    if sum(not all(p.counts for p in members) for members in inside.values()) > MANY:
        _chop(tree, inside, depth, where)
        inside = _inside(tree, parts, depth)
    for key, members in inside.items():
        if not key.startswith("\n"):
            tree.alike.setdefault(key, _alike(members))
            _fold(tree, members, depth + 1, key)


def _inside(tree: Tree, parts: Sequence[Part], depth: int) -> dict[str, list[Part]]:
    """What a group shows when it is open: groups by key, layers by line break and name; and the layers in each."""
    inside: dict[str, list[Part]] = defaultdict(list)
    for p in parts:
        path = tree.paths[p.name]
        inside[path[depth] if len(path) > depth else f"\n{p.name}"].append(p)
    return inside


def _items(tree: Tree, inside: Mapping[str, list[Part]]) -> list[Item]:
    """The same, as `repeats` takes it."""
    number = {p.name: i for i, key in enumerate(inside) for p in inside[key]}
    items = []
    for i, (key, members) in enumerate(inside.items()):
        reads = dict.fromkeys(number[r] for p in members for r in p.reads if number.get(r, i) < i)
        alone = key.startswith("\n")
        op, looks = (members[0].op, members[0].looks) if alone else ("", tree.alike.get(key, key))
        items.append(Item(key, op, looks, tuple(reads), len(members)))
    return items


def _chop(tree: Tree, inside: Mapping[str, list[Part]], depth: int, where: str) -> None:
    """Cut what is still too much for a picture into parts, at places where a single value goes on if there are any."""
    keys = list(inside)
    cuts = [unit[i : i + PIECE] for unit in units(_items(tree, inside)) for i in range(0, len(unit), PIECE)]
    current: list[int] = []
    number = 0
    for i, cut in enumerate(cuts):
        current += cut
        if len(current) >= PIECE or i == len(cuts) - 1:
            number += 1
            _wrap(tree, [p for k in current for p in inside[keys[k]]], depth, f"{where}#part{number}", f"part {number}")
            current = []


def _repeat(tree: Tree, inside: Mapping[str, list[Part]], depth: int, where: str) -> None:
    """Put groups around repeated blocks of the parts of a group."""
    keys, items = list(inside), _items(tree, inside)
    found = [b for b in blocks(items) if len(b.items) < len(items)]
    if not any(b.row >= 0 for b in found):
        return
    found = [b for b in found if b.row >= 0 or all(keys[i].startswith("\n") for i in b.items)]
    rows: dict[int, list[list[str]]] = defaultdict(list)
    count = 0
    for b in found:
        members = [keys[i] for i in b.items]
        if len(members) == 1 and not members[0].startswith("\n"):
            block, said = members[0], tree.titles[members[0]]
        else:
            count += 1
            block, said = f"{where}#block{count}", f"block {count}"
            _wrap(tree, [p for m in members for p in inside[m]], depth, block, said)
        if b.row >= 0:
            rows[b.row].append([block, said, *members])
    for row, held in rows.items():
        if len(held) < LEAST_IN_ROW or len(held) == len(keys):
            continue
        start, end = held[0][1], held[-1][1]
        told = f"blocks {start.split()[-1]} – {end.split()[-1]}" if start.startswith("block ") else f"{start} – {end}"
        group = f"{where}#row{row}"
        _wrap(tree, [p for _, _, *members in held for m in members for p in inside[m]], depth, group, told)
        tree.rows[group] = len(held)


def _wrap(tree: Tree, parts: Sequence[Part], depth: int, key: str, name: str) -> None:
    tree.titles[key] = name
    for p in parts:
        path = tree.paths[p.name]
        tree.paths[p.name] = (*path[:depth], key, *path[depth:])


def _alike(parts: Sequence[Part]) -> str:
    """The same text for groups that look the same inside."""
    place = {p.name: i for i, p in enumerate(parts)}
    found = tuple((p.op, p.looks, tuple(place.get(r, -1) for r in p.reads) or (-1,)) for p in parts)
    return repr(found)


# -- what is open at first --------------------------------------------------------------------------------------------


def at_depth(groups: Sequence[Group], depth: int) -> tuple[str, ...]:
    """The groups to open so that `depth` levels can be seen."""
    return tuple(g.id for g in groups if g.depth <= depth)


def opened(groups: Sequence[Group], boxes: Sequence[Box], budget: int = BUDGET) -> tuple[str, ...]:
    """The groups to open so that a picture has at most so many boxes.

    Level by level; of the first level that does not fit, the first group of each look.
    """
    held: dict[str, int] = defaultdict(int)  # group → what it shows when it is open
    for outer in (*(b.group for b in boxes), *(g.parent for g in groups)):
        held[outer] += 1
    count, found = held[""], list[str]()
    for depth in range(1, max((g.depth for g in groups), default=0) + 1):
        level = [g for g in groups if g.depth == depth and not g.sizes and (not g.parent or g.parent in found)]
        more = sum(held[g.id] - 1 for g in level)
        if count + more <= budget:
            count += more
            found += [g.id for g in level]
            continue
        seen: set[str] = set()
        for g in level:
            if g.alike not in seen and not g.blocks and count + held[g.id] - 1 <= budget:
                count += held[g.id] - 1
                found.append(g.id)
            seen.add(g.alike)
    return tuple(found)
