"""`.tflite` files: the front end."""

from __future__ import annotations

from pathlib import Path

from fewbit.errors import UsageError
from fewbit.frontends.base import Ask, frontend
from fewbit.frontends.ways_in import check_head
from fewbit.graph.model import Model


@frontend(".tflite")
def load_tflite(path: Path, ask: Ask) -> Model:
    """Read a `.tflite` file.

    A quantized one becomes the float network that its integers stand for, with the ranges of its calibration in
    `ranges`; where quantized networks are allowed, the integer network with its own scales, as Q/DQ pairs.
    """
    from fewbit.frontends.tflite.convert import convert
    from fewbit.frontends.tflite.schema import read_file

    if ask.params is not None:
        raise UsageError(f"params is {ask.params}; a .tflite file holds its weights itself, leave params out")
    check_head(path, ".tflite")
    graph = read_file(path)
    model = convert(graph, integers=ask.allow_quantized, shapes=ask.input_shapes, name=path.stem)
    model.path = path
    return model
