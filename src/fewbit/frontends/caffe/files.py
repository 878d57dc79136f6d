"""Caffe's files: `net.prototxt` with its weights in `net.caffemodel`, found by either.

The other file has the same name but for the ending, or is the only one of its kind in the folder. A `.caffemodel` alone
holds the layers, too, as they were for training.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from fewbit.errors import ModelFormatError, UsageError
from fewbit.frontends.base import Ask, frontend
from fewbit.frontends.caffe.message import Message
from fewbit.frontends.ways_in import CAFFE_HDF5
from fewbit.graph.model import Model

TEXT, BYTES = ".prototxt", ".caffemodel"
HDF5 = b"\x89HDF\r\n\x1a\n"


@frontend(TEXT, BYTES)
def load_caffe(path: Path, ask: Ask) -> Model:
    """Read a network and its weights."""
    from fewbit.frontends.caffe import legacy
    from fewbit.frontends.caffe.convert import convert
    from fewbit.frontends.caffe.net import assemble
    from fewbit.frontends.caffe.text import LARGEST, parse
    from fewbit.frontends.caffe.weights import Weights

    text, weights = caffe_files(path, ask.params)
    stored = read_weights(weights) if weights is not None else None
    if text is not None:
        with open(text, "rb") as file:
            message = parse(file.read(LARGEST + 1), str(text))
    else:
        assert stored is not None
        message = stored
    net = assemble(message, str(text or weights), choose=text is not None)
    layers = legacy.layers(stored, str(weights)) if stored is not None else ()
    model = convert(net, Weights(layers, str(weights or "")), shapes=ask.input_shapes, name=path.stem)
    model.path = path
    return model


def read_weights(path: Path) -> Message:
    """The message in a `.caffemodel`; its weights stay in the file until they are asked for.

    Raises:
        ModelFormatError: it is none, or it is damaged.
    """
    from fewbit.frontends.caffe.wire import Reader

    with open(path, "rb") as file:
        head = file.read(len(HDF5))
        if not head:
            raise ModelFormatError(f"{path} is empty")
        if head == HDF5:
            raise ModelFormatError(f"{path} is an HDF5 file; {CAFFE_HDF5}")
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    found = Reader(view, str(path)).message("Net")
    if not found.has("layer") and not found.has("layers"):
        raise ModelFormatError(f"{path} holds no layers; it is no network of Caffe")
    return found


def caffe_files(path: Path, params: Path | None = None) -> tuple[Path | None, Path | None]:
    """The text and the weights of a network, out of the path of either; what is not there is None.

    Raises:
        ModelFormatError: a file is not there, or several could be meant.
    """
    for file in (path, params):
        if file is not None and not file.is_file():
            given = ", which was given as params" if file is params else ""
            raise ModelFormatError(f"there is no file {file}{given}; check its name")
    if path.suffix.lower() == BYTES:
        if params is not None:
            raise UsageError(f"params is {params}; {path} holds the weights itself, load the .prototxt to give others")
        return _beside(path, TEXT, "load the one that is meant, and give the weights: params=, or --params FILE"), path
    return path, params or _beside(path, BYTES, "give the one that is meant: params=, or --params FILE")


def _beside(path: Path, ending: str, way: str) -> Path | None:
    """The file of another kind that belongs to a file."""
    own = path.with_suffix(ending)
    if own.is_file():
        return own
    found = sorted(p for p in path.parent.iterdir() if p.suffix.lower() == ending and p.is_file())
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise ModelFormatError(f"{path} may belong to any of {names}; {way}")
    return found[0] if found else None
