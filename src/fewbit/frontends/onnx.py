"""ONNX files."""

from __future__ import annotations

from pathlib import Path

from fewbit.frontends.base import frontend
from fewbit.graph.files import load_model
from fewbit.graph.model import Model


@frontend(".onnx")
def load_onnx(path: Path, *, allow_quantized: bool = False) -> Model:
    """Read an `.onnx` file, opset 7 or newer."""
    return load_model(path, allow_quantized=allow_quantized)
