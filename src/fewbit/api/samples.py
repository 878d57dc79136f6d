"""Samples kept while data streams by: to fit corrections, and, held out from that, to judge them and the result.

A uniform choice of the batches, of at most so many samples and bytes, the same for the same data: however often it is
read, and whether or not calibration was interrupted.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fewbit.data import Batch, DataSource
from fewbit.quantization.linear import size_of

MOST_BYTES = 256 * 2**20

HELD = 24
"""Samples held out, if that is no more than half."""

HELD_FOR_BUDGETS = 128
"""The same where a budget is to be met: half of what is kept, at most."""


class Remember:
    """A data source that keeps some of its batches.

    Args:
        source: the data. samples: to keep, about. limit: stop after this many batches when read for their own sake.
    """

    def __init__(self, source: DataSource, samples: int, limit: int | None = None) -> None:
        self.source, self.samples, self.limit = source, samples, limit
        self._kept: dict[int, Batch] = {}

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """The source's batches; some are remembered, if it begins with the first one."""
        if start:  # a choice among the rest would be another one
            yield from self.source.iterate(start)
            return
        rng, room = random.Random(0), 0
        self._kept = {}
        for seen, batch in enumerate(self.source.iterate()):
            if not room:
                size = max(1, sum(x.nbytes for x in batch.feeds.values()))
                room = max(1, min(-(-self.samples // max(1, len(batch.names))), MOST_BYTES // size))
            if len(self._kept) < room:
                self._kept[batch.index] = batch
            elif self.samples and (place := rng.randrange(seen + 1)) < room:
                del self._kept[list(self._kept)[place]]
                self._kept[batch.index] = batch
            yield batch

    def digest(self) -> str | None:
        """That of the source."""
        return self.source.digest()

    def kept(self) -> list[Batch]:
        """What was remembered, in the order of the data; read now if nobody asked for all of the data before."""
        if not self._kept and self.samples:
            for _ in islice(self.iterate(), self.limit):
                pass
        return [self._kept[i] for i in sorted(self._kept)]


class MadeUp:
    """Numbers that are made up where there is no data: one batch, as the network takes it."""

    batches: int | None = 1
    samples: int | None = 1

    def __init__(self, feeds: Mapping[str, Any]) -> None:
        self.batch = Batch(dict(feeds), None, 0, ["random"])

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """The batch."""
        yield from [self.batch][start:]

    def digest(self) -> str | None:
        """None: it is no data."""
        return None


LEAST = 8
"""Samples below which nothing is fitted: too few are left to tell what helped."""

LEAST_HELD = 16
"""Samples held out below which the judgement of a budget is said to be uncertain."""


@dataclass(frozen=True)
class Slices:
    """Kept samples in two parts. `note`: why nothing could be held out; "" if something was."""

    fit: list[Batch]
    held: list[Batch]
    note: str = ""


def slices(batches: Sequence[Batch], held: int, free: bool) -> Slices:
    """Hold some samples out, spread over the data.

    Args:
        held: samples to hold out, at most. free: whether a batch may be cut.
    """
    whole = list(batches)
    if len(whole) == 1 and free and len(whole[0].names) > 1:
        whole = _halves(whole[0])
    if len(whole) < 2:
        return Slices(
            whole, whole, "too few samples to hold any out: corrections are judged on what they were fitted to"
        )
    size = max(1, len(whole[0].names))
    count = max(1, min(-(-held // size), len(whole) // 2))
    out = {round((i + 0.5) * len(whole) / count - 0.5) for i in range(count)}
    return Slices([b for i, b in enumerate(whole) if i not in out], [b for i, b in enumerate(whole) if i in out])


def samples_in(batches: Sequence[Batch]) -> int:
    """How many samples there are."""
    return sum(map(size_of, batches))


def too_few(batches: Sequence[Batch], parts: Slices) -> bool:
    """Whether kept samples do not suffice to fit to some of them and to judge on others."""
    return samples_in(batches) < LEAST or bool(parts.note)


def thinned(batches: Sequence[Batch], samples: int) -> list[Batch]:
    """About so many samples of these, spread over them."""
    total = samples_in(batches)
    count = len(batches) if total <= samples else max(1, round(len(batches) * samples / total))
    return [batches[round(i * len(batches) / count)] for i in range(count)]


def _halves(batch: Batch) -> list[Batch]:
    return pieces(batch, -(-len(batch.names) // 2))


def pieces(batch: Batch, most: int) -> list[Batch]:
    """A batch in pieces of so many samples; whole, if its inputs do not all have one row a sample."""
    n = len(batch.names)
    if n <= most or any(x.ndim == 0 or len(x) != n for x in batch.feeds.values()):
        return [batch]

    def part(a: int) -> Batch:
        labels = batch.labels[a : a + most] if batch.labels is not None else None
        feeds = {k: x[a : a + most] for k, x in batch.feeds.items()}
        return Batch(feeds, labels, batch.index, batch.names[a : a + most])

    return [part(a) for a in range(0, n, most)]
