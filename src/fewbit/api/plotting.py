"""`plot`: a network drawn, as float, fused and quantized.

fb.plot("net.onnx", "net-int8.onnx").save("net.html")
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewbit.api.common import Source, as_model, settings
from fewbit.api.making import make_plan
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.errors import AlreadyQuantized, PlanError, UsageError, one_of
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.graph.rescale import rescaled
from fewbit.report.drawing.compose import draw
from fewbit.report.drawing.data import STAGES
from fewbit.report.drawing.drawing import Drawing
from fewbit.report.drawing.wiring import is_quantized
from fewbit.report.plan_fits import check_belongs
from fewbit.report.quantized import Quantized, plan_path

ALL = "all"


def plot(
    model: Source,
    quantized: Source | None = None,
    *,
    stage: str | None = None,
    plan: Plan | str | Path | None = None,
    config: QuantConfig | str | Path | Mapping[str, Any] | None = None,
    depth: int | None = None,
    fold: bool = True,
    every_node: bool = False,
    weights: bool = False,
    title: str | None = None,
    **words: Any,
) -> Drawing:
    """Draw a network: layers with what matters of them, values with shape, number format and scale.

    Where a value changes its format at run time, there is a step for it; Q and DQ nodes that an engine merges into
    layers are none. Repeated blocks and name scopes are folded; in a page (`.save("x.html")`) a click opens them.

    Args:
        model: float, or quantized, by fewbit or another tool. quantized: its integer form, to see both.
        stage: float, fused, quantized, or all of them side by side. Default: of a float network alone float, of a
            quantized one quantized, of both all. The quantized stage of a float network alone is what its plan would
            make of it: there is no data, and so no scale.
        plan: what the integer network follows, or its file (default: the one beside it, if there is one); reasons come
            from there. Of a float network alone, the plan to draw.
        config, words: how to quantize, as for `make_plan`; for a float network alone.
        depth: levels of groups that a picture opens (default: as many as stay legible). fold: False opens all.
        every_node: draw Q and DQ nodes as they stand in the file. weights: draw constants as boxes of their own.
        title: default: the name of the file.

    Raises:
        UnknownName: no such stage. UsageError: settings or stages that have no meaning for these networks.
        AlreadyQuantized: `model` is quantized and `quantized` is given. PlanError: the plan is of another network.
    """
    given = as_model(model, allow_quantized=True)
    integer = is_quantized(given)
    if integer and quantized is not None:
        raise AlreadyQuantized(
            f"{_called(given)} is quantized already; give the float network first, or this one alone"
        )
    said = bool(words) or config is not None
    if said and (integer or quantized is not None or plan is not None):
        raise UsageError("settings say how to quantize, but the integer network or its plan is given; leave them out")
    if depth is not None and depth < 0:
        raise UsageError(f"depth is {depth}; it must be 0 or more")
    if depth is not None and not fold:
        raise UsageError("depth says how far to unfold, and fold=False unfolds all; give one of them")
    made = given if integer else as_model(quantized, allow_quantized=True) if quantized is not None else None
    if made is not None and not is_quantized(made):
        raise UsageError(f"{_called(made)} holds nothing quantized; hand over the integer network, or leave it out")
    wanted = _stages(stage, integer, quantized is not None, said or plan is not None)
    fused = None if integer else fuse(given)
    known = _plan(plan, made) if made is not None else None
    if made is None and "quantized" in wanted and fused is not None:
        chosen, _ = settings(config, words)
        known = _load(plan) if plan is not None else make_plan(fused, chosen)
    if known is not None and fused is not None:
        check_belongs(known, rescaled(fused, known.rescales))
    _check_plan(known, fused or given, plan is not None)
    data = draw(
        title or _title(made if made is not None and fused is None else given),
        None if integer else given, fused, made, known, wanted, every_node=every_node, weights=weights,
    )  # fmt: skip
    return Drawing(data, wanted, depth, fold)


def _stages(stage: str | None, integer: bool, both: bool, planned: bool) -> tuple[str, ...]:
    """Which stages to draw.

    Raises:
        UnknownName: no such stage. UsageError: one that an integer network alone does not have.
    """
    if stage is None:
        return STAGES if both else ("quantized",) if integer or planned else ("float",)
    one_of("stage", stage, (*STAGES, ALL))
    if integer and stage != "quantized":
        raise UsageError(f"stage is {stage!r}, but the network is quantized already; give the float network, too")
    if planned and stage not in ("quantized", ALL):
        raise UsageError(f"settings and plans show at stage 'quantized' or 'all', not at {stage!r}; leave them out")
    return STAGES if stage == ALL else (stage,)


def _plan(plan: Plan | str | Path | None, made: Model) -> Plan | None:
    """The plan that an integer network follows, if it can be had."""
    if plan is not None:
        return _load(plan)
    if isinstance(made, Quantized):
        return made.plan
    beside = plan_path(made.path) if made.path is not None else None
    return Plan.load(beside) if beside is not None and beside.is_file() else None


def _load(plan: Plan | str | Path) -> Plan:
    return plan if isinstance(plan, Plan) else Plan.load(plan)


def _check_plan(plan: Plan | None, network: Model, said: bool) -> None:
    """Raise PlanError if a plan that was handed over knows no layer of a network."""
    if said and plan is not None and not plan.nodes.keys() & {str(n.name) for n in network.nodes}:
        raise PlanError("the plan knows no layer of this network; it belongs to another one")


def _called(model: Model) -> str:
    return str(model.path or "the network")


def _title(model: Model) -> str:
    return os.path.basename(model.path) if model.path is not None else str(model.graph.name or "network")
