"""Forms of one network, timed against each other and profiled; what is known already is not timed again.

A competitor is a form (the set of units that are integer) or the name of a float form. Timings go by digests of
what the plan makes integer, and in which formats; ranges do not matter for speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from fewbit.config import QuantConfig, said
from fewbit.core.plan import Plan
from fewbit.core.runner import Feeds, Runner
from fewbit.core.target import Target
from fewbit.core.timing import Clock, Ratio, in_turns, ratio, runs_in_a_slice
from fewbit.graph.model import Model
from fewbit.quantization.restrict import restrict
from fewbit.search.islands import Units, time_of_units
from fewbit.search.timings import Timings, digest

Opener = Callable[[Model], Runner]
Form = frozenset[str]
Competitor = Form | str

LEAST, MOST, SECONDS = 7, 25, 0.4
"""Rounds of a comparison, and seconds for each competitor; after the first `LEAST` only if it is not lost yet."""

CHECK_MOST, CHECK_SECONDS = 101, 2.0
"""The same for the last one, against float."""

PROFILED = 5
"""Runs that a profile takes medians over."""

CHECK = "check"


@dataclass
class Forms:
    """All that timing forms needs.

    Args:
        model, plan, config, target, open, feeds, emit, deadline, clock, now: see `fewbit.search.smart.measure`.
        units: of the plan. floats: float competitors. known: timings, of earlier runs as well.
        fastest: the fastest float competitor.
        runners: what is loaded. opening, round: seconds that loading a form, and a round with two of them, took.
    """

    model: Model
    plan: Plan
    config: QuantConfig
    target: Target
    units: Units
    open: Opener
    floats: Mapping[str, Opener]
    feeds: Feeds
    emit: Callable[[Plan], Model]
    known: Timings
    deadline: float
    clock: Clock
    now: Clock
    fastest: str = ""
    runners: dict[str, Runner] = field(default_factory=dict)
    keys: dict[Form, str] = field(default_factory=dict)
    opening: float = 0.0
    round: float = 0.0

    # -- forms --------------------------------------------------------------------------------------------------

    def plan_of(self, form: Form, why: Mapping[str, str] | None = None) -> Plan:
        """The plan in which just these units are integer; `why` gives reasons for others."""
        floats = self.plan.kept_float()
        for unit in self.units.all - form:
            for node in self.units.members[unit]:
                follows = f"follows {unit}, which stays float"
                floats[node] = (why or {}).get(unit, "not in this form") if node == unit else follows
        full = replace(self.config, quantize_mode="full", measure=False)
        made = restrict(self.model, self.plan, full, self.target, floats)
        return replace(made, config=said(self.config))

    def key(self, of: Competitor) -> str:
        """What timings of a competitor go by."""
        if isinstance(of, str):
            return f"float {of}"
        if of not in self.keys:
            plan = self.plan_of(of)
            nodes = [f"{k} {n.roles} {n.outputs} {n.absorbed_by}" for k, n in plan.nodes.items() if n.quantized]
            values = [f"{k} {v.role} {v.spec} {v.group}" for k, v in sorted(plan.values.items())]
            self.keys[of] = digest(*nodes, "", *values)
        return self.keys[of]

    def runner(self, of: Competitor) -> Runner:
        """A competitor, loaded.

        Raises:
            EngineError: the engine refuses it.
        """
        key = self.key(of)
        if key not in self.runners:
            start = self.now()
            if isinstance(of, str):
                self.runners[key] = self.floats[of](self.model)
            else:
                self.runners[key] = self.open(self.emit(self.plan_of(of)))
            self.opening = max(self.opening, self.now() - start)
        return self.runners[key]

    def unload(self, others_than: Collection[Competitor]) -> None:
        """Let go of what is loaded, a few excepted."""
        kept = {self.key(c) for c in others_than}
        self.runners = {k: r for k, r in self.runners.items() if k in kept}

    # -- timing -------------------------------------------------------------------------------------------------

    def compare(self, ours: Competitor, theirs: Competitor, *, check: bool = False) -> Ratio | None:
        """Time ÷ time of two; None if there is no time left to find out.

        Raises:
            EngineError: the engine refuses one of them, or fails.
        """
        key = self.key(ours), self.key(theirs) + (f" {CHECK}" if check else "")
        if key not in self.known.ratios:
            seconds = self._seconds([ours, theirs], self.deadline if check else None, check)
            if seconds is None:
                return None
            self.known.ratios[key] = ratio(*seconds)
        return self.known.ratios[key]

    def compare_all(self, of: Sequence[Competitor]) -> bool:
        """Time all in the same rounds, each against each; False if time is up."""
        pairs = [(a, b) for a in of for b in of if a != b]
        if all((self.key(a), self.key(b)) in self.known.ratios for a, b in pairs):
            return True
        found = self._seconds(of, self.deadline, check=True)
        if found is None:
            return False
        seconds = dict(zip(of, found, strict=True))
        for a, b in pairs:
            self.known.ratios[self.key(a), self.key(b)] = ratio(seconds[a], seconds[b])
        return True

    def time_for(self, of: Sequence[Competitor], until: float) -> bool:
        """Whether there is time to load what of these is not loaded, and for `LEAST` rounds."""
        missing = sum(self.key(c) not in self.runners for c in of)
        return self.now() + missing * self.opening + LEAST * self.round * len(of) / 2 < until

    def _for_the_check(self) -> float:
        """Seconds to leave for the last comparison; it takes less than it would like to if time is short."""
        return 2 * LEAST * self.round if math.isfinite(self.deadline) else 0.0

    def _seconds(self, of: Sequence[Competitor], until: float | None, check: bool) -> list[list[float]] | None:
        """Seconds of a run for each competitor and round; None if there was no time for `LEAST` rounds."""
        until = self.deadline - self._for_the_check() if until is None else until
        if not self.time_for(of, until):
            return None
        runs = [partial(self.runner(c).run, self.feeds) for c in of]
        count = runs_in_a_slice(runs, self.clock)
        start = self.now()
        found = in_turns(runs, count, LEAST, self.clock, lambda: self.now() >= until)
        if len(found[0]) < LEAST:
            return None
        one = (self.now() - start) / LEAST
        self.round = max(self.round, one * 2 / len(of))
        if check or ratio(*found).low < 1:
            most, seconds = (CHECK_MOST, CHECK_SECONDS) if check else (MOST, SECONDS)
            rounds = min(most, int(seconds * len(of) / one) if one else most) - LEAST
            more = in_turns(runs, count, max(0, rounds), self.clock, lambda: self.now() >= until)
            found = [a + b for a, b in zip(found, more, strict=True)]
        return found

    def lost(self, form: Form) -> dict[str, float] | None:
        """Microseconds that each unit takes longer than in the fastest float form, in graph order; None if late."""
        pair = (form, self.fastest)
        late = not self.time_for(pair, self.deadline - self._for_the_check())
        if late and any(self.key(c) not in self.known.profiles for c in pair):
            return None
        ours, theirs = self._profile(form, form), self._profile(self.fastest, form)
        return {u: ours.get(u, 0.0) - theirs.get(u, 0.0) for u in self.units.members if u in form}

    def _profile(self, of: Competitor, form: Form) -> dict[str, float]:
        key = self.key(of)
        if key not in self.known.profiles:
            found = time_of_units(self.runner(of).profile(self.feeds, PROFILED), self.units, form)
            self.known.profiles[key] = {u: round(us, 1) for u, us in found.items()}
        return self.known.profiles[key]

    def island_factors(self, form: Form) -> dict[str, tuple[int, float]]:
        """Unit → size of its island, and its time ÷ float time; empty without profiles."""
        ours = self.known.profiles.get(self.key(form), {})
        theirs = self.known.profiles.get(self.key(self.fastest), {})
        found: dict[str, tuple[int, float]] = {}
        for island in self.units.islands(form):
            us, before = (sum(side.get(u, 0.0) for u in island) for side in (ours, theirs))
            if us and before:
                found |= dict.fromkeys(island, (len(island), us / before))
        return found
