"""A debug folder, read: each tensor with its numbers over all rounds, and each output of the network.

    round_0.csv  conv1, y, Output, Origin   Min … Max                      ┐
                 conv1, y, Output, Dequant  Min … Max, Clip, Cosine        ├─ one Tensor
    round_1.csv  …                                                         ┘

Ranges are the widest over all rounds, clip and cosine are means: rounds have the same number of values. Of each file
one line is in memory at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from fewbit.report.debug_tables import (
    PARAMS,
    PARAMS_FILE,
    ROUND,
    SUMMARY,
    SUMMARY_FILE,
    Cells,
    flag,
    lines,
    number,
    rounds_in,
)

COLUMNS = (
    "NodeName", "NodeType", "TensorName", "InOutFlag", "DataTypeFlag", "TensorTypeFlag", "Min", "Max", "Mean", "Var",
    "Clip", "CosineSimilarity",
)  # fmt: skip

Range = tuple[float, float]


@dataclass(frozen=True)
class Tensor:
    """One tensor as one layer sees it.

    Args:
        node, op: the layer. name: of the tensor. output: made by the layer. weight: a constant.
        original: range in the float network; None if the table has no such line. dequantized: in the quantized one.
        power: mean square in the float network; nan if not told.
        clip: share of the original values outside of the dequantized range. cosine: of both; nan if not finite.
    """

    node: str
    op: str
    name: str
    output: bool
    weight: bool
    original: Range | None
    dequantized: Range
    power: float
    clip: float
    cosine: float


@dataclass(frozen=True)
class DebugTables:
    """What a folder holds.

    Args:
        tensors: in the order of the tables, which is that of the graph. rounds: how many tables there are.
        scales: layer → tensor → scale, nan if it has several; None if the folder does not tell. Layers that are not
            in it are float.
        outputs: output of the network → cosine.
    """

    tensors: tuple[Tensor, ...]
    rounds: int
    scales: dict[str, dict[str, float]] | None
    outputs: dict[str, float]

    def scale(self, t: Tensor) -> float:
        """The scale of a tensor; nan if it has several, or none is told."""
        return (self.scales or {}).get(t.node, {}).get(t.name, math.nan)

    @property
    def cosine(self) -> float | None:
        """Of the worst output; nan if one is not finite, None if there is none."""
        found = list(self.outputs.values())
        return math.nan if any(math.isnan(x) for x in found) else min(found, default=None)


@dataclass
class _Mean:
    total: float = 0.0
    count: int = 0

    def add(self, x: float) -> None:
        self.total += x
        self.count += 1

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else math.nan


@dataclass
class _Seen:
    """What was read of one tensor so far."""

    op: str
    weight: bool
    ranges: dict[bool, Range] = field(default_factory=dict)
    power: _Mean = field(default_factory=_Mean)
    clip: _Mean = field(default_factory=_Mean)
    cosine: _Mean = field(default_factory=_Mean)


def read_debug(folder: str | Path) -> DebugTables:
    """Read a debug folder, of fewbit or of MindSpore Lite.

    Raises:
        UsageError: no such folder, or no table in it. DataError: a table is damaged; names file, line and column.
    """
    folder = Path(folder)
    seen: dict[tuple[str, str, bool], _Seen] = {}
    files = rounds_in(folder)
    for path in files:
        for line, cells in lines(path, ROUND, COLUMNS):
            _take(seen, path, line, cells)
    tensors = [
        Tensor(
            node, s.op, name, output, s.weight, s.ranges.get(False), s.ranges[True], s.power.value, s.clip.value,
            s.cosine.value,
        )
        for (node, name, output), s in seen.items()
        if True in s.ranges
    ]  # fmt: skip
    return DebugTables(tuple(tensors), len(files), _scales(folder / PARAMS_FILE), _outputs(folder / SUMMARY_FILE))


def _take(seen: dict[tuple[str, str, bool], _Seen], path: Path, line: int, cells: Cells) -> None:
    """Add one line of a round."""
    output, dequant, weight = (flag(path, line, c, cells[c]) for c in ("InOutFlag", "DataTypeFlag", "TensorTypeFlag"))
    lo, hi, mean, deviation, clip, cosine = (
        number(path, line, c, cells[c]) for c in ("Min", "Max", "Mean", "Var", "Clip", "CosineSimilarity")
    )
    key = (cells["NodeName"], cells["TensorName"], output)
    found = seen.setdefault(key, _Seen(cells["NodeType"], weight))
    before = found.ranges.get(dequant, (lo, hi))
    found.ranges[dequant] = min(lo, before[0]), max(hi, before[1])
    if dequant:
        found.clip.add(clip)
        found.cosine.add(cosine)
    else:
        found.power.add(mean**2 + deviation**2)  # Var is a standard deviation


def _scales(path: Path) -> dict[str, dict[str, float]] | None:
    """The scale of each tensor; MindSpore Lite leaves the file out for mixed bit."""
    if not path.is_file():
        return None
    found: dict[str, dict[str, float]] = {}
    for line, cells in lines(path, PARAMS, ("NodeName", "TensorName", "Scale")):
        tensors, name = found.setdefault(cells["NodeName"], {}), cells["TensorName"]
        scale = number(path, line, "Scale", cells["Scale"])
        tensors[name] = scale if tensors.get(name, scale) == scale else math.nan
    return found


def _outputs(path: Path) -> dict[str, float]:
    """The mean cosine of each output of the network."""
    if not path.is_file():
        return {}
    found: dict[str, _Mean] = {}
    for line, cells in lines(path, SUMMARY, ("TensorName", "CosineSimilarity")):
        cosine = number(path, line, "CosineSimilarity", cells["CosineSimilarity"])
        found.setdefault(cells["TensorName"], _Mean()).add(cosine)
    return {name: mean.value for name, mean in found.items()}
