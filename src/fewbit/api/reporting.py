"""`make_report`: everything that is known of a quantized network, measured here and now, for one page.

compare (with histograms) → evaluate → time → profile → [sensitivity] [sizes] → FullReport

Two forms of the network are all that is needed; the plan, if there is one, says why.
"""

from __future__ import annotations

import contextlib
import platform
import re
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from fewbit import __version__
from fewbit.api.common import Data, Open, Source, as_model, as_read, cores, opener, own_engine
from fewbit.api.forms import sizes
from fewbit.api.looking import rescales_of, sensitivity
from fewbit.api.reported import (
    Sides,
    estimated,
    integer_macs,
    measured_accuracy,
    measured_speed,
    measured_verdict,
    ranking_of,
    remarks,
    two_sizes,
)
from fewbit.core.plan import Plan
from fewbit.core.target import TARGETS
from fewbit.data.base import Batch
from fewbit.engines import ENGINES, engine_of, engine_version
from fewbit.errors import EmptyData, UsageError, one_of
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.graph.rescale import rescaled
from fewbit.report.compare import compare
from fewbit.report.full.histograms import Distributions
from fewbit.report.full.layers import Seen, layer_facts
from fewbit.report.full.more import More, read_more
from fewbit.report.full.report import FullReport, Setting
from fewbit.report.plan_fits import check_belongs, contradictions, remark
from fewbit.report.quantized import Quantized, plan_path
from fewbit.report.summary import LEAST_FLOAT, QuantReport
from fewbit.report.verify import agreement
from fewbit.search.macs import counted_macs
from fewbit.search.timings import machine

Say = Callable[[str, int, int], None]

INCLUDABLE = ("sensitivity", "sizes")
"""What takes minutes, and is measured if asked for."""

KEPT = 16
"""Samples that rankings and sizes are measured on."""

PACKAGES = ("numpy", "onnx", "onnxruntime", "openvino", "ncnn")
BUILT_IN = "onnxruntime"


def make_report(
    model: Source,
    quantized: Source,
    data: Data,
    *,
    plan: Plan | str | Path | None = None,
    include: Sequence[str] = (),
    add: Sequence[str | Path] = (),
    limit: int | None = None,
    engine: str | None = None,
    threads: int = 1,
    num_skipped_batches: int = 0,
    about: QuantReport | None = None,
    command: str = "",
    say: Say | None = None,
    **words: Any,
) -> FullReport:
    """Measure all that a page about a quantized network shows: error by layer, histograms, speed, accuracy, verdicts.

    Args:
        model: float. quantized: its integer form, by fewbit or by another tool.
        data: see `fewbit.data`; words: fields of `DataConfig`, on top of how the integer network was calibrated.
        plan: what it follows, or its file; default: of a `Quantized` its own, of a file the one beside it.
        include: "sensitivity", "sizes": measured too, which takes minutes.
        add: JSON documents of `fewbit sensitivity`, `sizes` and `simulate --sweep`, to be shown as well.
        limit: use this many batches. num_skipped_batches: leave out as many at the start.
        engine: what runs both (default: that of the plan's target). threads: that timings use.
        about: what is known from quantizing: corrections, budgets.
        command: that makes this report; default: the command line that does.
        say: called with (what is done, steps done, steps; 0: nobody knows).

    Returns:
        the report: `.save("report.html")`, `.save_data(folder)`, `.text()`, `.to_json()`; shows itself in notebooks.

    Raises:
        UnknownName: no such engine, no such part. EmptyData: there is no batch.
        ModelError: the networks do not belong together. DataError: a document in `add` is none.
        PlanError: the plan is damaged, or belongs to another network.
    """
    include = _checked(include, num_skipped_batches, limit=limit, threads=threads)
    tell = say or (lambda what, done, of: None)
    more, sides = read_more(add), _sides(model, quantized, plan)
    name = _engine(sides.plan, engine)
    source = as_read(data, sides.given, words, sides.quantized.metadata)
    batches = Batches(source, num_skipped_batches, limit)
    if "sensitivity" in include and sides.plan is None:
        raise UsageError("sensitivity needs the plan of the quantized network; give it with plan, or leave it out")
    tell("comparing", 0, 0)
    distributions, open_ = Distributions(), opener(name, cores())
    comparison = compare(sides.fused, sides.quantized, batches, open_, inner=sides.inner, look=distributions.update)
    tell("timing", 0, 0)
    speed = measured_speed(sides, batches.first, opener(name, threads, timing=True))
    macs = counted_macs(sides.fused, batches.first, open_)
    seen = Seen(comparison, distributions, speed.profile, macs, speed.executed)
    layers, lost = layer_facts(sides.inner, sides.quantized, sides.plan, seen)
    tell("counting right answers", 0, 0)
    accuracy, notes = measured_accuracy(sides, batches, opener(name, cores()))
    notes += [*remarks(layers, lost, batches.samples or 0), *([sides.remark] if sides.remark else [])]
    verdict = measured_verdict(sides, comparison, speed, macs, about)
    if name != BUILT_IN:
        verdict = _distrusted(verdict, sides.given, batches.first, open_)
    more = _measured(more, include, sides, batches, tell)
    return FullReport(
        fewbit=__version__, title=sides.title, setting=_setting(sides, name, threads, command, batches, data),
        verdict=verdict, bytes=sides.bytes, accuracy=accuracy, macs=integer_macs(sides, macs, speed.executed),
        notes=tuple(dict.fromkeys([*comparison.notes, *speed.notes, *notes])), outputs=comparison.outputs,
        layers=layers, profile=speed.profile, sensitivity=more.sensitivity or estimated(layers),
        sizes=more.sizes or two_sizes(sides, verdict, name), sweeps=more.sweeps,
    )  # fmt: skip


def _checked(include: Sequence[str], skipped: int, **counts: int | None) -> Sequence[str]:
    """The parts that were asked for; numbers that make no sense are refused."""
    parts = (include,) if isinstance(include, str) else include
    for part in parts:
        one_of("part of a report", part, INCLUDABLE)
    for word, count in counts.items():
        if count is not None and count < 1:
            raise UsageError(f"{word} is {count!r}; it must be 1 or more")
    if skipped < 0:
        raise UsageError(f"num_skipped_batches is {skipped}; it must be 0 or more")
    return parts


def _measured(more: More, include: Sequence[str], sides: Sides, batches: Batches, tell: Say) -> More:
    """What was measured before, and what is measured now because it was asked for."""
    if "sensitivity" in include:
        tell("ranking layers", 0, 0)
        ranked = partial(tell, "ranking layers")
        found = sensitivity(sides.given, batches.few(), plan=sides.plan, left=False, progress=ranked)
        more = replace(more, sensitivity=ranking_of(found))
    if "sizes" in include:
        tell("measuring sizes", 0, 0)
        more = replace(more, sizes=sizes(sides.given, batches.few(), say=lambda what: tell(what, 0, 0)))
    return more


class Batches:
    """Some batches of the data, which can be gone through again and again; the first one is kept. A `DataSource`."""

    def __init__(self, source: Any, skip: int, limit: int | None) -> None:
        self.source, self.skip, self.limit = source, skip, limit
        self.first = next(self.iterate(), None) or _no_batch(skip)
        self.samples: int | None = None
        self.batches: int | None = limit

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """The batches, from one of them on; `samples` counts them."""
        count, end = 0, None if self.limit is None else self.limit - start
        for batch in islice(self.source.iterate(self.skip + start), end):
            count += len(batch.names)
            yield batch
        self.samples = count

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def digest(self) -> str | None:
        """None: part of the data has none."""
        return None

    def few(self, samples: int = KEPT) -> Batches:
        """The first ones, with about so many samples."""
        count = -(-samples // max(1, len(self.first.names)))
        return Batches(self.source, self.skip, count if self.limit is None else min(count, self.limit))


def _no_batch(skip: int) -> Batch:
    behind = f" after the first {skip}, which are skipped" if skip else ""
    raise EmptyData(f"the data holds no batch{behind}; a report needs some samples: give others")


def _sides(model: Source, quantized: Source, plan: Plan | str | Path | None) -> Sides:
    """Both networks, loaded, with the plan."""
    given, theirs = as_model(model), as_model(quantized, allow_quantized=True)
    if plan is None and isinstance(theirs, Quantized):
        plan = theirs.plan
    elif plan is None and theirs.path is not None and plan_path(theirs.path).is_file():
        plan = plan_path(theirs.path)
    held = Plan.load(plan) if isinstance(plan, (str, Path)) else plan
    fused = fuse(given)
    said = ""
    if held is not None:
        check_belongs(held, rescaled(fused, held.rescales))
        said = remark(contradictions(held, theirs))
        held = None if said else held  # its reasons are those of another network
    inner = rescaled(fused, held.rescales if held is not None else rescales_of(theirs))
    return Sides(given, fused, inner, theirs, held, said)


def _engine(plan: Plan | None, engine: str | None) -> str:
    """What runs both networks: as asked for, or what the plan is for."""
    if engine is not None:
        return engine if engine in TARGETS else one_of("engine", engine, ENGINES)
    if plan is None:
        return BUILT_IN
    own = own_engine(plan.target)
    return own if own and find_spec(own) is not None else engine_of(plan.target)


def _distrusted(verdict: QuantReport, model: Model, batch: Batch, open: Open) -> QuantReport:
    """With a word on it where the engine answers the float network itself otherwise than ONNX Runtime."""
    agree = agreement(model, [batch], open, opener(BUILT_IN, cores()))
    return replace(verdict, float_sqnr=agree) if agree is not None and agree < LEAST_FLOAT else verdict


def _setting(sides: Sides, engine: str, threads: int, command: str, batches: Batches, data: Any) -> Setting:
    """What was measured with what."""
    found = {"Python": platform.python_version(), "fewbit": __version__}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    files = [str(m.path) if m.path is not None else "" for m in (sides.given, sides.quantized)]
    if not command and all(files) and isinstance(data, (str, Path)):
        command = shlex.join(["fewbit", "report", *files, "--data", str(data), "-o", "report.html"])
    return Setting(
        model=Path(files[0]).name, quantized=Path(files[1]).name, target=sides.plan.target if sides.plan else "",
        engine=engine_version(engine), machine=re.sub(r" \[\w+\]", "", machine()), threads=threads, versions=found,
        command=command, made=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), samples=batches.samples or 0,
    )  # fmt: skip
