"""`sweep`: a grid of simulations of one network; each result is kept when it comes, and an interrupted sweep goes on.

FILE   {"fewbit_sweep": 1, "about": "<digest of network, data and settings>", "rows": {"<setting>": {…}}}
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fewbit.api.simulated_data import Sets, open_sets
from fewbit.api.simulating import Network, Remembered, Say, Tell, one, open_network, silent, words_of
from fewbit.config.simulate import SimulateConfig, swept
from fewbit.core.tables import dumps
from fewbit.core.writing import writing
from fewbit.errors import FewbitWarning, UsageError
from fewbit.frontends.base import Shapes
from fewbit.report.simulation import Simulation
from fewbit.report.sweep import Sweep, SweepRow

VERSION = 1
FLOAT = "float"


def sweep(
    model: Any,
    data: Any = None,
    axes: Mapping[str, Any] | None = None,
    *,
    dataset: str | None = None,
    dataset_root: str | Path | None = None,
    calib_data: Any = None,
    limit: int | None = None,
    store: str | Path | None = None,
    say: Say | None = None,
    tell: Tell | None = None,
    device: str = "cpu",
    params: str | Path | None = None,
    input_shapes: Shapes | None = None,
    use_gn: bool = False,
    use_se: bool = False,
    last_gamma: bool = False,
    threads: int | None = None,
    **words: Any,
) -> Sweep:
    """Simulate a network in every combination of some settings.

    Args:
        axes: of the grid: fields of `SweepConfig` → values; what is not given has that class's default, or the one
            value that `words` say. Ranges are measured beforehand, unless `words` say otherwise.
        store: file to keep results in and to go on from; removed when all are there.
        model, data, words and the others: as for `simulate`.

    Raises:
        FewbitError: see `fewbit.errors`.
    """
    shared, reading = words_of(None, words)
    cells = swept(shared, axes or {})
    step = say or silent
    network = open_network(
        model, dataset=dataset, dataset_root=dataset_root, device=device, params=params, shapes=input_shapes,
        threads=threads, use_gn=use_gn, use_se=use_se, last_gamma=last_gamma, say=say, tell=tell,
    )  # fmt: skip
    sets = open_sets(network.inputs, data, reading, dataset, dataset_root, calib_data, limit, cells[0])
    kept = Kept(Path(store), _about(network, sets)) if store is not None else Kept(None, "")
    reference = Remembered(network.reference())
    for i, cell in enumerate(cells):
        step(f"{cell.form} {cell.calib_mode if cell.quantize_input_offline else 'online'}", i, len(cells))
        if cell not in kept:
            found = one(network, sets, cell, reference, silent, look=not i)
            kept.add(cell, found)
            for text in found.warnings:
                warnings.warn(text, FewbitWarning, stacklevel=2)
    kept.remove()
    rows = tuple(kept.row(cell) for cell in cells)
    return Sweep(network.name, sets.name, kept.top1, rows, tuple(kept.notes), sets.images)


def _about(network: Network, sets: Sets) -> str:
    parts = (network.name, network.digest(), sets.name, sets.test.digest(), sets.test.samples)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Kept:
    """Results by setting, in a file that is written anew with each of them. `top1`: of the float network.

    Raises:
        UsageError: the file is of another sweep, or is none.
    """

    def __init__(self, path: Path | None, about: str) -> None:
        self.path, self.about = path, about
        self.rows: dict[str, dict[str, Any]] = {}
        self.notes: list[str] = []
        self.top1: float | None = None
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text("utf-8"))
            version, about = found["fewbit_sweep"], found["about"]
            rows, top1 = {k: asdict(SweepRow(**row)) for k, row in found["rows"].items()}, found[FLOAT]
            notes = [str(n) for n in found["notes"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise UsageError(f"{path} holds no progress of a sweep; remove it, or name another output") from e
        if (version, about) != (VERSION, self.about):
            raise UsageError(
                f"{path} holds progress of a sweep of another network, or on other data; remove it to start anew"
            )
        self.rows, self.top1, self.notes = rows, top1, notes

    def __contains__(self, cell: SimulateConfig) -> bool:
        return _key(cell) in self.rows

    def row(self, cell: SimulateConfig) -> SweepRow:
        """The result of a setting."""
        return SweepRow(**self.rows[_key(cell)])

    def add(self, cell: SimulateConfig, found: Simulation) -> None:
        """Keep a result."""
        before = found.result.reference
        self.rows[_key(cell)] = asdict(SweepRow.of(cell, found.result))
        self.top1 = before[1].rate if before else None
        self.notes += [n for n in (*found.warnings, *found.notes) if n not in self.notes]
        if self.path is not None:
            told = {FLOAT: self.top1, "notes": self.notes, "rows": self.rows}
            with writing(self.path) as part:
                part.write_text(dumps({"fewbit_sweep": VERSION, "about": self.about, **told}), "utf-8")

    def remove(self) -> None:
        """All is there."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _key(cell: SimulateConfig) -> str:
    return json.dumps(asdict(cell), sort_keys=True)
