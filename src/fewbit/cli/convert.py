"""`fewbit convert`: a network of any format that fewbit reads, as an ONNX file; also with converter_lite's flags."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewbit.cli.flags import Verb
from fewbit.cli.given import InputShapes, Json, Output, Params, Quiet, read_shapes
from fewbit.cli.outputs import output_file
from fewbit.cli.screen import answer, work
from fewbit.errors import UsageError
from fewbit.mindspore.flags import FLAGS

if TYPE_CHECKING:
    from fewbit.compat.mindspore import Converted
    from fewbit.graph.model import Model

TITLE = "As converter_lite of MindSpore Lite"
MUST = ("fmk", "modelFile", "outputFile")


def converter_flags(verb: Verb) -> Verb:
    """Give a verb the converter's flags; those that were said arrive as the dict `words`."""
    own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "words"]
    made = []
    for flag in FLAGS:
        metavar = "|".join(flag.choices) if flag.choices else "FILE" if flag.name.endswith("File") else "TEXT"
        option = typer.Option(
            f"--{flag.name}", help=flag.help, metavar=metavar, rich_help_panel=TITLE, show_default=False
        )
        kind = Annotated[str | None, option]
        made.append(inspect.Parameter(flag.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind))

    @functools.wraps(verb)
    def call(**given: Any) -> Any:
        said = {f.name: given.pop(f.name) for f in FLAGS}
        return verb(**given, words={k: v for k, v in said.items() if v is not None})

    params = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *made)]
    call.__signature__ = inspect.Signature(params)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in params}
    return call


@converter_flags
def run(
    *,
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="The network, float or quantized.", show_default=False)
    ] = None,
    output: Output = None,
    input_shapes: InputShapes = None,
    params: Params = None,
    json: Json = False,
    quiet: Quiet = False,
    words: dict[str, str],
) -> None:
    """Write MXNet, TFLite or Caffe as ONNX, or fix shapes.

    MODEL is an MXNet checkpoint (its -symbol.json, its .params, or its prefix), a .tflite file, a .prototxt or
    .caffemodel of Caffe, an .onnx or a .fewbit file. Layers keep their names. A quantized .tflite file keeps its
    integers; inputs and outputs are the real numbers. With the flags of MindSpore Lite's converter_lite instead it does
    what that does, as far as ONNX goes: a configFile with a quant_type quantizes.
    """
    if words:
        _converter(
            words, {"MODEL": model, "-o": output, "--input-shapes": input_shapes, "--params": params}, json, quiet
        )
        return
    if model is None:
        raise UsageError("there is no network; give MODEL, or --fmk, --modelFile and --outputFile")
    from fewbit import api

    shapes = read_shapes(input_shapes)
    out = output_file(output, model, params)
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"the output {out} must end in .onnx")
    with work("converting", None, quiet=quiet):
        given = api.load(model, allow_quantized=True, input_shapes=shapes, params=params)
        given.save(out)
    answer(lambda: text_of(given, out), lambda: facts_of(given, out), json=json, quiet=quiet)


def _converter(words: dict[str, str], others: dict[str, Any], json: bool, quiet: bool) -> None:
    """Do what converter_lite would."""
    mixed = next((name for name, value in others.items() if value is not None), None)
    if mixed:
        raise UsageError(f"{mixed} does not go together with --{next(iter(words))}; use one set of flags")
    missing = [f"--{name}" for name in MUST if name not in words]
    if missing:
        raise UsageError(f"{missing[0]} is missing; converter_lite's flags need {', '.join(f'--{n}' for n in MUST)}")
    from fewbit.cli.quantize import warnings_at_the_end
    from fewbit.compat import mindspore

    read = {name: Path(words[name]) if name in words else None for name in ("modelFile", "weightFile", "configFile")}
    settings = mindspore.settings_of(read["configFile"], words.get("quantType"), words.get("bitNum"))
    quantizes = settings is not None and settings.quant is not None
    for out in mindspore.outputs_of(words["outputFile"], settings):
        data = settings.calibrate_path if settings is not None else None
        assert read["modelFile"] is not None
        output_file(out, read["modelFile"], read["weightFile"], read["configFile"], data=data, network=quantizes)
    total = settings.quant.num_calib_batches if settings is not None and settings.quant is not None else None
    with warnings_at_the_end() as said:
        if quantizes:
            with work("calibrating", total, quiet=quiet) as (tick, step):
                done = mindspore.convert(**words, progress=tick, say=step)  # type: ignore[arg-type]
        else:
            done = mindspore.convert(**words)  # type: ignore[arg-type]
        report = getattr(done.network, "report", None)
        if report is not None and not (json or quiet):
            said.update(report.problems())  # the report frames them
    answer(lambda: _converted_text(done), lambda: _converted_facts(done), json=json, quiet=quiet)


def _converted_text(done: Converted) -> str:
    report = getattr(done.network, "report", None)
    if report is None:
        return text_of(done.network, done.files[0])
    return f"{report.text()}\n\nwrote {', '.join(map(str, done.files[:-1]))} and {done.files[-1]}"


def _converted_facts(done: Converted) -> dict[str, Any]:
    report = getattr(done.network, "report", None)
    found = facts_of(done.network, done.files[0]) | {"files": [str(f) for f in done.files]}
    return found | ({"report": report.to_json()} if report is not None else {})


def text_of(model: Model, out: Path) -> str:
    """What was written, for people."""
    from fewbit.core.tables import pairs, size
    from fewbit.graph.packing import packing

    lines = [("input", str(i)) for i in model.inputs] + [("output", str(o)) for o in model.outputs]
    lines += [("nodes", str(len(model.nodes))), ("parameters", f"{packing(model).parameters:,}, {size(model.nbytes)}")]
    return "\n".join([f"wrote {out}", pairs(lines), *(f"note: {note}" for note in notes_of(model))])


def facts_of(model: Model, out: Path) -> dict[str, Any]:
    """The same, as plain data."""
    from fewbit.graph.packing import packing

    ends = {
        kind: [{"name": i.name, "dtype": i.dtype.name, "shape": list(i.shape)} for i in infos]
        for kind, infos in (("inputs", model.inputs), ("outputs", model.outputs))
    }
    counts = {"nodes": len(model.nodes), "parameters": packing(model).parameters, "bytes": model.nbytes}
    return {"output": str(out), **ends, **counts, "notes": notes_of(model)}


def notes_of(model: Model) -> list[str]:
    """What could not be taken along."""
    lost = f"the checkpoint holds {len(model.ranges)} calibrated ranges, which an .onnx file has no place for; "
    return [*model.notes, *([lost + "to keep them quantize the checkpoint itself"] if model.ranges else [])]
