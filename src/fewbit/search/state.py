"""A search that can be interrupted: what was judged so far, in one JSON file that is replaced whole each time.

    {"fewbit_search": 1, "key": "<sha256>",
     "trials": {"<sha256 of a plan>": {"figures": {…}, "seconds": 1.2}, …},
     "ranking": [["conv1", 0.0021, 10838016], …],  "plans": {"wider-1": "<sha256 of the file beside>"}}

A search is deterministic but for its judgements. One that is resumed takes the same steps and finds them here, so it
ends where it would have ended. Plans that took long to make (`wider`) lie in files beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fewbit.core.plan import Plan
from fewbit.core.writing import writing
from fewbit.errors import PlanError
from fewbit.search.figures import Figures

VERSION = 1

Ranked = tuple[str, float, int]
"""A layer: its name, the noise power it alone adds at the outputs, its multiplications."""

NUMBERS = (int, float)


def plan_key(plan: Plan) -> str:
    """sha256 over what a plan does; reasons and the user's words are left out."""
    found = plan.to_json()
    parts = {k: v for k, v in found.items() if k not in ("config", "data", "values", "nodes")}
    for part in ("values", "nodes"):
        parts[part] = {k: {a: b for a, b in v.items() if a != "reason"} for k, v in found[part].items()}
    return _sha(json.dumps(parts, sort_keys=True))


def search_key(plan: Plan, budgets: Mapping[str, float], more: str = "") -> str:
    """What a state file belongs to: network, start plan, data and budgets; `more` names what else judgements need."""
    return _sha(json.dumps([plan_key(plan), plan.model, plan.data, dict(budgets), more], sort_keys=True))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class State:
    """What is known of a search.

    Args:
        path: the file; None keeps everything in memory. key: see `search_key`.

    Raises:
        PlanError: the file is damaged, or belongs to another search.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key
        self.trials: dict[str, tuple[Figures, float]] = {}
        self.ranking: list[Ranked] | None = None
        self.plans: dict[str, str] = {}
        if path is not None and path.exists():
            self._read(path)

    def record(self, key: str, figures: Figures, seconds: float) -> None:
        """Keep a judgement."""
        self.trials[key] = (figures, seconds)
        self._write()

    def ranked(self, make: Callable[[], Sequence[Ranked]]) -> list[Ranked]:
        """The ranking: the one on disk, else a new one."""
        if self.ranking is None:
            self.ranking = [(str(name), float(noise), int(macs)) for name, noise, macs in make()]
            self._write()
        return self.ranking

    def plan(self, name: str, make: Callable[[], Plan]) -> Plan:
        """A plan that takes long to make: the one on disk, else a new one."""
        file = self._beside(name)
        if file is None:
            return make()
        if name in self.plans and file.exists() and _sha(file.read_text("utf-8")) == self.plans[name]:
            return Plan.load(file)
        made = make()
        made.save(file)
        self.plans[name] = _sha(file.read_text("utf-8"))
        self._write()
        return made

    def remove(self) -> None:
        """Delete the file and those beside it: nothing is to be resumed."""
        for name in self.plans:
            file = self._beside(name)
            if file is not None:
                file.unlink(missing_ok=True)
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _beside(self, name: str) -> Path | None:
        return self.path.with_name(f"{self.path.name}.{name}.plan.json") if self.path is not None else None

    def _write(self) -> None:
        if self.path is None:
            return
        trials = {k: {"figures": asdict(f), "seconds": s} for k, (f, s) in self.trials.items()}
        found = {"fewbit_search": VERSION, "key": self.key, "trials": trials}
        text = json.dumps(found | {"ranking": self.ranking, "plans": self.plans}, indent=1)
        with writing(self.path) as part:
            part.write_text(text, "utf-8")

    def _read(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text("utf-8"))
            if found["fewbit_search"] != VERSION:
                raise ValueError(f"version {found['fewbit_search']!r}, not {VERSION}")
            key, trials = str(found["key"]), {k: _trial(t) for k, t in found["trials"].items()}
            ranking = found["ranking"] and [(str(n), float(p), int(m)) for n, p, m in found["ranking"]]
            plans = {str(k): str(v) for k, v in found["plans"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
            raise PlanError(
                f"{path} is not the state of a search, or is damaged: {e!r}; delete it to start over"
            ) from e
        if key != self.key:
            raise PlanError(
                f"{path} belongs to a search for another network, plan or budget; delete it to start over, "
                "or name another file"
            )
        self.trials, self.ranking, self.plans = trials, ranking, plans


def _trial(found: Any) -> tuple[Figures, float]:
    figures, seconds = Figures(**found["figures"]), found["seconds"]
    numbers = [*asdict(figures).values(), seconds]
    if not all(x is None or type(x) in NUMBERS for x in numbers) or not math.isfinite(seconds):
        raise ValueError("a figure is no number")
    return figures, float(seconds)
