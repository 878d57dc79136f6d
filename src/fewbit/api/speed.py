"""How fast networks are: benchmark, by one process or by several pinned to cores of their own; profile, by layer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np

from fewbit.api.common import Data, Progress, Source, as_model, as_source, free_sizes, opener, timing_options
from fewbit.config import DataConfig, configure
from fewbit.core.instances import share_cores
from fewbit.engines import random_feeds
from fewbit.engines.instances import started, usable_cores
from fewbit.errors import FewbitWarning, UsageError
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.report.benchmark import Benchmark, check_numbers
from fewbit.report.benchmark import benchmark as _benchmark
from fewbit.report.instances import InstanceBenchmark, benchmark_instances
from fewbit.report.profile import Profile, profile_pair

WARMUP, MIN_TIME = 5, 1.0


@overload
def benchmark(model: Source, against: Source | None = None, *, instances: None = None, **words: Any) -> Benchmark: ...


@overload
def benchmark(model: Source, against: Source | None = None, *, instances: int, **words: Any) -> InstanceBenchmark: ...


@overload
def benchmark(
    model: Source, against: Source | None = None, *, instances: int | None, **words: Any
) -> Benchmark | InstanceBenchmark: ...


def benchmark(
    model: Source,
    against: Source | None = None,
    *,
    data: Data = None,
    batch_sizes: Sequence[int] = (1,),
    threads: int | None = None,
    engine: str = "onnxruntime",
    warmup: int | None = None,
    min_time: float | None = None,
    num_warmup_batches: int | None = None,
    num_inference_batches: int | None = None,
    instances: int | None = None,
    cores_per_instance: int | None = None,
    progress: Progress | None = None,
    **words: Any,
) -> Benchmark | InstanceBenchmark:
    """Time a network, in turns with another one if given: medians, quartiles, ratios, throughput.

    Args:
        model: usually integer. against: usually float; ratios refer to it.
        data: what to feed (default: random numbers); words: fields of `DataConfig`.
        batch_sizes: each is timed; a network with a fixed batch takes only its own.
        threads, engine: what runs them (default: 1 thread).
        warmup, num_warmup_batches: two words for the runs that do not count (default: 5).
        min_time: seconds for each network and size (default: 1). num_inference_batches: so many runs instead.
        instances: so many processes run the network at once, each on cores of its own.
        cores_per_instance: of each (default: all cores divided by the instances).
        progress: called between measurements, with the percentage done and 100.

    Returns:
        with `instances` an `InstanceBenchmark`: throughput of each and of all together.

    Raises:
        UsageError: words that exclude each other; more cores than there are. EngineError: an instance failed.
    """
    _exclusive(warmup=warmup, num_warmup_batches=num_warmup_batches)
    _exclusive(min_time=min_time, num_inference_batches=num_inference_batches)
    if threads is not None and instances is not None:
        raise UsageError(f"threads is {threads}, which is for one process; each instance uses all of its own cores")
    if cores_per_instance is not None and instances is None:
        raise UsageError("cores_per_instance says how many cores each of several instances has; give instances, too")
    cores = share_cores(usable_cores(), instances, cores_per_instance) if instances is not None else ()
    before = next((n for n in (warmup, num_warmup_batches) if n is not None), WARMUP)
    counts: dict[str, Any] = {"warmup": before, "min_time": MIN_TIME if min_time is None else min_time}
    counts["num_inference_batches"] = num_inference_batches
    check_numbers(**counts)
    networks = {"model": as_model(model, allow_quantized=True)}
    if against is not None:
        networks = {"against": as_model(against, allow_quantized=True), **networks}
    feeds = feeds_for(networks["model"], batch_sizes, data, words)
    if not cores:
        about = f"{engine}, {_of(threads or 1, 'thread')}"
        open_ = opener(engine, threads or 1, timing=True)
        runners = {name: open_(m) for name, m in networks.items()}
        return _benchmark(runners, feeds, about=about, progress=progress, **counts)
    about = f"{engine}, {_of(len(cores), 'instance')} of {_of(len(cores[0]), 'core')}"
    with started(networks, feeds, engine, cores, **timing_options(engine)) as group:
        return benchmark_instances(
            group.together, list(networks), list(feeds), cores, about=about, progress=progress, **counts
        )


def _of(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}"


def _exclusive(**words: Any) -> None:
    """Refuse two words that say the same, or the opposite."""
    said = [f"{word} is {value}" for word, value in words.items() if value is not None]
    if len(said) > 1:
        raise UsageError(f"{' and '.join(said)}; each stands for the other; give one of them")


def profile(
    model: Source,
    against: Source,
    *,
    data: Data = None,
    batch_size: int = 1,
    threads: int = 1,
    engine: str = "onnxruntime",
    **words: Any,
) -> Profile:
    """Time each operator of a float network (`against`) and of its integer form, side by side, worst first.

    Args:
        model: integer. against: its float form. data: what to feed (default: random numbers).
        batch_size: samples in a run; a network with a fixed batch takes its own. threads, engine: what runs them.
    """
    fused = fuse(as_model(against))
    given = as_model(model, allow_quantized=True)
    open_ = opener(engine, threads, timing=True)
    (feeds,) = feeds_for(given, (batch_size,), data, words).values()
    return profile_pair(open_(fused), open_(given), feeds, model=fused)


def feeds_for(
    model: Model, batch_sizes: Sequence[int], data: Data, words: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """Feeds for each batch size: real samples, repeated as needed, or random numbers."""
    fixed = next((i.shape[0] for i in model.inputs[:1] if i.shape and isinstance(i.shape[0], int)), None)
    if data is None:
        _tell_of_free(model)
        return {n: random_feeds(model, batch=n) for n in ((fixed,) if fixed else batch_sizes)}
    batch = next(iter(as_source(data, model, configure(DataConfig, None, **words)).iterate()))
    if fixed:
        return {fixed: dict(batch.feeds)}
    free = {i.name for i in model.inputs if i.shape and not isinstance(i.shape[0], int)}
    return {
        n: {k: np.resize(x, (n, *x.shape[1:])) if k in free else x for k, x in batch.feeds.items()} for n in batch_sizes
    }


def _tell_of_free(model: Model) -> None:
    """Warn of sizes that random inputs do not know: images of 1 x 1 are fast and say nothing."""
    for info in free_sizes(model):
        warnings.warn(
            f"sizes that input {info} leaves free are 1 in random inputs; fix them when the network is loaded "
            "(input_shapes), or give data",
            FewbitWarning,
            stacklevel=4,
        )
