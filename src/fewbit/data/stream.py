"""StreamSource: batches from an iterable, as it gives them.

    item                                   is
    array                                  the one input
    tuple, or list that holds arrays       the inputs in the model's order; what is left over is not fed
    mapping                                input name -> array; `labels` / `label` = class numbers
    list of plain numbers                  the one input

    rank of the input      a batch: fed as it comes; cut and joined if the model fixes the batch size
    one axis less          a sample: batch_size of them are put together

All items are of one kind. A one-shot iterable (a generator) can be visited once.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from fewbit.config import DataConfig
from fewbit.data.arrays import class_numbers, match_names, same_counts
from fewbit.data.base import Array, Batch, Rows, join
from fewbit.data.regroup import Notes, regroup
from fewbit.data.signature import Signature, counted, fit_shape, fit_values, show, to_array
from fewbit.errors import BadSample, ConfigError, DataError, EmptyData


class StreamSource:
    """See `base.DataSource`.

    Args:
        make: gives the iterable of one pass.
        what: the origin, for messages.
        once: whether there is only one pass in it.
        count: number of items, if known.
        first: the first item, if it can be had without starting a pass; tells batches from samples.
    """

    def __init__(
        self,
        make: Callable[[], Iterable[Any]],
        signature: Signature,
        config: DataConfig,
        *,
        what: str,
        once: bool = False,
        count: int | None = None,
        first: Any = None,
    ) -> None:
        if config.shuffle:
            raise ConfigError(f"shuffle cannot reorder {what}, which is taken as it comes; shuffle it yourself")
        if count == 0:
            raise EmptyData(f"{what} holds no item")
        self._make, self._signature, self._config, self._what = make, signature, config, what
        self._once, self._count = once, count
        self._used = False
        self._notes = Notes()
        self._hash: Any = None
        self._bad: list[str] = []
        self._ready: bool | None = None  # items are batches (True) or samples (False); None: no item seen yet
        if first is not None:
            with contextlib.suppress(BadSample):  # the pass will meet it, and may skip it
                self._ready = self._is_batch(self._split(first, "item 0")[0], "item 0")

    @property
    def samples(self) -> int | None:
        """See `DataSource`."""
        return self._count if self._ready is False else None

    @property
    def batches(self) -> int | None:
        """See `DataSource`."""
        if self._count is None or self._ready is None or (self._ready and self._regrouped):
            return None
        size = self._signature.group(self._config.batch_size)
        if self._ready:
            return self._count
        return self._count // size if self._signature.batch else -(-self._count // size)

    def __len__(self) -> int:
        if self.batches is None:
            raise TypeError(f"{self._what} does not tell how many batches it gives")
        return self.batches

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate()

    def digest(self) -> str | None:
        """See `DataSource`."""
        return None if self._hash is None else str(self._hash.hexdigest())

    def iterate(self, start: int = 0) -> Iterator[Batch]:
        """See `DataSource`; earlier items are taken and dropped.

        Raises:
            DataError: the one pass was made already, or an item does not fit.
            EmptyData: there is no item, or no usable one.
        """
        assert start >= 0
        if self._once and self._used:
            raise DataError(
                f"{self._what} can be visited once, and was; hand a list, a DataLoader, "
                "arrays, or 'module:function', which is called again for each pass"
            )
        self._used = True
        self._hash = hashlib.sha256()
        for index, rows in enumerate(self._groups()):
            for name, x in rows.feeds.items():
                self._hash.update(f"{name} {x.dtype.str} {x.shape}\n".encode())
                self._hash.update(x.tobytes())
            if index >= start:
                yield Batch(rows.feeds, rows.labels, index, rows.names)

    @property
    def _regrouped(self) -> bool:
        """Whether ready batches are cut to the size that the model fixes."""
        return self._signature.batch is not None and self._signature.stacked

    def _groups(self) -> Iterator[Rows]:
        pieces = self._pieces()
        first = next(pieces, None)
        if first is None:
            fault = f"holds no usable item; the first: {self._bad[0]}" if self._bad else "holds no item"
            raise EmptyData(f"{self._what} {fault}")
        pieces = chain([first], pieces)
        if self._ready and not self._regrouped:
            yield from pieces
            return
        size = self._signature.group(self._config.batch_size)
        yield from regroup(pieces, size, exact=self._signature.batch is not None, earlier=0, notes=self._notes)

    def _pieces(self) -> Iterator[Rows]:
        """Checked items; with skip_bad the good samples of each."""
        self._bad = []
        try:
            for i, item in enumerate(self._make()):
                try:
                    rows = self._rows(item, f"item {i}")
                    yield from self._good(rows) if self._config.skip_bad else [self._fit(rows)]
                except BadSample as e:
                    if not self._config.skip_bad:
                        raise
                    self._bad.append(str(e))
        finally:
            if self._bad:
                some = "; ".join(self._bad[:3]) + (f"; and {len(self._bad) - 3} more" if len(self._bad) > 3 else "")
                self._notes.warn("bad", f"{self._what}: left out {counted(len(self._bad), 'sample')}: {some}")

    def _good(self, rows: Rows) -> list[Rows]:
        """The rows that fit, as one piece; the others are noted."""
        try:
            return [self._fit(rows)]
        except BadSample:
            if len(rows.names) == 1 or not self._signature.stacked:
                raise
        good = []
        for a in range(len(rows.names)):
            try:
                good.append(self._fit(rows.part(a, a + 1)))
            except BadSample as e:
                self._bad.append(str(e))
        return [join(good)] if good else []

    def _fit(self, rows: Rows) -> Rows:
        feeds = {s.name: fit_values(s, rows.feeds[s.name], rows.names) for s in self._signature.slots}
        return Rows(feeds, rows.labels, rows.names)

    def _rows(self, item: Any, where: str) -> Rows:
        """The arrays of an item, in the shape of a batch; values not yet checked."""
        found, label = self._split(item, where)
        ready = self._is_batch(found, where)
        if self._ready is None:
            self._ready = ready
        if ready != self._ready:
            now, then = ("a batch", "single samples") if ready else ("a single sample", "batches")
            raise BadSample(f"{where} is {now}, and the items before are {then}; hand one kind")
        feeds = {}
        for slot in self._signature.slots:
            x = found[slot.name]
            fit_shape(slot, slot.batch if ready else slot.one, x.shape, where, BadSample)
            feeds[slot.name] = x[None] if slot.stacked and not ready else x
        counts = {s.name: len(feeds[s.name]) for s in self._signature.slots if s.stacked}
        same_counts(counts, where)
        n = next(iter(counts.values()), 1)
        fixed = self._signature.batch
        if not n:
            raise BadSample(f"{where} is a batch without a sample")
        if fixed and not self._signature.stacked and n != fixed:
            raise BadSample(f"{where} has {counted(n, 'sample')}, and the model takes batches of exactly {fixed}")
        names = [f"{where}[{k}]" for k in range(n)] if ready else [where]
        return Rows(feeds, None if label is None else _labels(label, n, where), names)

    def _split(self, item: Any, where: str) -> tuple[dict[str, Array], Any]:
        """Input name -> array, and what may be the label."""
        names = self._signature.names
        label = None
        if isinstance(item, Mapping):
            found, label = match_names(item, self._signature, where, lambda text: self._notes.warn("key", text))
        elif isinstance(item, tuple) or (isinstance(item, list) and any(map(_has_axes, item))):
            if len(item) < len(names):
                has = counted(len(item), "element")
                raise DataError(f"{where} has {has}, and the model {len(names)} inputs: {', '.join(names)}")
            found, rest = dict(zip(names, item, strict=False)), item[len(names) :]
            if rest:
                label = rest[0] if len(rest) == 1 else None
                kept = "; class numbers are kept as labels" if len(rest) == 1 else ""
                surplus = counted(len(rest), "element")
                text = f"items have {surplus} more than the model has inputs, not fed to the model{kept}"
                self._notes.warn("surplus", f"{self._what}: {text}")
        else:
            found = {self._signature.only(f"{where}, a single array,").name: item}
        return {name: to_array(found[name], f"{where}, input {name!r}") for name in names}, label

    def _is_batch(self, found: Mapping[str, Array], where: str) -> bool:
        slots = self._signature.slots
        for ready in (True, False):
            if all(found[s.name].ndim == len(s.shape if ready else s.one) for s in slots):
                return ready
        slot = next((s for s in slots if found[s.name].ndim not in (len(s.shape), len(s.one))), slots[0])
        raise BadSample(
            f"{where} has shape {show(found[slot.name].shape)} for {slot}, "
            f"which takes {len(slot.shape)} axes for a batch" + (f" or {len(slot.one)} for one sample" * slot.stacked)
        )


def _has_axes(value: object) -> bool:
    return bool(getattr(value, "shape", ())) and (hasattr(value, "__array__") or hasattr(value, "numpy"))


def _labels(value: object, count: int, where: str) -> Array | None:
    try:
        x = to_array(value, where)
    except BadSample:
        return None
    if x.ndim == 1 and x.dtype.kind in "iu" and len(x) != count:
        raise DataError(f"{where} has {counted(count, 'sample')} and {counted(len(x), 'label')}; hand one a sample")
    return class_numbers(x, count)
