"""Calibration data of MXNet scripts → batches by input name.

A DataIter, a DataLoader (of arrays, or of lists with labels behind the inputs), any iterable of arrays, tuples or
dicts, or whatever else fewbit takes as data. Loaders for training yield labels as well: what comes after the last
input is left out, with a warning.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fewbit.compat.mxnet.io import DataIter
from fewbit.compat.mxnet.module import feeds_of
from fewbit.errors import FewbitWarning, UsageError
from fewbit.graph.model import Model


def shapes_of(data: Any, data_shapes: Any = None) -> dict[str, tuple[int, ...]]:
    """Shapes of inputs by name, as far as a script says them.

    Args:
        data_shapes: DataDesc, pairs (name, shape), or shapes alone – which are `data`, or `data0`, `data1` ….
    """
    given = data_shapes if data_shapes is not None else getattr(data, "provide_data", None)
    if not given:
        return {}
    found: dict[str, tuple[int, ...]] = {}
    for i, item in enumerate(given):
        named = len(item) >= 2 and isinstance(item[0], str)
        if not named and not all(isinstance(n, (int, np.integer)) for n in item):
            raise UsageError(f"data_shapes holds {item!r}; it must be a DataDesc, a pair (name, shape), or a shape")
        name = str(item[0]) if named else "data" if len(given) == 1 else f"data{i}"
        found[name] = tuple(int(n) for n in (item[1] if named else item))
    return found


def batch_size_of(data: Any) -> int:
    """Samples in a batch, as far as the data says."""
    return int(getattr(data, "batch_size", 0) or getattr(data, "_batch_size", 0) or 1)


def as_batches(data: Any, model: Model, order: Sequence[str] = ()) -> Any:
    """Data that fewbit can open.

    Args:
        data: see above. model: whose inputs are fed. order: names of the inputs in the order of the script's arrays.
    """
    plain = isinstance(data, (str, os.PathLike, Mapping, np.ndarray)) or hasattr(data, "iterate")
    if plain or (callable(data) and not isinstance(data, Iterable)):
        return data
    if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise UsageError(f"calib_data is a {type(data).__name__}; it must be an iterable of batches")
    inputs = [i.name for i in model.inputs]
    return _Named(data, [n for n in order if n in inputs] or inputs)


class _Named:
    """An iterable of batches by name; each pass starts the iterator again."""

    def __init__(self, data: Any, names: Sequence[str]) -> None:
        self.data, self.names, self.told = data, list(names), False

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        if isinstance(self.data, DataIter) or hasattr(self.data, "reset"):
            self.data.reset()
        for item in self.data:
            if isinstance(item, Mapping):
                yield item
            else:
                yield self._named(item)

    def _named(self, item: Any) -> dict[str, np.ndarray]:
        arrays = list(item.data) if hasattr(item, "label") else _flat(item)
        if len(arrays) > len(self.names) and not self.told:
            self.told = True
            warnings.warn(
                f"calib_data yields {len(arrays)} arrays a batch; the network has {len(self.names)} "
                f"input{'s' if len(self.names) > 1 else ''}, so what comes after is taken for labels and left out",
                FewbitWarning,
                stacklevel=2,
            )
        return feeds_of(arrays, self.names)


def _flat(item: Any) -> list[Any]:
    """Arrays of a batch; lists may hold lists, as those of DataLoaders do."""
    if isinstance(item, (list, tuple)):
        return [a for part in item for a in _flat(part)]
    return [np.asarray(item)]
