"""Calibration data of MXNet scripts → batches by input name.

A DataIter, a DataLoader (of arrays, or of lists with labels behind the inputs), any iterable of arrays, tuples or
dicts, or whatever else fewbit takes as data. Loaders for training yield labels as well: what comes after the last
input is left out, with a warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fewbit.compat.mxnet.feeding import described, feeds_of, input_order
from fewbit.compat.mxnet.gluon.data import DataLoader
from fewbit.errors import FewbitWarning, UsageError
from fewbit.graph.model import Model


def shapes_of(data: Any, data_shapes: Any = None, names: Sequence[str] = ()) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs by name, as far as a script says them.

    Args:
        data: whose `provide_data`, or first batch, tells. data_shapes: DataDesc, pairs (name, shape), or shapes alone.
        names: of shapes without; else they are `data`, or `data0`, `data1` ….
    """
    given = data_shapes if data_shapes is not None else getattr(data, "provide_data", None)
    if given is None and isinstance(data, (list, tuple, DataLoader)) and len(data):
        first = next(iter(data))
        arrays = [] if isinstance(first, Mapping) or hasattr(first, "label") else _flat(first)
        given = [a.shape for a in (arrays[: len(names)] if names else arrays[:1])]
        if isinstance(first, Mapping):
            given = [(k, np.shape(v)) for k, v in first.items()]
    found: dict[str, tuple[int, ...]] = {}
    for i, item in enumerate(given or ()):
        named = len(item) >= 2 and isinstance(item[0], str)
        if not named and not all(isinstance(n, (int, np.integer)) for n in item):
            raise UsageError(f"data_shapes holds {item!r}; it must be a DataDesc, a pair (name, shape), or a shape")
        name = names[i] if i < len(names) else "data" if len(given) == 1 else f"data{i}"  # type: ignore[arg-type]
        found[str(item[0]) if named else name] = tuple(int(n) for n in (item[1] if named else item))
    return found


def batch_size_of(data: Any) -> int:
    """Samples in a batch, as far as the data says."""
    return int(getattr(data, "batch_size", 0) or getattr(data, "_batch_size", 0) or 1)


def as_batches(data: Any, model: Model, names: Sequence[str] = (), spare: Collection[str] = ()) -> Any:
    """Data that fewbit can open.

    Args:
        data: see above. model: whose inputs are fed. names: of the script's arrays; the data's own count first.
        spare: variables of the symbol that inference does without.
    """
    plain = isinstance(data, (str, os.PathLike, Mapping, np.ndarray)) or hasattr(data, "iterate")
    if plain or (callable(data) and not isinstance(data, Iterable)):
        return data
    if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise UsageError(f"calib_data is a {type(data).__name__}; it must be an iterable of batches")
    order = input_order(described(getattr(data, "provide_data", None)) or names, model, spare)
    return CalibrationData(data, model, order)


class CalibrationData:
    """An iterable of batches by name; each pass starts the iterator again."""

    def __init__(self, data: Any, model: Model, order: Sequence[str]) -> None:
        self.data, self.model, self.order, self.told = data, model, list(order), False

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        if hasattr(self.data, "reset"):
            self.data.reset()
        for item in self.data:
            if isinstance(item, Mapping):
                yield item
            else:
                yield self._named(item)

    def _named(self, item: Any) -> dict[str, np.ndarray]:
        arrays = list(item.data) if hasattr(item, "label") else _flat(item)
        if len(arrays) > len(self.order) and not self.told:
            self.told = True
            warnings.warn(
                f"calib_data yields {len(arrays)} arrays a batch; the network has {len(self.order)} "
                f"input{'s' if len(self.order) > 1 else ''}, so what comes after is taken for labels and left out",
                FewbitWarning,
                stacklevel=2,
            )
        return feeds_of(arrays, self.order, self.model)


def _flat(item: Any) -> list[Any]:
    """Arrays of a batch; lists may hold lists, as those of DataLoaders do."""
    if isinstance(item, (list, tuple)):
        return [a for part in item for a in _flat(part)]
    return [np.asarray(item)]
