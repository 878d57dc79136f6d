"""Which layers cost accuracy: each one integer alone, and each one float alone, measured at the outputs.

    alone    float float INT float …  → SQNR: how much noise this layer adds         lowest first
    left     INT   INT   float INT …  → SQNR: what is left if it is kept in float

SQNR is that of the worst floating-point output over all batches. A layer comes with what it absorbs, and with the
rounding of what it reads and makes. Neighbours that share a rounded value both count it, so that all `alone` together
are more noise than the whole network has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.tables import listed
from fewbit.core.target import Target
from fewbit.data.base import Batch
from fewbit.errors import EmptyData
from fewbit.graph.model import Model, op_name
from fewbit.search.alone import Open, carriers
from fewbit.search.kept import Kept, measured_on
from fewbit.search.macs import integer_share
from fewbit.search.noise import Bench, Noise, sqnr_of
from fewbit.search.proposals import sets, with_proposal
from fewbit.search.ranking import LayerSensitivity, Proposal, Sensitivity, ranked

__all__ = ["LayerSensitivity", "Proposal", "Sensitivity", "sensitivity"]

WORTH = 1.0
"""Decibels that a proposal must gain when it is run."""

SPREAD = "the noise is spread: no few layers make half of it, so layers in float are a dear way out"


def sensitivity(
    model: Model,
    plan: Plan,
    config: QuantConfig,
    target: Target,
    batches: Iterable[Batch],
    open: Open,
    *,
    emit: Callable[[Plan], Model],
    left: bool = True,
    store: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    deadline: float | None = None,
) -> Sensitivity:
    """Measure what each integer layer does to the outputs, and propose which to keep from 8 bits.

    Args:
        model: the fused float network. plan: calibrated. config, target: what the plan was made with.
        batches: a few samples. open: loads a model into an engine. emit: plan → integer network.
        left: measure the network without each layer, too; takes longer than the rest.
        store: file to keep measurements in and to go on from.
        progress: called with (measurements done, all of them).
        deadline: moment of `time.monotonic()` from which on no measurement is begun.

    Raises:
        EmptyData: no batch. ModelError: no output is floating-point.
        PlanError: the store is damaged or belongs to something else. EngineError: an engine refuses a network.
    """
    data = list(batches)
    if not data:
        raise EmptyData("there is no sample to measure layers on; hand data with some")
    bench = Bench(model, plan, data, open, emit)
    whole = bench.noise(plan)
    layers = bench.sorted_layers(carriers(plan))
    jobs = [(kind, k) for kind in ("alone", "left")[: 1 + left] for k in layers]

    def late() -> bool:
        return deadline is not None and time.monotonic() >= deadline

    with Kept(store, measured_on(model, plan, config, data), len(whole)) as kept:
        missing = [(kind, k) for kind, k in jobs if k not in kept.noise[kind]]
        for done, (kind, layer) in enumerate(missing, len(jobs) - len(missing) + 1):
            if late():
                break
            if kind == "alone":
                noise = bench.alone(layer)
            else:
                noise = bench.noise(with_proposal(model, plan, config, target, floats=[layer]))
            kept.add(kind, layer, noise)
            if progress is not None:
                progress(done, len(jobs))
    alone, without = ({k: kept.noise[kind][k] for k in layers if k in kept.noise[kind]} for kind in ("alone", "left"))
    proposals, notes = _proposals(bench, config, target, alone, whole, late)
    ran_out = [
        f"time ran out: {kind} was measured for {len(found)} of {len(layers)} layers"
        for kind, found in (("alone", alone), ("left", without))[: 1 + left]
        if len(found) < len(layers)
    ]
    if not layers:
        notes.append("the plan has no integer layer")
    return Sensitivity(
        layers=_layers(bench, alone, without if left else {}),
        sqnr=sqnr_of(whole),
        samples=sum(len(b.names) for b in data),
        proposals=tuple(proposals),
        notes=(*ran_out, *notes),
    )


def _layers(bench: Bench, alone: Mapping[str, Noise], left: Mapping[str, Noise]) -> tuple[LayerSensitivity, ...]:
    ops = {str(n.name): op_name(n) for n in bench.model.nodes}
    return ranked(
        LayerSensitivity(k, ops[k], bench.macs[k], sqnr_of(noise), sqnr_of(left[k]) if k in left else None)
        for k, noise in alone.items()
    )


def _proposals(
    bench: Bench,
    config: QuantConfig,
    target: Target,
    alone: Mapping[str, Noise],
    whole: Noise,
    late: Callable[[], bool],
) -> tuple[list[Proposal], list[str]]:
    """Sets of layers in float, the smallest one with 16 bits as well; each is run while there is time.

    Noise powers do not always add: what turns out not to help is dropped, with a note.
    """
    found = sets(alone, whole)
    notes = [SPREAD] if alone and max(whole) > 0 and not found else []
    wanted: list[tuple[Sequence[str], Sequence[str], float]] = [(names, (), db) for names, db in found]
    narrow = config.calib_mode != "none" and config.bit_num <= 8  # without ranges there are no 16 bits
    wanted += [((), names, db) for names, db in found[:1] if narrow]
    made = list[Proposal]()
    for floats, wide, expected in wanted:
        plan = with_proposal(bench.model, bench.plan, config, target, floats=floats, wide=wide)
        measured = None if late() else sqnr_of(bench.noise(plan))
        if measured is not None and measured < sqnr_of(whole) + WORTH:
            what = f"{listed(floats or wide)} {'in float' if floats else 'at 16 bits'}"
            notes.append(f"{what} should give {expected:.1f} dB and gave {measured:.1f} dB; not proposed")
            continue
        in_float = plan.keep_float(wide, "16 bits are computed in float")
        made.append(Proposal(tuple(floats), tuple(wide), expected, measured, 1 - integer_share(in_float, bench.macs)))
    factor = max((target.slow.get(kind, 1.0) for kind in ("int16", "uint16")), default=1.0)
    if factor > 1 and any(p.wide for p in made):
        notes.append(
            f"16 bits run at {factor:.2f} of float time on {target.name} (measured); layers in float are faster"
        )
    if made and (config.exclude_layers or config.overrides):
        notes.append("the words of a proposal come on top of the exclude_layers and overrides that were given")
    return made, notes
