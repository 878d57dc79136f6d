"""Corrections in order: each one is tried, and kept only if samples that nothing was fitted to say that it helped.

    correction           fast  default  best   what it changes in the plan
    smooth_quant                 x       x     rescales        smooth.py
    equalization                         x     rescales        equalize.py
    range_search                 x       x     ranges          ranges.py      (best: the whole network decides, too)
    weight_range                 x       x     weight scales   weight_range.py
    adaptive_rounding            x       x     integers        rounding.py    (best: layer after layer)
    bias_correction              x       x     biases          moments.py

A correction that the user asks for by its name is tried at any effort. The last three are fitted together, layer by
layer. Nothing here touches a weight: all of it is data of the plan.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan, Rescale
from fewbit.core.runner import Runner
from fewbit.core.target import Target
from fewbit.graph.model import Model
from fewbit.graph.rescale import rescaled, smoothable
from fewbit.quantization.channels import channel_maxima, watched
from fewbit.quantization.equalize import equalizable, equalize
from fewbit.quantization.layerwise import FEW_BITS, Fitting, fit_isolated, fit_sequential, late
from fewbit.quantization.linear import linear_layers
from fewbit.quantization.plan import make_plan
from fewbit.quantization.ranges import refine, search_ranges, worst_ranges
from fewbit.quantization.restrict import take_over
from fewbit.quantization.smooth import smooth
from fewbit.quantization.trial import Score, Trial

ALPHAS = {"fast": (0.8,), "default": (0.8,), "best": (0.65, 0.8, 0.9)}
"""Of SmoothQuant, tried at each effort: on real encoders and convolutions less than 0.6 did harm."""

ENOUGH = 0.2
"""Unless asked for, SmoothQuant is tried by default only where it concerns this share of the layers or more."""

REFINED = 12
"""Values whose ranges the whole network decides about, at most."""

EFFORTS = {
    "smooth_quant": ("default", "best"),
    "equalization": ("best",),
    "range_search": ("default", "best"),
    "weight_range": ("default", "best"),
    "adaptive_rounding": ("default", "best"),
    "bias_correction": ("default", "best"),
}
"""Correction, which is a field of `QuantConfig` → efforts at which it is tried unasked, in order."""

IN_ORDER: dict[str, Any] = {"places": 128, "largest": 5000, "damping": 0.1}
"""How whole layers are fitted one after the other, which is for weights of few bits: with 8 bits three networks lost
1 to 2.4 dB by it, since each layer takes the noise of those before it for something to answer to."""

Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Correction:
    """What came of trying one correction.

    Args:
        name: for people. kept: whether it is in the plan. before, after: SQNR in dB on held-out samples.
        seconds: that it took. note: why it was not tried, or what else there is to say.
    """

    name: str
    kept: bool
    before: float
    after: float
    seconds: float
    note: str = ""

    @property
    def gain(self) -> float:
        """DB won, or that would have been lost."""
        return self.after - self.before

    def __str__(self) -> str:
        if self.note.startswith(("not tried", "nothing to do")):
            return f"{self.name}: {self.note}"
        what = f"{self.gain:+.1f} dB, {'kept' if self.kept else 'dropped'}, {self.seconds:.1f} s"
        return f"{self.name}: {what}{'; ' if self.note else ''}{self.note}"


@dataclass(frozen=True)
class Setting:
    """What corrections work with.

    Args:
        model: the fused float network, as the plan's rescales find it. config, target: the plan was made with.
        fit, held: batches to fit on, and to judge by. open: loads a model whose outputs outlive no run, for fitting.
        trial: opens, runs and judges on the engine. emit: plan → integer network.
        calibrate: (rescaled model, plan without ranges) → calibrated plan.
        deadline: of time.monotonic(), or None. say: called with (what, done, of).
    """

    model: Model
    config: QuantConfig
    target: Target
    fit: Sequence[Any]
    trial: Trial
    open: Callable[[Model], Runner]
    emit: Callable[[Plan], Model]
    calibrate: Callable[[Model, Plan], Plan]
    deadline: float | None = None
    say: Say = lambda what, done, of: None

    def late(self) -> bool:
        """Whether time is up."""
        return late(self.deadline)

    def wanted(self, name: str) -> bool:
        """Whether a correction is to be tried."""
        asked = getattr(self.config, name)
        return bool(asked) if asked is not None else self.config.effort in EFFORTS[name]

    def float_model(self, plan: Plan) -> Model:
        """The float network that the plan's ranges are about."""
        return rescaled(self.model, plan.rescales)


def any_wanted(config: QuantConfig) -> bool:
    """Whether the words ask for any correction that needs data."""
    if config.quant_type == "weight" and (config.bit_num == 0 or config.quant_strategy != "auto"):
        return config.bit_num != 0 and config.quant_strategy == "GPTQ"
    asked = {name: getattr(config, name) for name in EFFORTS}
    return any(config.effort in EFFORTS[name] if word is None else word for name, word in asked.items())


def correct(plan: Plan, s: Setting, every: Sequence[Step] = ()) -> tuple[Plan, tuple[Correction, ...]]:
    """Try the corrections that the config asks for.

    Args:
        plan: calibrated. every: steps to choose from; none = those for integer activations.

    Returns:
        the plan with what helped, and what was tried.
    """
    if not any(n.quantized for n in plan.nodes.values()) or not (every or plan.observed()):
        return plan, ()
    if not s.trial.possible:
        note = "no output is floating-point and finite on the samples: there is nothing to judge corrections by"
        return plan, (Correction("corrections", False, 0.0, 0.0, 0.0, note),)
    score, told = s.trial.judge(plan), []
    steps = [x for x in every or STEPS if s.config.effort in x.efforts and any(map(s.wanted, x.words))]
    if s.config.calib_mode == "custom":
        words = [w for x in steps if x.run in (_smooth, _equalize) for w in x.words if getattr(s.config, w)]
        note = "not tried: only you can measure the ranges of a rescaled network, as calib_mode 'custom' has it"
        told += [Correction(w.replace("_", " "), False, score.sqnr, score.sqnr, 0.0, note) for w in words]
        steps = [x for x in steps if x.run not in (_smooth, _equalize)]
    for i, step in enumerate(steps):
        name = ", ".join(w.replace("_", " ") for w in step.words if s.wanted(w))
        if s.late():
            told.append(Correction(name, False, score.sqnr, score.sqnr, 0.0, "not tried: the time limit was reached"))
            continue
        s.say(name, i, len(steps))
        start = time.monotonic()
        best, found, note = _best(plan, score, step, s)
        after, kept = best or score, best is not None and best.beats(score)
        told.append(Correction(name, kept, score.sqnr, after.sqnr, time.monotonic() - start, note))
        if kept:
            plan, score = found, after
    s.say("corrections", len(steps), len(steps))
    return plan, tuple(told)


Tried = Iterator[tuple[str, Plan]]


def _best(plan: Plan, score: Score, step: Step, s: Setting) -> tuple[Score | None, Plan, str]:
    """The best candidate of a step: its score, None if there is none; the plan; what it is."""
    best, found, note = None, plan, "nothing to do in this network"
    for what, tried in step.run(plan, s):
        after = s.trial.judge(tried)
        if best is None or after.sqnr > best.sqnr:
            best, found, note = after, tried, what
        if best.beats(score) and s.config.effort != "best":
            break  # what would come next is for the case that this had failed
    return best, found, note


def _rescaled(plan: Plan, s: Setting, rescales: Sequence[Rescale]) -> Plan:
    """The plan for the network with more rescales, calibrated anew."""
    every = (*plan.rescales, *rescales)
    model = rescaled(s.model, every)
    new = make_plan(model, s.config, s.target, floats=plan.kept_float())
    kept = take_over(new, replace(plan, values={k: v for k, v in plan.values.items() if v.role == "weight"}))
    return replace(s.calibrate(model, replace(kept, rescales=(), model=plan.model)), rescales=every, data=plan.data)


def _smooth(plan: Plan, s: Setting) -> Tried:
    model = s.float_model(plan)
    integer = {n for n, v in plan.nodes.items() if v.quantized}
    clips = s.config.effort == "best"  # most networks lean on theirs; looking costs a pass over the data
    found = [x for x in smoothable(model) if all(r.node in integer for r in x.reads) and (clips or not x.clips)]
    found = [x for x in found if x.maker or not _made_by(model, x.value) & integer]  # a Mul would part integer layers
    few = len({r.node for x in found for r in x.reads}) < ENOUGH * len(linear_layers(model, plan))
    if not found or (few and s.config.effort != "best" and not s.config.smooth_quant):
        return
    maxima = channel_maxima(model, watched(found), (b.feeds for b in s.fit), s.open)
    for alpha in ALPHAS[s.config.effort]:
        rescales = smooth(model, found, maxima, alpha)
        if not rescales or s.late():
            return
        yield f"α = {alpha:g}, {len(rescales)} places", _rescaled(plan, s, rescales)


def _made_by(model: Model, value: str) -> set[str]:
    maker = model.value(value).producer()
    return {str(maker.name)} if maker is not None else set()


def _equalize(plan: Plan, s: Setting) -> Tried:
    model = s.float_model(plan)
    found = equalizable(model, plan)
    if not found:
        return
    maxima = channel_maxima(model, watched(found), (b.feeds for b in s.fit), s.open)
    for absorb in (False, True):
        rescales = equalize(model, plan, maxima, absorb=absorb)
        if rescales and (not absorb or any(r.absorb for r in rescales)) and not s.late():
            yield f"{len(rescales)} places{', high biases absorbed' if absorb else ''}", _rescaled(plan, s, rescales)


def fitting_of(s: Setting) -> Fitting | None:
    """Which parts of a layer are to be fitted; None if none is."""
    found = Fitting(s.wanted("weight_range"), s.wanted("adaptive_rounding"), s.wanted("bias_correction"))
    return found if found.scales or found.rounding or found.bias else None


def _layers(plan: Plan, s: Setting) -> Tried:
    """With new ranges as well, since what a range does to the mean is the bias's to repair; then less and less."""
    model, fitting = s.float_model(plan), fitting_of(s)
    count = len(linear_layers(model, plan))
    if s.wanted("range_search"):
        found = search_ranges(model, plan, s.fit, s.open)
        changed = sum(v.group == k and v != plan.values[k] for k, v in found.values.items())
        if changed and fitting is not None:
            found = fit_isolated(model, found, s.fit, s.open, fitting, s.deadline)
        if changed:
            yield f"{changed} ranges changed, {count} layers, each by itself", found
    if not count or fitting is None or s.late():
        return
    yield f"{count} layers, each by itself", fit_isolated(model, plan, s.fit, s.open, fitting, s.deadline)
    if fitting.bias and (fitting.rounding or fitting.scales) and not s.late():
        alone = Fitting(scales=False, rounding=False)
        yield f"{count} layers, biases only", fit_isolated(model, plan, s.fit, s.open, alone, s.deadline)


def _in_order(plan: Plan, s: Setting) -> Tried:
    """Biases, and where weights are coarse all of a layer, fitted to what the integer network in front answers."""
    model, fitting = s.float_model(plan), fitting_of(s)
    layers = linear_layers(model, plan)
    if not layers or fitting is None:
        return
    say = partial(s.say, "layer after layer")
    if fitting.bias:
        alone = replace(fitting, scales=False, rounding=False)
        found = fit_sequential(model, plan, s.fit, s.open, s.emit, alone, s.deadline, say)
        yield f"{len(layers)} layers, biases, each after those before it", found
    coarse = [x for x in layers if plan.values[x.key].spec.bits <= FEW_BITS]
    if coarse and not s.late() and (fitting.scales or fitting.rounding):
        found = fit_sequential(model, plan, s.fit, s.open, s.emit, replace(fitting, **IN_ORDER), s.deadline, say)
        yield f"{len(layers)} layers, each after those before it", found


def _refine(plan: Plan, s: Setting) -> Tried:
    groups = worst_ranges(s.float_model(plan), plan, s.fit, s.open)[:REFINED]
    practice = Trial(s.model, s.fit[: len(s.trial.held)], s.trial.open, s.emit)
    if (found := refine(plan, practice.judge, groups, s.late)) is not plan:
        yield "the whole network decided", found


@dataclass(frozen=True)
class Step:
    """Something to try.

    Args:
        words: corrections that it is about; tried if one of them is wanted. run: plan → candidates.
        efforts: it is tried at, asked for or not.
    """

    words: tuple[str, ...]
    run: Callable[[Plan, Setting], Tried]
    efforts: tuple[str, ...] = ("fast", "default", "best")


LAYERS = ("weight_range", "adaptive_rounding", "bias_correction")

STEPS = (
    Step(("smooth_quant",), _smooth),
    Step(("equalization",), _equalize),
    Step(("range_search", *LAYERS), _layers),
    Step(LAYERS, _in_order, ("best",)),
    Step(("range_search",), _refine, ("best",)),
)
