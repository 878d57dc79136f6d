"""Regroup rows into batches of one size; read ahead in threads.

    rows of 1, 1, 1, 1, 1   size 2  ->  2, 2, 1
    rows of 32, 32          size 1  ->  64 times 1
    rows of 3, 3            size 4  ->  4, (2)

The short end is dropped if the model fixes the size.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from fewbit.data.base import Rows, join
from fewbit.data.signature import counted
from fewbit.errors import DataError, FewbitWarning

A = TypeVar("A")
B = TypeVar("B")


class Notes:
    """Warnings of one source, each given once however often the data is visited."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def warn(self, kind: str, text: str) -> None:
        """Warn, unless a note of this kind was given before."""
        if kind not in self._given:
            self._given.add(kind)
            warnings.warn(text, FewbitWarning, stacklevel=2)


def regroup(pieces: Iterable[Rows], size: int, *, exact: bool, earlier: int, notes: Notes) -> Iterator[Rows]:
    """Cut and join pieces to `size` samples each.

    Args:
        exact: the model takes exactly `size`, so a short end is dropped with a warning.
        earlier: batches that came before these pieces.

    Raises:
        DataError: there is nothing but a short end; or samples of one batch differ in shape.
    """
    held: list[Rows] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece.names)
        if count < size:
            continue
        joined = join(held)
        for a in range(0, count - size + 1, size):
            yield joined.part(a, a + size)
            earlier += 1
        rest = count % size
        held = [joined.part(count - rest, count)] if rest else []
        count = rest
    if not held:
        return
    if not exact:
        yield join(held)
    elif earlier:
        left = counted(count, "sample")
        notes.warn("short", f"the model takes batches of exactly {size}; left out {left} at the end, too few for one")
    else:
        raise DataError(
            f"the model takes batches of exactly {size}, and there are only {counted(count, 'sample')}; "
            f"hand at least {size}, or export the model with a free batch axis"
        )


def read_ahead(read: Callable[[A], B], items: Iterable[A], workers: int, depth: int) -> Iterator[B]:
    """Map in order, with up to `depth` results under way or waiting in `workers` threads (0: without threads)."""
    if not workers:
        yield from map(read, items)
        return
    pool = ThreadPoolExecutor(workers, "fewbit-data")
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
