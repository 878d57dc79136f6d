"""`fewbit convert`: a network of any format that fewbit reads, as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbit.cli.given import AnyModel, InputShapes, Json, Output, Params, Quiet, read_shapes
from fewbit.cli.outputs import output_file
from fewbit.cli.screen import answer
from fewbit.errors import UsageError

if TYPE_CHECKING:
    from fewbit.graph.model import Model


def run(
    *,
    model: AnyModel,
    output: Output = None,
    input_shapes: InputShapes = None,
    params: Params = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write an MXNet checkpoint as ONNX, or fix shapes.

    MODEL is an .onnx file, or a checkpoint: its -symbol.json, its .params, or its prefix. Layers keep their names.
    """
    from fewbit import api

    shapes = read_shapes(input_shapes)
    out = output_file(output, model, params)
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"the output {out} must end in .onnx")
    given = api.load(model, allow_quantized=True, input_shapes=shapes, params=params)
    given.save(out)
    answer(lambda: text_of(given, out), lambda: facts_of(given, out), json=json, quiet=quiet)


def text_of(model: Model, out: Path) -> str:
    """What was written, for people."""
    from fewbit.core.tables import pairs, size

    lines = [("input", str(i)) for i in model.inputs] + [("output", str(o)) for o in model.outputs]
    lines += [("nodes", str(len(model.nodes))), ("parameters", f"{model.parameters:,}, {size(model.nbytes)}")]
    return "\n".join([f"wrote {out}", pairs(lines), *(f"note: {note}" for note in notes_of(model))])


def facts_of(model: Model, out: Path) -> dict[str, Any]:
    """The same, as plain data."""
    ends = {
        kind: [{"name": i.name, "dtype": i.dtype.name, "shape": list(i.shape)} for i in infos]
        for kind, infos in (("inputs", model.inputs), ("outputs", model.outputs))
    }
    counts = {"nodes": len(model.nodes), "parameters": model.parameters, "bytes": model.nbytes}
    return {"output": str(out), **ends, **counts, "notes": notes_of(model)}


def notes_of(model: Model) -> list[str]:
    """What could not be taken along."""
    lost = f"the checkpoint holds {len(model.ranges)} calibrated ranges, which an .onnx file has no place for; "
    return [*model.notes, *([lost + "to keep them quantize the checkpoint itself"] if model.ranges else [])]
