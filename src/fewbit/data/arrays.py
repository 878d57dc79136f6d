"""Samples from arrays: in memory, in a .npy or .npz file, in a mapping from input names.

    {"x": (N, …), "y": (N, …), "labels": (N,)}      first axis = samples

`labels` may be left out; those of a detector are objects, (N, objects, 5). The one input of a model may have another
key, told with a warning; but not one that looks like its name mistyped. An input without a batch axis, say a scalar,
may be given once, in its own shape, for all.
"""

from __future__ import annotations

import difflib
import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from fewbit.data.base import Array, Rows
from fewbit.data.npy import Index, MemoryTable, Table
from fewbit.data.signature import Signature, Slot, check_numbers, counted, fit_shape, fit_values, show
from fewbit.errors import DataError, EmptyData, FewbitWarning, unknown

LABELS = ("labels", "label")
OBJECT = (5, 6)
"""Numbers of an object: class, four sides, and perhaps whether it is difficult."""

UNNAMED = "arr_0"
"""Key that `np.savez` gives to an array without a name."""

MISTYPED = 0.6
"""Likeness from which another key counts as the input's name mistyped."""

CHUNK = 1 << 22

T = TypeVar("T")


class ArraySamples:
    """Samples along the first axis of tables, one table an input. See `base.Samples`."""

    single = False

    def __init__(self, tables: Mapping[str, Table], labels: Array | None, signature: Signature, count: int) -> None:
        self._tables, self._labels, self._signature, self._count = dict(tables), labels, signature, count
        self._once = {s.name: read_whole(tables[s.name]) for s in signature.slots if given_once(s, tables[s.name])}
        self.workers = 0 if all(isinstance(t, MemoryTable) for t in tables.values()) else 1

    def __len__(self) -> int:
        return self._count

    def read(self, index: Sequence[int]) -> Rows:
        """See `base.Samples`."""
        names = [f"sample {i}" for i in index]
        where = _index(index)
        feeds = {}
        for slot in self._signature.slots:
            x = self._once[slot.name] if slot.name in self._once else self._tables[slot.name].take(where)
            feeds[slot.name] = fit_values(slot, x if slot.stacked or slot.name in self._once else x[0], names)
        return Rows(feeds, None if self._labels is None else self._labels[where], names)

    def digest(self) -> str:
        """See `base.Samples`; the same for an array and for a file that holds it."""
        sha = hashlib.sha256()
        for name, t in sorted(self._tables.items()):
            sha.update(f"{name} {t.dtype.str} {t.shape}\n".encode())
            if name in self._once:
                sha.update(self._once[name].tobytes())
                continue
            step = max(1, CHUNK * t.shape[0] // max(1, int(np.prod(t.shape)) * t.dtype.itemsize))
            for a in range(0, t.shape[0], step):
                sha.update(np.ascontiguousarray(t.take(slice(a, a + step))).reshape(-1).view(np.uint8).data)
        if self._labels is not None:
            sha.update(b"labels\n" + self._labels.tobytes())
        return sha.hexdigest()


def _index(index: Sequence[int]) -> Index:
    """A slice where the rows are consecutive: no copy."""
    if len(index) == index[-1] - index[0] + 1 and (np.diff(index) == 1).all():
        return slice(index[0], index[-1] + 1)
    return np.asarray(index)


def array_samples(tables: Mapping[str, Table], signature: Signature, what: str) -> ArraySamples:
    """Check tables against the model's inputs.

    Args:
        tables: input name -> table; a key `labels` or `label` that is no input holds class numbers.
        what: the origin, for messages.

    Raises:
        UnknownName: a key is no input.
        DataError: an input is missing, a shape or a count does not fit.
        EmptyData: there is no row.
    """
    found, labels = match_names(tables, signature, what)
    counts: dict[str, int] = {}
    for slot in signature.slots:
        t = found[slot.name]
        where = f"{what}: {slot.name!r}" if len(signature.slots) > 1 else what
        check_numbers(slot, t.dtype, where)
        if given_once(slot, t):
            fit_shape(slot, slot.shape, t.shape, where)
        else:
            fit_shape(slot, slot.many, t.shape, where)
            counts[slot.name] = t.shape[0]
    same_counts(counts, what)
    count = next(iter(counts.values()), 1)
    if not count:
        raise EmptyData(
            f"{what} holds no sample: its shape is {show(found[signature.names[0]].shape)}; "
            "the first axis counts samples"
        )
    return ArraySamples(found, None if labels is None else _classes(labels, count, what), signature, count)


def given_once(slot: Slot, table: Table) -> bool:
    """Whether an input without a batch axis is given as it is fed, and not one for each sample."""
    return not slot.stacked and len(table.shape) == len(slot.shape)


def read_whole(table: Table) -> Array:
    """All values of a table."""
    return table.array if isinstance(table, MemoryTable) else table.take(slice(None))


def same_counts(counts: Mapping[str, int], what: str) -> None:
    """Check that every input has as many samples.

    Raises:
        DataError: names all counts.
    """
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{k!r} has {v}" for k, v in counts.items())
        raise DataError(f"{what}: the inputs have different numbers of samples: {listed}; give each as many")


def match_names(
    given: Mapping[str, T], signature: Signature, what: str, note: Callable[[str], None] | None = None
) -> tuple[dict[str, T], T | None]:
    """Split a mapping into inputs and labels; the one input of a model may have another key.

    Args:
        note: takes the warning about another key; default: it is given at once.

    Raises:
        UnknownName: a key is no input, or looks like one mistyped; offers the nearest one.
        DataError: an input is missing.
    """
    names = signature.names
    found = {str(k): v for k, v in given.items()}
    labels = next((found.pop(k) for k in LABELS if k in found and k not in names), None)
    if len(names) == len(found) == 1:
        key, name = next(iter(found)), names[0]
        if key not in (name, UNNAMED):
            if difflib.SequenceMatcher(None, key, name).ratio() >= MISTYPED:
                raise unknown("input name", key, names, hint=f"It is a key of {what}")
            (note or _warn)(f"{what}: {key!r} is fed to {name!r}, the only input of the model")
        return {name: found[key]}, labels
    for key in found:
        if key not in names:
            raise unknown("input name", key, names, hint=f"It is a key of {what}")
    for name in names:
        if name not in found:
            raise DataError(f"{what} lacks input {name!r}; it has {', '.join(map(repr, found)) or 'nothing'}")
    return found, labels


def _warn(text: str) -> None:
    warnings.warn(text, FewbitWarning, stacklevel=2)


def _classes(table: Table, count: int, what: str) -> Array | None:
    """Class numbers `(N,)` or objects `(N, objects, 5)`; anything else is left out with a warning."""
    if not table.shape or table.shape[0] != count:
        counts = f"{counted(count, 'sample')} and labels of shape {show(table.shape)}"
        raise DataError(f"{what}: {counts}; hand one a sample")
    given = table.take(slice(None))
    if given.ndim == 3 and given.shape[2] in OBJECT and given.dtype.kind == "f":
        return given.astype(np.float32)
    labels = class_numbers(given, count)
    if labels is None:
        _warn(f"{what}: labels of dtype {table.dtype}, shape {show(table.shape)} are no class numbers; left out")
    return labels


def class_numbers(x: Array, count: int) -> Array | None:
    """Whole numbers, one a sample, as int64; None if `x` is something else."""
    if x.dtype.kind not in "iu" or x.size != count or x.shape[:1] not in ((), (count,)):
        return None
    return x.reshape(count).astype(np.int64)
