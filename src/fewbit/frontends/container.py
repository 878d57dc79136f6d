"""Files of fewbit's own, with entropy-coded weights."""

from __future__ import annotations

from pathlib import Path

from fewbit.errors import UsageError
from fewbit.frontends.base import Ask, frontend
from fewbit.graph.container import read_container
from fewbit.graph.model import Model
from fewbit.graph.repack import filled
from fewbit.graph.shapes import with_input_shapes


@frontend(".fewbit")
def load_container(path: Path, ask: Ask) -> Model:
    """Read a `.fewbit` file: the network as it is in plain ONNX, with weights that nodes unpack.

    That it is quantized already is no reason to refuse it, as it is for `.onnx` files: nobody takes it for a float one.
    """
    if ask.params is not None:
        raise UsageError(f"params is {ask.params}; a .fewbit file holds its weights, leave params out")
    cut, stored, _ = read_container(path)
    model = filled(cut, stored)
    model.path = path
    return with_input_shapes(model, ask.input_shapes) if ask.input_shapes else model
