"""QuantReport: what a quantization gave and what it cost, and – loudly – when it did not work out.

    slower    latency ÷ float latency ≥ 1        off      output cosine < 0.98, or NaN
    vain      no layer became integer, or the result is not smaller
    foreign   the engine answers the float network otherwise than ONNX Runtime: SQNR < 30 dB

Each of these is printed in a frame, with the layers to blame and what to try.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fewbit.config import BUDGETS, GROUP
from fewbit.core.blocks import Block, Facts, Items, Loud, Shown, Title, Wrapped, to_text
from fewbit.core.plan import Plan
from fewbit.core.tables import number, percent, plain, short, size, times
from fewbit.graph.model import Model, op_name
from fewbit.quantization.correct import Correction
from fewbit.report.benchmark import Timing
from fewbit.report.comparison import Comparison, LayerError, so_many
from fewbit.report.profile import ProfileRow
from fewbit.report.reasons import Kept, grouped, kept_float

LEAST_COSINE = 0.98
SAME = 1.05
"""Latency ÷ float that may be chance where both compute the same."""

LOSS = 0.01
"""Share of the latency that a layer must lose to be named."""

LEAST_FLOAT = 30.0
"""SQNR in dB that two engines must reach against each other on a float network; bf16 gives 35 to 55."""

NAMED = 5
"""Layers named in a frame."""

CUT = 0.01
"""Share of a value outside of its calibrated range from which the ranges are suspected."""

CALIB_ADVICE = ("entropy", "percentile", "mse", "naive")
"""Calibrators to try when the output is off, in this order, without the one that was used."""


@dataclass(frozen=True, repr=False)
class QuantReport(Shown):
    """One quantization, in numbers.

    Args:
        target: engine it was made for. config: the user's words.
        size_float, size_quantized: bytes of the weights.
        layers: number of nodes of the fused float network. integer: those that became integer, merged ones included.
        kept: the others, and why.
        cosine, sqnr: of the worst output, float against quantized, on data; None if not measured, nan if the output
            holds NaN or inf. batches: how many.
        float_sqnr: of the target's float answer against ONNX Runtime's, whose answer then counts; None if they agree.
        worst: values with the lowest SQNR. suspects: names of integer layers that add most noise themselves.
        latency: of the quantized network, its ratio against float; None if not measured.
        slowest: layers that take longer than in float, most time lost first.
        warnings: what else the user should know.
        corrections: what was tried to make rounding hurt less, in order.
        measured: what smart mode found by timing; "" if it went by the table.
        budget: how the search for a budget ended; "" without one. budget_met: whether it was met. figures: of the plan
            that it found, see `fewbit.search.figures`.
    """

    target: str
    size_float: int
    size_quantized: int
    layers: int
    integer: tuple[str, ...] = ()
    kept: tuple[Kept, ...] = ()
    cosine: float | None = None
    sqnr: float | None = None
    batches: int = 0
    float_sqnr: float | None = None
    worst: tuple[LayerError, ...] = ()
    suspects: tuple[str, ...] = ()
    latency: Timing | None = None
    slowest: tuple[ProfileRow, ...] = ()
    warnings: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    corrections: tuple[Correction, ...] = ()
    measured: str = ""
    budget: str = ""
    budget_met: bool | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing has to be said loudly."""
        return not self.problems()

    @property
    def quantized(self) -> int:
        """How many layers became integer."""
        return len(self.integer)

    # -- the verdict ----------------------------------------------------------------------------------------------

    @property
    def slower(self) -> bool:
        """Measured to be no faster than float; where only weights are integer, to be slower than chance has it."""
        if self.latency is None:
            return False
        if not self.integer:  # as fast as float then, but for chance; unless nobody knows what is integer
            return not self.layers and self.latency.ratio_low > SAME
        return self.latency.ratio_low > SAME if self.weights_only else self.latency.ratio >= 1

    def losing(self) -> list[ProfileRow]:
        """Layers that lose so much time that it shows, most first."""
        least = LOSS * 1000 * self.latency.ms if self.latency is not None else 0.0
        return [r for r in self.slowest if r.lost is not None and r.lost > 0 and r.lost >= least]

    @property
    def weights_only(self) -> bool:
        """Whether everything is computed in float."""
        return self.config.get("quant_type") == "weight"

    @property
    def off(self) -> bool:
        """Measured to answer something else than float does."""
        return self.cosine is not None and not self.cosine >= LEAST_COSINE  # nan is off

    def problems(self) -> list[str]:
        """What went wrong, one sentence each, with the layers to blame; empty if all is well."""
        found = []
        if self.budget_met is False:
            found.append(f"OVER BUDGET. {self.budget}")
        if self.layers and not self.quantized:
            found.append(f"NOTHING WAS QUANTIZED: all {self.layers} layers stay float.")
        elif self.size_quantized >= self.size_float:
            found.append(
                f"WEIGHTS NOT SMALLER than float: {size(self.size_quantized)} against {size(self.size_float)}."
            )
        if self.slower:
            assert self.latency is not None
            sure = self.latency.ratio_low > 1
            word, luck = ("SLOWER THAN FLOAT", "") if sure else ("NOT FASTER THAN FLOAT", ", perhaps by chance")
            text = (
                f"{word} on this machine: {times(self.latency.ratio)} its latency ({_quartiles(self.latency)}{luck}), "
                f"batch {self.latency.batch}."
            )
            named = [f"{short(r.layer)} (+{number(r.lost, 0)} us)" for r in self.losing()[:NAMED]]
            found.append(text + _blame("Most time is lost in", named))
        if self.float_sqnr is not None:
            said = f"{number(self.float_sqnr, 1)} dB" if math.isfinite(self.float_sqnr) else "another shape"
            found.append(
                f"WRONG ALREADY IN FLOAT: {self.target} answers the float network with {said} against ONNX Runtime, "
                f"where {LEAST_FLOAT:g} dB and more are rounding. What is told of the output here is told against ONNX "
                "Runtime's float answer."
            )
        if self.off:
            assert self.cosine is not None
            what = "THE OUTPUT HOLDS NaN OR inf" if math.isnan(self.cosine) else "THE OUTPUT IS OFF"
            text = f"{what}: cosine against float {number(self.cosine, 4)}, it should be at least {LEAST_COSINE}."
            named = [f"{short(e.node)} ({e.op}, {number(e.sqnr, 1)} dB)" for e in self.worst[:NAMED]]
            found.append(text + _blame("Worst layers:", named))
        return found

    def advice(self) -> list[str]:
        """What to try against the problems, most promising first."""
        found = []
        if self.layers and not self.quantized:
            found.append("see the reasons above for what keeps the layers float")
        if self.float_sqnr is not None:
            found.append("run it in another engine: target = onnxruntime; see where the two part: fewbit verify")
        if self.weights_only:
            return [*found, *(self._finer() if self.off else [])]
        bits = self.config.get("bit_num", 8)
        if bits != 8 and self.quantized and (self.off or self.slower):
            why = "fewer than 8 bits by cutting off in float" if bits < 8 else "more than 8 bits in float"
            found.append(f"engines compute {why}: bit_num = 8, and overrides for a few layers")
        found += self._repair()
        if self.off:
            if self.suspects:
                found.append(
                    f"keep the layers that add most noise in float: exclude_layers = {', '.join(self.suspects[:NAMED])}"
                )
            cut = max(self.worst, key=lambda e: e.clip or 0.0, default=None)
            if cut is not None and (cut.clip or 0.0) > CUT:
                found.append(
                    f"calibrate on data like this: {percent(cut.clip)} of {short(cut.name)} lies outside of its range"
                )
            others = [m for m in CALIB_ADVICE if m != self.config.get("calib_mode", "naive")]
            found.append(f"calibrate differently: calib_mode = {' or '.join(others[:3])}; or on more typical data")
            found.append("see every layer: fewbit compare")
        if self.slower and self.quantized:
            if self.config.get("quantize_mode") == "full":
                found.append("quantize only where it pays: quantize_mode = smart")
            if self.config.get("quantized_dtype", "auto") != "auto":
                found.append("let the target choose the type of activations: quantized_dtype = auto")
            lost = [r.layer for r in self.losing() if r.layer in self.integer][:NAMED]
            found.append(
                f"keep the layers that lose time in float: exclude_layers = {', '.join(lost)}"
                if lost
                else "see which layers lose time, fewbit benchmark --profile, and keep them float with exclude_layers"
            )
        return found

    def _finer(self) -> list[str]:
        """What to try where rounded weights alone put the output off."""
        bits, found = self.config.get("bit_num", 8), []
        if not self.corrections:
            found.append("give data: integers and scales are then fitted to what layers see")
        elif self.config.get("effort", "default") != "best" and bits:
            found.append("try all corrections, which takes minutes: effort = best")
        if bits == 0:
            found.append("take finer steps: a smaller init_scale, or min_cosine = 0.99 with data")
        else:
            found.append(f"let weights in groups share a scale: group_size = {GROUP}")
            found.append(f"take more bits, such as bit_num = {min(bits + 2, 16)}; or mixed ones: bit_num = 0")
        if self.suspects:
            found.append(f"give the layers that add most noise more bits: --override '{self.suspects[0]}=bit_num:8'")
        return found

    def _repair(self) -> list[str]:
        """What to try first against errors: corrections, then as many float layers as it takes."""
        asked = {name for name in BUDGETS if self.config.get(name) is not None}
        over = self.budget_met is False and bool(asked - {"max_latency"})
        if not self.quantized or not (self.off or over) or self.config.get("calib_mode") == "none":
            return []  # without data there is nothing to correct or to judge by
        found = []
        nan = self.cosine is not None and math.isnan(self.cosine)
        if self.config.get("effort", "default") != "best" and self.budget_met is None and not nan:
            found.append("try all corrections, which takes minutes: effort = best")
        if not asked:
            found.append(f"keep as many layers float as it takes, and no more: min_cosine = {LEAST_COSINE}")
        return found

    # -- for people and machines ------------------------------------------------------------------------------------

    def text(self) -> str:
        """The report; problems last, framed, where the eye stops."""
        return to_text(self._blocks())

    def _blocks(self) -> list[Block]:
        ratio = self.size_quantized / self.size_float if self.size_float else None
        lines = [
            ("target", self.target),
            ("layers", f"{self.quantized} of {self.layers} integer, {len(self.kept)} kept float"),
            ("weights", f"{size(self.size_float)} -> {size(self.size_quantized)} ({times(ratio)})"),
            ("latency", self._latency()),
            ("output", self._output()),
        ]
        parts: list[Block] = [Facts(lines), *_corrections(self.corrections)]
        parts += [Wrapped(f"measured: {self.measured}")] if self.measured else []
        parts += [Wrapped(f"budget: {self.budget}")] if self.budget and self.budget_met else []
        parts += [Title("kept float:"), Items([str(g) for g in grouped(self.kept)])] if self.kept else []
        parts += [Wrapped(f"warning: {w}") for w in self.warnings]
        problems = self.problems()
        parts += ["", Loud(problems, self.advice())] if problems else []
        return parts

    def _brief(self) -> str:
        loud = [p.split(":")[0].split(". ")[0] for p in self.problems()]
        found = [*loud, f"{self.quantized} of {self.layers} layers integer"]
        found += [f"{size(self.size_float)} -> {size(self.size_quantized)}"]
        found += [f"{times(self.latency.ratio)} float latency"] if self.latency is not None else []
        found += [f"cosine {number(self.cosine, 5)}, SQNR {number(self.sqnr, 1)} dB"] if self.cosine is not None else []
        return ", ".join([*found, self.target])

    def to_json(self) -> dict[str, Any]:
        """Everything, with the verdict, as plain dicts."""
        found: dict[str, Any] = plain(self)
        return found | {"ok": self.ok, "problems": self.problems(), "advice": self.advice() if not self.ok else []}

    def _latency(self) -> str:
        t = self.latency
        if t is None:
            return "not measured"
        return f"{times(t.ratio)} float ({_quartiles(t)}), batch {t.batch}"

    def _output(self) -> str:
        if self.cosine is None:
            return "not compared with float"
        return f"cosine {number(self.cosine, 5)}, SQNR {number(self.sqnr, 1)} dB against float, {so_many(self.batches)}"


def correction_lines(corrections: Sequence[Correction]) -> list[str]:
    """What was tried and what came of it, a line each, with a heading; nothing if nothing was tried."""
    return to_text(_corrections(corrections)).splitlines()


def _corrections(corrections: Sequence[Correction]) -> list[Block]:
    title = Title("corrections, judged on held-out samples:")
    return [title, Items([str(c) for c in corrections])] if corrections else []


def summarize(
    plan: Plan,
    float_model: Model,
    quant_model: Model,
    *,
    size_float: int | None = None,
    size_quantized: int | None = None,
    comparison: Comparison | None = None,
    latency: Timing | None = None,
    slowest: Sequence[ProfileRow] = (),
    warnings: Iterable[str] = (),
) -> QuantReport:
    """Put together what is known about a quantization.

    Args:
        float_model: the original, or its fused form. quant_model: what became of it.
        size_float, size_quantized: bytes of the files; default: of the weights.
        comparison: float against quantized, best on data that was not calibrated on.
        latency: of the quantized network, measured against float.
        slowest: rows of `profile_pair`.
    """
    ops = {str(n.name): op_name(n) for m in (quant_model, float_model) for n in m.nodes}
    integer = tuple(name for name, n in plan.nodes.items() if n.quantized)
    return QuantReport(
        target=plan.target,
        size_float=float_model.nbytes if size_float is None else size_float,
        size_quantized=quant_model.nbytes if size_quantized is None else size_quantized,
        layers=len(plan.nodes),
        integer=integer,
        kept=kept_float(plan, ops),
        cosine=comparison.cosine if comparison else None,
        sqnr=comparison.sqnr if comparison else None,
        batches=comparison.batches if comparison else 0,
        worst=tuple(comparison.worst(NAMED)) if comparison else (),
        suspects=suspects(plan, comparison) if comparison else (),
        latency=latency,
        slowest=tuple(slowest),
        warnings=tuple(warnings),
        config=plan.config,
    )


def suspects(plan: Plan, comparison: Comparison) -> tuple[str, ...]:
    """Integer layers that add most noise; what was merged into another stands under that one's name."""
    found = []
    for e in comparison.suspects(len(comparison.layers)):
        verdict = plan.nodes.get(e.node)
        if verdict is not None and verdict.quantized:
            found.append(verdict.absorbed_by or e.node)
    return tuple(dict.fromkeys(found))[:NAMED]


def _quartiles(t: Timing) -> str:
    return f"{number(t.ratio_low)}–{number(t.ratio_high)}"


def _blame(what: str, names: list[str]) -> str:
    return f" {what} {', '.join(names)}." if names else ""
