"""Smart mode, measured: keep integer what makes this network faster on this machine, and nothing else.

    start     the table's choice, all legal layers; the faster one, against the fastest float form
    propose   from profiles of both forms: drop layers of one row, islands, layers that lose time; add what is float
    try       the whole network with and without, in turns; kept if it is faster beyond doubt
    again     from what was kept, until nothing helps or time is up
    check     the chosen form against float once more, longer: not reliably faster → all stays float

A form is a set of units (see `fewbit.search.islands`) that are integer. Profiles only order the proposals; whole
networks decide, so that Q and DQ at borders, and all that an engine can no longer merge, count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fewbit import __version__
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.runner import Feeds
from fewbit.core.target import Target
from fewbit.core.timing import Clock, Ratio
from fewbit.errors import EngineError
from fewbit.graph.model import Model
from fewbit.quantization.plan import at_run_time, make_plan
from fewbit.search.forms import Form, Forms, Opener
from fewbit.search.islands import Units, units_of
from fewbit.search.timings import Timings, machine, shapes

Progress = Callable[[int, str], None]

STEP, WORTH = 0.99, 0.98
"""A step must gain 1 % in the median, the whole 2 %: loading a network anew changes its time by about as much."""

SINGLE = 6
"""Islands, and layers, that are tried one by one before something else is."""

TRIALS = 80
"""A search ends after so many, time limit or not."""

REFUSED = Ratio(math.inf, math.inf, math.inf, 1)


@dataclass(frozen=True)
class Trial:
    """One form that was timed.

    Args:
        what: it is, or what was changed. layers: integer ones, merged ones included.
        ratio, ratio_low, ratio_high: its time ÷ that of `against`, with quartiles over rounds; infinite if the engine
            refused it.
        against: what it was timed in turns with. kept: whether the search went on from it.
    """

    what: str
    layers: int
    ratio: float
    ratio_low: float
    ratio_high: float
    against: str
    kept: bool


@dataclass(frozen=True)
class Measured:
    """What pays here.

    Args:
        plan: the chosen one; reasons of its nodes tell what was measured. Everything is float if nothing pays.
        ratio, ratio_low, ratio_high: latency ÷ that of the fastest float form, of `plan` or, if everything stays
            float, of the best integer form that was found; 1 if nothing was timed.
        tried: every form that was timed, in order. note: the outcome in a sentence.
    """

    plan: Plan
    ratio: float
    ratio_low: float
    ratio_high: float
    tried: tuple[Trial, ...]
    note: str


@dataclass(frozen=True)
class Proposal:
    """Another form to try, and what is different in it."""

    what: str
    form: Form


@dataclass
class _Search:
    """Where the search stands.

    Args:
        best: the fastest form so far. ratio: its time ÷ float, estimated step by step.
        why: unit → why it was turned float. tried: all trials. seen: all forms. slower: changes that clearly cost.
    """

    best: Form
    ratio: Ratio
    why: dict[str, str] = field(default_factory=dict)
    tried: list[Trial] = field(default_factory=list)
    seen: set[Form] = field(default_factory=set)
    slower: set[str] = field(default_factory=set)


def measure(
    model: Model,
    plan: Plan,
    config: QuantConfig,
    target: Target,
    open: Opener,
    feeds: Feeds,
    *,
    emit: Callable[[Plan], Model],
    engine: str,
    baselines: Mapping[str, Opener] | None = None,
    cache: Path | None = None,
    deadline: float | None = None,
    progress: Progress | None = None,
    clock: Clock = time.perf_counter,
    now: Clock = time.monotonic,
) -> Measured:
    """Find the integer layers that make a network fastest here.

    Args:
        model: the fused float network.
        plan: calibrated, with all layers integer that may be (quantize_mode full); nothing is calibrated here.
        config: the user's, quantize_mode smart. target: what the plan was made for.
        open: loads a form for timing. feeds: one real batch, of the size that matters to the user.
        emit: makes the integer network of a plan.
        engine: what runs the forms, with version and threads: "onnxruntime 1.31, 1 thread".
        baselines: float competitors, name → loader; the fastest counts. Default: the network loaded by `open`.
        cache: file of timings, see `fewbit.search.timings.default_cache`; None keeps nothing.
        deadline: moment of `now` by which to be done, the check included; what is found by then counts.
        progress: called with (forms tried, what is tried next).
        clock: times runs, see `fewbit.core.timing.clock_for`. now: tells the time.

    Raises:
        EngineError: the engine refuses the float network.
    """
    floats = dict(baselines) if baselines else {"float": open}
    depends = (machine(), engine, f"fewbit {__version__}", f"network {model.digest()[:16]}", shapes(feeds))
    known = Timings.load(cache, "; ".join(depends))
    rows = at_run_time(config, target) if config.calib_mode == "none" else target
    units = units_of(model, plan, rows)
    end = math.inf if deadline is None else deadline
    forms = Forms(model, plan, config, target, units, open, floats, feeds, emit, known, end, clock, now)
    try:
        return _search(forms, make_plan(model, config, target), engine, progress or (lambda done, what: None))
    finally:
        known.save()


def _search(f: Forms, table: Plan, engine: str, progress: Progress) -> Measured:
    smart = frozenset(u for u in f.units.all if table.nodes[u].quantized)
    if not f.units.all:
        return Measured(f.plan_of(smart), 1.0, 1.0, 1.0, (), "nothing to measure: no layer may be integer here")
    starts = {"all legal layers": f.units.all} | ({"the table's choice": smart} if smart else {})
    progress(0, " and ".join(starts))
    s = _start(f, {form: what for what, form in starts.items()})  # of the same form the latter name counts
    if s is None:
        note = "the time limit came before anything was timed; this is the choice of the table of measured operators"
        return Measured(_finished(f, smart, table, {}), 1.0, 1.0, 1.0, (), note)
    _descend(f, s, progress)
    progress(len(s.tried), "the result against float")
    f.unload([f.fastest, s.best])
    checked = f.compare(s.best, f.fastest, check=True) if s.ratio is not REFUSED else REFUSED
    short = "" if checked else "; the time limit left no time to check this against float once more"
    found = checked or s.ratio
    rival = f"{f.fastest} in {engine}"
    if found.faster and found.mid < WORTH:
        note = f"runs at {found} of {rival}, measured on this machine; {_tried(s)}{short}"
        return Measured(_finished(f, s.best, table, s.why), found.mid, found.low, found.high, tuple(s.tried), note)
    figure = f"at {found} of {rival}" if found is not REFUSED else "not at all: the engine refuses it"
    sure = "" if found.mid >= 1 else " for sure"
    note = f"nothing pays{sure} here, the network stays float: the best integer form runs {figure}; {_tried(s)}{short}"
    why = f"nothing pays{sure} here: the best integer form of the network runs {figure} (measured on this machine)"
    plan = _finished(f, frozenset(), table, dict.fromkeys(f.units.all, why))
    return Measured(plan, found.mid, found.low, found.high, tuple(s.tried), note)


def _tried(s: _Search) -> str:
    return f"{len(s.tried)} form{'s' if len(s.tried) > 1 else ''} tried"


# -- where to start ---------------------------------------------------------------------------------------------------


def _start(f: Forms, forms: Mapping[Form, str]) -> _Search | None:
    """Time all that a search may start from in the same rounds; None if there is no time for that."""
    floats = list(f.floats)
    if f.now() >= f.deadline:
        return None
    accepted = [form for form in forms if _opens(f, form)]
    if not f.compare_all([*accepted, *floats]):
        return None
    ratios = {name: f.known.ratios[f.key(name), f.key(floats[0])].mid for name in floats[1:]}
    f.fastest = min(floats, key=lambda name: ratios.get(name, 1.0))
    found = {form: f.known.ratios[f.key(form), f.key(f.fastest)] if form in accepted else REFUSED for form in forms}
    best = accepted[-1] if accepted else next(iter(forms))
    for form in accepted[:-1]:  # more integer layers only where that is faster for sure
        r = f.known.ratios[f.key(form), f.key(best)]
        best = form if r.faster and r.mid < STEP else best
    s = _Search(best, found[best], seen=set(forms))
    for form, r in found.items():
        s.tried.append(_trial(f, forms[form], form, r, f.fastest, form == best))
    return s


def _opens(f: Forms, form: Form) -> bool:
    """Whether the engine takes a form; one that was timed before is not loaded."""
    if all((f.key(form), f.key(name)) in f.known.ratios for name in f.floats):
        return True
    try:
        run = f.runner(form).run
        start = f.now()
        run(f.feeds)
    except EngineError:
        return False
    f.round = max(f.round, 2 * (f.now() - start))
    return True


def _trial(f: Forms, what: str, form: Form, r: Ratio, against: str, kept: bool) -> Trial:
    layers = sum(len(f.units.members[u]) for u in form)
    return Trial(what, layers, r.mid, r.low, r.high, against, kept)


# -- from there -------------------------------------------------------------------------------------------------------


def _descend(f: Forms, s: _Search, progress: Progress) -> None:
    """Take every step that helps, until none does, or there is no time."""
    helped = True
    while helped and s.ratio is not REFUSED:
        helped = False
        f.unload([f.fastest, s.best])
        lost = f.lost(s.best)
        if lost is None:
            return
        for p in proposals(f.units, s.best, lost):
            if p.form in s.seen or p.what in s.slower or not p.form:
                continue
            if len(s.tried) >= TRIALS:
                return
            progress(len(s.tried), p.what)
            s.seen.add(p.form)
            try:
                r = f.compare(p.form, s.best)
            except EngineError:
                r = REFUSED
            if r is None:
                return
            helped = r.faster and r.mid < STEP
            s.tried.append(_trial(f, p.what, p.form, r, "the best so far", helped))
            if helped:
                _accept(s, p, r)
                break
            if r.low >= 1:
                s.slower.add(p.what)
            f.unload([f.fastest, s.best])


def _accept(s: _Search, p: Proposal, r: Ratio) -> None:
    for unit in s.best - p.form:
        s.why[unit] = f"the network runs at {r} of its time {p.what} (measured on this machine)"
    s.ratio = replace(s.ratio, low=s.ratio.low * r.mid, mid=s.ratio.mid * r.mid, high=s.ratio.high * r.mid)
    s.best = p.form


def proposals(units: Units, best: Form, lost: Mapping[str, float]) -> Iterator[Proposal]:
    """Forms that may be faster, large changes before small ones; `lost` says where integers take longer than float."""
    yield Proposal("without support layers that stand alone", units.settled(best))
    rows: dict[str, set[str]] = {}
    for unit in units.members:
        rows.setdefault(units.rows[unit], set()).add(unit)
    inside = {row: of & best for row, of in rows.items() if of & best}
    for row in _losing(inside, lost):
        yield Proposal(f"without {row}", units.settled(best - inside[row]))
    islands = {f"the island of {next(u for u in units.members if u in i)}": set(i) for i in units.islands(best)}
    losing = _losing(islands, lost)
    if len(losing) > 1:
        gone = set[str]().union(*(islands[name] for name in losing))
        yield Proposal("without the islands that lose time", best - gone)
    for name in losing[:SINGLE]:
        yield Proposal(f"without {name}", best - islands[name])
    worst = _losing({u: {u} for u in best}, lost)
    for share, what in ((1, "the layers"), (2, "half of the layers"), (4, "a quarter of the layers")):
        if len(worst) > share:
            yield Proposal(
                f"without {what} that lose time", units.settled(best - set(worst[: -(-len(worst) // share)]))
            )
    for unit in worst[:SINGLE]:
        yield Proposal(f"without {unit}", units.settled(best - {unit}))
    for row, of in rows.items():
        if of - best:
            yield Proposal(f"with {row}", units.settled(best | of))


def _losing(sets: Mapping[str, set[str]], lost: Mapping[str, float]) -> list[str]:
    """Names of the sets that take longer than in float, the worst first."""
    sums = {name: sum(lost[u] for u in of) for name, of in sets.items()}
    return sorted((name for name, us in sums.items() if us > 0), key=lambda name: (-sums[name], name))


# -- the answer -------------------------------------------------------------------------------------------------------


def _finished(f: Forms, form: Form, table: Plan, why: Mapping[str, str]) -> Plan:
    """The plan of a form, with reasons: what was measured, else what the table says."""
    reasons = {u: why.get(u, table.nodes[u].reason) for u in f.units.all - form}
    plan, factors = f.plan_of(form, reasons), f.island_factors(form)
    nodes = dict(plan.nodes)
    for unit in form & factors.keys():
        layers, factor = factors[unit]
        kind = "core" if unit in f.units.core else "support"
        island = f"its island of {layers} runs" if layers > 1 else "it runs"
        text = f"{kind} operator; {island} at {factor:.2f} of float time here (measured)"
        nodes[unit] = replace(nodes[unit], reason=text)
    return replace(plan, nodes=nodes)
