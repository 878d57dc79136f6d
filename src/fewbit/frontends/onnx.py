"""ONNX files."""

from __future__ import annotations

from pathlib import Path

from fewbit.errors import UsageError
from fewbit.frontends.base import Ask, frontend
from fewbit.frontends.ways_in import check_head
from fewbit.graph.files import load_model
from fewbit.graph.model import Model
from fewbit.graph.shapes import with_input_shapes


@frontend(".onnx")
def load_onnx(path: Path, ask: Ask) -> Model:
    """Read an `.onnx` file, opset 7 or newer."""
    if ask.params is not None:
        raise UsageError(f"params is {ask.params}; an .onnx file names its weights itself, leave params out")
    check_head(path, ".onnx")
    model = load_model(path, allow_quantized=ask.allow_quantized)
    return with_input_shapes(model, ask.input_shapes) if ask.input_shapes else model
