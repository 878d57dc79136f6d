"""Debug tables: what quantizing did to every tensor, batch by batch, in the files that MindSpore Lite writes.

    for each group of layers that fits into memory
        for each batch
            run float and quantized network, showing the group's values     → lines of round_N.csv
            with the first group also both networks as they are             → lines of output_summary.csv

One batch is in memory at a time, and of it one group; lines are written as they come. A value is compared with what its
readers see in the quantized network, errors of the layers in front of it included. Constants are measured once.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from fewbit.core.plan import Plan
from fewbit.core.stored import StoredWeight
from fewbit.core.writing import writing
from fewbit.data.base import Batch
from fewbit.errors import ConfigError, DataError, FewbitWarning, OutputError
from fewbit.graph.model import Model, tensor_info
from fewbit.graph.ranked import ranked
from fewbit.report import debug_tables as disk
from fewbit.report.compare import Open
from fewbit.report.debug_lines import Made, Row, compared, made, same, scales
from fewbit.report.debug_rows import Array, Entry, constant, entries, stored
from fewbit.report.debug_sides import Sides
from fewbit.report.debug_stats import cosine
from fewbit.report.pairs import Pair, split, value_pairs

MEMORY = 512
"""MiB for the inner values of one batch."""


@dataclass(frozen=True)
class DebugSummary:
    """What was written.

    Args:
        folder: where. rounds: batches measured. tensors: told of in each. cosine: of the worst output over all
            rounds; nan if one is not finite, None if nothing was run.
    """

    folder: Path
    rounds: int
    tensors: int
    cosine: float | None


def write_debug(
    float_model: Model,
    quant_model: Model,
    plan: Plan,
    batches: Iterable[Batch],
    open: Open,
    folder: str | Path,
    *,
    memory_limit: int = MEMORY,
    rounds: int | None = None,
) -> DebugSummary:
    """Write `round_N.csv`, `quant_param.csv`, `output_summary.csv` and `plan.json` into a folder, all or none.

    Tables that an earlier call left there are replaced. Without any batch only the weights are told of.

    Args:
        float_model: fused, and rescaled as the plan says. quant_model: made from it by `plan`.
        batches: the data; visited once for each group of layers. open: loads a model into an engine.
        folder: made if need be.
        memory_limit: MiB for the inner values of one batch; if they need more, layers are measured in groups.
        rounds: stop after this many batches.

    Raises:
        OutputError: the folder or a file in it cannot be written.
        DataError: the data can be visited once and more than one pass is needed.
        ModelError: a value has another shape in the quantized network. EngineError: an engine refuses something.
    """
    for name, number in (("memory_limit", memory_limit), ("rounds", rounds)):
        if number is not None and number < 1:
            raise ConfigError(f"{name} is {number!r}; it must be 1 or more")
    folder = Path(folder)
    check_folder(folder)
    if rounds is not None:
        batches = islice(batches, rounds) if isinstance(batches, Iterator) else _First(batches, rounds)
    tables = _Tables(float_model, quant_model, plan)
    with disk.made_folder(folder), writing(folder / disk.SUMMARY_FILE) as file:
        tables.write_params(file.with_name(disk.PARAMS_FILE))
        count = tables.write_rounds(file.parent, batches, open, memory_limit << 20)
        plan.save(file.with_name(disk.PLAN_FILE))
    disk.forget_rounds(folder, max(count, 1))
    if not count:
        warnings.warn(
            f"there was no data: the tables in {folder} tell of weights only; hand data to learn of activations "
            "and outputs",
            FewbitWarning,
            stacklevel=2,
        )
    return DebugSummary(folder, count, len(tables.entries), tables.worst)


def check_folder(folder: str | Path) -> None:
    """Refuse a folder that tables cannot be written to, before the work starts.

    Raises:
        OutputError: it, or what it is to lie in, is a file; or there is no permission to write.
    """
    folder = Path(folder)
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists() or p.is_symlink())
    if not there.is_dir():
        what = "it is a file" if there == folder else f"{there} is a file"
        raise OutputError(f"cannot write debug tables to {folder}: {what}; debug_info_save_path must name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write debug tables to {folder}: no permission in {there}; give another folder")


class _First:
    """The first few batches, to be visited as often as the whole can be."""

    def __init__(self, batches: Iterable[Batch], count: int) -> None:
        self.batches, self.count = batches, count

    def __iter__(self) -> Iterator[Batch]:
        return islice(iter(self.batches), self.count)


def _rejoined(first: list[Batch], rest: Iterator[Batch]) -> Iterator[Batch]:
    """A batch that was looked at and the rest; unlike a chain this does not hold on to it."""
    yield first.pop()
    yield from rest


@dataclass
class _Tables:
    """What there is to tell of one quantized network.

    Args:
        constants: cells of weights and other constants by place in `entries`, filled as they are measured.
        worst: lowest cosine of an output so far.
    """

    float_model: Model
    quant_model: Model
    plan: Plan
    entries: list[Entry] = field(default_factory=list)
    constants: dict[int, Made] = field(default_factory=dict)
    worst: float | None = None

    def __post_init__(self) -> None:
        self.tail = ranked(self.float_model)
        self.entries = entries(self.float_model, self.quant_model, self.plan, self.tail)

    # -- quant_param.csv ---------------------------------------------------------------------------------------------

    def write_params(self, path: Path) -> None:
        """Write a line for each scale; measure constants on the way, so that each is read once."""
        values = self.float_model.values()
        with path.open("w", encoding="utf-8", newline="") as file:
            disk.begin(file, disk.PARAMS)
            for place, entry in enumerate(self.entries):
                if entry.pair is None:
                    data = constant(self.float_model, entry)
                    kept = stored(self.plan, entry.key, data)
                    self.constants[place] = made(data, kept.real(), weight=True)
                    disk.add(file, scales(entry, list(data.shape), kept))
                elif entry.key:
                    shape = [d if isinstance(d, int) else -1 for d in tensor_info(values[entry.tensor]).shape]
                    params = self.plan.params(entry.key)
                    disk.add(file, scales(entry, shape, StoredWeight(params.zero_point, params)))

    # -- round_N.csv, output_summary.csv -----------------------------------------------------------------------------

    def write_rounds(self, folder: Path, batches: Iterable[Batch], open: Open, limit: int) -> int:
        """Write the tables of all batches, group by group. Returns how many batches there were."""
        stream = iter(batches)
        first = next(stream, None)
        with (folder / disk.SUMMARY_FILE).open("w", encoding="utf-8", newline="") as file:
            disk.begin(file, disk.SUMMARY)
            if first is None:
                weights = [(i, e) for i, e in enumerate(self.entries) if e.pair is None]
                self._round(folder, 0, 0, weights, {})
                return 0
            groups = self._groups(first, limit)
            if len(groups) > 1 and isinstance(batches, Iterator):
                raise DataError(
                    f"the layers need {len(groups)} passes over the data, which can be visited only once; hand a list "
                    f"or a source that can be visited again, or raise memory_limit (it is {limit >> 20} MiB)"
                )
            stream, done, count = _rejoined([first], stream), 0, 0
            del first  # it may go when it was seen
            for turn, group in enumerate(groups):
                ends = self._ends(open) if not turn else None
                sides = Sides(self.float_model, self.quant_model, [e.pair for _, e in group if e.pair], open)
                seen = 0
                for batch in batches if turn else stream:
                    if ends is not None:
                        disk.add(file, ([seen, *row] for row in self._outputs(ends, batch)))
                    self._round(folder, seen, done, group, sides.run(batch))
                    seen += 1
                    del batch  # before the next one is made
                if turn and seen != count:
                    raise DataError(f"the data had {count} batches on its first pass and {seen} on pass {turn + 1}")
                count, done = seen, done + 2 * len(group)
                del sides, ends  # before the next ones are opened
        return count

    def _groups(self, batch: Batch, limit: int) -> list[list[tuple[int, Entry]]]:
        """Cut the entries, with their places, so that the values of each part fit into memory."""
        rest = list(enumerate(self.entries))
        cut = split([e.pair for _, e in rest if e.pair is not None], self.float_model, batch.feeds, limit)
        found: list[list[tuple[int, Entry]]] = []
        for part in cut:
            group, room = [], len(part)
            while rest and (room or rest[0][1].pair is None):
                room -= rest[0][1].pair is not None
                group.append(rest.pop(0))
            found.append(group)
        return found

    def _round(
        self,
        folder: Path,
        n: int,
        done: int,
        group: Sequence[tuple[int, Entry]],
        values: dict[Pair, tuple[Array, Array]],
    ) -> None:
        """Add the lines of a group to the table of one batch; `done`: lines that it has already."""
        known: dict[tuple[Pair, Any], Made] = {}
        with (folder / disk.round_file(n)).open("a", encoding="utf-8", newline="") as file:
            if not done:
                disk.begin(file, disk.ROUND)
            for place, e in group:
                if e.pair is None:
                    cells = self.constants[place]
                else:
                    key = (e.pair, e.dynamic)
                    if key not in known:
                        known[key] = compared(e, *values[e.pair])
                    cells = known[key]
                names = [e.node, e.op, e.tensor, "Output" if e.output else "Input"]
                disk.add(file, ([done + i, *names, *row] for i, row in enumerate(cells)))
                done += 2

    def _ends(self, open: Open) -> Sides:
        """Both networks as they are; of outputs whose rows the data ranks, what they are made from."""
        pairs = [(o.name, o.name) for o in self.float_model.outputs if o.name not in self.tail.outputs]
        pairs += [p for p in value_pairs(self.float_model, self.quant_model) if p[0] in self.tail.fronts]
        return Sides(self.float_model, self.quant_model, pairs, open)

    def _outputs(self, ends: Sides, batch: Batch) -> Iterator[Row]:
        for (name, _), (original, dequantized) in ends.run(batch).items():
            same(name, original, dequantized)
            found = cosine(original, dequantized)
            if self.worst is None or not found >= self.worst:  # nan stays
                self.worst = self.worst if self.worst is not None and math.isnan(self.worst) else found
            yield [name, found]
