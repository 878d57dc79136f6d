"""What simulations are fed with: batches to evaluate on, and a few samples of each class to calibrate on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from fewbit.config import DataConfig
from fewbit.config.simulate import SimulateConfig
from fewbit.core.runner import Feeds
from fewbit.data import Batch, DataSource, open_data
from fewbit.data.datasets import open_dataset
from fewbit.data.preparation import Preparation, of_dataset, of_recipe
from fewbit.errors import ConfigError, DataError, UsageError

Rows = dict[str, Any]


@dataclass
class Sets:
    """The data of simulations.

    Args:
        name: for people. test: to evaluate on. inputs: of the network. reading: how it is read.
        images: what was done to images; None: arrays, as they were given.
        pool: to calibrate on, each class may have more samples than are used; or None: that of the data set `training`.
        training: the training part of a data set.
    """

    name: str
    test: DataSource
    inputs: Any
    reading: DataConfig
    images: Preparation | None = None
    pool: DataSource | None = None
    training: Any = None
    notes: list[str] = field(default_factory=list)
    _known: dict[tuple[int, int, int], list[Feeds]] = field(default_factory=dict)

    def calibration(self, config: SimulateConfig) -> list[Feeds]:
        """`num_sample` samples of each class, drawn by the seed, in batches."""
        key = (config.num_sample, config.fixed_random_seed, config.batch_size)
        if key not in self._known:
            self._known[key] = self._drawn(config)
        return self._known[key]

    def _drawn(self, config: SimulateConfig) -> list[Feeds]:
        if self.training is not None:
            part = self.training.subset(per_class=config.num_sample, seed=config.fixed_random_seed)
            source = open_data(part.feeds(), self.inputs, self.reading)
            return [b.feeds for b in source]
        assert self.pool is not None
        rows = list(_of_each_class(self.pool, config.num_sample))
        if not rows:
            raise DataError("the calibration data holds no sample; hand some hundred")
        order = np.random.default_rng(config.fixed_random_seed).permutation(len(rows))
        return _batches([rows[i] for i in order], _fixed(self.inputs), config.batch_size)


def open_sets(
    inputs: Any,
    data: Any,
    reading: DataConfig,
    dataset: str | None,
    root: str | Path | None,
    calib_data: Any,
    limit: int | None,
    config: SimulateConfig,
) -> Sets:
    """Open what is evaluated and calibrated on.

    Raises:
        UsageError: neither data nor a data set is given, or both are.
    """
    if (data is None) == (dataset is None):
        said = "both are given" if data is not None else "neither is given"
        raise UsageError(f"a simulation is evaluated on data or on a data set, and {said}; say data or dataset")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit!r}; it must be 1 or more")
    reading = replace(reading, batch_size=config.batch_size)
    if dataset is not None:
        if calib_data is not None:
            raise UsageError(f"dataset {dataset!r} has a training part to calibrate on; leave calib_data out")
        if reading != DataConfig(batch_size=config.batch_size):
            raise UsageError("settings of how data is read are for data; a dataset is read in its own way")
        images = open_dataset(dataset, root, split="test").subset(limit=limit, seed=config.fixed_random_seed)
        training = open_dataset(dataset, root, split="train") if config.quantize_input_offline else None
        drawn = f", drawn by seed {config.fixed_random_seed}, as many of each class" if limit is not None else ""
        return Sets(
            f"{dataset}, {len(images)} test images{drawn}", open_data(images.feeds(), inputs, reading), inputs, reading,
            of_dataset(images), training=training,
        )  # fmt: skip
    if root is not None:
        raise UsageError("dataset_root is the folder of a data set; say which with dataset, or leave it out")
    if calib_data is not None and not config.quantize_input_offline:
        raise UsageError(
            "calib_data is for ranges that are measured beforehand; add quantize_input_offline, or leave it out"
        )
    source = _source(data, inputs, reading)
    test = source if limit is None else cast(DataSource, Begin(source, limit, _fixed(inputs) is not None))
    name = str(data) if isinstance(data, (str, Path)) else "data"
    recipe = getattr(source, "recipe", None)
    done = of_recipe(recipe) if recipe is not None else None
    if calib_data is not None:
        return Sets(name, test, inputs, reading, done, _source(calib_data, inputs, reading))
    note = "calibrated on samples that it is evaluated on as well; give others with calib_data"
    return Sets(name, test, inputs, reading, done, source, notes=[note])


def _source(data: Any, inputs: Any, reading: DataConfig) -> DataSource:
    return cast(DataSource, data) if hasattr(data, "iterate") else open_data(data, inputs, reading)


@dataclass
class Begin:
    """The first samples of a data source. `whole`: its batches cannot be cut."""

    source: DataSource
    limit: int
    whole: bool
    batches: int | None = None
    samples: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        left = self.limit
        for batch in self.source:
            n = len(batch.names)
            if n > left and self.whole:
                return
            yield batch if n <= left else _cut(batch, left)
            left -= n
            if left <= 0:
                return

    def digest(self) -> str | None:
        """That of the source, and how much of it."""
        return f"{self.source.digest()}[:{self.limit}]"


def _cut(batch: Batch, n: int) -> Batch:
    labels = None if batch.labels is None else batch.labels[:n]
    return Batch({k: x[:n] for k, x in batch.feeds.items()}, labels, batch.index, batch.names[:n])


def _of_each_class(source: DataSource, count: int) -> Iterator[Rows]:
    """The first samples of each class; all samples where there are no labels."""
    seen: dict[int, int] = {}
    for batch in source:
        n = len(batch.names)
        for i in range(n):
            if batch.labels is not None:
                label = int(batch.labels[i])
                seen[label] = seen.get(label, 0) + 1
                if seen[label] > count:
                    continue
            yield {k: x[i : i + 1] if x.ndim and len(x) == n else x for k, x in batch.feeds.items()}


def _fixed(inputs: Any) -> int | None:
    """Samples in a batch, if the network fixes that."""
    first = next(iter(inputs)).shape[:1]
    return first[0] if first and isinstance(first[0], int) else None


def _batches(rows: Sequence[Rows], fixed: int | None, wanted: int) -> list[Feeds]:
    """Samples side by side.

    Raises:
        DataError: the network takes more at once than there are.
    """
    size = fixed or wanted
    if fixed and len(rows) < fixed:
        raise DataError(
            f"the network takes batches of exactly {fixed}, and there are {len(rows)} samples to calibrate on; raise "
            "num_sample, or export the network with a free batch axis"
        )
    cuts = range(0, len(rows) - (len(rows) % fixed if fixed else 0), size)
    parts = [rows[a : a + size] for a in cuts]
    return [{k: np.concatenate([r[k] for r in p]) if len(p) > 1 else p[0][k] for k in p[0]} for p in parts]
