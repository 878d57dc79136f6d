"""Find the cheapest plan that keeps within budgets: least multiplications in float, then fewest layers in float.

    start plan ─ met? ─ better corrected plans (`wider`) ─ met? ─ rank the layers of the nearest one by harm, then
    1. how many of the most harmful layers must be float: 1, 2, 4, … until met, then bisect
    2. put them back to integer one by one, largest first, as long as the budget stays met
    3. trade each large one for several smaller ones, and put back again

Harm is noise a multiplication, since multiplications are what a float layer costs; and, in a second pass, noise alone,
which is better where a few large layers do all the harm. Steps 1 and 2 never end dearer than turning layers float one
by one in either order would. Layers that the budget does not need are never judged.

If nothing meets the budgets, the nearest plan is the one of the smallest excess (see `fewbit.search.figures`), then the
cheapest. Every judgement is recorded, the best plan so far is handed out at once, and a resumed search takes the same
steps with the judgements of before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.target import Target
from fewbit.graph.model import Model
from fewbit.search.candidates import Calibrate, candidate
from fewbit.search.figures import LATENCY, Figures, excess, met, missing, of_accuracy, of_latency
from fewbit.search.outcome import Found, Trial, note
from fewbit.search.state import Ranked, State, plan_key, search_key

__all__ = ["Figures", "Found", "Trial", "excess", "met", "missing", "search"]

Budgets = Mapping[str, float]
Rank = Callable[[Plan], Sequence[Ranked]]
Names = tuple[str, ...]
Goal = Callable[[Trial], bool]
T = TypeVar("T")

LEAST = 0.001
"""Share of all multiplications that a layer counts for at least, so that additions do not come before all else."""


class _TimeUp(Exception):
    """The next step would not end before the deadline."""


@dataclass
class _Job:
    """The search so far."""

    model: Model
    config: QuantConfig
    target: Target
    budgets: Budgets
    judge: Callable[[Plan], Figures]
    state: State
    base: Plan
    calibrate: Calibrate | None
    save: Callable[[Plan, Figures], None] | None
    progress: Callable[[Trial, Trial], None] | None
    deadline: float | None
    clock: Callable[[], float]

    def __post_init__(self) -> None:
        self.tried: dict[str, Trial] = {}
        self.asked: dict[frozenset[str], Trial] = {}
        self.layers: dict[str, Ranked] = {}
        self.best: tuple[Trial, Plan] | None = None
        self.saved = True

    def check_time(self) -> None:
        """Stop if one more judgement is expected to end too late."""
        expected = median(t.seconds for t in self.tried.values()) if self.tried else 0.0
        if self.deadline is not None and self.tried and self.clock() + expected > self.deadline:
            raise _TimeUp

    def timely(self, make: Callable[..., T], *given: Any) -> T:
        """Make something that takes long; made by the deadline it may be incomplete, so that it is not kept."""
        made = make(*given)
        self.check_time()
        return made

    def look(self, floats: Collection[str] = (), what: str = "") -> Trial:
        """Judge the base plan with these layers float, unless that is known."""
        asked = frozenset(floats)
        if asked not in self.asked:
            self.asked[asked] = self._look(tuple(n for n in self.layers if n in asked), what)
        return self.asked[asked]

    def rebase(self, plan: Plan) -> None:
        """Go on from another plan without float layers."""
        self.base = plan
        self.asked.clear()

    def _look(self, floats: Names, what: str) -> Trial:
        start = self.clock()
        plan = candidate(self.model, self.base, self.config, self.target, self._reasons(floats), self.calibrate)
        key = plan_key(plan)
        if key in self.tried:
            return self.tried[key]
        fresh = key not in self.state.trials
        if fresh:
            self.flush()
            self.check_time()
            figures = self.judge(plan)
            self.state.record(key, figures, self.clock() - start)
        figures, seconds = self.state.trials[key]
        count = len(plan.kept_float())
        what = what or f"{len(floats)} layer{'s' * (len(floats) != 1)} float"
        trial = Trial(what, floats, figures, seconds, excess(figures, self.budgets), count)
        self.tried[key] = trial
        if self.best is None or trial.rank < self.best[0].rank:
            self.best, self.saved = (trial, plan), False
        if fresh:
            self.flush()
        if self.progress:
            self.progress(trial, self.best[0])
        return trial

    def flush(self) -> None:
        """Hand out the best plan, unless it was; while known steps are taken again, what is on disk may be better."""
        if self.best is not None and not self.saved and self.save is not None:
            self.save(self.best[1], self.best[0].figures)
        self.saved = True

    def _reasons(self, floats: Names) -> dict[str, str]:
        words = ", ".join(f"{b} {bound:g}" for b, bound in self.budgets.items())
        return {n: f"float to meet {words}; {_decibel(self.layers[n][1])} on its own" for n in floats}


def search(
    model: Model,
    plan: Plan,
    config: QuantConfig,
    target: Target,
    budgets: Budgets,
    *,
    rank: Rank,
    judge: Callable[[Plan], Figures],
    wider: Sequence[Callable[[], Plan]] = (),
    calibrate: Calibrate | None = None,
    save: Callable[[Plan, Figures], None] | None = None,
    state: Path | None = None,
    key: str = "",
    deadline: float | None = None,
    progress: Callable[[Trial, Trial], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Find the cheapest plan that meets the budgets.

    Args:
        model: the fused float network. plan: calibrated, perhaps corrected; where the search starts.
        config, target: what the plan was made with. budgets: see `fewbit.config.budgets`.
        rank: a plan → its layers: (name, noise power at the outputs if it alone is integer, multiplications). May stop
            at the deadline; a ranking that took until then is not kept.
        judge: a plan → its figures, see `fewbit.search.judge`. They must be the same if asked again; latency may waver.
        wider: make better corrected plans; tried in turn, before any layer turns float. They keep to the deadline
            themselves; what took until then is not kept either.
        calibrate: measures ranges of a plan; without it layers whose ranges are missing turn float as well.
        save: takes the best plan so far, whenever it changes.
        state: file to keep judgements in and to go on from; `State.remove` deletes it. key: names what else
            judgements depend on, such as the held-out data.
        deadline: in `clock`'s seconds. No judgement begins that would end later if it takes as long as the median of
            those before; the first one always happens.
        progress: called with (the plan just judged, the best so far).

    Raises:
        ConfigError: a budget is about something that cannot be measured here.
        PlanError: the state file is damaged or belongs to another search.
    """
    known = State(state, search_key(plan, budgets, key))
    job = _Job(model, config, target, budgets, judge, known, plan, calibrate, save, progress, deadline, clock)
    in_time = True
    try:
        _search(job, rank, wider)
    except _TimeUp:
        in_time = False
    job.flush()
    assert job.best is not None
    trial, best = job.best
    tried = tuple(job.tried.values())
    return Found(best, trial.figures, trial.met, tried, note(trial, tried, budgets, in_time), in_time)


def _search(job: _Job, rank: Rank, wider: Sequence[Callable[[], Plan]]) -> None:
    start = job.look(what="start")
    nearest = (_accuracy(job, start), job.base)
    for i, make in enumerate(wider, 1):
        if nearest[0] == 0:  # what remains is latency, which no correction changes
            break
        job.check_time()
        job.rebase(job.state.plan(f"wider-{i}", partial(job.timely, make)))
        trial = job.look(what=f"better corrected, {i}")
        if _accuracy(job, trial) < nearest[0]:
            nearest = (_accuracy(job, trial), job.base)
    if job.best is not None and job.best[0].met:
        return
    job.check_time()
    job.rebase(nearest[1])
    layers = [r for r in job.state.ranked(partial(job.timely, rank, job.base)) if _integer(job.base, r[0])]
    job.layers = {r[0]: r for r in layers}
    least = max(1.0, LEAST * sum(r[2] for r in layers))
    dense = sorted(layers, key=lambda r: -r[1] / max(r[2], least))
    loud = sorted(layers, key=lambda r: -r[1])
    goals: list[Goal] = [lambda t: _accuracy(job, t) == 0] if nearest[0] > 0 else []
    goals += [lambda t: t.met] if LATENCY in job.budgets else []
    for order in (dense, loud):
        for ok in goals:
            found = _fewest(job, [r[0] for r in order], ok)
            if found is not None:
                _trade(job, _put_back(job, found, ok), [r[0] for r in dense], ok)


def _integer(plan: Plan, name: str) -> bool:
    return name in plan.nodes and plan.nodes[name].quantized


def _accuracy(job: _Job, trial: Trial) -> float:
    """Excess over all budgets but latency."""
    return excess(trial.figures, of_accuracy(job.budgets))


def _slowness(job: _Job, trial: Trial) -> float:
    """Excess over the budget of latency."""
    return excess(trial.figures, of_latency(job.budgets))


def _fewest(job: _Job, order: Sequence[str], ok: Goal) -> list[str] | None:
    """The shortest start of `order` that is good enough as float layers; None if not even all of it is."""
    low, high = 0, 1
    while high < len(order) and not ok(job.look(order[:high])):
        low, high = high, min(2 * high, len(order))
    if not order or not ok(job.look(order[:high])):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if ok(job.look(order[:middle])) else (middle, high)
    return list(order[:high])


def _put_back(job: _Job, floats: Sequence[str], ok: Goal) -> list[str]:
    """Turn float layers integer again, largest first, where that is still good enough and no slower."""
    kept = list(floats)
    for name in sorted(floats, key=lambda n: -job.layers[n][2]):
        fewer = [n for n in kept if n != name]
        trial = job.look(fewer)
        if ok(trial) and _slowness(job, trial) <= _slowness(job, job.look(kept)):
            kept = fewer
    return kept


def _trade(job: _Job, floats: Sequence[str], order: Sequence[str], ok: Goal) -> None:
    """Try smaller layers that together do as much harm, most harmful first, in the place of each large one."""
    kept = list(floats)
    for name in sorted(floats, key=lambda n: -job.layers[n][2]):
        rest, (_, harm, room) = [n for n in kept if n != name], job.layers[name]
        for other in order:
            _, noise, macs = job.layers[other]
            if other not in kept and noise > 0 and harm > 0 and macs < room:
                rest.append(other)
                room, harm = room - macs, harm - noise
        if name not in kept or len(rest) < len(kept) or not ok(job.look(rest)):
            continue
        traded = _put_back(job, rest, ok)
        if job.look(traded).rank < job.look(kept).rank:
            kept = traded


def _decibel(noise: float) -> str:
    return f"SQNR {-10 * math.log10(noise):.1f} dB" if noise > 0 else "no noise"
