"""A value of the ONNX graph, and how it lies (`layout.py`)."""

from __future__ import annotations

from dataclasses import dataclass

from fewbit.frontends.tflite.layout import Perm
from fewbit.graph.build import Value
from fewbit.graph.model import Array


@dataclass(frozen=True)
class Laid:
    """A value, and how it lies.

    Args:
        perm: its axis k is axis perm[k] of the file's tensor.
        columns: of a picture that was flattened as it lies: its column j is column columns[j] of the file's.
    """

    value: Value
    perm: Perm
    columns: Array | None = None

    def like(self, value: Value) -> Laid:
        """Another value in the same order."""
        return Laid(value, self.perm, self.columns)

    def axis(self, axis: int) -> int:
        """Where an axis of the file's tensor stands."""
        return self.perm.index(axis)
