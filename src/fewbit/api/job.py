"""Job: one call of `quantize`, and its stages: measured or planned, corrected, within budgets, told of.

Each stage takes what is decided so far (`Done`) and gives more. Networks, data and deadline are the job's.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fewbit.api.common import (
    Open,
    judging,
    opener,
    own_engine,
    simulator,
    target_named,
)
from fewbit.api.making import calibrated, corrected, emit, emitted, make_plan, uncorrected
from fewbit.api.samples import (
    HELD,
    HELD_FOR_BUDGETS,
    LEAST,
    LEAST_HELD,
    Remember,
    Slices,
    samples_in,
    slices,
    too_few,
)
from fewbit.config import QuantConfig, budgets
from fewbit.core.plan import Plan
from fewbit.core.timing import clock_for
from fewbit.data import Batch
from fewbit.engines import engine_of, engine_version
from fewbit.errors import EngineError, EngineMissing, FewbitWarning, PlanError, UsageError
from fewbit.graph.model import Model
from fewbit.graph.rescale import rescaled
from fewbit.quantization.correct import Correction, Say, any_wanted
from fewbit.quantization.static import free_batch
from fewbit.report.debug import MEMORY, write_debug
from fewbit.report.quantized import Quantized
from fewbit.report.summary import QuantReport, summarize
from fewbit.report.verify import verify_quantized
from fewbit.search.budget import search
from fewbit.search.judge import make_judge
from fewbit.search.outcome import Found
from fewbit.search.sensitivity import sensitivity
from fewbit.search.smart import Measured, measure
from fewbit.search.state import State, search_key
from fewbit.search.timings import default_cache

CORRECTIONS_SHARE = 0.3
"""Of the time limit that corrections may use if a budget is to be searched for after them."""

BEST_TAKES = 20
"""Times as long as those of default: the corrections of best are left out of a search with less time than that."""


def start_plan(state: Path) -> Path:
    """Where the plan lies that a search began with."""
    return state.with_name(f"{state.name}.plan.json")


def _identity(plan: Plan) -> dict[str, Any]:
    """What a search belongs to; a time limit may be another one when it goes on."""
    settings = {k: v for k, v in plan.config.items() if k != "time_limit"}
    return {"model": plan.model, "data": plan.data, "settings": settings}


@dataclass(frozen=True)
class Done:
    """What was decided so far: the plan, and what there is to tell of how it came about."""

    plan: Plan
    corrections: tuple[Correction, ...] = ()
    measured: Measured | None = None
    found: Found | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Job:
    """One call of `quantize`.

    Args:
        given, fused: the float network, as it came and fused. seen: the data. threads: cores to use.
        say: tells what is done. end: deadline of time.monotonic(), or None.
        known: there is no data, ranges are those that the network came with. made_up: there is no data at all.
    """

    given: Model
    fused: Model
    config: QuantConfig
    seen: Remember
    threads: int
    say: Say
    end: float | None
    known: bool = False
    made_up: bool = False

    def decided(self, ranges: Callable[[Plan], Plan], state: Path | None, best: Path | None) -> Done:
        """All stages, as far as the settings ask for them.

        Args:
            ranges: plan → the plan with its ranges. state, best: files of a search, see `quantize`.
        """
        done = self.resumed(state) if state else None
        if done is None and self.config.quant_type == "weight":
            done = self.weights([] if self.made_up else self.seen.kept())
        elif done is None:
            done = self.corrected(*self.measured(ranges))
            if state and budgets(self.config):
                done.plan.save(start_plan(state))
        return self.budgeted(done, state, best) if budgets(self.config) else done

    @property
    def held(self) -> int:
        """Samples to hold out."""
        return HELD_FOR_BUDGETS if budgets(self.config) else HELD

    def parts(self) -> Slices:
        """What was kept of the data, in two."""
        return slices(self.seen.kept(), self.held, free_batch(self.fused))

    def judged_on(self) -> list[Batch]:
        """Samples that nothing is fitted to, but for ranges; without corrections any will do."""
        fitted = any_wanted(self.config) or budgets(self.config) or self.config.quant_type == "weight"
        return self.parts().held if fitted else self.seen.kept()

    def measured(self, ranges: Callable[[Plan], Plan]) -> tuple[Plan, Measured | None]:
        """A calibrated plan; with `measure`, of what was timed to pay."""
        if not self.config.measure:
            return ranges(make_plan(self.fused, self.config)), None
        target = target_named(self.config.target)
        every = ranges(make_plan(self.fused, replace(self.config, quantize_mode="full", measure=False)))
        plain = opener(target.name, 1)
        floats: dict[str, Any] = {"float": plain, "float as given": lambda _: plain(self.given)}
        if target.name == "openvino":  # by itself it computes in bf16 where the CPU can
            floats["float in f32"] = opener(target.name, 1, precision="f32")
        result = measure(
            self.fused,
            every,
            self.config,
            target,
            opener(target.name, 1),
            self.seen.kept()[0].feeds,
            emit=lambda p: emitted(self.fused, p, target, {}),
            engine=f"{engine_version(target.name)}, 1 thread",
            baselines=floats,
            cache=default_cache(),
            deadline=self.end,
            progress=lambda done, what: self.say(f"timing {what}", done, 0),
            clock=clock_for(1),
        )
        return replace(result.plan, config=make_plan(self.fused, self.config).config, data=every.data), result

    def weights(self, batches: Sequence[Batch]) -> Done:
        """A plan for weights alone, fitted to the data if there is some."""
        plan = make_plan(self.fused, self.config)
        found = corrected(
            self.fused, plan, self.config, batches, self.held, deadline=self.end, say=self.say, workers=self.threads
        )
        return Done(*found)

    def corrected(self, plan: Plan, measured: Measured | None) -> Done:
        """The plan with the corrections that help."""
        if not any_wanted(self.config) or self.config.calib_mode == "none":
            return Done(plan, (), measured)
        if self.known:
            return Done(plan, uncorrected(), measured)
        end = self.end
        if end is not None and budgets(self.config):
            end = time.monotonic() + CORRECTIONS_SHARE * max(0.0, end - time.monotonic())
        start = time.monotonic()
        found = self._correct(plan, self.config, end)
        return Done(*found, measured, seconds=time.monotonic() - start)

    def _correct(self, plan: Plan, config: QuantConfig, end: float | None) -> tuple[Plan, tuple[Correction, ...]]:
        kept = self.seen.kept()
        return corrected(self.fused, plan, config, kept, self.held, deadline=end, say=self.say, workers=self.threads)

    def resumed(self, state: Path) -> Done | None:
        """The plan that an interrupted search began with, if it is there and was made for this."""
        path = start_plan(state)
        if not path.exists():
            return None
        plan = Plan.load(path)
        wanted = replace(make_plan(self.fused, self.config), data=self.seen.digest() or "")
        if any(_identity(plan)[k] != v for k, v in _identity(wanted).items()):
            raise PlanError(
                f"{path} belongs to another network, other data or other settings; delete it and {state} to start over"
            )
        return Done(replace(plan, config=wanted.config))

    def budgeted(self, done: Done, state: Path | None, best: Path | None) -> Done:
        """The cheapest plan that meets the budgets."""
        target, parts, wanted = target_named(self.config.target), self.parts(), budgets(self.config)
        if too_few(self.seen.kept(), parts):
            raise UsageError(
                f"a budget is judged on samples that nothing was fitted to: {LEAST} samples or more are needed, in two "
                f"batches or more; there are {samples_in(self.seen.kept())}"
            )
        kept, rescales, told = parts.held, done.plan.rescales, list(done.corrections)
        base = rescaled(self.fused, rescales)
        runs, timed = simulator(target.name, self.threads), opener(target.name, 1)

        def whole(plan: Plan) -> Plan:
            kept = tuple(r for r in rescales if not _idle(base, plan, r.value))
            return replace(plan, rescales=kept, model=done.plan.model, config=done.plan.config, data=done.plan.data)

        def emits(plan: Plan) -> Model:
            return emitted(base, replace(plan, rescales=()), target, {})

        def rank(plan: Plan) -> list[tuple[str, float, int]]:
            if not any(o.dtype.kind == "f" for o in base.outputs):
                return []  # noise cannot be measured; only latency can be asked for
            few = kept[: max(1, HELD // max(1, len(kept[0].names)))]
            told = sensitivity(
                base, replace(plan, rescales=()), self.config, target, few, runs, emit=emits, left=False,
                progress=lambda n, of: self.say("ranking layers", n, of), deadline=self.end,
            )  # fmt: skip
            return [(x.node, 10 ** (-x.alone / 10), x.macs) for x in told.layers]

        def better() -> Plan:
            more = replace(self.config, effort="best", smooth_quant=False, equalization=False)
            plan, more_told = self._correct(done.plan, more, self.end)
            told.extend(replace(c, name=f"{c.name} (best)") for c in more_told)
            return replace(plan, rescales=())

        in_time = self.end is None or self.end - time.monotonic() > BEST_TAKES * done.seconds

        start, data, count = replace(done.plan, rescales=()), self.seen.digest() or "", itertools.count(1)
        found = search(
            base,
            start,
            self.config,
            target,
            wanted,
            rank=rank,
            judge=make_judge(
                self.fused, kept, judging(self.fused, runs), emits, latency=timed if "max_latency" in wanted else None
            ),
            wider=[better] if self.config.effort == "default" and in_time else [],
            calibrate=lambda plan: calibrated(base, plan, self.config, self.seen.kept(), self.threads),
            save=(lambda plan, figures: emit(self.fused, whole(plan), {}).save(best)) if best else None,
            state=state,
            key=data,
            deadline=self.end,
            progress=lambda trial, _: self.say(f"judging plans, {trial.what}", next(count), 0),
        )
        if state is not None and (found.met or found.in_time):
            State(state, search_key(start, wanted, data)).remove()
            start_plan(state).unlink(missing_ok=True)
        return replace(done, plan=whole(found.plan), found=found, corrections=tuple(told))

    def tables(self, out: Quantized, plan: Plan, batches: Any) -> None:
        """The debug tables. `batches`: all of the data; what is kept of it, if it could be visited only once."""
        assert self.config.debug_info_save_path is not None
        write_debug(
            rescaled(self.fused, plan.rescales), out, plan, batches, simulator(self.config.target, self.threads),
            Path(self.config.debug_info_save_path), memory_limit=self.config.memory_limit or MEMORY,
            rounds=self.config.num_calib_batches,
        )  # fmt: skip

    def report(self, out: Quantized, done: Done, verify: bool) -> Any:
        """What it gave and what it cost."""
        told: dict[str, Any] = {
            "corrections": done.corrections,
            "measured": done.measured.note if done.measured else "",
            "budget": done.found.note if done.found else "",
            "budget_met": done.found.met if done.found else None,
            "figures": asdict(done.found.figures) if done.found else {},
        }
        made = self.verified(out, done.plan) if verify else None
        if made is None:
            made = summarize(done.plan, self.fused, out, size_float=self.given.nbytes)
        least = self.config.min_cosine
        if self.config.quant_type == "weight" and least is not None and made.cosine is not None:
            met = made.cosine >= least
            found = f"the worst output keeps a cosine of {made.cosine:.5f} on samples held out; asked for was {least:g}"
            told |= {"budget": found, "budget_met": met}
        return replace(made, **told, warnings=(*made.warnings, *self._doubts(made, done)))

    def verified(self, out: Quantized, plan: Plan) -> QuantReport | None:
        """What running both networks shows; None, with a warning, if numbers that were made up do not suit them."""

        def run(open: Open, engine: str, stand_in: str = "") -> QuantReport:
            fused = rescaled(self.fused, plan.rescales)
            trusted = opener("onnxruntime", 1) if engine != "onnxruntime" else None
            return verify_quantized(
                self.given, out, plan, self.judged_on(), open, fused=fused, stand_in=stand_in, trusted=trusted
            )

        if own := own_engine(self.config.target):
            try:
                return run(opener(own, 1), own)
            except EngineMissing:
                pass  # the simulation will do
            except EngineError as e:
                warnings.warn(f"verified in the simulation, not in {own}: {e}", FewbitWarning, stacklevel=3)
        try:
            engine = engine_of(self.config.target)
            return run(simulator(self.config.target, 1), engine, target_named(self.config.target).engine)
        except EngineError as e:
            if not self.made_up:
                raise
            sizes = ", ".join(map(str, self.given.inputs))
            warnings.warn(
                f"not verified: there is no data, and random numbers do not suit the network ({sizes}): "
                f"{str(e).splitlines()[0][:200]}. Give data, or fix its sizes: input_shapes, --input-shapes",
                FewbitWarning,
                stacklevel=3,
            )
            return None

    def _doubts(self, made: QuantReport, done: Done) -> Iterator[str]:
        """What figures do not promise."""
        if self.known:
            judged = (
                ""
                if made.cosine is None
                else "; error and speed were measured on random numbers, and may differ on data"
            )
            yield f"there was no data: ranges are those of the checkpoint{judged}"
        if done.found is None:
            return
        samples, limit = done.found.figures.samples, self.config.max_latency
        if samples < LEAST_HELD:
            yield f"the budget was judged on {samples} samples; on others it may not be met. Hand more data"
        if limit is not None and made.latency is not None and done.found.met and made.latency.ratio > limit:
            yield (
                f"latency was {done.found.figures.latency:.2f} of float in the search and is {made.latency.ratio:.2f} "
                f"now: the budget of {limit:g} lies within what timings differ by"
            )


def _idle(model: Model, plan: Plan, value: str) -> bool:
    """Whether a rescale is a Mul of its own that only float layers read: it would cost and change nothing."""
    out = model.values().get(f"{value}.rescaled")
    if out is None:
        return False
    return not any((n := plan.nodes.get(str(u.node.name))) is not None and n.quantized for u in out.uses())
