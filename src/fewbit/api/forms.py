"""`sizes`: quantize a network in every way, measure each, and put the figures side by side."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fewbit.api.common import Data, Source, as_model, as_source, cores, judging, opener, settings, target_named
from fewbit.api.onecall import feeds_within, quantize
from fewbit.api.samples import HELD, MadeUp, Remember
from fewbit.data import Batch
from fewbit.engines import engine_of, engine_version
from fewbit.engines.footprint import footprint
from fewbit.errors import ConfigError, FewbitError, FewbitWarning, UsageError, one_of
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.report.benchmark import benchmark
from fewbit.report.compare import compare
from fewbit.report.quantized import Quantized
from fewbit.report.sizes import SizeRow, Sizes

FORMS: dict[str, Mapping[str, Any]] = {
    "float": {},
    "weight-8": {"quant_type": "weight", "bit_num": 8},
    "weight-6": {"quant_type": "weight", "bit_num": 6},
    "weight-4": {"quant_type": "weight", "bit_num": 4},
    "mixed": {"quant_type": "weight", "bit_num": 0},
    "mixed-coded": {"quant_type": "weight", "bit_num": 0},
    "dynamic": {"quant_type": "dynamic"},
    "full": {"quant_type": "full"},
}
"""Each form and the settings that make it; mixed-coded is the network of mixed in a fewbit container."""

CODED = "mixed-coded"
SECONDS = 0.5
"""To time each network for, at least."""


def sizes(
    model: Source,
    data: Data = None,
    *,
    forms: Sequence[str] = tuple(FORMS),
    say: Callable[[str], None] = lambda what: None,
    **words: Any,
) -> Sizes:
    """Size, memory, latency and error of a network as float, weight-only, dynamic and full, side by side.

    Args:
        model: the float network. data: to calibrate on and to compare on; see `fewbit.data`. Without it, there is no
            full form, and errors are those on random numbers.
        forms: which ones, names of `FORMS`; float is always there.
        say: told what is being done. words: settings of `QuantConfig` and `DataConfig` that all forms share.

    Raises:
        UnknownName: no such form.
        UsageError: words that tell forms apart.
    """
    for form in forms:
        one_of("form", form, FORMS)
    for word in ("quant_type", "bit_num"):
        if word in words:
            raise UsageError(f"{word} is what the forms differ in; choose them with forms=")
    for word, value in words.items():
        refusals = [_refused({word: value}, form) for form in forms]
        if forms and all(refusals):
            raise ConfigError(refusals[-1])
    chosen, data_config = settings(None, _fitting(words, "full"))
    given = as_model(model)
    fused = fuse(given)
    if data is None:
        batches = [MadeUp(feeds_within(given)).batch]
    else:
        batches = Remember(as_source(data, given, data_config), HELD, chosen.num_calib_batches).kept()
    made: dict[str, Model] = {"float": fused}
    notes: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {"float": Path(folder) / "float.onnx"}
        fused.save(files["float"])
        for form in dict.fromkeys(f for f in FORMS if f in forms and f != "float"):
            say(f"making {form}")
            try:
                found = _made(form, given, data, made, words)
                files[form] = Path(folder) / f"{form}.{'fewbit' if form == CODED else 'onnx'}"
                found.save(files[form])
                made[form] = found
                if isinstance(found, Quantized) and not any(n.quantized for n in found.plan.nodes.values()):
                    notes[form] = "no layer became integer: fewbit quantize --dry-run says why"
            except FewbitError as e:
                notes[form] = str(e)
        rows = [_row(form, made, files, notes, batches, chosen.target, say) for form in ("float", *_others(forms))]
    if not target_named(chosen.target).engine:  # else what runs here says nothing about the target's speed
        plain = {k: m for k, m in made.items() if k != CODED}
        say("timing")
        times = benchmark(
            {k: opener(engine_of(chosen.target), 1)(m) for k, m in plain.items()},
            {len(batches[0].names): batches[0].feeds}, against="float", min_time=SECONDS,
        )  # fmt: skip
        rows = [replace(r, latency=times.timing(r.form).ratio) if r.form in plain else r for r in rows]
    count = sum(len(b.names) for b in batches)
    on = "random numbers" if data is None else f"{count} samples"
    return Sizes(
        tuple(rows), f"{engine_version(chosen.target)}, 1 thread, batch {len(batches[0].names)}; errors on {on}"
    )


def _others(forms: Sequence[str]) -> Iterator[str]:
    return (f for f in FORMS if f in forms and f != "float")


def _made(form: str, given: Model, data: Data, made: Mapping[str, Model], words: Mapping[str, Any]) -> Model:
    """One form of the network."""
    if form == CODED and "mixed" in made:
        return made["mixed"]
    if form == "full" and data is None:
        raise UsageError("ranges of activations are measured on data, and none was given; hand data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)  # what they would say stands in the table
        return quantize(given, data, verify=False, workers=cores(), **_fitting(words, form), **FORMS[form])


def _fitting(words: Mapping[str, Any], form: str) -> dict[str, Any]:
    """The shared settings that say something to a form: calib_mode is for full, init_scale for mixed."""
    return {k: v for k, v in words.items() if not _refused({k: v}, form)}


def _refused(words: Mapping[str, Any], form: str) -> str:
    """Why a form does not take these settings; empty if it does."""
    try:
        settings(None, {**words, **FORMS[form]})
    except ConfigError as e:
        return str(e)
    return ""


def _row(
    form: str,
    made: Mapping[str, Model],
    files: Mapping[str, Path],
    notes: Mapping[str, str],
    batches: Sequence[Batch],
    target: str,
    say: Callable[[str], None],
) -> SizeRow:
    """All figures of a form but its latency."""
    if form not in made:
        return SizeRow(form, note=notes[form])
    say(f"measuring {form}")
    size, whole = (sum(p.stat().st_size for p in _with_data(files[k])) for k in (form, "float"))
    row = SizeRow(form, size, whole / size)
    if form == CODED:
        return replace(row, note="expands to the network of mixed: fewbit expand")
    row = replace(row, note=notes.get(form, ""))
    cost = footprint(target, files[form], batches[0].feeds)
    row = replace(row, **asdict(cost))
    if form == "float":
        return row
    found = compare(made["float"], made[form], batches, judging(made["float"], opener(target, 1)), layers=False)
    return replace(row, cosine=found.cosine, sqnr=found.sqnr)


def _with_data(path: Path) -> list[Path]:
    """A model file and the data file beside it, if there is one."""
    return [p for p in (path, path.with_name(path.name + ".data")) if p.exists()]
