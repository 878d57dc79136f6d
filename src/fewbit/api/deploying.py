"""`deploy`: a folder that runs on a target without fewbit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.api.common import Data, Source, as_model, as_source, settings
from fewbit.api.onecall import quantize
from fewbit.config import DataConfig, QuantConfig, configure, default_of
from fewbit.config.data import reading_of
from fewbit.core.plan import Plan
from fewbit.core.writing_folder import check_folder, writing_folder
from fewbit.data import DataSource
from fewbit.data.signature import read_signature
from fewbit.data.source import FedAsItIs
from fewbit.deployment import DEPLOYERS, Deployer, Deployment, Job, deployer_named
from fewbit.errors import PlanError, UsageError, unknown
from fewbit.graph.files import QUANTIZED_OPS
from fewbit.graph.model import PACKED, Model
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
        say: told what is done now.
        words: options of the target; fields of `DataConfig`, on top of those that the network was quantized with; for
            a float network fields of `QuantConfig`.

    Raises:
        UnknownName: no such target or word. UsageError: a float network without data.
        OutputError: the folder cannot be written, or holds what must not be lost.
        VerificationError: what was made does not compute what it should.
    """
    chosen = deployer_named(target)
    options, reading, how = _sorted_words(chosen, words)
    _check_name(name)
    place = Path(folder)
    check_folder(place, overwrite=overwrite)
    quantizing, said = settings(config, {**how, **reading})
    given = as_model(model, allow_quantized=True)
    recipe = configure(DataConfig, reading_of(given.metadata), **said_words(said))
    source = _opened(data, given, recipe) if data is not None else None
    tell = say or (lambda text: None)
    notes: tuple[str, ...] = ()
    if not is_quantized(given):
        given = _quantized(given, target, source, quantizing, said, tell)
        source = None if isinstance(data, Iterator) else source  # it is used up
    elif how or quantizing != QuantConfig():
        word = next(iter(how), "config")
        raise UsageError(f"{word} is about quantizing, and the network is quantized already; leave it out")
    else:
        notes = _made_for(given, target)
    with writing_folder(place, overwrite=overwrite) as fresh:
        job = Job(given, fresh, name, recipe, _samples(source, given), options, tell, plan_of(given))
        done = chosen.run(job)
        sizes = {f: (fresh / f).stat().st_size for f in done.files}
    return Deployment(target, place, sizes, done.checks, (*notes, *done.notes))


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
                    f"{word} is an option of target {' and '.join(others)}, and the target is {chosen.name}"
                )
            raise unknown("setting", word, set().union(*names))
        ours[of][word] = value
    options, reading, how = ours
    configure(DataConfig, None, **reading)
    return chosen.settled(options), reading, how


def said_words(reading: DataConfig) -> dict[str, Any]:
    """The settings of data that differ from their defaults."""
    words = {f.name: (getattr(reading, f.name), default_of(f)) for f in fields(reading)}
    return {name: value for name, (value, default) in words.items() if value != default}


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
    beside = plan_path(model.path) if model.path is not None else None
    if beside is None or not beside.is_file():
        return None
    try:
        plan = Plan.load(beside)
    except PlanError:
        return None
    return plan if plan.model and plan.model == model.metadata.get("fewbit.model") else None


def _opened(data: Data, model: Model, recipe: DataConfig) -> DataSource:
    """The data; words about images are for the deployed network, where the data holds arrays."""
    try:
        return as_source(data, model, recipe)
    except FedAsItIs:
        return as_source(data, model, DataConfig(skip_bad=recipe.skip_bad, shuffle=recipe.shuffle, seed=recipe.seed))


def _samples(source: DataSource | None, model: Model) -> dict[str, NDArray[Any]] | None:
    """The first few samples of the data that have the shapes of the very first, see `Job.samples`."""
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
        if count >= SAMPLES or held >= MOST_BYTES:
            break
    return {k: np.concatenate(x) for k, x in rows.items()}
