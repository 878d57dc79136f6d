"""`explain`: what a debug folder says, and what it gains to keep the layers float that it proposes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewbit.api.common import Data, Source, as_model, as_source, cores, judging, settings, simulator, target_named
from fewbit.api.making import calibrated, emit
from fewbit.api.onecall import VERIFY_SAMPLES, quantize
from fewbit.api.samples import Remember, samples_in
from fewbit.config import BUDGETS, QuantConfig, needs_ranges
from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.core.tables import listed
from fewbit.data import DataSource
from fewbit.errors import FewbitWarning, UsageError
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.graph.rescale import rescaled
from fewbit.quantization.restrict import restrict
from fewbit.report.benchmark import benchmark
from fewbit.report.compare import compare
from fewbit.report.comparison import Comparison
from fewbit.report.debug_tables import PLAN_FILE
from fewbit.report.explain import MOST
from fewbit.report.explain import explain as _explain
from fewbit.report.explanation import Explanation, Figures, Gain
from fewbit.report.quantized import Quantized

SECONDS = 0.3
"""To time each network for, at least."""

Say = Callable[[str, int, int], None]

TRIED = 24
"""Layers, the most suspect ones, that are each tried in float."""

HELPS = 0.1
"""Decibels that a layer in float must gain by itself to be proposed."""


def explain(
    folder: str | Path,
    model: Source | None = None,
    data: Data = None,
    config: QuantConfig | str | Path | Mapping[str, Any] | None = None,
    *,
    samples: int = VERIFY_SAMPLES,
    threads: int | None = None,
    say: Say | None = None,
    **words: Any,
) -> Explanation:
    """Say which layers a debug folder blames, and propose few of them to keep float; measure what that gains.

    Tables tell where noise shows, and only roughly where it begins. With the network and data the suspects are each
    tried in float, and those that gain most are proposed.

    Args:
        folder: as `debug_info_save_path` named it, written by fewbit or by MindSpore Lite.
        model, data: the float network and what to calibrate and measure on; without them nothing is measured.
        config, words: as for `quantize`. Without a config those of the plan in the folder, if there is one. Budgets and
            debug tables have no part in this.
        samples: to measure on, about. threads: cores to use (default: all).
        say: told what is done, how many steps of it, of how many (0 if nobody knows).

    Raises:
        UsageError: no such folder, or no table in it; a network without data, or the reverse. DataError: a table is
            damaged; names file, line and column.
    """
    found = _explain(folder)
    if (model is None) != (data is None):
        missing = "a network but no data" if data is None else "data but no network"
        raise UsageError(f"there is {missing}; the gain is measured with both, or not at all")
    if samples < 1:
        raise UsageError(f"samples is {samples!r}; it must be 1 or more")
    if model is None:
        if config is not None or words:
            raise UsageError("settings say how to quantize and to read data; hand the network and data, too")
        return found
    chosen, reading = settings(_known(Path(folder)) if config is None else config, words)
    network = as_model(model)
    known = {str(n.name) for n in network.nodes} | {str(n.name) for n in fuse(network).nodes}
    named = dict.fromkeys(f.node for f in found.findings)
    suspects = [name for name in named if name in known]
    if len(suspects) < len(named):
        strange = listed(name for name in named if name not in known)
        found = replace(found, notes=(*found.notes, f"the network has no layer called {strange}; not measured"))
    if not found.proposal:
        why = "nothing is proposed" if found.findings else "no layer stands out"
        told = f"the data was not used: {why}, so there is nothing to try and to measure"
        return replace(found, notes=(*found.notes, told))
    if not suspects:
        return found
    off: dict[str, Any] = dict.fromkeys((*BUDGETS, "debug_info_save_path"))
    job = _Job(network, as_source(data, network, reading), replace(chosen, **off), samples, threads or cores(), say)
    return job.measured(found, suspects)


def _known(folder: Path) -> dict[str, Any]:
    """The words that the network of a debug folder was quantized with."""
    file = folder / PLAN_FILE
    return dict(Plan.load(file).config) if file.is_file() else {}


class _Job:
    """The network, quantized again and again, and judged on the same samples."""

    def __init__(self, model: Model, source: DataSource, config: QuantConfig, samples: int, threads: int,
                 say: Say | None = None) -> None:  # fmt: skip
        self.say = say or (lambda what, done, of: None)
        self.model, self.config, self.threads = model, config, threads
        self.seen = Remember(source, samples, config.num_calib_batches)
        self.base, self.target = fuse(model), target_named(config.target)
        self.open = judging(model, simulator(config.target, threads))
        self.float: Runner | None = None

    def measured(self, found: Explanation, suspects: Sequence[str]) -> Explanation:
        """Choose by trying, and measure what that gains."""
        self.say("quantizing", 0, 0)
        before = self.quantized(self.config)
        joins = {f.node for f in found.findings if f.kind == "ranges"}
        gains = self.gains(before, suspects[:TRIED], joins)
        chosen = sorted((n for n, gain in gains.items() if gain >= HELPS), key=lambda n: -gains[n])[:MOST]
        if not chosen:
            told = f"none of {len(gains)} layers gains {HELPS} dB in float by itself, so nothing is proposed"
            return replace(found, proposal=(), notes=(*found.notes, told))
        more = replace(self.config, exclude_layers=(*self.config.exclude_layers, *chosen))
        self.say("quantizing without them", 0, 0)
        gain = self.gain(before, self.quantized(more))
        told = f"proposed are those of {len(gains)} layers that gain most in float by themselves"
        return replace(found, proposal=tuple(chosen), gain=gain, notes=(*found.notes, told))

    def quantized(self, config: QuantConfig) -> Quantized:
        """The integer network, without what is said of it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FewbitWarning)  # it is made to be measured only
            return quantize(self.model, self.seen, config, verify=False, workers=self.threads)

    def gains(self, before: Quantized, suspects: Sequence[str], joins: Set[str]) -> dict[str, float]:
        """Decibels that each suspect gains in float by itself.

        Corrections stay as they are, and so do ranges – but for joins, whose inputs need not share one then, and
        where a value becomes integer that was not.
        """
        plan = before.plan
        nodes = dict.fromkeys(self.base.aliases.get(name, name) for name in suspects)
        integer = [name for name in nodes if name in plan.nodes and plan.nodes[name].quantized]
        start, found = self.compared(before).sqnr, {}
        for i, name in enumerate(integer):
            self.say("trying layers in float", i, len(integer))
            less = self.without(plan, name)
            if needs_ranges(self.config) and (name in joins or not less.calibrated):
                base, kept = rescaled(self.base, less.rescales), self.seen.kept()
                fresh = calibrated(base, replace(less, rescales=()), self.config, kept, self.threads)
                less = replace(fresh, rescales=less.rescales)
            sqnr = self.compared(emit(self.base, less, {})).sqnr
            found[name] = _gain(start, sqnr)
        return found

    def without(self, plan: Plan, name: str) -> Plan:
        """The plan with one layer in float."""
        if self.config.quant_type == "weight":  # no layer hangs on another one
            return plan.keep_float([name], "tried in float")
        base = rescaled(self.base, plan.rescales)
        less = restrict(base, replace(plan, rescales=()), self.config, self.target, {name: "tried in float"})
        return replace(less, rescales=plan.rescales)

    def compared(self, quantized: Model) -> Comparison:
        """Its outputs against float."""

        def open_once(model: Model) -> Runner:
            if model is not self.model:
                return self.open(model)
            self.float = self.float or self.open(model)
            return self.float

        return compare(self.model, quantized, self.seen.kept(), open_once, layers=False)

    def gain(self, before: Quantized, after: Quantized) -> Gain:
        """Both in numbers."""
        made, batches = {"before": before, "after": after}, self.seen.kept()
        open_ = simulator(self.config.target, 1)
        runners = {name: open_(m) for name, m in {"float": self.model, **made}.items()}
        timed = benchmark(runners, {len(batches[0].names): batches[0].feeds}, min_time=SECONDS)
        told = {name: self.compared(m) for name, m in made.items()}
        first, second = (
            Figures(told[name].cosine, told[name].sqnr, timed.ratio(name), m.nbytes) for name, m in made.items()
        )
        return Gain(first, second, samples_in(batches))


def _gain(before: float | None, after: float | None) -> float:
    """Decibels; without limit if the output was no number before and is one now."""
    if before is None or after is None or math.isnan(after):
        return 0.0
    return math.inf if math.isnan(before) else after - before if after != before else 0.0
