"""Sketches of a network's stages → one drawing: the same groups in all of them, and partners that know each other.

float       conv1   bn1   relu1        partner, the layer of the fused network that does the work:  conv1, conv1, relu1
fused       conv1         relu1
quantized   conv1_int conv1_real …     pieces of a layer that is gone get a group of its name
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fewbit.core.names import longest
from fewbit.core.plan import Plan
from fewbit.graph.model import Model
from fewbit.report.drawing.data import Box, DrawingData, Group, Stage
from fewbit.report.drawing.drawing import Drawing
from fewbit.report.drawing.folding import SIZES, Part, Tree, fold, gather_sizes
from fewbit.report.drawing.labels import shapes
from fewbit.report.drawing.scopes import Path, scopes, title
from fewbit.report.drawing.stage import Sketch, Sources, sketch
from fewbit.report.drawing.verdicts import Verdict, by_plan, by_structure
from fewbit.report.drawing.wiring import Planned, Traced, Wiring
from fewbit.report.plan_fits import contradictions, remark

LAYERS = ("layer", "body")
SAID = 3
"""Operators that a folded group names."""


@dataclass(frozen=True)
class Draft:
    """A stage before it is put together.

    Args:
        partners: layer → layer of the stage that the groups were made for, "" if none does its work.
        homes: piece of a layer → that layer. note: what cannot be seen in it.
    """

    name: str
    title: str
    about: str
    sketch: Sketch
    partners: Mapping[str, str] = field(default_factory=dict)
    homes: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def parts_of(sketch: Sketch) -> list[Part]:
    """The layers of a sketch, as groups are made of them."""
    names = {b.id: b.name for b in sketch.boxes if b.kind in LAYERS}
    into: dict[str, list[str]] = defaultdict(list)
    gives: dict[str, set[str]] = defaultdict(set)
    for e in sketch.edges:
        into[e.head].append(e.tail)
        gives[e.tail].add(sketch.wires[e.wire].kind)

    def layers(box: str) -> list[str]:
        """The layer that a box is, or those in front of a step."""
        return [names[box]] if box in names else [n for t in into[box] for n in layers(t)]

    found = []
    for b in sketch.boxes:
        if b.kind in LAYERS:
            reads = tuple(n for t in into[b.id] for n in layers(t))
            found.append(Part(b.name, b.op, (b.detail, b.weight is not None), reads, gives[b.id] == {"count"}))
    return found


def stage(draft: Draft, tree: Tree, prefix: str) -> Stage:
    """Put a stage together. `prefix`: of the ids of its groups."""
    boxes = draft.sketch.boxes
    paths, titles = _paths(draft, tree)
    used = dict.fromkeys(path[: i + 1] for path in paths.values() for i in range(len(path)))
    ids = {path: f"{prefix}g{i}" for i, path in enumerate(used)}
    placed = [replace(b, group=ids.get(paths[b.id], ""), key=_key(b, draft)) for b in boxes]
    inside: dict[Path, list[Box]] = defaultdict(list)
    for b in placed:
        for i in range(len(paths[b.id])):
            inside[paths[b.id][: i + 1]].append(b)
    groups = tuple(
        Group(
            id=ids[path],
            title=titles.get(path[-1]) or tree.titles.get(path[-1], path[-1]),
            key=f"group {path[-1]}",
            parent=ids.get(path[:-1], ""),
            depth=len(path),
            alike=f"{path[-1].startswith(PIECES)} {tree.alike.get(path[-1], path[-1])}",
            count=sum(b.kind in LAYERS for b in inside[path]),
            what=_what(inside[path]),
            blocks=tree.rows.get(path[-1], 0),
            sizes=path[-1].startswith(SIZES),
            verdict=_common(inside[path]),
        )
        for path in used
    )
    s = draft.sketch
    return Stage(draft.name, draft.title, draft.about, tuple(placed), tuple(s.wires), tuple(s.edges), groups)


PIECES = "\n"
"""What keys of groups of pieces start with."""


def _key(box: Box, draft: Draft) -> str:
    if box.kind not in LAYERS:
        return box.key
    return draft.homes.get(box.name) or draft.partners.get(box.name, box.name) or f"gone {box.name}"


def _paths(draft: Draft, tree: Tree) -> tuple[dict[str, Path], dict[str, str]]:
    """Box → the groups that it is in; and titles of groups of pieces."""
    layers = {b.name: b for b in draft.sketch.boxes if b.kind in LAYERS}
    found = {n: tree.paths[p] for n in layers if (p := draft.partners.get(n, n)) in tree.paths}
    titles: dict[str, str] = {}
    pieces: dict[str, list[str]] = defaultdict(list)
    for name, home in draft.homes.items():
        pieces[home].append(name)
    for home, names in pieces.items():
        if len(names) > 1:
            path = tree.paths.get(home) or _common_path([found.get(n, ()) for n in names])
            while path and all(n in names for n, other in found.items() if path[-1] in other):
                path = path[:-1]  # a group around these and nothing else
            titles[f"{PIECES}{home}"] = _own(home)
            found |= dict.fromkeys(names, (*path, f"{PIECES}{home}"))
    _settle(draft, tree, found)
    by_id = {b.id: found[b.name] for b in layers.values()}
    near = _neighbours(draft.sketch)
    for b in draft.sketch.boxes:
        if b.id in by_id:
            continue
        if b.id in draft.sketch.near:
            by_id[b.id] = _common_path([found.get(n, ()) for n in draft.sketch.near[b.id]])
        elif b.kind == "quantize":
            by_id[b.id] = _common_path([by_id[n] for n in near[b.id] if n in by_id])
        else:
            by_id[b.id] = ()
    return by_id, titles


def _settle(draft: Draft, tree: Tree, found: dict[str, Path]) -> None:
    """Find groups for layers that no other stage has: by their scopes, or where they are read."""
    boxes = {b.name: b for b in draft.sketch.boxes if b.kind in LAYERS}
    rest = [n for n in boxes if n not in found]
    if not rest:
        return
    known = {scope: path[: i + 1] for path in tree.paths.values() for i, scope in enumerate(path)}
    own, parts = scopes(boxes), {p.name: p for p in parts_of(draft.sketch)}
    readers: dict[str, list[str]] = defaultdict(list)
    for p in parts.values():
        for name in p.reads:
            readers[name].append(p.name)
    for name in reversed(rest):  # who reads it is settled before
        scoped = next((known[s] for s in reversed(own.get(name, ())) if s in known), ())
        found[name] = max(_common_path([found[n] for n in readers[name]]), scoped, key=len)
    tree.paths = {**tree.paths, **{n: found[n] for n in rest}}
    gather_sizes(tree, [parts[n] for n in rest])
    found |= {n: tree.paths[n] for n in rest}


def _neighbours(sketch: Sketch) -> dict[str, list[str]]:
    near: dict[str, list[str]] = defaultdict(list)
    for e in sketch.edges:
        near[e.tail].append(e.head)
        near[e.head].append(e.tail)
    return near


def homes_of(sketch: Sketch, layers: Collection[str]) -> dict[str, str]:
    """Boxes that a layer was written out as → that layer. `layers`: those of the float network."""
    names = [b.name for b in sketch.boxes if b.kind in LAYERS]
    gone = set(layers) - set(names)
    homes = {n: longest(n, gone) for n in names if n not in layers}
    return {n: home for n, home in homes.items() if home is not None}


def _own(name: str) -> str:
    """A layer's name without its outer scopes."""
    parts = name.strip("/").split("/")
    return "/".join(parts[-2:]) if len(parts) > 1 else title(name)


def _common_path(paths: Sequence[Path]) -> Path:
    """The innermost group around all of these."""
    first = paths[0] if paths else ()
    n = min((_alike(first, p) for p in paths), default=0)
    return first[:n]


def _alike(a: Path, b: Path) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _what(boxes: list[Box]) -> tuple[str, ...]:
    """What a group holds, in two lines: operators, and what becomes of them."""
    ops = Counter(b.op for b in boxes if b.kind in LAYERS)
    said = [f"{n} {op}" if n > 1 else op for op, n in ops.most_common(SAID)]
    rest = len(ops) - SAID
    lines = [", ".join(said) + (f" and {rest} more" if rest > 0 else "")]
    words = Counter(b.verdict for b in boxes if b.verdict)
    words["integer"] += words.pop("merged", 0)
    steps = Counter(b.kind for b in boxes if b.kind in ("quantize", "dequantize", "requantize"))
    found = [f"{n} {w}" for w, n in words.most_common() if n] + [f"{n} {k}" for k, n in steps.most_common()]
    return (*lines, ", ".join(found)) if found else tuple(lines)


def _common(boxes: list[Box]) -> str:
    """What becomes of all of a group, "mixed" if that differs."""
    words = {"integer" if b.verdict == "merged" else b.verdict for b in boxes if b.verdict}
    return words.pop() if len(words) == 1 else "mixed" if words else ""


# -- all stages -------------------------------------------------------------------------------------------------------


def draw(
    name: str,
    given: Model | None,
    fused: Model | None,
    made: Model | None,
    plan: Plan | None,
    wanted: Collection[str],
    *,
    every_node: bool = False,
    weights: bool = False,
) -> DrawingData:
    """The drawing data of a network.

    Args:
        name: for the title. given, fused: the float network and its fused form, if at hand. made: the integer network.
        plan: what it follows; without `made`, what is drawn in its place. wanted: names of stages.
        every_node: Q and DQ as nodes. weights: constants as boxes.
    """
    aliases = {str(n.name): _alias(str(n.name), fused) for n in given.nodes} if given is not None else {}
    stands: dict[str, list[str]] = defaultdict(list)
    for old, new in aliases.items():
        if new and new != old:
            stands[new].append(old)
    drafts: dict[str, Draft] = {}
    better = shapes(fused, made)
    if given is not None and "float" in wanted:
        found = sketch(Sources(given, Wiring(given), {}, "a", weights=weights, shapes=better))
        drafts["float"] = Draft("float", "float", f"{_count(given)}, as in the file", found, aliases)
    base = None
    if fused is not None and set(wanted) != {"float"}:
        base = sketch(Sources(fused, Wiring(fused), {}, "b", stands, weights, better))
        drafts["fused"] = Draft("fused", "fused", f"{_count(fused)} after fusing: what plans speak of", base)
    if "quantized" in wanted:
        if made is not None:
            drafts["quantized"] = _integer(made, fused, plan, stands, every_node, weights, better)
        elif plan is not None and fused is not None:
            verdicts = {str(n.name): v for n in fused.nodes if (v := by_plan(plan, n)) is not None}
            found = sketch(Sources(fused, Planned(fused, plan), verdicts, "c", stands, weights, better))
            drafts["quantized"] = Draft("quantized", "quantized (planned)", _planned_about(plan), found)
    alone = next(iter(drafts.values())) if len(wanted) == 1 and "float" in wanted else None
    if alone is not None or base is None:
        draft = alone or drafts["quantized"]
        tree = fold(parts_of(draft.sketch))
        drafts[draft.name] = replace(draft, partners={})
    else:
        tree = fold(parts_of(base))
    stages = [stage(d, tree, d.sketch.boxes[0].id[0]) for d in drafts.values() if d.name in wanted]
    notes = tuple(d.note for d in drafts.values() if d.note and d.name in wanted)
    return DrawingData(name, tuple(stages), notes)


def _integer(
    made: Model, fused: Model | None, plan: Plan | None, stands: Mapping[str, list[str]], every: bool, weights: bool,
    better: Mapping[str, str],
) -> Draft:  # fmt: skip
    """The stage of an integer network."""
    known = {str(n.name) for n in fused.nodes} if fused is not None else set(plan.nodes) if plan is not None else set()
    told = remark(contradictions(plan, made)) if plan is not None else ""
    plan = None if told else plan
    traced = Traced(made, known, plan)
    verdicts = by_structure(made, traced)
    if plan is not None:
        verdicts |= {str(n.name): v for n in made.nodes if (v := by_plan(plan, n)) is not None}
    if every:
        verdicts = {str(n.name): verdicts.get(str(n.name), Verdict()) for n in made.nodes}
    wiring = Wiring(made) if every else traced
    found = sketch(Sources(made, wiring, verdicts, "c", stands, weights, better))
    homes = {} if every else homes_of(found, known)
    if plan is not None:
        found.boxes = [_piece(b, homes, plan) for b in found.boxes]
    about = f"{_count(made)} in the file" + (f", for {plan.target}" if plan is not None else "")
    title = "quantized (its plan is of another run)" if told else "quantized"
    return Draft("quantized", title, about, found, homes=homes, note=told)


def _piece(box: Box, homes: Mapping[str, str], plan: Plan) -> Box:
    """A piece of a layer shares its verdict."""
    home = plan.nodes.get(homes.get(box.name, ""))
    if home is None or not home.quantized or box.reason or not box.verdict:
        return box
    word = "dynamic" if box.verdict == "float" else box.verdict
    return replace(box, verdict=word, reason=f"part of {homes[box.name]}: {home.reason}")


def _planned_about(plan: Plan) -> str:
    integer = sum(n.quantized for n in plan.nodes.values())
    return f"what quantizing for {plan.target} would make of it: {integer} of {len(plan.nodes)} layers integer"


def _alias(name: str, fused: Model | None) -> str:
    """The layer that does the work of one, "" if none does."""
    seen = set()
    while fused is not None and name in fused.aliases and name not in seen:
        seen.add(name)
        name = fused.aliases[name]
    return name


def _count(model: Model) -> str:
    n = len(model.nodes)
    return f"{n} nodes" if n != 1 else "1 node"


def drawn_alone(name: str, found: Sketch, what: str, about: str) -> Drawing:
    """The drawing of one network that somebody else has sketched. `what`: name of its stage."""
    data = DrawingData(name, (stage(Draft(what, what, about, found), fold(parts_of(found)), "a"),))
    return Drawing(data, (what,))
