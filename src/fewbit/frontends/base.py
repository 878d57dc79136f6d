"""The registry of front ends: a file ending, and the function that turns such a file into a Model."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fewbit.errors import ModelFormatError
from fewbit.graph.model import Model

Loader = Callable[..., Model]
FRONTENDS: dict[str, Loader] = {}

WAYS_IN = {
    ".pb": "export it with tf2onnx: python -m tf2onnx.convert --graphdef FILE --output model.onnx",
    ".h5": "export it with tf2onnx: python -m tf2onnx.convert --keras FILE --output model.onnx",
    ".keras": "export it with tf2onnx: python -m tf2onnx.convert --keras FILE --output model.onnx",
    ".pt": "export it with torch.onnx.export(module, sample, 'model.onnx')",
    ".pth": "export it with torch.onnx.export(module, sample, 'model.onnx')",
    ".xml": "OpenVINO's own format cannot be read; quantize the ONNX model that it was made from",
    ".pdmodel": "export it with paddle2onnx",
    ".mindir": "export it with MindSpore's export(..., file_format='ONNX')",
}
"""Files that fewbit cannot read → the way in."""


def frontend(ending: str) -> Callable[[Loader], Loader]:
    """Register the function that loads files of this ending."""

    def add(loader: Loader) -> Loader:
        assert ending not in FRONTENDS, f"front end {ending!r} is registered twice"
        FRONTENDS[ending] = loader
        return loader

    return add


def load(path: str | os.PathLike[str], *, allow_quantized: bool = False) -> Model:
    """Read a trained network.

    Args:
        path: an `.onnx` file; weights in files beside it are mapped, not read.
        allow_quantized: accept a network that holds quantized operators already, to run or compare it.

    Raises:
        ModelFormatError: no such file, not a model, truncated; for other formats the message names the way in.
        AlreadyQuantized, UnsafePath, UnsupportedModel: see `fewbit.errors`.
    """
    file = Path(path)
    loader = FRONTENDS.get(file.suffix.lower())
    if loader is None and file.suffix.lower() in WAYS_IN:
        raise ModelFormatError(
            f"{file} is a {file.suffix} file, which fewbit cannot read; {WAYS_IN[file.suffix.lower()]}"
        )
    if loader is None:
        endings = ", ".join(sorted(FRONTENDS))
        raise ModelFormatError(f"{file}: the ending {file.suffix!r} says nothing to fewbit; it reads {endings} files")
    return loader(file, allow_quantized=allow_quantized)
