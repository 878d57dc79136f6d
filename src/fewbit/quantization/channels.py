"""Smallest and largest number of each channel of inner values, streamed: what equalization and SmoothQuant look at.

    (N, C, H, W), axis -3   →   lo (C,), hi (C,)

min and max do not depend on how the data is cut into batches. No value outlives its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.runner import Feeds, Runner
from fewbit.errors import BadSample, EmptyData, NotCalibrated
from fewbit.graph.follow import Site
from fewbit.graph.model import Model
from fewbit.quantization.static import part_for

F64 = NDArray[np.float64]
Opener = Callable[[Model], Runner]


@dataclass(frozen=True, eq=False)
class ChannelRange:
    """Smallest and largest number of each channel, (C,)."""

    lo: F64
    hi: F64

    @property
    def top(self) -> F64:
        """Largest magnitude of each channel."""
        return np.maximum(-self.lo, self.hi)

    def union(self, other: ChannelRange) -> ChannelRange:
        """The range of both."""
        return ChannelRange(np.minimum(self.lo, other.lo), np.maximum(self.hi, other.hi))


def watched(sites: Iterable[Site]) -> dict[str, int]:
    """Values that the corrections of these sites look at → axis of their channels, from the right."""
    found: dict[str, int] = {}
    for site in sites:
        found |= site.watched
    return found


def range_of(maxima: Mapping[str, ChannelRange], value: str) -> ChannelRange:
    """A measured range; NotCalibrated if it is missing."""
    if value not in maxima:
        raise NotCalibrated(f"the channels of {value!r} were not measured; give channel_maxima(…, watched(sites), …)")
    return maxima[value]


def unclipped(site: Site, maxima: Mapping[str, ChannelRange]) -> bool:
    """Whether all Clips of a site cut nothing off on the data seen, so that they may become Relu."""
    return all((range_of(maxima, value).hi <= bound).all() for value, _, bound in site.clips.values())


def channel_maxima(
    model: Model, names: Mapping[str, int], batches: Iterable[Feeds], open: Opener
) -> dict[str, ChannelRange]:
    """Look at values channel by channel.

    Args:
        model: the fused float network. names: value → axis of its channels, from the right; see `watched`.
        batches: feeds. open: loads a model into an engine.

    Raises:
        EmptyData: no batch came. BadSample: NaN or infinity, with the value and the batch.
    """
    if not names:
        return {}
    runner = open(part_for(model, list(names)))
    found: dict[str, ChannelRange] = {}
    number = -1
    for number, feeds in enumerate(batches):
        outputs = runner.run(feeds)
        for name, axis in names.items():
            new = _range(np.asarray(outputs[name] if name in outputs else feeds[name]), axis)
            if not (np.isfinite(new.lo).all() and np.isfinite(new.hi).all()):
                raise BadSample(f"value {name!r} holds NaN or infinity in batch {number}")
            found[name] = found[name].union(new) if name in found else new
    if number < 0:
        raise EmptyData("the calibration data holds no batch; give some hundred samples")
    return found


def _range(x: NDArray[Any], axis: int) -> ChannelRange:
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    return ChannelRange(x.min(others).astype(np.float64), x.max(others).astype(np.float64))
