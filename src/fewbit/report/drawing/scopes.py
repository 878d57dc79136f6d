"""Name scopes: which layers of a network belong together by what they are called.

    /encoder/layer.0/attention/MatMul     encoder ─ layer.0 ─ attention        layer.0 and layer/0 are the same
    /layer1/layer1.0/conv1/Conv           layer1 ─ layer1.0 ─ conv1            exporters repeat the scope
    stage1_unit2_conv1                    stage1 ─ unit2                       behind numbers only, if nothing else cuts
    conv2d_17                             (none)

What all layers share is left out, and so are scopes with fewer than `LEAST` layers, those with one part only, and those
that lie deeper than `DEEPEST`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

LEAST, DEEPEST = 3, 12
Path = tuple[str, ...]

UNDER = re.compile(r"(?<=\d)_+(?=[A-Za-z])")


def scopes(names: Iterable[str]) -> dict[str, Path]:
    """Each name → the scopes around it, outermost first; each scope as its whole name, so that they are unique."""
    known = list(dict.fromkeys(names))
    parts = {n: _parts(n) for n in known}
    if guessed(known):
        parts = {n: p if len(p) > 1 else _numbered(n) for n, p in parts.items()}
    return tidy({n: _whole(p[:-1][:DEEPEST]) for n, p in parts.items()})


def guessed(names: Iterable[str]) -> bool:
    """Whether scopes are guessed from underscores: less than half of the names have a slash or a dot."""
    known = list(names)
    return sum(len(_parts(n)) > 1 for n in known) < len(known) / 2


def _parts(name: str) -> list[str]:
    """A name cut at its scopes; the last part is the layer's own."""
    found: list[str] = []
    before = ""
    for part in name.split(";")[0].strip("/").split("/"):
        own = part.removeprefix(f"{before}.") if before else part
        before = part
        found += [p for p in own.split(".") if p] or [part]
    return found


def _numbered(name: str) -> list[str]:
    return UNDER.split(name)


def _whole(parts: list[str]) -> Path:
    return tuple("/".join(parts[: i + 1]) for i in range(len(parts)))


def tidy(paths: Mapping[str, Path]) -> dict[str, Path]:
    """The same without scopes that tell nothing: of few layers, of all layers, or around one scope and nothing else."""
    holds: dict[str, set[str]] = defaultdict(set)
    direct: dict[str, set[str]] = defaultdict(set)
    for name, path in paths.items():
        for i, scope in enumerate(path):
            holds[scope].add(name)
            direct[scope].add(path[i + 1] if i + 1 < len(path) else f"\n{name}")
    keep = {s for s, names in holds.items() if len(names) >= LEAST and len(names) < len(paths)}
    keep -= {s for s in keep if len(direct[s]) == 1}
    return {n: tuple(s for s in path if s in keep) for n, path in paths.items()}


def title(scope: str) -> str:
    """What a scope is called in its frame: its last part, with the one in front if that is a number."""
    parts = scope.split("/")
    return parts[-1] if len(parts) < 2 or not parts[-1].isdecimal() else f"{parts[-2]}.{parts[-1]}"
