"""`verify`: the same integer network on every engine there is, beside its own arithmetic and the float network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fewbit.api.common import Data, Progress, Source, as_model, as_read, cores, counted, opener
from fewbit.api.making import apply
from fewbit.core.plan import Plan
from fewbit.engines import ENGINES
from fewbit.errors import ModelError, UsageError, one_of
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.graph.ranked import in_front, ranked
from fewbit.report.crosscheck import crosscheck
from fewbit.report.crosscheck_result import Crosscheck

BUILT_IN = "onnxruntime"


def verify(
    model: Source,
    plan: Plan | Source,
    data: Data,
    *,
    engines: Sequence[str] | None = None,
    limit: int | None = None,
    threads: int | None = None,
    layers: bool = True,
    progress: Progress | None = None,
    **words: Any,
) -> Crosscheck:
    """Run an integer network on several engines, and find out whether and where they part.

    Args:
        model: the float network. plan: its plan with ranges or the file of it (`.json`), or the integer network.
        data: see `fewbit.data`; words: fields of `DataConfig`, on top of how the integer network was calibrated.
        limit: use this many batches.
        engines: their names; default: all that are installed and take this network. threads: that each may use.
        layers: False compares the outputs only.
        progress: called with (batches done, all of them or 0), anew for each pass over the data.

    Raises:
        UnknownName: no such engine. EngineMissing: one that was asked for is not installed.
        ModelError: the networks do not belong together.
    """
    ours = as_model(model)
    whole = _integer(ours, plan)
    _check_together(ours, whole)
    chosen = list(ENGINES) if engines is None else list(dict.fromkeys(one_of("engine", e, ENGINES) for e in engines))
    if not chosen:
        raise UsageError(f"engines is empty; name some of {', '.join(ENGINES)}")
    tail = ranked(ours)
    source = counted(as_read(data, ours, words, whole.metadata, _beside(plan)), progress, limit)
    count = threads or cores()
    missing = [] if engines is not None else [name for name in chosen if find_spec(name) is None]
    found = crosscheck(
        in_front(ours, tail), in_front(whole, tail), source, opener(BUILT_IN, count),
        opener(BUILT_IN, count, optimize=False), {n: opener(n, count) for n in chosen if n not in missing},
        needed=engines is not None, limit=limit, layers=layers,
    )  # fmt: skip
    return replace(found, notes=(*found.notes, *(f"{name} is not installed" for name in missing)))


def _integer(model: Model, plan: Plan | Source) -> Model:
    """The integer network that was meant."""
    if isinstance(plan, Plan) or (not isinstance(plan, Model) and Path(plan).suffix.lower() == ".json"):
        return apply(fuse(model), plan if isinstance(plan, Plan) else Path(plan))
    return as_model(plan, allow_quantized=True)


def _beside(plan: Plan | Source) -> Mapping[str, str]:
    """Metadata of the integer network that a plan's file was saved with, `net.plan.json` beside `net.onnx`."""
    if isinstance(plan, (Plan, Model)):
        return {}
    file = Path(plan)
    network = file.with_name(file.name.removesuffix(".plan.json") + ".onnx")
    return as_model(network, allow_quantized=True).metadata if network != file and network.is_file() else {}


def _check_together(model: Model, whole: Model) -> None:
    """Raise unless both have the same inputs and outputs."""
    for what, a, b in (("takes", model.inputs, whole.inputs), ("answers with", model.outputs, whole.outputs)):
        ours, theirs = ([i.name for i in found] for found in (a, b))
        if ours != theirs:
            raise ModelError(
                f"the float network {what} {', '.join(ours)}, the integer one {what} {', '.join(theirs)}; "
                "verify needs two forms of the same network"
            )
