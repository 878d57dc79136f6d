"""MindSpore Lite's converter over fewbit: the flags of converter_lite as keywords.

from fewbit.compat.mindspore import convert
made = convert(fmk="ONNX", modelFile="net.onnx", outputFile="small", configFile="quant.cfg")
made.files                      # small.onnx, small.plan.json

load → layout of inputs and outputs → quantize as the config says → types of inputs and outputs → fp16 → save
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewbit.api import load, quantize
from fewbit.errors import ConfigError, FewbitWarning, UsageError
from fewbit.frontends.base import FRONTENDS, PREFIXES, file_of
from fewbit.graph.edges import EIGHT, FLOATS, cast_ends, integer_inputs, integer_outputs
from fewbit.graph.float16 import store_half
from fewbit.graph.layout import inputs_as, outputs_as
from fewbit.graph.model import Model
from fewbit.mindspore.flags import FRAMEWORKS, OLD_TYPES, TYPES_OF_ENDS, WAYS_IN, check_flags, read_shapes
from fewbit.mindspore.ini import Given, Sections, read_file
from fewbit.mindspore.keys import COMMON, DATA
from fewbit.mindspore.settings import MindSporeSettings, to_settings
from fewbit.report.quantized import Quantized, plan_path

PathLike = str | os.PathLike[str]
CODED = ".fewbit"
"""Ending of the entropy-coded form."""


@dataclass(frozen=True)
class Converted:
    """What `convert` made.

    Args:
        network: the network that was written, with `.plan` and `.report` if it is quantized.
        files: what was written, the network first.
    """

    network: Model
    files: tuple[Path, ...]


def convert(
    *,
    fmk: str,
    modelFile: PathLike,
    outputFile: PathLike,
    weightFile: PathLike | None = None,
    configFile: PathLike | None = None,
    inputShape: str = "",
    verify: bool = True,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str, int, int], None] | None = None,
    **flags: str,
) -> Converted:
    """Convert a network as converter_lite does, to ONNX.

    Args:
        fmk: ONNX, MXNET …: where the network comes from.
        modelFile, weightFile: its files.
        outputFile: where the result goes; `.onnx` is added.
        configFile: converter config. With a quant_type the network is quantized, on the data that the file names.
        inputShape: `data:1,3,224,224;ids:1,128`.
        verify, progress, say: as for `fewbit.quantize`.
        flags: all other flags of converter_lite by their names: see `fewbit.mindspore.flags`.

    Raises:
        UnknownName, ConfigError: a flag or a word that there is none of; a flag that cannot be followed.
        FewbitError: see `fewbit.errors`.
    """
    given = {k: str(v) for k, v in flags.items() if v is not None}
    told = check_flags({"fmk": fmk, **given})
    file = _model_file(fmk, Path(modelFile), weightFile)
    settings = settings_of(configFile, given.get("quantType"), given.get("bitNum"))
    files = outputs_of(outputFile, settings)
    _check_apart(files, modelFile, weightFile, configFile)
    for text in (*told, *(settings.warnings if settings else ())):
        warnings.warn(text, FewbitWarning, stacklevel=2)
    if settings is not None and settings.quant is not None:
        _check_data(settings)
    model = load(file, allow_quantized=settings is None or settings.quant is None, input_shapes=read_shapes(inputShape),
                 params=weightFile)  # fmt: skip
    _lay_out(model, given)
    made: Model = model
    if settings is not None and settings.quant is not None:
        words = settings.tables()["data"]
        made = quantize(
            model, settings.data_at_hand(), settings.quant, verify=verify, progress=progress, say=say, **words
        )
    _set_types(made, given)
    if given.get("fp16") == "on":
        _halve(made)
    for path in files:
        made.save(path)
    plans = (plan_path(files[0]),) if isinstance(made, Quantized) else ()
    return Converted(made, (*files, *plans))


def settings_of(configFile: PathLike | None, quantType: str | None, bitNum: str | None) -> MindSporeSettings | None:
    """The settings of a config file with flags on top; None if there are neither."""
    sections: Sections = read_file(configFile) if configFile is not None else {}
    said = {"quant_type": (quantType, "quantType"), "bit_num": (bitNum, "bitNum")}
    for key, (text, flag) in said.items():
        if text is not None:
            text = OLD_TYPES.get(text, text)
            sections[COMMON] = {**sections.get(COMMON, {}), key: Given(text, f"--{flag}")}
    return to_settings(sections, str(configFile or "flags")) if sections else None


def outputs_of(outputFile: PathLike, settings: MindSporeSettings | None) -> tuple[Path, ...]:
    """Files of the network: `small` → `small.onnx`, and `small.fewbit` where weights are entropy-coded.

    Either ending may be there already.
    """
    out = Path(outputFile)
    if out.suffix.lower() == CODED:
        out = out.with_suffix("")
    out = out if out.suffix.lower() == ".onnx" else out.with_name(f"{out.name}.onnx")
    coded = settings is not None and settings.quant is not None and settings.quant.bit_num == 0 and settings.encode
    return (out, out.with_suffix(CODED)) if coded else (out,)


def _model_file(fmk: str, file: Path, weights: PathLike | None) -> Path:
    """The network's file, if there is a way to read it."""
    endings = FRAMEWORKS[fmk]
    if not any(ending in FRONTENDS for ending in endings):
        raise ConfigError(f"fmk is {fmk}, which fewbit cannot read; {WAYS_IN[fmk]}")
    found = file_of(file)
    if found.suffix.lower() not in endings:
        other = next((f for f, e in FRAMEWORKS.items() if found.suffix.lower() in e), None)
        prefix = " or a prefix" if any(end in endings for end in PREFIXES.values()) else ""
        advice = f"; say fmk {other}" if other else ""
        raise ConfigError(f"fmk is {fmk}, and modelFile {file} is no {', '.join(endings)} file{prefix}{advice}")
    if weights is not None and fmk not in ("CAFFE", "MXNET"):
        raise ConfigError(f"weightFile is {str(weights)!r}; it is for fmk CAFFE and MXNET, leave it out")
    return file


def _check_data(settings: MindSporeSettings) -> None:
    assert settings.quant is not None
    if settings.quant.quant_type == "full" and settings.calibrate_path is None:
        raise ConfigError(
            f"quant_type FULL_QUANT measures ranges on data; name it in [{DATA}]: calibrate_path, calibrate_size, "
            "input_type"
        )
    settings.data_at_hand()


def _check_apart(files: tuple[Path, ...], *read: PathLike | None) -> None:
    for out in files:
        for path in (Path(r) for r in read if r is not None):
            if out.exists() and path.exists() and out.samefile(path):
                raise UsageError(f"outputFile {out} is the input itself; give it another name")


def _lay_out(model: Model, given: dict[str, str]) -> None:
    for flag, change in (("inputDataFormat", inputs_as), ("outputDataFormat", outputs_as)):
        if flag in given and not change(model, given[flag]):
            ends = flag[: -len("DataFormat")]
            raise ConfigError(f"{flag} is {given[flag]}, and no {ends} has 4 axes; leave it out")


def _set_types(model: Model, given: dict[str, str]) -> None:
    for flag, inputs in (("inputDataType", True), ("outputDataType", False)):
        dtype = TYPES_OF_ENDS[given.get(flag, "DEFAULT")]
        if not dtype:
            continue
        if dtype in EIGHT:
            _set_integers(model, flag, dtype, inputs)
        elif not cast_ends(model, dtype, inputs=inputs) and dtype != "float32":
            kind = "float" if dtype in FLOATS else "whole-numbered"
            raise ConfigError(f"{flag} is {given[flag]}, and there is no {kind} {flag[:-8]}; leave it out")


def _set_integers(model: Model, flag: str, dtype: str, inputs: bool) -> None:
    found: dict[str, Any] = (integer_inputs if inputs else integer_outputs)(model, dtype)
    ends = flag[: -len("DataType")]
    kept = {name: why for name, why in found.items() if why}
    if not found or kept:
        name, why = next(iter(kept.items()), ("", f"no {ends} is float"))
        raise ConfigError(
            f"{flag} is {dtype.upper()}, and {f'{ends} {name!r} has no integers: ' if name else ''}{why}; say FLOAT"
        )


def _halve(model: Model) -> None:
    quantized = isinstance(model, Quantized)
    done, beyond = store_half(model, elementwise=not quantized)
    if beyond:
        warnings.warn(
            f"fp16: {', '.join(map(repr, beyond[:5]))} {'holds' if len(beyond) == 1 else 'hold'} values beyond 65504, "
            "which float16 cannot; kept in 32 bits",
            FewbitWarning,
            stacklevel=3,
        )
    if not done and not beyond:
        warnings.warn("fp16 has no effect: no weight is left in float", FewbitWarning, stacklevel=3)
