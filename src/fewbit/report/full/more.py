"""What other verbs measured, read back for a report: documents of `sensitivity`, `sizes`, `simulate --sweep`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fewbit.core.tables import number
from fewbit.errors import DataError
from fewbit.report.full.report import Ranking
from fewbit.report.sizes import SizeRow, Sizes
from fewbit.report.sweep import SweepRow

LARGEST = 1 << 26
"""Bytes of a document; those that fewbit writes are far smaller."""

LARGEST_NUMBER = 1e30
"""No byte, second, decibel or share is more."""

KINDS = "fewbit sensitivity --json, fewbit sizes --json, or fewbit simulate --sweep -o FILE.json"


@dataclass(frozen=True)
class More:
    """Parts of a report that were measured before."""

    sensitivity: Ranking | None = None
    sizes: Sizes | None = None
    sweeps: tuple[Mapping[str, Any], ...] = ()


def read_more(files: Sequence[str | Path]) -> More:
    """Read documents, whatever their order; of two of a kind the later one counts, but for sweeps, which add up.

    Raises:
        DataError: a file cannot be read, or is none of these documents.
    """
    more = More()
    for file in map(Path, files):
        found = _document(file)
        if _has(found.get("layers"), ("node", "op", "alone"), full=("alone",)):
            more = More(_ranking(found, file), more.sizes, more.sweeps)
        elif _has(found.get("rows"), ("form", "file"), full=("form",)):
            more = More(more.sensitivity, _sizes(found, file), more.sweeps)
        elif _has(found.get("rows"), ("bits", "quant_type", "merge_bn")):
            more = More(more.sensitivity, more.sizes, (*more.sweeps, _sweep(found, file)))
        else:
            raise DataError(f"{file} is no document that a report can show; give one made by {KINDS}")
    return more


def _document(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            raise DataError(f"cannot read {file}: it is no file; give a document made by {KINDS}")
        if file.stat().st_size > LARGEST:
            raise DataError(f"{file} has {file.stat().st_size:,} bytes; give a document made by {KINDS}")
        found = json.loads(file.read_text("utf-8"))
    except OSError as e:
        raise DataError(f"cannot read {file}: {e.strerror or e}; give a document made by {KINDS}") from e
    except (ValueError, RecursionError) as e:
        raise DataError(f"{file} holds no JSON ({e}); give a document made by {KINDS}") from e
    if not isinstance(found, dict):
        raise DataError(f"{file} holds a {type(found).__name__}; give a document made by {KINDS}")
    return found


def _has(rows: Any, keys: Sequence[str], full: Sequence[str] = ()) -> bool:
    """Whether these are rows with such columns, of which some have a value in each row."""
    if not isinstance(rows, list) or not rows:
        return False
    whole = all(isinstance(r, dict) and set(keys) <= set(r) for r in rows)
    return whole and all(r[k] is not None for r in rows for k in full)


def _ranking(found: Mapping[str, Any], file: Path) -> Ranking:
    """Layers as `Sensitivity.to_json()` has them."""
    rows = [
        {"layer": str(r["node"]), "op": str(r["op"]), **{k: _real(r.get(k), file) for k in ("alone", "left")}}
        for r in found["layers"]
    ]
    samples = found.get("samples")
    return measured_ranking(rows, samples if isinstance(samples, int) else None)


def measured_ranking(rows: Sequence[Mapping[str, Any]], samples: int | None) -> Ranking:
    """A ranking by measurement."""
    on = f", on {samples} samples" if samples else ""
    return Ranking("measured", f"each layer in integers alone, all others in float{on}", tuple(rows))


def _sizes(found: Mapping[str, Any], file: Path) -> Sizes:
    known = [f.name for f in fields(SizeRow)]
    texts, rows = ("form", "note"), list[SizeRow]()
    for r in found["rows"]:
        told: dict[str, Any] = {
            k: str(r[k]) if k in texts else _real(r[k], file) for k in known if r.get(k) is not None
        }
        rows.append(SizeRow(**told))
    return Sizes(tuple(rows), str(found.get("about", "")))


def _sweep(found: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """A sweep as `Sweep.to_json()` has it, with a line that says what it is about."""
    known = [f.name for f in fields(SweepRow)]
    rows = []
    for r in found["rows"]:
        rates = {k: _real(r.get(k), file) for k in ("top1", "drop", "agreement")}
        if not isinstance(r["bits"], int) or not isinstance(r["merge_bn"], bool):
            raise DataError(f"{file} holds {r['bits']!r} for bits and {r['merge_bn']!r} for merge_bn; make it again")
        texts = {k: str(r.get(k)) for k in ("quant_type", "ranges")}
        rows.append({k: r.get(k) for k in known} | texts | rates)
    top1 = _real(found.get("top1"), file)
    about = f"{found.get('network', file.stem)} on {found.get('data', 'unknown data')}"
    if isinstance(top1, float):
        about += f", float top-1 {number(100 * top1)} %"
    return {"about": about, "network": str(found.get("network", file.stem)), "data": str(found.get("data", "")),
            "top1": top1, "rows": rows}  # fmt: skip


def _real(x: Any, file: Path) -> Any:
    """A number, or None; infinities are texts in JSON."""
    if x is None:
        return None
    if isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) < LARGEST_NUMBER:
        return x
    if x in ("inf", "-inf", "nan"):
        return float(x)
    raise DataError(f"{file} holds {x!r} where a number belongs; make the document again with {KINDS}")
