"""Measurements of layers that survive an interruption: one JSON file, replaced whole every few seconds and at the end.

    {"fewbit_sensitivity": 1, "key": "<sha256>", "noise": {"alone": {"conv1": [0.0021, …]}, "left": {…}}}

Numbers are noise ÷ signal, in power, one for each output. The file knows which network, plan and data it belongs to.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.tables import dumps
from fewbit.core.writing import writing
from fewbit.data.base import Batch
from fewbit.errors import PlanError
from fewbit.graph.model import Model

VERSION = 1

EVERY = 5.0
"""Seconds between two writes."""

KINDS = ("alone", "left")

Noise = tuple[float, ...]


class Kept:
    """What was measured so far; written when it is left as a context, too.

    Args:
        path: the file; None keeps everything in memory. key: see `measured_on`. count: outputs of the network.

    Raises:
        PlanError: the file is damaged, or belongs to another network, other data or other settings.
    """

    def __init__(self, path: Path | None, key: str, count: int) -> None:
        self.path, self.key, self.count = path, key, count
        self.noise: dict[str, dict[str, Noise]] = {kind: {} for kind in KINDS}
        self.last, self.fresh = time.monotonic(), False
        if path is not None and path.exists():
            self._read(path)

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._write()

    def add(self, kind: str, name: str, noise: Noise) -> None:
        """Keep one measurement."""
        self.noise[kind][name] = noise
        self.fresh = True
        if time.monotonic() - self.last >= EVERY:
            self._write()

    def _write(self) -> None:
        if self.path is None or not self.fresh:
            return
        with writing(self.path) as file:
            file.write_text(dumps({"fewbit_sensitivity": VERSION, "key": self.key, "noise": self.noise}), "utf-8")
        self.last, self.fresh = time.monotonic(), False

    def _read(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text("utf-8"))
            if found["fewbit_sensitivity"] != VERSION:
                raise ValueError(f"version {found['fewbit_sensitivity']!r}, not {VERSION}")
            key = str(found["key"])
            noise = {kind: {k: _noise(v) for k, v in found["noise"][kind].items()} for kind in KINDS}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            raise PlanError(f"{path} holds no measured layers, or is damaged: {e!r}; delete it to start over") from e
        if key != self.key or any(len(n) != self.count for found in noise.values() for n in found.values()):
            raise PlanError(
                f"{path} belongs to another network, other data or other settings; delete it to start over, "
                "or name another file"
            )
        self.noise = noise


def _noise(found: Sequence[Any]) -> Noise:
    numbers = tuple(float(x) for x in found)  # dumps writes "inf"
    if any(math.isnan(x) or x < 0 for x in numbers):
        raise ValueError("noise below 0, or none at all")
    return numbers


def measured_on(model: Model, plan: Plan, config: QuantConfig, batches: Iterable[Batch]) -> str:
    """sha256 of all that measurements depend on: network, plan, settings, data."""
    words = [model.digest(), plan.to_json(), asdict(config)]
    sha = hashlib.sha256(json.dumps(words, sort_keys=True, default=list).encode())
    for batch in batches:
        for name, x in sorted(batch.feeds.items()):
            sha.update(f"{name}{x.dtype}{x.shape}".encode())
            sha.update(np.ascontiguousarray(x).tobytes())
    return sha.hexdigest()
