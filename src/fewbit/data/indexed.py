"""IndexedSource: batches from numbered samples.

    order = 0 1 2 3 … or a permutation by the seed, the same in every pass
    batch k = order[k·size : (k+1)·size]              without skip_bad: earlier samples are not touched
    batch k = the k-th `size` good samples            with skip_bad: earlier samples are looked at

Samples are read ahead in threads, one batch at most.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fewbit.config import DataConfig
from fewbit.data.base import Batch, Rows, Samples
from fewbit.data.images import ImageRecipe
from fewbit.data.regroup import Notes, read_ahead, regroup
from fewbit.data.signature import Signature, counted
from fewbit.errors import BadSample, EmptyData


class IndexedSource:
    """See `base.DataSource`."""

    def __init__(self, samples: Samples, signature: Signature, config: DataConfig) -> None:
        self._data, self._config = samples, config
        self._exact = signature.batch is not None
        self._size = signature.group(config.batch_size)
        order = np.arange(len(samples))
        self._order = np.random.default_rng(config.seed).permutation(order) if config.shuffle else order
        self._bad: dict[int, str] = {}
        self._notes = Notes()
        self._digest: str | None = None

    @property
    def recipe(self) -> ImageRecipe | None:
        """What happens to images, if that is what samples are, of a single input."""
        found: ImageRecipe | None = getattr(self._data, "recipe", None)
        return found

    @property
    def samples(self) -> int:
        """See `DataSource`."""
        return len(self._order) - len(self._bad)

    @property
    def batches(self) -> int:
        """See `DataSource`."""
        return self.samples // self._size if self._exact else -(-self.samples // self._size)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def digest(self) -> str:
        """See `DataSource`."""
        if self._digest is None:
            self._digest = self._data.digest()
        return self._digest

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """See `DataSource`.

        Raises:
            BadSample: a sample is unusable, and not skip_bad.
            EmptyData: all samples are.
            DataError: the samples do not fill one batch, or differ in shape within a batch.
        """
        assert start >= 0
        at = 0 if self._config.skip_bad else start
        pieces = self._pieces(self._order[at * self._size :])
        groups = regroup(pieces, self._size, exact=self._exact, earlier=at, notes=self._notes)
        for index, rows in enumerate(groups, at):
            if index >= start:
                yield Batch(rows.feeds, rows.labels, index, rows.names)

    def _pieces(self, order: np.ndarray) -> Iterator[Rows]:
        """Good samples in order, one at a time or a batch at a time."""
        single = self._data.single or self._config.skip_bad
        step = 1 if single else self._size
        units = (order[i : i + step].tolist() for i in range(0, len(order), step) if not self._known_bad(order[i]))
        workers = self._data.workers
        depth = workers + self._size if single else workers + 1
        good = False
        try:
            for index, found in read_ahead(self._read, units, workers, depth):
                if isinstance(found, BadSample):
                    self._bad[index] = str(found)
                else:
                    good = True
                    yield found
        finally:
            self._report_bad()
        if self._bad and not good:
            first = next(iter(self._bad.values()))
            raise EmptyData(f"no sample of {len(self._bad)} is usable; the first: {first}")

    def _known_bad(self, i: int) -> bool:
        return int(i) in self._bad  # only ever filled where samples are read one at a time

    def _read(self, index: list[int]) -> tuple[int, Rows | BadSample]:
        """Runs in a thread: a bad sample is handed over, not noted, so that notes keep the order of the data."""
        try:
            return index[0], self._data.read(index)
        except BadSample as e:
            if not self._config.skip_bad:
                raise
            return index[0], e

    def _report_bad(self) -> None:
        if not self._bad:
            return
        some = "; ".join(list(self._bad.values())[:3])
        more = f"; and {len(self._bad) - 3} more" if len(self._bad) > 3 else ""
        self._notes.warn("bad", f"left out {len(self._bad)} of {counted(len(self._order), 'sample')}: {some}{more}")
