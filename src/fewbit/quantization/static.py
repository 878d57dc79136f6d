"""Calibrate: stream data through the float network once, and turn what the observers saw into ranges.

    batches ─┬─ worker: run the float network, update its own observers ─┐
             └─ worker: …                                               ─┴─ merge → result → plan with ranges

No value outlives its batch. Workers run whole batches side by side (one engine thread each), which wastes nothing on
synchronization; since merging is exact, the ranges do not depend on the number of workers or on how batches are cut.
Only the part of the network that leads to observed values is run.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fewbit.calib import CalibrationCollector, Observer, make_observer
from fewbit.calib.collector import collected_ranges, included
from fewbit.calib.histogram import EntropyObserver
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.errors import BadSample, ConfigError, EmptyData
from fewbit.graph.model import Model, op_name
from fewbit.quantization import cosine
from fewbit.quantization.checkpoint import EVERY, Checkpoint

Array = NDArray[Any]
Observers = dict[str, Observer]
Opener = Callable[[Model], Runner]

OPTIONS = {"percentile": ("percentile",), "quantile": ("percentile",), "ema": ("ema_momentum",)}
WHOLE_BATCH = frozenset({"quantile"})
DEFAULT_LIMIT, MIB = 512, 2**20


class BatchLike(Protocol):
    """What calibration needs of a batch: see `fewbit.data`."""

    feeds: dict[str, Array]
    index: int
    names: list[str]


class Source(Protocol):
    """What calibration needs of data: batches from a given one on."""

    def iterate(self, start: int = 0) -> Iterator[Any]:
        """Yield batches, the first `start` left out."""


@dataclass
class _Worker:
    """One set of observers; each is used by one thread at a time."""

    observers: Observers = field(default_factory=dict)


def calibrate(
    model: Model,
    plan: Plan,
    source: Source,
    open_runner: Opener,
    config: QuantConfig,
    *,
    workers: int = 2,
    collector: CalibrationCollector | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: float = EVERY,
    data_key: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Fill in the ranges of a plan.

    Args:
        model: the fused float network. plan: made for it.
        source: data. open_runner: loads a model into an engine, one thread a run.
        config: calib_mode options, num_calib_batches, memory_limit.
        workers: batches in work at once.
        collector: the user's own, for calib_mode custom.
        checkpoint: file to keep progress in; if it exists, calibration goes on from there.
        checkpoint_every: seconds between two writes of it. data_key: names the data that the checkpoint is about.
        progress: called with (batches done, samples done).

    Raises:
        EmptyData: no batch came. BadSample: NaN or infinity, with the tensor and the samples.
    """
    if collector is not None:
        _check_collector(collector, config)
    observed = plan.observed()
    if not observed:
        return plan
    if config.calib_mode == "custom":
        return _with_collector(model, plan, source, open_runner, config, collector, progress)
    runner = open_runner(part_for(model, list(observed)))
    job = _Job(model, plan, observed, runner, config, workers)
    by_cosine = _FirstSamples() if any(plan.values[n].calib_mode == cosine.WORD for n in observed) else None
    keep = Checkpoint(checkpoint, plan, checkpoint_every, data_key) if checkpoint else None
    start = keep.restore(job.pool[0].observers) if keep else 0
    stream = _limited(source, config.num_calib_batches, start)
    batches = job.placed(stream if by_cosine is None or start else by_cosine.kept_of(stream), start)
    done, samples = start, 0
    for done, samples in job.run(batches, start, keep):
        if progress:
            progress(done, samples)
    if not done:
        raise EmptyData("the calibration data holds no batch; give some hundred samples")
    merged = job.merged()
    with ThreadPoolExecutor(max(1, workers)) as threads:  # an entropy search takes some milliseconds for each value
        ranges = dict(zip(merged, threads.map(_result, merged.values(), merged), strict=True))
    if keep:
        keep.remove()
    plan = plan.with_ranges(ranges)
    if by_cosine is None:
        return plan
    first = _limited(source, config.num_calib_batches) if start else by_cosine.batches
    return cosine.search_cosine(model, plan, first, open_runner, part_for)


class _FirstSamples:
    """The batches with the samples that steps are searched on."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def kept_of(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Pass batches on, and keep the first ones."""
        samples = 0
        for batch in batches:
            if samples < cosine.IMAGES:
                self.batches.append(batch)
            samples += len(batch.names)
            yield batch


def _check_collector(collector: object, config: QuantConfig) -> None:
    if config.calib_mode != "custom":
        raise ConfigError(f"a collector was given, but calib_mode is {config.calib_mode!r}; say calib_mode='custom'")
    if not isinstance(collector, CalibrationCollector):
        raise ConfigError(f"the collector is {collector!r}; it must be an object of a subclass of CalibrationCollector")


def _limited(source: Source, limit: int | None, start: int = 0) -> Iterator[Any]:
    """Batches from `start` on, `limit` with those before; one more is not even read."""
    return islice(source.iterate(start), None if limit is None else max(0, limit - start))


def part_for(model: Model, names: list[str]) -> Model:
    """The part of a network that leads to these values, which become its outputs."""
    copy = model.clone()
    values = copy.values()
    wanted = [values[n] for n in names if not values[n].is_graph_input()]
    if wanted:
        copy.graph.outputs.clear()
        copy.graph.outputs.extend(wanted)
        copy.drop_unused()
    return copy


def free_batch(model: Model) -> bool:
    """Whether every input takes any number of samples."""
    return all(i.shape and not isinstance(i.shape[0], int) for i in model.inputs)


def _result(seen: Observer, group: str) -> tuple[float, float]:
    lo, hi = seen.result()
    assert math.isfinite(lo) and math.isfinite(hi), group
    return lo, hi


class _Job:
    """Workers, their observers, and the bookkeeping of batches in flight."""

    def __init__(
        self, model: Model, plan: Plan, observed: dict[str, str], runner: Runner, config: QuantConfig, workers: int
    ) -> None:
        self.observed, self.runner, self.config, self.plan = observed, runner, config, plan
        self.inputs = {i.name for i in model.inputs}
        self.free_batch = free_batch(model)
        self.first: dict[str, float] = {}  # largest magnitude of the first batch, by group
        self.pool = [_Worker(self._observers()) for _ in range(max(1, workers))]
        self.idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self.bytes_per_sample = 0

    def _observers(self) -> Observers:
        made: Observers = {}
        for name, group in self.observed.items():
            if group not in made:
                v = self.plan.values[name]
                options = {k: getattr(self.config, k) for k in OPTIONS.get(v.calib_mode, ())}
                made[group] = seen = make_observer(v.calib_mode, v.spec, **options)
                if isinstance(seen, EntropyObserver):
                    seen.place(self.first.get(group, 0.0))
        return made

    def placed(self, batches: Iterator[Any], start: int) -> Iterator[Any]:
        """The batches; the first one is run once ahead, for observers whose bins it places."""
        groups = {g: seen.first for g, seen in self.pool[0].observers.items() if isinstance(seen, EntropyObserver)}
        if start:  # the checkpoint knows
            self.first = groups
        else:
            ahead = next(batches, None) if groups else None
            if ahead is None:
                return batches
            self.first = self._largest(ahead, groups)
            batches = chain([ahead], batches)
        for worker in self.pool[1 if start else 0 :]:
            worker.observers = self._observers()
        return batches

    def _largest(self, batch: BatchLike, groups: Collection[str]) -> dict[str, float]:
        """The largest magnitude of each group in a batch; NaN and infinity are left for counting to complain of."""
        largest = dict.fromkeys(groups, 0.0)
        for feeds in self._pieces(batch):
            outputs = self.runner.run(feeds)
            for name, group in self.observed.items():
                if group in largest:
                    x = feeds[name] if name in self.inputs else outputs[name]
                    seen = float(max(-x.min(), x.max())) if x.size else 0.0
                    largest[group] = max(largest[group], seen if math.isfinite(seen) else 0.0)
        return largest

    def run(self, batches: Iterator[Any], start: int, keep: Checkpoint | None) -> Iterator[tuple[int, int]]:
        """Work through the batches; yields (batches, samples) done whenever some are."""
        for worker in self.pool:
            self.idle.put(worker)
        done, samples, flying = start, 0, set[Future[int]]()
        with ThreadPoolExecutor(len(self.pool), "fewbit-calib") as threads:
            try:
                for batch in batches:
                    flying.add(threads.submit(self._work, batch))
                    if len(flying) > len(self.pool):
                        ready, flying = wait(flying, return_when=FIRST_COMPLETED)
                        samples += sum(f.result() for f in ready)
                        done += len(ready)
                        yield done, samples
                    if keep and keep.due():
                        samples, done, flying = samples + sum(f.result() for f in flying), done + len(flying), set()
                        keep.write(done, self.merged())
                        yield done, samples
                samples, done = samples + sum(f.result() for f in flying), done + len(flying)
            except BaseException:
                for f in flying:
                    f.cancel()
                raise
        yield done, samples

    def _work(self, batch: BatchLike) -> int:
        worker = self.idle.get()
        try:
            for feeds in self._pieces(batch):
                outputs = self.runner.run(feeds)
                self._learn(worker.observers, outputs, feeds, batch)
            return len(batch.names)
        finally:
            self.idle.put(worker)

    def _learn(
        self, observers: Observers, outputs: Mapping[str, Array], feeds: Mapping[str, Array], batch: Any
    ) -> None:
        self.bytes_per_sample = max(
            self.bytes_per_sample,
            sum(x.nbytes for x in outputs.values()) // max(1, _rows(feeds)),
        )
        for name, group in self.observed.items():
            x = feeds[name] if name in self.inputs else outputs[name]
            try:
                observers[group].update(np.ascontiguousarray(x, np.float32), batch.index)
            except BadSample as e:
                where = ", ".join(map(str, batch.names[:4])) or f"batch {batch.index}"
                raise BadSample(f"tensor {name!r} on {where}: {e}") from e

    def _pieces(self, batch: BatchLike) -> Iterator[dict[str, Array]]:
        """Cut a batch so that the values of all workers stay within the memory limit."""
        feeds = batch.feeds
        size = _rows(feeds)
        limit = (self.config.memory_limit or DEFAULT_LIMIT) * MIB // len(self.pool)
        whole = any(self.plan.values[n].calib_mode in WHOLE_BATCH for n in self.observed)
        if size <= 1 or not self.free_batch or whole:
            yield feeds
            return
        at = 0
        while at < size:
            fits = 1 if not self.bytes_per_sample else max(1, limit // (2 * self.bytes_per_sample))
            yield {k: x[at : at + fits] for k, x in feeds.items()}
            at += fits

    def merged(self) -> Observers:
        """Everything seen so far, in one set; the workers go on with empty ones."""
        first, *others = self.pool
        for worker in others:
            for group, seen in worker.observers.items():
                first.observers[group].merge(seen)
            worker.observers = self._observers()
        return first.observers


def _rows(feeds: Mapping[str, Array]) -> int:
    """Length of the first axis, which counts samples; inputs without axes have none."""
    return min((len(x) for x in feeds.values() if x.ndim), default=1)


# -- the user's own collector -------------------------------------------------------------------------------------


def _with_collector(
    model: Model,
    plan: Plan,
    source: Source,
    open_runner: Opener,
    config: QuantConfig,
    collector: CalibrationCollector | None,
    progress: Callable[[int, int], None] | None,
) -> Plan:
    """Hand every observed value to the user's collector, one batch after the other, and take its ranges."""
    if collector is None:
        raise ConfigError("calib_mode is 'custom'; give the collector= that measures the ranges")
    observed = plan.observed()
    runner = open_runner(part_for(model, list(observed)))
    feed = feeder(model, runner, collector, list(observed))
    done = samples = 0
    for batch in _limited(source, config.num_calib_batches):
        feed(batch.feeds)
        done, samples = done + 1, samples + len(batch.names)
        if progress:
            progress(done, samples)
    if not done:
        raise EmptyData("the calibration data holds no batch; give some hundred samples")
    return plan.with_ranges(collected(plan, collector))


def feeder(
    model: Model, runner: Runner, collector: CalibrationCollector, names: list[str]
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A function that runs feeds and shows the collector every value it asked for, in graph order."""
    wanted = included(collector, names)
    makers = {str(v.name): op_name(n) for n in model.nodes for v in n.outputs}
    lock = threading.Lock()

    def feed(feeds: Mapping[str, Array]) -> dict[str, Array]:
        outputs = runner.run(feeds)
        with lock:
            for name in wanted:
                seen = np.asarray(feeds[name] if name in feeds else outputs[name]).view()
                seen.flags.writeable = False  # it may be the caller's own array
                collector.collect(name, makers.get(name, ""), seen)
        return outputs

    return feed


def collected(plan: Plan, collector: CalibrationCollector) -> dict[str, tuple[float, float]]:
    """Ranges by group out of a collector."""
    return by_group(plan, collected_ranges(collector, plan.observed()))


def by_group(plan: Plan, found: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Ranges of values → ranges of their groups; members of one group are joined to their widest range."""
    ranges: dict[str, tuple[float, float]] = {}
    for name, (lo, hi) in found.items():
        group = plan.values[name].group
        old = ranges.get(group, (lo, hi))
        ranges[group] = (min(lo, old[0]), max(hi, old[1]))
    return ranges
