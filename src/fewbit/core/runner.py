"""The Runner protocol: run, time and look into one network on one engine.

Only the protocol, so that calibration, quantization and reports can be handed a Runner without knowing any engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class NodeTime:
    """Time of one executed operator.

    Args:
        node: name in the engine's optimized graph (starts with the model's node name where the engine keeps it).
        op: operator as the engine calls it. types: its input types, such as "u8 s8". us: median microseconds a run.
    """

    node: str
    op: str
    types: str
    us: float


@dataclass(frozen=True)
class Executed:
    """One operator of the engine's optimized graph: what really runs.

    Args:
        node: its name. op: operator as the engine calls it. types: input types. integer: computes in integers.
    """

    node: str
    op: str
    types: str
    integer: bool


class Runner(Protocol):
    """One network, loaded by one engine."""

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Outputs by name. Safe to call from several threads at once.

        Raises:
            EngineError: the engine refused the feeds or failed.
        """

    def profile(self, feeds: Feeds, repeat: int = 10) -> list[NodeTime]:
        """Time each operator, in execution order."""

    def executed(self) -> list[Executed]:
        """Operators of the optimized graph, in execution order."""
