"""What every call of the interface begins with: words → configs, paths → models, data → batches, names → engines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, cast

from fewbit.config import DataConfig, QuantConfig, configure
from fewbit.config.data import reading_on_top
from fewbit.core.runner import Runner
from fewbit.core.target import TARGETS, Target
from fewbit.data import Batch, DataSource, open_data
from fewbit.data.source import FedAsItIs
from fewbit.engines import ENGINES, engine_of, open_runner
from fewbit.errors import one_of, unknown
from fewbit.frontends import load
from fewbit.graph.files import refuse_packed
from fewbit.graph.model import Model, TensorInfo
from fewbit.graph.ranked import in_front, ranked
from fewbit.mindspore import read_tables

Data = Any
Progress = Callable[[int, int], None]
Source = Model | str | os.PathLike[str]
Open = Callable[[Model], Runner]


def target_named(name: str) -> Target:
    """The target of that name; an unknown one offers the nearest."""
    return TARGETS[one_of("target", name, TARGETS)]


def settings(
    config: QuantConfig | str | Path | Mapping[str, Any] | None, words: Mapping[str, Any]
) -> tuple[QuantConfig, DataConfig]:
    """Both configs out of a config object, a file (TOML, or MindSpore Lite's) or a mapping, with keywords on top.

    Raises:
        UnknownName: a keyword that is a field of neither; the nearest one is offered.
    """
    tables: dict[str, dict[str, Any]] = {"quantize": {}, "data": {}}
    base = config if isinstance(config, QuantConfig) else None
    if isinstance(config, (str, Path)):
        tables = read_tables(config)
    elif isinstance(config, Mapping):
        words = {**config, **words}
    ours = {f.name for f in fields(DataConfig)}
    names = ours | {f.name for f in fields(QuantConfig)}
    for word, value in words.items():
        if word not in names:
            raise unknown("setting", word, names)
        tables["data" if word in ours else "quantize"][word] = value
    return configure(QuantConfig, base, **tables["quantize"]), configure(DataConfig, None, **tables["data"])


def as_model(model: Source, *, allow_quantized: bool = False) -> Model:
    """The model, loaded if a path was given.

    Raises:
        AlreadyQuantized: its weights are packed, and that is not allowed.
    """
    given = model if isinstance(model, Model) else load(model, allow_quantized=allow_quantized)
    if not allow_quantized:
        refuse_packed(given, str(given.path or "the model"))
    return given


def as_source(data: Data, model: Model, config: DataConfig) -> DataSource:
    """The data as batches, opened if it is not yet."""
    return cast(DataSource, data) if hasattr(data, "iterate") else open_data(data, model.inputs, config)


class Counted:
    """A data source that tells how far it has been read.

    Args:
        source: the data. progress: called with (batches read, all of them or 0 if nobody knows).
        limit: how many will be read at most.
    """

    def __init__(self, source: DataSource, progress: Progress, limit: int | None = None) -> None:
        self.source, self.progress = source, progress
        self.count = min([n for n in (source.batches, limit) if n is not None], default=0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """Batches; each counts as read when the next one is asked for."""
        self.progress(start, self.count)
        for done, batch in enumerate(self.source.iterate(start), start + 1):
            yield batch
            self.progress(done, self.count)


def counted(source: DataSource, progress: Progress | None, limit: int | None = None) -> DataSource:
    """The source, telling its progress if that is asked for."""
    return Counted(source, progress, limit) if progress is not None else source


def as_read(data: Data, model: Model, words: Mapping[str, Any], *metadata: Mapping[str, str]) -> DataSource:
    """The data as batches, images read as a network remembers; arrays, which that does not concern, as they are.

    Args:
        words: fields of `DataConfig`, on top of what is remembered. metadata: of networks; the first that knows counts.
    """
    try:
        return as_source(data, model, reading_on_top(words, *metadata))
    except FedAsItIs:
        return as_source(data, model, reading_on_top(words))  # fails again if the user himself spoke of images


def opener(target: str, threads: int, *, timing: bool = False, **options: Any) -> Callable[[Model], Runner]:
    """A function that loads a model; for timing, with the engine's own habit of waiting actively."""
    options |= timing_options(target) if timing else {}
    return partial(open_runner, target, threads=threads, **options)


def simulator(target: str, threads: int, *, exact: bool = False) -> Callable[[Model], Runner]:
    """A function that loads a target's networks where corrections and searches judge them.

    That is the target's engine, or the one that computes what stands in the file where there is none at hand. exact:
    what is not integer is computed in float32, where OpenVINO would by itself take bf16 if the CPU has it.
    """
    options = dict(TARGETS[target].engine_options) if target in TARGETS else {}
    if exact and engine_of(target) == "openvino":
        options["precision"] = "f32"
    return opener(engine_of(target), threads, **options)


def own_engine(target: str) -> str:
    """The engine that a target is simulated for, if fewbit can run it as well; else nothing."""
    base = target.split("-")[0]
    return base if base in ENGINES and base != engine_of(target) else ""


def timing_options(target: str) -> dict[str, Any]:
    """Options of an engine that let it run as it does by itself."""
    return {"spin": True} if target.startswith("onnxruntime") else {}


def judging(model: Model, open: Callable[[Model], Runner]) -> Callable[[Model], Runner]:
    """An opener for comparing a float network with integer ones: detectors answer with what enters their ranking."""
    tail = ranked(model)
    return lambda other: open(in_front(other, tail))


def free_sizes(model: Model) -> list[TensorInfo]:
    """Inputs with sizes, other than the batch, that are not fixed."""
    batch = {info.shape[0] for info in model.inputs if info.shape and isinstance(info.shape[0], str)}
    return [i for i in model.inputs if any(not isinstance(d, int) and d not in batch for d in i.shape[1:])]


def cores() -> int:
    """Cores of this machine."""
    return os.cpu_count() or 1
