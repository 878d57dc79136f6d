"""Calibration by the user's own class, in the shape MXNet gave it.

    class MyCollector(CalibrationCollector):
        def collect(self, name, op_name, arr):                 # every batch of every value in include_layers
            lo, hi = self.min_max_dict.get(name, (0.0, 0.0))
            self.min_max_dict[name] = (min(lo, arr.min()), max(hi, arr.max()))

        def post_collect(self):                                # once, at the end
            return self.min_max_dict

What `post_collect` returns is checked before it becomes the plan's ranges.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import UsageError, unknown


class CalibrationCollector:
    """Base class of user-defined collectors.

    Attributes:
        include_layers: names of the values to collect; None for all.
        min_max_dict: name -> (min, max), for `collect` to fill.
    """

    include_layers: list[str] | None
    min_max_dict: dict[str, tuple[float, float]]

    def __init__(self) -> None:
        self.include_layers = None
        self.min_max_dict = {}

    def collect(self, name: str, op_name: str, arr: NDArray[np.float32]) -> None:
        """See one batch of one value. Override this.

        Args:
            name: the value.
            op_name: the operator type that made it; "" for a graph input.
            arr: its values, any shape; valid during the call only.
        """
        raise UsageError(f"{type(self).__name__} must define collect(self, name, op_name, arr)")

    def post_collect(self) -> dict[str, tuple[float, float]]:
        """Give the range of each value. Override this if collecting is not all."""
        return self.min_max_dict


def included(collector: CalibrationCollector, known: Iterable[str]) -> list[str]:
    """The names among `known` that the collector wants, in the order of `known`.

    Raises:
        UnknownName: an included name does not exist; the nearest one is offered.
    """
    names = list(known)
    wanted = collector.include_layers
    if wanted is None:
        return names
    if isinstance(wanted, str):
        raise UsageError(f"include_layers is the string {wanted!r}; it must be a list of names, or None for all")
    for name in wanted:
        if name not in names:
            raise unknown("name in include_layers", name, names)
    return [name for name in names if name in set(wanted)]


def collected_ranges(collector: CalibrationCollector, known: Iterable[str]) -> dict[str, tuple[float, float]]:
    """What `post_collect` returned, checked: name -> (min, max), finite and in order.

    Raises:
        UsageError: not a dict, or not a pair of finite numbers with min ≤ max.
        UnknownName: a name that does not exist; the nearest one is offered.
    """
    names = list(known)
    where = f"{type(collector).__name__}.post_collect"
    found: Any = collector.post_collect()
    if not isinstance(found, Mapping):
        raise UsageError(f"{where} returned {type(found).__name__}; it must return a dict: name -> (min, max)")
    ranges = {}
    for name, pair in found.items():
        if name not in names:
            raise unknown(f"name returned by {where}", name, names)
        ranges[str(name)] = _range(where, name, pair)
    return ranges


def _range(where: str, name: object, pair: Any) -> tuple[float, float]:
    try:
        lo, hi = (float(v) for v in pair)
    except (TypeError, ValueError):
        raise UsageError(f"{where} returned {pair!r} for {name!r}; it must be two numbers (min, max)") from None
    if not (math.isfinite(lo) and math.isfinite(hi)):
        raise UsageError(f"{where} returned ({lo}, {hi}) for {name!r}; both must be finite")
    if lo > hi:
        raise UsageError(f"{where} returned ({lo}, {hi}) for {name!r}; min is greater than max")
    return lo, hi
