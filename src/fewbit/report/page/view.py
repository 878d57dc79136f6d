"""What a report says in words and tables, worked out from its facts; the template only lays it out.

Everything may be missing: what was not measured is "–" in a cell, and a section without data says why it is empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewbit.core.tables import size
from fewbit.report.page.grids import Grid, layers, operators, outputs, profile, ranking, sizes, sweep
from fewbit.report.page.numbers import figure, fixed, number_of, part, share

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """One bar of a tile: its name, how long it is (0 to 1) and what it says; `kind` gives colour and hatch."""

    name: str
    share: float
    text: str
    kind: str


@dataclass(frozen=True)
class Tile:
    """One figure of the summary: large value, a sentence, smaller lines, bars."""

    label: str
    value: str
    note: str = ""
    more: tuple[str, ...] = ()
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """One grid of simulations."""

    about: str
    top1: str
    grid: Grid


@dataclass(frozen=True)
class View:
    """All that the template shows.

    Args:
        headline, sentence: the verdict when there are no problems.
        facts: (name, value) about how it was made. versions: package → version.
        worst: id of the layer that is shown first, None without layers.
        operators, forms: what the filters of the layer table offer.
    """

    title: str
    made: str
    fewbit: str
    line: str
    problems: tuple[str, ...]
    advice: tuple[str, ...]
    sentence: str
    missing: str
    notes: tuple[tuple[str, tuple[str, ...]], ...]
    tiles: tuple[Tile, ...]
    facts: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    command: str
    outputs: Grid
    layers: Grid
    kinds: tuple[str, ...]
    profile: Grid
    operators: Grid
    profiled: str
    ranking: Grid
    ranked: str
    ranked_about: str
    sizes: Grid
    sized: str
    sweeps: tuple[Sweep, ...]


def view(facts: Json) -> View:
    """Work out the texts of a report."""
    s, found = part(facts, "summary"), rows(facts, "layers")
    names = [text(s, "model"), text(s, "quantized")]
    line = " → ".join(n for n in names if n)
    target = text(s, "target")
    ranked, sized = part(facts, "sensitivity"), part(facts, "sizes")
    return View(
        title=text(facts, "title") or names[1] or names[0] or "untitled",
        made=text(facts, "made"),
        fewbit=text(facts, "fewbit"),
        line=" · ".join(t for t in (line, f"target {target}" if target else "") if t),
        problems=texts(s, "problems"),
        advice=texts(s, "advice"),
        sentence=_sentence(s),
        missing=_missing(s),
        notes=tuple(
            (title, said)
            for title, key in (("Warnings", "warnings"), ("Corrections", "corrections"), ("Notes", "notes"))
            if (said := texts(s, key))
        ),
        tiles=tuple(tile for make in (_size, _latency, _accuracy, _output, _macs, _layers) if (tile := make(s))),
        facts=_made(s),
        versions=tuple((str(k), str(v)) for k, v in part(s, "versions").items()),
        command=text(s, "command"),
        outputs=outputs(rows(facts, "outputs")),
        layers=layers(found),
        kinds=tuple(sorted({text(x, "op") for x in found} - {""})),
        profile=profile(rows(part(facts, "profile"), "rows")),
        operators=operators(part(facts, "profile")),
        profiled=_profiled(part(facts, "profile")),
        ranking=ranking(rows(ranked, "rows")),
        ranked=text(ranked, "kind"),
        ranked_about=text(ranked, "about"),
        sizes=sizes(rows(sized, "rows")),
        sized=text(sized, "about"),
        sweeps=tuple(
            Sweep(text(x, "about"), share(x.get("top1"), 2), sweep(i, rows(x, "rows")))
            for i, x in enumerate(rows(facts, "sweeps"))
        ),
    )


# -- reading facts ----------------------------------------------------------------------------------------------------


def text(of: Json, key: str) -> str:
    """A text; "" if it is missing."""
    return str(of.get(key) or "")


def texts(of: Json, key: str) -> tuple[str, ...]:
    """Some texts."""
    return tuple(map(str, of.get(key) or ()))


def rows(of: Json, key: str) -> Sequence[Json]:
    """Some rows."""
    return of.get(key) or ()


# -- the verdict ------------------------------------------------------------------------------------------------------


def _sentence(s: Json) -> str:
    """What quantizing bought and cost, in one line."""
    found = []
    smaller, ratio = _smaller(s), number_of(part(s, "latency").get("ratio"))
    if smaller:
        found.append(f"{fixed(smaller, 2)}× smaller")
    if ratio:
        found.append(f"{fixed(1 / ratio, 2)}× faster" if ratio <= 1 else f"{fixed(ratio, 2)}× slower")
    drop = _drop(s)
    cosine = number_of(s.get("cosine"))
    if drop is not None:
        found.append(f"top-1 {points(drop)}")
    elif cosine is not None:
        found.append(f"output cosine {fixed(cosine, 5)}")
    return ", ".join(found)


def _missing(s: Json) -> str:
    """What a calm verdict is silent about."""
    measured = (
        ("latency", s.get("latency")),
        ("accuracy on labels", part(part(s, "accuracy"), "quantized") or None),
        ("output error", s.get("sqnr")),
    )
    return ", ".join(what for what, found in measured if found is None)


def _smaller(s: Json) -> float | None:
    before, after = (number_of(part(s, "size").get(k)) for k in ("float", "quantized"))
    return before / after if before and after else None


def _drop(s: Json) -> float | None:
    """Change of top-1, in points."""
    a = part(s, "accuracy")
    before, after = (number_of(part(a, k).get("1")) for k in ("float", "quantized"))
    return None if before is None or after is None else 100 * (after - before)


def points(x: float) -> str:
    """Percentage points, with their sign."""
    return f"{'−' if x < 0 else '+' if x > 0 else '±'}{abs(x):.2f} points"


# -- tiles ------------------------------------------------------------------------------------------------------------


def _size(s: Json) -> Tile | None:
    before, after = (part(s, "size").get(k) for k in ("float", "quantized"))
    if before is None and after is None:
        return None
    smaller = _smaller(s)
    most = max(before or 0, after or 0) or 1
    return Tile(
        "Weights", size(after) if after is not None else "–",
        f"{fixed(smaller, 2)}× smaller than float" if smaller and smaller >= 1 else "not smaller than float",
        bars=tuple(
            Bar(name, x / most, size(x), kind)
            for name, x, kind in (("float", before, "float"), ("quantized", after, "int")) if x is not None
        ),
    )  # fmt: skip


def _latency(s: Json) -> Tile | None:
    t = part(s, "latency")
    before, after, ratio = (number_of(t.get(k)) for k in ("float_ms", "quantized_ms", "ratio"))
    if after is None and ratio is None:
        return None
    low, high = (number_of(t.get(k)) for k in ("ratio_low", "ratio_high"))
    note = ""
    if ratio:
        note = f"{fixed(1 / ratio, 2)}× faster than float" if ratio <= 1 else f"{fixed(ratio, 2)}× slower than float"
    more = f"ratio {fixed(ratio, 3)}"
    if low is not None and high is not None:
        more += f", quartiles {fixed(low, 3)}–{fixed(high, 3)}"
    more += f", batch {t['batch']}" if t.get("batch") is not None else ""
    most = max(before or 0, after or 0) or 1
    return Tile(
        "Latency", f"{figure(after)} ms", note, (more,),
        tuple(
            Bar(name, x / most, f"{figure(x)} ms", kind)
            for name, x, kind in (("float", before, "float"), ("quantized", after, "int")) if x is not None
        ),
    )  # fmt: skip


def _accuracy(s: Json) -> Tile | None:
    a = part(s, "accuracy")
    rates = {k: part(a, "quantized").get(k) for k in part(a, "quantized")}
    if not rates and a.get("agreement") is not None:
        of = f"of {a['samples']} samples, which have no labels" if a.get("samples") is not None else ""
        return Tile("Agreement", share(a["agreement"], 2), "name the same class as float", (of,) if of else ())
    if not rates:
        return None
    first = min(rates, key=lambda k: (len(k), k))
    before, drop = part(a, "float"), _drop(s)
    note = f"{points(drop)} against float" if drop is not None and first == "1" else ""
    more = [f"top-{k} {share(v, 2)}, float {share(before.get(k), 2)}" for k, v in rates.items()]
    if a.get("agreement") is not None:
        more.append(f"agrees with float on {share(a['agreement'], 2)}")
    if a.get("fixed") is not None and a.get("broken") is not None:
        more.append(f"{a['fixed']} fixed, {a['broken']} broken of {a.get('samples')} samples")
    return Tile(f"Top-{first} accuracy", share(rates[first], 2), note, tuple(more))


def _output(s: Json) -> Tile | None:
    sqnr, cosine = number_of(s.get("sqnr")), number_of(s.get("cosine"))
    if sqnr is None and cosine is None:
        return None
    more = (f"{s['samples']} samples compared",) if s.get("samples") is not None else ()
    value = "exact" if sqnr == math.inf else f"{fixed(sqnr, 1)} dB"
    return Tile("Output error (SQNR)", value, f"cosine {fixed(cosine, 5)} against float", (*more, "the worst output"))


def _macs(s: Json) -> Tile | None:
    m = part(s, "macs")
    portion = number_of(m.get("share"))
    if portion is None:
        return None
    more = []
    if m.get("untold"):
        more.append(f"{big(m['untold'])} of layers that do not show count as float")
    if m.get("uncounted"):
        more.append(f"not counted: {m['uncounted']}")
    return Tile(
        "Multiplications in integers", share(portion, 1), f"{big(m.get('integer'))} of {big(m.get('total'))}",
        tuple(more),
        bars=(Bar("integer", portion, share(portion, 1), "int"),),
    )  # fmt: skip


def _layers(s: Json) -> Tile | None:
    m = part(s, "layers")
    total, integer = m.get("total"), m.get("integer")
    if not total or integer is None:
        return None
    unknown = m.get("unknown") or 0
    floats = total - integer - unknown
    said = f"{floats} stay float" if floats else "none stays float"
    return Tile(
        "Layers in integers", f"{integer} of {total}", f"{said}, {unknown} do not show" if unknown else said,
        bars=(Bar("integer", integer / total, share(integer / total, 1), "int"),),
    )  # fmt: skip


def big(count: float | None) -> str:
    """Counts of multiplications: 4.09 G."""
    if count is None:
        return "–"
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= factor:
            return f"{count / factor:,.2f} {unit}"
    return str(count)


# -- other texts ------------------------------------------------------------------------------------------------------


def _made(s: Json) -> tuple[tuple[str, str], ...]:
    labels = (
        ("Float network", "model"), ("Quantized network", "quantized"), ("Target", "target"), ("Engine", "engine"),
        ("Machine", "machine"), ("Threads", "threads"), ("Samples compared", "samples"),
    )  # fmt: skip
    return tuple((label, str(s[key])) for label, key in labels if s.get(key) is not None)


def _profiled(p: Json) -> str:
    """What all operators took together, on both sides."""
    before, after = number_of(p.get("us_float")), number_of(p.get("us_quantized"))
    if before is None or after is None:
        return ""
    return f"All operators together: float {figure(before)} μs, quantized {figure(after)} μs" + (
        f" ({fixed(after / before, 2)}×)." if before else "."
    )
