"""`deploy`: a folder that runs on a target without fewbit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.api.common import Data, Source, as_source, settings
from fewbit.api.onecall import quantize
from fewbit.config import DataConfig, QuantConfig, configure
from fewbit.config.data import reading_of, said_words
from fewbit.core.plan import Plan
from fewbit.core.tables import number
from fewbit.core.writing_folder import check_folder, writing_folder
from fewbit.data import DataSource
from fewbit.data.signature import counted, read_signature
from fewbit.data.source import FedAsItIs
from fewbit.deployment import DEPLOYERS, Deployer, Deployment, Job, deployer_named
from fewbit.deployment.replaced import replaced
from fewbit.deployment.samples import sample_feeds
from fewbit.errors import PlanError, UsageError, unknown
from fewbit.frontends import load
from fewbit.frontends.base import Shapes
from fewbit.graph.files import QUANTIZED_OPS
from fewbit.graph.model import PACKED, Model
from fewbit.graph.shapes import with_input_shapes
from fewbit.report.quantized import Quantized, plan_path

SAMPLES = 32
"""Samples of the data that a deployer is handed, at most."""

MOST_BYTES = 64 * 2**20

Say = Callable[[str], None]

RESERVED = ("target", "batch_size")
"""Words of the configs that are no words of this call."""


def deploy(
    model: Source,
    target: str,
    folder: str | Path,
    *,
    data: Data = None,
    config: QuantConfig | str | Path | Mapping[str, Any] | None = None,
    name: str = "model",
    overwrite: bool = False,
    input_shapes: Shapes | None = None,
    say: Say | None = None,
    **words: Any,
) -> Deployment:
    """Write a folder that runs on a target without fewbit: network, scripts, samples, README.

    Args:
        model: a quantized network, or its file. A float one is quantized for the target first, if there is data.
        target: a name of `fewbit.deployment.DEPLOYERS`. folder: appears whole or not at all.
        data: see `fewbit.data`; some samples of it go into the folder to check with, where the target has use for them.
        config: how a float network is quantized. name: what the network's files are called.
        overwrite: whether the folder may hold what fewbit did not write; such files stay, if they have other names.
        input_shapes: of inputs with sizes that are free: `{"data": (1, 3, 224, 224)}`; None stays free.
        say: told what is done now.
        words: options of the target; fields of `DataConfig`, on top of those that the network was quantized with; for
            a float network fields of `QuantConfig`.

    Raises:
        UnknownName: no such target, word or input. UsageError: a float network without data.
        ModelFormatError: the network cannot take `input_shapes`. EngineError: the target cannot take the network.
        OutputError: the folder cannot be written, or holds what must not be lost.
        VerificationError: what was made does not compute what it should.
    """
    chosen = deployer_named(target)
    options, reading, how = _sorted_words(chosen, words)
    _check_name(name)
    place = Path(folder)
    check_folder(place, overwrite=overwrite)
    quantizing, said = settings(config, {**how, **reading})
    given = _given(model, input_shapes)
    recipe = configure(DataConfig, reading_of(given.metadata), **said_words(said))
    source = _opened(data, given, recipe) if data is not None else None
    tell = say or (lambda text: None)
    notes: tuple[str, ...] = ()
    if not is_quantized(given):
        if chosen.check is not None and source is not None:
            tell(f"checking that {target} can take the network")
            chosen.check(given, None if isinstance(data, Iterator) else _first(source, given))
        given = _quantized(given, target, source, quantizing, said, tell)
        source = None if isinstance(data, Iterator) else source  # it is used up
    elif how or quantizing != QuantConfig():
        word = next(iter(how), "config")
        raise UsageError(f"{word} is about quantizing, and the network is quantized already; leave it out")
    else:
        notes = _made_for(given, target)
    plan = plan_of(given)
    came_to = result_of(given, plan)
    notes += replaced(place, plan)
    with writing_folder(place, overwrite=overwrite) as fresh:
        job = Job(given, fresh, name, recipe, _samples(source, given), options, tell, plan, came_to)
        done = chosen.run(job)
        sizes = {f: (fresh / f).stat().st_size for f in done.files}
    return Deployment(target, place, sizes, done.checks, (*notes, *done.notes), came_to)


def _sorted_words(chosen: Deployer, words: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Options of the target, words about data, words about quantizing."""
    ours: tuple[dict[str, Any], ...] = ({}, {}, {})
    names = (
        set(chosen.options), {f.name for f in fields(DataConfig)} - {*RESERVED},
        {f.name for f in fields(QuantConfig)} - {*RESERVED},
    )  # fmt: skip
    for word, value in words.items():
        of = next((i for i, known in enumerate(names) if word in known), None)
        if of is None:
            others = [d.name for d in DEPLOYERS.values() if word in d.options]
            if others:
                raise UsageError(
                    f"{word} is an option of target {' and '.join(others)}, and the target is {chosen.name}; "
                    "leave it out"
                )
            raise unknown("setting", word, set().union(*names))
        ours[of][word] = value
    options, reading, how = ours
    configure(DataConfig, None, **reading)
    return chosen.settled(options), reading, how


def _given(model: Source, shapes: Shapes | None) -> Model:
    """The network, its free sizes fixed if some are given."""
    if not isinstance(model, Model):
        return load(model, allow_quantized=True, input_shapes=shapes)
    if not shapes:
        return model
    made = with_input_shapes(model, shapes)
    return Quantized(made, model.plan, model.report) if isinstance(model, Quantized) else made


def _check_name(name: str) -> None:
    if not name or name != Path(name).name or name.startswith("."):
        raise UsageError(f"name is {name!r}; it must be the start of a file name, such as 'model'")


def is_quantized(model: Model) -> bool:
    """Whether fewbit, or somebody else, quantized a network; even if every layer stayed float."""
    if isinstance(model, Quantized) or PACKED in model.metadata or "fewbit.config" in model.metadata:
        return True
    return any(n.op_type in QUANTIZED_OPS for n in model.nodes)


def _quantized(
    model: Model, target: str, source: DataSource | None, config: QuantConfig, reading: DataConfig, tell: Say
) -> Quantized:
    if source is None:
        raise UsageError(
            "the network is float; quantize it first (fewbit quantize MODEL -o int8.onnx --data DATA), or give data, "
            "and it is quantized on the way"
        )
    tell("quantizing")
    told: list[str] = []

    def step(what: str, done: int, of: int) -> None:
        if told[-1:] != [what]:
            told.append(what)
            tell(what)

    return quantize(model, source, config, target=target, say=step, **asdict(reading))


def _made_for(model: Model, target: str) -> tuple[str, ...]:
    """What to tell if a network was quantized with another engine in mind."""
    other = model.plan.target if isinstance(model, Quantized) else model.metadata.get("fewbit.target", "")
    if not other or other.split("-")[0] == target:
        return ()
    return (
        f"the network was quantized for {other}; target={target} when it is quantized may make it faster or better",
    )


def plan_of(model: Model) -> Plan | None:
    """What an integer network follows: its own, or the file beside it, if that is about the same network."""
    if isinstance(model, Quantized):
        return model.plan
    if model.path is None:
        return None
    for beside in (plan_path(model.path), model.path.with_name("plan.json")):  # the latter: in a deployed folder
        try:
            plan = Plan.load(beside)
        except PlanError:
            continue
        if plan.model and plan.model == model.metadata.get("fewbit.model"):
            return plan
    return None


def result_of(model: Model, plan: Plan | None) -> str:
    """What quantizing came to: `12 of 20 layers integer; output 45.0 dB to float, cosine 0.99998`."""
    if plan is None:
        return ""
    kind = "with integer weights" if plan.config.get("quant_type") == "weight" else "integer"
    text = f"{sum(n.quantized for n in plan.nodes.values())} of {counted(len(plan.nodes), 'layer')} {kind}"
    report = model.report if isinstance(model, Quantized) else None
    if report is None or report.cosine is None:
        return text
    return f"{text}; output {number(report.sqnr, 1)} dB to float, cosine {number(report.cosine, 5)}"


def _opened(data: Data, model: Model, recipe: DataConfig) -> DataSource:
    """The data; words about images are for the deployed network, where the data holds arrays."""
    try:
        return as_source(data, model, recipe)
    except FedAsItIs:
        return as_source(data, model, DataConfig(skip_bad=recipe.skip_bad, shuffle=recipe.shuffle, seed=recipe.seed))


def _first(source: DataSource, model: Model) -> dict[str, NDArray[Any]] | None:
    """Feeds for one run, the first of the data; None if there are too few samples for one."""
    job = Job(model, Path(), samples=_samples(source, model, 1))
    return next(iter(sample_feeds(job, 1)), None)


def _samples(source: DataSource | None, model: Model, most: int = SAMPLES) -> dict[str, NDArray[Any]] | None:
    """The first samples of the data that have the shapes of the very first, see `Job.samples`."""
    if source is None:
        return None
    slots = read_signature(model.inputs).slots
    rows: dict[str, list[NDArray[Any]]] = {s.name: [] for s in slots}
    count = held = 0
    for batch in source.iterate():
        parts = {s.name: batch.feeds[s.name] if s.stacked else batch.feeds[s.name][None] for s in slots}
        if count and any(x.shape[1:] != rows[k][0].shape[1:] for k, x in parts.items()):
            continue
        for key, x in parts.items():
            rows[key].append(x)
        count, held = count + len(batch.names), held + sum(x.nbytes for x in parts.values())
        if count >= most or held >= MOST_BYTES:
            break
    return {k: np.concatenate(x) for k, x in rows.items()}
