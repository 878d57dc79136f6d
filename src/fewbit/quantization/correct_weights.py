"""Corrections of plans for quant_type weight, where everything is computed in float and only weights are rounded.

    what                     without data   fast   default   best   GPTQ, any effort
    least squared error           x          x        x       x            x           scales, up to 5 bits
    mean and variance             x          x        x       x            x           gain, offset; not of groups
    layers by GPTQ                                    x       x            x           scales, integers, biases
    layers in order                                           x                        the same, up to 6 bits

Those that are fitted to data are kept only if held-out samples say that they help, as in `correct.py`. With
quant_strategy MAX_MIN integers stay the nearest ones for the largest magnitudes; mean and variance are corrected there
too, unless bias_correction is off.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.config import QuantConfig
from fewbit.core.half import half_up
from fewbit.core.params import QuantParams, reduced
from fewbit.core.plan import Plan, ValuePlan
from fewbit.graph.bias import add_bias
from fewbit.graph.emit import weight_params_of
from fewbit.graph.model import Model
from fewbit.quantization.correct import LAYERS, Correction, Setting, Step, Tried, correct, fitting_of
from fewbit.quantization.layerwise import FEW_BITS, fit_isolated, fit_sequential
from fewbit.quantization.linear import linear_layers
from fewbit.quantization.packed import weights_of, with_weights
from fewbit.quantization.weight_moments import spread_and_mean
from fewbit.quantization.weight_range import grid

Array = NDArray[Any]

IN_ORDER: dict[str, Any] = {"places": 64}

COARSE = 5
"""Up to this width the scales of least squared error are taken; with 6 bits they win 0.3 dB here and lose 0.5 there."""


def correct_weights(plan: Plan, s: Setting) -> tuple[Plan, tuple[Correction, ...]]:
    """Make rounded weights hurt less.

    Args:
        plan: of quant_type weight, as it was made. s: `calibrate` is not needed; `emit` may be anything, since what
            the packed network computes is known without packing it.

    Returns:
        the plan with what helped, and what was tried on data.
    """
    plan = without_data(plan, s.model, s.config)
    steps = steps_for(s.config)
    if not steps or not linear_layers(s.model, plan):
        return plan, ()
    trial = copy.copy(s.trial)
    trial.emit = partial(in_float, s.model)
    config = replace(s.config, adaptive_rounding=True) if s.config.quant_strategy == "GPTQ" else s.config
    return correct(plan, replace(s, trial=trial, emit=trial.emit, config=config), steps)


def steps_for(config: QuantConfig) -> tuple[Step, ...]:
    """What is tried on data."""
    if config.quant_strategy == "MAX_MIN" or config.bit_num == 0:
        return ()
    alone = Step(LAYERS, _layers)
    return (alone,) if config.quant_strategy == "GPTQ" else (alone, Step(LAYERS, _in_order, ("best",)))


def without_data(plan: Plan, model: Model, config: QuantConfig) -> Plan:
    """What looking at the weights alone can do: better scales for few bits, spread and mean; mixed bit has its own."""
    if config.bit_num == 0:
        return plan
    if config.quant_strategy != "MAX_MIN" and config.weight_range is not False:
        plan = finest(plan, model)
    return spread_and_mean(plan, model) if config.bias_correction is not False else plan


def in_float(model: Model, plan: Plan) -> Model:
    """The float network with the weights that the packed ones unpack to, and with corrected biases."""
    out = with_weights(model, plan)
    taken = out.names()
    for node in list(out.nodes):
        verdict = plan.nodes.get(str(node.name))
        if verdict is not None and verdict.quantized:
            add_bias(out, node, verdict, taken)
    return out


# -- on data -----------------------------------------------------------------------------------------------------------


def _layers(plan: Plan, s: Setting) -> Tried:
    """All layers anew, each by itself; then, in case that fails, their biases alone."""
    fitting = fitting_of(s)
    if fitting is None:
        return
    count = len(linear_layers(s.model, plan))
    if fitting.scales or fitting.rounding:
        found = fit_isolated(s.model, _fresh(plan, s), s.fit, s.open, replace(fitting, feedback=True), s.deadline)
        yield f"{count} layers by GPTQ", found
    if fitting.bias and not s.late() and not _has_biases(plan):
        alone = replace(fitting, scales=False, rounding=False)
        yield f"{count} layers, biases only", fit_isolated(s.model, plan, s.fit, s.open, alone, s.deadline)


def _has_biases(plan: Plan) -> bool:
    """Whether biases were corrected already."""
    return any(n.bias for n in plan.nodes.values())


def _in_order(plan: Plan, s: Setting) -> Tried:
    """Where weights are coarse: layers, or their biases, each on what the network in front makes of its input.

    With 8 bits a network lost 1 dB by it: each layer takes the noise of those before it for something to answer to.
    """
    fitting = fitting_of(s)
    if fitting is None:
        return
    say, layers = partial(s.say, "layer after layer"), linear_layers(s.model, plan)
    if not any(plan.values[x.key].spec.bits <= FEW_BITS for x in layers):
        return
    if fitting.scales or fitting.rounding:
        fitting = replace(fitting, feedback=True, **IN_ORDER)
        found = fit_sequential(s.model, _fresh(plan, s), s.fit, s.open, s.emit, fitting, s.deadline, say)
        yield f"{len(layers)} layers, each after those before it", found
    if fitting.bias and not s.late():
        alone = replace(fitting, scales=False, rounding=False)
        found = fit_sequential(s.model, plan, s.fit, s.open, s.emit, alone, s.deadline, say)
        yield f"{len(layers)} layers, biases, each after those before it", found


def _fresh(plan: Plan, s: Setting) -> Plan:
    """The plan without what was fitted; weights of layers that are no matrix products keep what they have."""
    fitted = linear_layers(s.model, plan)
    plain = {x.key: replace(plan.values[x.key], scale=(), nudge="", gain=(), offset=()) for x in fitted}
    nodes = {k: replace(n, bias=()) for k, n in plan.nodes.items()}
    return replace(plan, values={**plan.values, **plain}, nodes=nodes)


# -- without data ------------------------------------------------------------------------------------------------------


def finest(plan: Plan, model: Model) -> Plan:
    """The plan with the scales of least squared error of the weights, for those of 2 to 5 bits."""
    values = dict(plan.values)
    for key, w in weights_of(model, plan).items():
        if 2 <= values[key].spec.bits <= COARSE and not values[key].nudge:
            scale = least_squares(w, weight_params_of(plan, key, w), half=values[key].spec.granularity != "tensor")
            values[key] = _with_scale(values[key], scale)
    return replace(plan, values=values)


def _with_scale(value: ValuePlan, scale: Array) -> ValuePlan:
    return replace(value, scale=tuple(float(x) for x in scale.reshape(-1)))


def least_squares(w: Array, params: QuantParams, half: bool = False) -> NDArray[np.float32]:
    """Scales for which rounding moves the weights least, in squares, of the shape of `params.scale`.

    Args:
        w: the weight. params: for its largest magnitudes. half: take scales that float16 holds.
    """
    best, found = np.full(params.scale.shape, np.inf), params.scale.copy()
    for r in grid(params.spec.bits):
        tried = half_up(params.scale * r) if half else np.asarray(params.scale * r, np.float32)
        if not (tried > 0).all():
            break
        error = reduced(params.spec, np.add, np.square(replace(params, scale=tried).fake(w) - w))
        better = error < best * (1 - 1e-6)
        best, found = np.where(better, error, best), np.where(better, tried, found)
    return np.asarray(found, np.float32)
