"""`fewbit expand`: a fewbit container as a plain ONNX file, which needs no fewbit to run."""

from __future__ import annotations

from typing import Annotated

import typer

from fewbit.cli.bar import work
from fewbit.cli.convert import facts_of, text_of
from fewbit.cli.given import AnyModel, Json, Output, Quiet
from fewbit.cli.outputs import output_file
from fewbit.cli.screen import answer
from fewbit.errors import UsageError

Floats = Annotated[
    bool,
    typer.Option("--float-weights", help="Write float weights instead of packed ones: a larger file, loaded faster."),
]


def run(
    *,
    model: AnyModel,
    output: Output = None,
    float_weights: Floats = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make plain ONNX of a .fewbit file.

    A file with packed weights is taken as well. Weights come out in as many bits as their integers need,
    unpacked by the engine when it loads the file.
    """
    from fewbit import api
    from fewbit.graph.container import SUFFIX
    from fewbit.graph.model import PACKED
    from fewbit.graph.repack import as_floats

    out = output_file(output, model)
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"the output {out} must end in .onnx")
    with work("expanding", None, quiet=quiet):
        given = api.load(model, allow_quantized=True)
        if PACKED not in given.metadata and model.suffix.lower() != SUFFIX:
            raise UsageError(f"{model} holds no packed weights, so there is nothing to expand; use it as it is")
        if float_weights:
            given = as_floats(given)
        given.save(out)
    answer(lambda: text_of(given, out), lambda: facts_of(given, out), json=json, quiet=quiet)
