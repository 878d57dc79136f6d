"""Where the time goes: each layer in the float and in the quantized network, side by side.

    float    relu1_nchwc  Conv         11.5 us  ┐ both belong to layer conv1: an engine names what it merged after
    integer  conv1_token  QLinearConv   6.0 us  ┘ its first or its last part, and decorates the name

An engine's operator belongs to the layer whose name, or the name of whose output, its own name starts with; the longest
wins. Where a layer then shows on one side only, it is tried as a follower of the layer that it reads from. What fits
nowhere (reorders, Q and DQ at the border) stands alone, on its side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewbit.core.blocks import Aside, Block, Shown, Table, Title, ratio_bars, share_bars, to_text
from fewbit.core.names import longest
from fewbit.core.runner import Feeds, NodeTime, Runner
from fewbit.core.tables import Name, number, percent, plain, times
from fewbit.graph.model import Model, is_const

Side = dict[str, list[NodeTime]]


@dataclass(frozen=True)
class ProfileRow:
    """One layer.

    Args:
        layer: its name in the float network, or the engine's own where it belongs to none.
        op_float, op_int: operator executed for it; the slowest, if several; empty if there is none on that side.
        types: input types of the integer one. us_float, us_int: microseconds, all its operators together.
        ratio: us_int ÷ us_float, None unless it shows on both sides.
    """

    layer: str
    op_float: str
    us_float: float | None
    op_int: str
    types: str
    us_int: float | None
    ratio: float | None

    @property
    def lost(self) -> float | None:
        """Microseconds that the quantized network takes longer here; None unless it shows on both sides."""
        return None if self.us_float is None or self.us_int is None else self.us_int - self.us_float


@dataclass(frozen=True, repr=False)
class Profile(Shown):
    """Two networks, layer by layer: those that lose most time first, those on one side only last, slowest first.

    Args:
        operators: operator → (how many, microseconds) in the float, and in the quantized network; slowest first.
    """

    rows: tuple[ProfileRow, ...]
    float_operators: dict[str, tuple[int, float]]
    int_operators: dict[str, tuple[int, float]]

    def text(self, n: int = 20) -> str:
        """The `n` rows that lose most, and the totals by operator."""
        return to_text(self._blocks(n))

    def _blocks(self, n: int = 20) -> list[Block]:
        head = ("<layer", "?<float", ">us", "<quantized", "?<types", ">us", ">ratio", ">lost us")
        rows = [
            (Name(r.layer), r.op_float or "-", number(r.us_float, 1), r.op_int or "-", _brief(r.types),
             number(r.us_int, 1), times(r.ratio), number(r.lost, 1))
            for r in self.rows[:n]
        ]  # fmt: skip
        bars = {head.index(">ratio"): ratio_bars([r.ratio for r in self.rows[:n]])}
        title = f"layers, {len(rows)} of {len(self.rows)}, most time lost first"
        parts: list[Block] = [
            Title(title),
            Table(head, rows, bars),
            Aside("bars: ratio; the line is 1, equally fast"),
        ]
        parts += [Aside("more: text(n) as text, rows for all of them")] if len(self.rows) > n else []
        for what, found in (("float", self.float_operators), ("quantized", self.int_operators)):
            whole = sum(us for _, us in found.values())
            lines = [(op, str(k), number(us, 1), percent(us / whole if whole else 0)) for op, (k, us) in found.items()]
            shares = {3: share_bars([us for _, us in found.values()])}
            parts += ["", Title(f"{what}: {number(whole, 1)} us")]
            parts += [Table(("<operator", ">count", ">us", ">share"), lines, shares)]
        return parts

    def _brief(self) -> str:
        ours, theirs = (sum(us for _, us in x.values()) for x in (self.float_operators, self.int_operators))
        slower = sum(r.lost is not None and r.lost > 0 for r in self.rows)
        both = f"{number(ours, 0)} us float, {number(theirs, 0)} us quantized"
        return f"{both}; {slower} of {len(self.rows)} layers lose time"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        found: dict[str, Any] = plain(self)
        return found


def profile_pair(
    float_runner: Runner,
    int_runner: Runner,
    feeds: Feeds,
    *,
    model: Model | None = None,
    int_names: Mapping[str, str] | None = None,
    repeat: int = 10,
) -> Profile:
    """Profile both networks with the same feeds and put their operators side by side.

    Args:
        model: the fused float network, whose names both runners carry on; without it operators are matched by the
            names in the float profile alone, which misses what an engine named after another part of the layer.
        int_names: names in the quantized network → layers, where its nodes are called otherwise.
        repeat: runs to take medians over.

    Raises:
        EngineError: a run failed.
    """
    ours, theirs = float_runner.profile(feeds, repeat), int_runner.profile(feeds, repeat)
    names = layer_names(model) if model is not None else {t.node: t.node for t in ours}
    a, b = _by_layer(ours, names), _by_layer(theirs, dict(int_names or names))
    if model is not None:
        _follow(model, a, b)
        _follow(model, b, a)
        _sums(model, a, b)
    order = list(dict.fromkeys([*a, *b]))
    rows = sorted((_row(layer, a.get(layer, []), b.get(layer, [])) for layer in order), key=_rank)
    return Profile(tuple(rows), by_operator(ours), by_operator(theirs))


def by_operator(found: Iterable[NodeTime]) -> dict[str, tuple[int, float]]:
    """Operator → (how many, microseconds together), slowest first."""
    totals: dict[str, tuple[int, float]] = {}
    for t in found:
        count, us = totals.get(t.op, (0, 0.0))
        totals[t.op] = count + 1, us + t.us
    return dict(sorted(totals.items(), key=lambda kv: (-kv[1][1], kv[0])))


def layer_names(model: Model) -> dict[str, str]:
    """Every name that may stand for a layer – its own, its outputs', names that were fused into it – → its name."""
    nodes = {str(n.name) for n in model.nodes}
    names = {old: new for old, new in model.aliases.items() if new in nodes}
    names |= {str(v.name): str(n.name) for n in model.nodes for v in n.outputs if v.name}
    return names | {name: name for name in nodes}


def _by_layer(found: Iterable[NodeTime], names: dict[str, str]) -> Side:
    side: Side = {}
    for t in found:
        name = longest(t.node, names)
        side.setdefault(t.node if name is None else names[name], []).append(t)
    return side


def _follow(model: Model, a: Side, b: Side) -> None:
    """Layers that show in `a` only go to the layer in front of them that shows in `b` only: the engine merged them."""
    makers = {str(n.name): next((v.producer() for v in n.inputs if v is not None and not is_const(v)), None)
              for n in model.nodes}  # fmt: skip
    for layer in [k for k in a if k in makers and k not in b]:
        node = makers[layer]
        while node is not None and node.name not in a and node.name not in b:
            node = makers.get(str(node.name))
        if node is not None and node.name in b and node.name not in a:
            a[str(node.name)] = a.pop(layer)


def _sums(model: Model, a: Side, b: Side) -> None:
    """An Add that shows in `b` only goes to the convolution in front of it that is in both: `a` has it as its sum.

    Of two convolutions it is the one whose operator reads more, else the later one; both feed nothing but the Add.
    """
    order = {str(n.name): i for i, n in enumerate(model.nodes)}
    for node in model.nodes:
        name = str(node.name)
        if node.op_type != "Add" or name in a or name not in b:
            continue
        makers = [v.producer() for v in node.inputs if v is not None and len(v.uses()) == 1]
        found = [str(m.name) for m in makers if m is not None and m.op_type == "Conv" and m.name in a and m.name in b]
        if found:
            into = max(found, key=lambda k: (max(len(t.types.split()) for t in a[k]), order[k]))
            b[into] = [*b[into], *b.pop(name)]


def _rank(row: ProfileRow) -> tuple[bool, float]:
    if row.lost is None:
        return True, -(row.us_float or row.us_int or 0.0)
    return False, -row.lost


def _row(layer: str, ours: Sequence[NodeTime], theirs: Sequence[NodeTime]) -> ProfileRow:
    us = [sum(t.us for t in side) if side else None for side in (ours, theirs)]
    main = max(theirs, key=lambda t: t.us, default=None)
    return ProfileRow(
        layer=layer,
        op_float=max(ours, key=lambda t: t.us).op if ours else "",
        us_float=us[0],
        op_int=main.op if main else "",
        types=main.types if main else "",
        us_int=us[1],
        ratio=us[1] / us[0] if us[0] and us[1] is not None else None,
    )


def _brief(types: str) -> str:
    """Each type once, in order: "u8 f32 u8 f32 s8" → "u8 f32 s8"."""
    return " ".join(dict.fromkeys(types.split()))
