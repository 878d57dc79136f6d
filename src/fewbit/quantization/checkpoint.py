"""Calibration that can be interrupted: observers' states in one .npz file, replaced whole every few seconds.

The file knows which plan it belongs to; a checkpoint of another network or other settings is refused, not mixed in.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.calib import Observer
from fewbit.core.plan import Plan
from fewbit.core.writing import writing
from fewbit.errors import PlanError

EVERY = 5.0
"""Seconds between two writes."""


class Checkpoint:
    """One checkpoint file.

    Args:
        path: the file. plan: the uncalibrated plan that is being calibrated.
        data: what names the data and how it is cut into batches.
    """

    def __init__(self, path: Path, plan: Plan, every: float = EVERY, data: str = "") -> None:
        self.path, self.every = path, every
        self.key = hashlib.sha256((json.dumps(plan.to_json(), sort_keys=True) + data).encode()).hexdigest()
        self.last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self.last >= self.every

    def write(self, batches: int, observers: dict[str, Observer]) -> None:
        """Keep the state after the first `batches` batches."""
        arrays: dict[str, Any] = {"key": np.array(self.key), "batches": np.array(batches)}
        for i, group in enumerate(sorted(observers)):
            arrays |= {f"{i}/{k}": np.asarray(v) for k, v in observers[group].state().items()}
        with writing(self.path) as part, open(part, "wb") as out:
            np.savez(out, **arrays)
        self.last = time.monotonic()

    def restore(self, observers: dict[str, Observer]) -> int:
        """Load the state into `observers`; returns how many batches it covers, 0 if there is no file."""
        if not self.path.exists():
            return 0
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as found:
                data = {k: found[k] for k in found.files}
            key, batches = str(data["key"]), int(data["batches"])
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as e:
            why = "it holds something else than numbers" if "pickle" in str(e) else e  # numpy would have us unpickle it
            raise PlanError(
                f"{self.path} is not a checkpoint of fewbit, or is damaged: {why}; delete it to start over"
            ) from e
        if key != self.key:
            raise PlanError(
                f"{self.path} belongs to another network, other data or other settings; delete it to start over"
            )
        for i, group in enumerate(sorted(observers)):
            mine = f"{i}/"
            observers[group].restore({k[len(mine) :]: v for k, v in data.items() if k.startswith(mine)})
        return batches

    def remove(self) -> None:
        """The calibration is complete."""
        self.path.unlink(missing_ok=True)
