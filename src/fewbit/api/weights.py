"""Rounding where only weights become integer: fixed widths with what helps them, mixed bit by one of its searches.

bit_num 1 … 16    with data: scales, integers, biases fitted to it; without: what the weights alone tell
bit_num 0         output: steps by the network's error; step: by the weight's error; auto_tune: by the cosine
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fewbit.api.common import Open
from fewbit.api.samples import MadeUp, Slices, pieces
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.errors import UsageError
from fewbit.graph.emit import stored_weight
from fewbit.graph.model import Model
from fewbit.quantization.correct import Correction, Say
from fewbit.quantization.correct_weights import without_data
from fewbit.quantization.gains import Noise
from fewbit.quantization.mixed import auto_tuned, mixed_plan
from fewbit.quantization.mixed_output import output_plan
from fewbit.quantization.packed import weights_of
from fewbit.quantization.static import free_batch

Feeding = Callable[[], dict[str, Any]]

WHOLE = 1 << 30
"""Samples at once where a batch cannot be cut."""

SMALL = 4
"""Samples that the search by the network's error runs at once: it holds what all layers read and answer."""


def mixed(model: Model, plan: Plan, config: QuantConfig, parts: Slices, feeds: Feeding, open: Open, say: Say) -> Plan:
    """Steps for every weight of a plan with bit_num 0.

    Args:
        model: the fused float network. parts: data to fit to and to judge by; empty if there is none.
        feeds: makes random numbers, for auto_tune without data. open: loads a model. say: tells what is done.

    Raises:
        UsageError: what was asked for is measured on data, and there is none.
    """
    batches = parts.fit
    wanted = "min_cosine" if config.min_cosine is not None else ""
    wanted = wanted or ("mixed_bit_search 'output'" if config.mixed_bit_search == "output" else "")
    if wanted and not batches:
        raise UsageError(f"{wanted} needs data to measure the network's error on, and none was given; hand data")
    if config.mixed_bit_search == "output" or (config.mixed_bit_search == "auto" and batches):
        most = SMALL if free_batch(model) else WHOLE
        fit, held = ([p for b in x for p in pieces(b, most)] for x in (batches, parts.held))
        return output_plan(
            model, plan, config, fit, open, held=held, progress=lambda n, of: say("steps of weights", n, of)
        )
    if config.auto_tune:
        noise = Noise(model, plan, batches or [MadeUp(feeds()).batch], open)

        def judge(plan: Plan) -> float:
            return noise.of({k: stored_weight(plan, k, w).real() for k, w in weights_of(model, plan).items()})[1]

        return auto_tuned(model, plan, config, judge, lambda n, of: say("tuning init_scale", n, of))
    return mixed_plan(model, plan, config)


def unfitted(model: Model, plan: Plan, config: QuantConfig, why: str) -> tuple[Plan, tuple[Correction, ...]]:
    """What can be done for fixed widths by looking at weights alone."""
    note = f"not tried: {why}"
    told = () if config.effort == "fast" else (Correction("fitted to data", False, 0.0, 0.0, 0.0, note),)
    return without_data(plan, model, config), told
