"""Several instances of one network, each on cores of its own: how the cores are shared, and what an instance tells.

8 cores, 2 instances      (0, 1, 2, 3)  (4, 5, 6, 7)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fewbit.errors import ConfigError, UsageError

Cores = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Stint:
    """What one instance did between a common start and its end.

    Args:
        runs: of the network. seconds: for all of them. ms: median milliseconds of a run.
    """

    runs: int
    seconds: float
    ms: float


Together = Callable[[str, int, int, float], Sequence[Stint]]
"""(network, batch size, runs, seconds) → what each instance did, all started together: so many runs, or, if 0, for so
long."""


def share_cores(available: Sequence[int], instances: int, cores_per_instance: int | None = None) -> Cores:
    """The cores of each instance.

    Args:
        available: cores that this process may use. cores_per_instance: default: as many as there are for each.

    Raises:
        ConfigError: a number below 1. UsageError: there are too few cores.
    """
    for word, value in (("instances", instances), ("cores_per_instance", cores_per_instance)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ConfigError(f"{word} is {value!r}; it must be a whole number of 1 or more")
    each = cores_per_instance or max(1, len(available) // instances)
    if instances * each > len(available):
        most = len(available) // each
        advice = f"instances may be {most} at most" if most else f"cores_per_instance may be {len(available)} at most"
        raise UsageError(
            f"{instances} instances of {each} core{'s' if each > 1 else ''} each need {instances * each} cores; "
            f"this process may use {len(available)}, so {advice}"
        )
    return tuple(tuple(available[i * each : (i + 1) * each]) for i in range(instances))
