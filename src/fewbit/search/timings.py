"""Timings kept between runs: a second search of the same network on the same machine times nothing.

    {"fewbit_timings": 1, "networks": {"<digest>": {"about": "…", "ratios": {"a ÷ b": [low, mid, high, rounds]},
                                                    "profiles": {"a": {"layer": us}}}}}

The digest covers all that a timing depends on but the form itself: processor, its instructions, cores, engine with
version and threads, network, shapes of the feeds, version of fewbit. A form (`a`, `b`) is a digest of its integer
layers and their formats. A damaged file counts as empty and is written anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewbit.core.timing import Ratio
from fewbit.core.writing import writing
from fewbit.errors import FewbitWarning, OutputError

VERSION = 1
KEPT = 64
"""Networks in the file; the ones not used for longest go."""


def default_cache() -> Path:
    """`$FEWBIT_CACHE/timings.json`, by default in `~/.cache/fewbit`."""
    folder = os.environ.get("FEWBIT_CACHE")
    return (Path(folder) if folder else Path.home() / ".cache" / "fewbit") / "timings.json"


def machine() -> str:
    """What timings depend on: processor, its instructions (as a digest), cores that this process may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = found.get("model name") or platform.processor() or platform.machine()
    flags = found.get("flags") or found.get("Features") or ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name} [{digest(*sorted(flags.split()))}], {cores} cores"


def digest(*parts: str) -> str:
    """A short digest of texts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@dataclass
class Timings:
    """What is known of one network on one machine.

    Args:
        path: the file; None keeps nothing. about: all that a timing depends on, for people and for the digest.
        ratios: (form, form that it was timed against) → time ÷ time. profiles: form → layer → microseconds.
    """

    path: Path | None
    about: str
    ratios: dict[tuple[str, str], Ratio] = field(default_factory=dict)
    profiles: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None, about: str) -> Timings:
        """What the file knows; nothing if there is none or it is damaged."""
        made = cls(path, about)
        held = _read(path).get(digest(about)) if path else None
        if held:
            made.ratios = {_pair(k): Ratio(*v) for k, v in held["ratios"].items()}
            made.profiles = {k: dict(v) for k, v in held["profiles"].items()}
        return made

    def save(self) -> None:
        """Write the file, with what others wrote meanwhile; where that cannot be done a warning says so."""
        if self.path is None or not (self.ratios or self.profiles):
            return
        networks = _read(self.path)
        networks.pop(digest(self.about), None)
        networks[digest(self.about)] = {
            "about": self.about,
            "ratios": {f"{a} ÷ {b}": [r.low, r.mid, r.high, r.rounds] for (a, b), r in self.ratios.items()},
            "profiles": self.profiles,
        }
        kept = dict(list(networks.items())[-KEPT:])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with writing(self.path) as part:
                part.write_text(json.dumps({"fewbit_timings": VERSION, "networks": kept}, ensure_ascii=False), "utf-8")
        except (OSError, OutputError) as e:
            warnings.warn(f"timings are not kept for the next time: {e}", FewbitWarning, stacklevel=3)


def _pair(key: str) -> tuple[str, str]:
    a, _, b = key.partition(" ÷ ")
    return a, b


def _read(path: Path) -> dict[str, Any]:
    """The networks of a file, those with any entry that is no timing left out."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or found.get("fewbit_timings") != VERSION:
        return {}
    networks = found.get("networks")
    return {k: v for k, v in networks.items() if _is_entry(v)} if isinstance(networks, dict) else {}


def _is_entry(v: Any) -> bool:
    if not isinstance(v, dict) or not all(isinstance(v.get(k), dict) for k in ("ratios", "profiles")):
        return False
    profiles = all(isinstance(p, dict) and all(map(_is_number, p.values())) for p in v["profiles"].values())
    return profiles and all(map(_is_ratio, v["ratios"].values()))


def _is_ratio(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 4 and all(map(_is_number, found)) and found[3] >= 1


def _is_number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) and x >= 0


def shapes(feeds: Mapping[str, Any]) -> str:
    """Feeds in words: `x[1, 3, 224, 224]`."""
    return ", ".join(f"{name}{list(x.shape)}" for name, x in sorted(feeds.items()))
