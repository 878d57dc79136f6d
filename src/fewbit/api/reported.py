"""The parts that `make_report` puts together, each measured by itself: speed, accuracy, verdict, rankings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fewbit.api.common import Open
from fewbit.core.metrics import class_like
from fewbit.core.plan import NodePlan, Plan
from fewbit.core.tables import listed, number
from fewbit.data.base import Batch
from fewbit.errors import DataError, EngineError
from fewbit.graph.external import external_files
from fewbit.graph.model import Model
from fewbit.report.benchmark import Timing, benchmark
from fewbit.report.comparison import Comparison
from fewbit.report.detections import evaluate_detector, metric_of
from fewbit.report.engine_names import executed_layers, names_of_layers
from fewbit.report.evaluate import Evaluation, evaluate
from fewbit.report.full.histograms import SAMPLES
from fewbit.report.full.layers import LayerFacts
from fewbit.report.full.more import measured_ranking
from fewbit.report.full.report import Ranking
from fewbit.report.profile import Profile, layer_names, profile_pair
from fewbit.report.sizes import SizeRow, Sizes
from fewbit.report.summary import QuantReport, summarize
from fewbit.search.ranking import Sensitivity

SECONDS = 0.5
"""To time each of the two networks for, at least."""

REPEAT = 5
"""Runs that a profile takes the medians of."""

UNCOUNTED = frozenset({"LSTM", "GRU", "RNN", "Einsum", "If", "Loop", "Scan", "Attention"})
"""Operators that multiply, or hold others that do, and whose multiplications are not counted."""

ESTIMATED = (
    "estimated from the comparison: the noise that a layer adds to what it reads; measure it with "
    "--include sensitivity, or add the document of fewbit sensitivity --json"
)


@dataclass(frozen=True)
class Sides:
    """Both networks.

    Args:
        given: float, as it came. fused: what the plan was made for. inner: the same with its rescales.
        quantized: the other one. plan: what it follows, None if unknown. remark: why a plan was not believed.
    """

    given: Model
    fused: Model
    inner: Model
    quantized: Model
    plan: Plan | None
    remark: str = ""

    @property
    def title(self) -> str:
        """Name of the integer network, else of the float one."""
        path = self.quantized.path or self.given.path
        return path.stem if path is not None else "quantized network"

    @property
    def bytes(self) -> dict[str, int]:
        """Of the weights, as they are stored."""
        return {"float": self.given.nbytes, "quantized": self.quantized.nbytes}

    @property
    def files(self) -> tuple[int | None, int | None]:
        """Bytes of the files, with weights that lie beside them; None where there is none of ONNX."""
        return _file(self.given), _file(self.quantized)


def _file(model: Model) -> int | None:
    path = model.path
    if path is None or path.suffix != ".onnx" or not path.is_file():
        return None
    return sum(f.stat().st_size for f in {path, *external_files(path)} if f.is_file())


@dataclass(frozen=True)
class Speed:
    """What timing both networks showed.

    Args:
        executed: node of the float network → whether the engine computes it in integers, where that shows.
    """

    latency: Timing
    profile: Profile | None
    executed: Mapping[str, bool]
    notes: tuple[str, ...]


def measured_speed(sides: Sides, batch: Batch, open: Open) -> Speed:
    """Time both networks in turns, then operator by operator."""
    runners = {"float": open(sides.given), "quantized": open(sides.quantized)}
    latency = benchmark(runners, {len(batch.names): batch.feeds}, min_time=SECONDS).timing("quantized")
    names = names_of_layers(sides.fused, sides.quantized, layer_names(sides.fused))
    executed = executed_layers(sides.fused, runners["quantized"].executed(), names)
    try:
        profile = profile_pair(
            open(sides.fused), runners["quantized"], batch.feeds, model=sides.fused, int_names=names, repeat=REPEAT
        )
    except EngineError as e:
        return Speed(latency, None, executed, (f"no times by layer: {e}",))
    return Speed(latency, profile, executed, ())


def integer_macs(sides: Sides, macs: Mapping[str, int], executed: Mapping[str, bool]) -> dict[str, Any] | None:
    """Multiplications, and how many of them the engine does in integers; None if there are none.

    Returns:
        total, integer, share; `untold`: those of layers that do not show in what the engine runs, counted as float;
        `uncounted`: what else multiplies and is not among them, in words.
    """
    total = sum(macs.values())
    if not total:
        return None
    held = sum(n for name, n in macs.items() if executed.get(name))
    untold = sum(n for name, n in macs.items() if name not in executed)
    counts = Counter(n.op_type for n in sides.fused.nodes if n.op_type in UNCOUNTED)
    return {
        "total": total, "integer": held, "share": held / total, "untold": untold,
        "uncounted": ", ".join(f"{k} {op}" for op, k in counts.items()),
    }  # fmt: skip


def measured_accuracy(sides: Sides, batches: Any, open: Open) -> tuple[dict[str, Any] | None, list[str]]:
    """Rates of both networks on labelled data, agreement of classifiers on other data; and remarks."""
    first: Batch = batches.first
    labelled = first.labels is not None
    if not labelled and not _classifies(sides.given, first, open):
        return None, []
    try:
        stream = iter(batches)
        if metric_of(first, None) == "map":
            found = evaluate_detector(open(sides.quantized), stream, reference=open(sides.given))
            lost = number(100 * (found.drop or 0), 2)
            return None, [f"mAP {number(100 * found.map, 2)} %, {lost} points less than float"]
        result = evaluate(open(sides.quantized), stream, reference=open(sides.given))
    except DataError as e:
        return None, [f"accuracy was not counted: {e}"]
    return _rates(result), []


def _classifies(model: Model, batch: Batch, open: Open) -> bool:
    """Whether the network answers with scores of classes."""
    return any(class_like(x) for x in open(model).run(batch.feeds).values())


def _rates(found: Evaluation) -> dict[str, Any]:
    def shares(rates: Mapping[int, Any]) -> dict[str, float]:
        return {str(k): share.rate for k, share in rates.items()}

    return {
        "float": shares(found.reference), "quantized": shares(found.accuracy), "samples": found.samples,
        "agreement": found.agreement.rate if found.agreement is not None else None,
        "fixed": found.fixed, "broken": found.broken,
    }  # fmt: skip


def measured_verdict(
    sides: Sides, comparison: Comparison, speed: Speed, macs: Mapping[str, int], about: QuantReport | None
) -> QuantReport:
    """What there is to be said, loudly if need be; also of a network without a plan."""
    rows = speed.profile.rows if speed.profile is not None else ()
    plan = sides.plan if sides.plan is not None else _seen_plan(sides, speed)
    made = summarize(
        plan, sides.given, sides.quantized, comparison=comparison, latency=speed.latency, slowest=rows,
        size_float=sides.bytes["float"], size_quantized=sides.bytes["quantized"],
        warnings=_unkept(plan, speed, macs) if sides.plan is not None else (),
    )  # fmt: skip
    if about is None:
        return made
    known = ("corrections", "measured", "budget", "budget_met", "figures")
    kept = [w for w in about.warnings if w not in made.warnings]
    return replace(made, **{k: getattr(about, k) for k in known}, warnings=(*kept, *made.warnings))


def _seen_plan(sides: Sides, speed: Speed) -> Plan:
    """Verdicts as the engine shows them, for a network of another tool."""
    nodes = {
        str(n.name): NodePlan(speed.executed[str(n.name)], "as the engine runs it")
        for n in sides.fused.nodes if str(n.name) in speed.executed
    }  # fmt: skip
    return Plan(target="", config={}, values={}, nodes=nodes)


def _unkept(plan: Plan, speed: Speed, macs: Mapping[str, int]) -> list[str]:
    """Layers with weights that were planned in integers and that the engine computes in float."""
    if plan.config.get("quant_type") == "weight":
        return []
    found = [
        name for name, verdict in plan.nodes.items()
        if verdict.quantized and macs.get(name) and speed.executed.get(name) is False
    ]  # fmt: skip
    return [f"planned in integers, and computed in float by the engine: {listed(found)}"] if found else []


def ranking_of(found: Sensitivity) -> Ranking:
    """A measured sensitivity, as a report shows it."""
    rows = [{"layer": x.node, "op": x.op, "alone": x.alone, "left": x.left} for x in found.layers]
    return measured_ranking(rows, found.samples)


def estimated(layers: Sequence[LayerFacts]) -> Ranking | None:
    """Layers by the noise that they seem to add themselves; None if that could not be told of any."""
    found = [x for x in layers if x.op != "Input" and x.own is not None and x.own < math.inf]
    rows = [
        {"layer": x.node, "op": x.op, "alone": x.own, "left": None}
        for x in sorted(found, key=lambda x: x.own or 0.0)
    ]  # fmt: skip
    return Ranking("estimated", ESTIMATED, tuple(rows)) if rows else None


def remarks(layers: Sequence[LayerFacts], lost: Sequence[str], samples: int) -> list[str]:
    """What a reader of the layers must know."""
    found = []
    if lost:
        found.append(
            f"{len(lost)} of {len(lost) + sum(x.op != 'Input' for x in layers)} layers could not be compared: the "
            f"quantized network shows no floating-point values of theirs: {listed(lost)}"
        )
    if samples > SAMPLES:
        found.append(f"histograms and shares of zeros are of the first {SAMPLES} of {samples} samples, errors of all")
    return found


def two_sizes(sides: Sides, verdict: QuantReport, engine: str) -> Sizes:
    """Both forms that are at hand, as far as they were measured."""
    a, b = sides.files
    ratio = verdict.latency.ratio if verdict.latency is not None else None
    rows = (
        SizeRow("float", a, 1.0 if a else None, latency=1.0 if ratio is not None else None),
        SizeRow("quantized", b, a / b if a and b else None, latency=ratio, cosine=verdict.cosine, sqnr=verdict.sqnr),
    )
    return Sizes(rows, f"{engine}; other forms and memory: --include sizes")
