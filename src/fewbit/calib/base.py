"""The Observer protocol and its registry: what sees the values of one tensor and answers with a range.

    update(x)  sees a batch        merge(other)  joins what another worker saw        result() → (lo, hi)

`result` is pure, and does not depend on how the data was split into batches or over workers
(ema, which is defined by the order of batches, keeps them by number and replays them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fewbit.core.spec import QuantSpec
from fewbit.errors import unknown

Float32 = NDArray[np.float32]


class Observer(Protocol):
    """Learns the range of one value from its batches."""

    def __init__(self, spec: QuantSpec, **options: float) -> None:
        """Store the wish; `options` are the settings of this observer, by the name of the config field."""

    def update(self, x: Float32, batch: int | None = None) -> None:
        """See one batch, any shape. `batch` is its number in the data; left out, batches count upwards."""

    def merge(self, other: Self) -> None:
        """Take in what another observer of the same value saw."""

    def result(self) -> tuple[float, float]:
        """Smallest and largest value to represent.

        Raises:
            NotCalibrated: nothing was seen.
        """

    def state(self) -> dict[str, Any]:
        """Everything learned, as numpy arrays and plain numbers, for a checkpoint."""

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""


OBSERVERS: dict[str, type[Observer]] = {}
K = TypeVar("K", bound=type)


def observer(name: str) -> Callable[[K], K]:
    """Register a class under the word that `calib_mode` uses for it."""

    def add(cls: K) -> K:
        assert name not in OBSERVERS, f"observer {name!r} is registered twice"
        OBSERVERS[name] = cls
        return cls

    return add


def make_observer(name: str, spec: QuantSpec, **options: float) -> Observer:
    """Make the observer of a `calib_mode`; an unknown name offers the nearest one."""
    if name not in OBSERVERS:
        raise unknown("calib_mode", name, OBSERVERS)
    return OBSERVERS[name](spec, **options)
