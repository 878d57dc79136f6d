"""What cannot be read, and the way in: told by a file's ending, its first bytes, or what lies in a folder.

net.pb                 export it with tf2onnx: …
net.onnx with TFL3…    its bytes are those of a TFLite file; call it net.tflite
out/ of deploy         is a folder; give out/model.onnx
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from pathlib import Path

from fewbit.errors import ModelFormatError

MADE_FROM = "quantize the network that it was made from"
KERAS = "export it with tf2onnx: python -m tf2onnx.convert --keras FILE --output model.onnx"
CAFFE_HDF5 = "let Caffe save it as protobuf: net.save('net.caffemodel'), or snapshot_format: BINARYPROTO"
SAVED_MODEL = "saved_model.pb"
SAVED = "export it with tf2onnx: python -m tf2onnx.convert --saved-model {} --output model.onnx"

WAYS_IN = {
    ".pb": "export it with tf2onnx: python -m tf2onnx.convert --graphdef FILE --output model.onnx",
    ".h5": KERAS,
    ".keras": KERAS,
    ".caffemodel.h5": CAFFE_HDF5,
    ".xml": "it is OpenVINO's own; quantize the ONNX model that it was made from",
    ".pdmodel": "export it with paddle2onnx",
    ".mindir": "export it with MindSpore's export(..., file_format='ONNX')",
    ".ms": f"it is MindSpore Lite's own; {MADE_FROM}, as MindSpore's export(..., file_format='ONNX')",
    ".om": f"it was compiled for Ascend; {MADE_FROM}",
    ".engine": f"it was compiled by TensorRT for one device; {MADE_FROM}",
    ".plan": f"it was compiled by TensorRT for one device; {MADE_FROM}",
    ".mlmodel": f"it is Core ML's own; {MADE_FROM}",
    ".mlpackage": f"it is Core ML's own; {MADE_FROM}",
    ".mnn": f"it is MNN's own; {MADE_FROM}",
    ".param": f"it is ncnn's own; {MADE_FROM}",
    ".bin": f"it holds weights without their network; {MADE_FROM}",
    ".gguf": "it is llama.cpp's own; export the network that it was made from as ONNX",
    ".ort": "it is ONNX Runtime's own; quantize the .onnx file that it was made from",
}
"""Files that fewbit cannot read → the way in."""

OF_TORCH = (".pt", ".pth", ".pt2", ".ckpt", ".torchscript", ".ts", ".safetensors")
"""Files of PyTorch: pickles, which can run any code when they are opened, or weights without their network."""

HEADS = (
    (4, b"TFL3", "TFLite", ".tflite"),
    (4, b"ORTM", "ONNX Runtime's own", ".ort"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5", ".h5"),
    (0, b"GGUF", "llama.cpp", ".gguf"),
    (0, b"7767517", "ncnn", ".param"),
)
"""Place in a file, the bytes there, whose format it is, and its ending."""

ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"
"""What follows the version at the start of an ONNX file: the keys of its other fields."""

HEAD, MOST_NAMED, MOST_LISTED = 12, 5, 1000


def check_there(file: Path, readable: Collection[str], prefixes: Collection[str] = ()) -> None:
    """Raise unless there is such a file; for a folder the message names what to give instead.

    Args:
        readable: endings that can be loaded. prefixes: what may be left out at the end of a checkpoint's name.
    """
    if file.is_dir():
        raise ModelFormatError(f"{file} is a folder{_in_folder(file, readable)}")
    if os.path.lexists(file):
        return
    if not file.parent.is_dir():
        raise ModelFormatError(f"there is no file {file}; there is no folder {file.parent} either")
    said = file.suffix.lower() in {*readable, *OF_TORCH, *WAYS_IN}
    tails = "" if said else "".join(f", and no {file.name}{tail}" for tail in prefixes)
    near = difflib.get_close_matches(file.name, _names(file.parent), n=1, cutoff=0.75)
    meant = f"; did you mean {file.with_name(near[0])}?" if near else "; check its name"
    raise ModelFormatError(f"there is no file {file}{tails}{meant}")


def _names(folder: Path) -> list[str]:
    """Names of what lies in a folder, sorted; a few of them if there are very many."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e, _ in zip(entries, range(MOST_LISTED), strict=False))
    except OSError:
        return []


def _in_folder(folder: Path, readable: Collection[str]) -> str:
    """What a folder is, and what to give instead."""
    names = _names(folder)
    if folder.suffix.lower() == ".mlpackage":
        return f" of Core ML; {WAYS_IN['.mlpackage']}"
    if SAVED_MODEL in names:
        return f" with a SavedModel of TensorFlow, which fewbit cannot read; {SAVED.format(folder)}"
    if "plan.json" in names and "model.param" in names:
        return f" with a network for ncnn; {WAYS_IN['.param']}"
    if "network.json" in names and "model.onnx" in names:
        return f" that was deployed; give {folder / 'model.onnx'}"
    if "network.json" in names and "model.ort" in names:
        return f" that was deployed, with model.ort; {WAYS_IN['.ort']}"
    found = [n for n in names if Path(n).suffix.lower() in readable and Path(n).suffix.lower() != ".json"]
    if len(found) == 1:
        return f"; give {folder / found[0]}"
    if found:
        return f"; give one of its files: {', '.join(found[:MOST_NAMED])}{', …' if len(found) > MOST_NAMED else ''}"
    return "; the file of a network is needed"


def way_in(file: Path) -> str:
    """The way in for a file that fewbit cannot read; "" if its ending says nothing."""
    name = file.name.lower()
    if name == SAVED_MODEL:
        return f"{file} is part of a SavedModel of TensorFlow, which fewbit cannot read; {SAVED.format(file.parent)}"
    ending = next((e for e in sorted(WAYS_IN, key=len, reverse=True) if name.endswith(e)), "")
    if not ending:
        return ""
    said = WAYS_IN[ending]
    if ending == ".bin" and file.with_suffix(".param").is_file():
        said = WAYS_IN[".param"]
    if ending == ".bin" and file.with_suffix(".xml").is_file():
        said = WAYS_IN[".xml"]
    return f"{file} is a {ending} file, which fewbit cannot read; {said}"


def check_head(file: Path, ending: str) -> None:
    """Raise if the first bytes of a file are those of another format than its ending says."""
    if not file.is_file():
        return
    try:
        with open(file, "rb") as opened:
            head = opened.read(HEAD)
    except OSError as e:
        raise ModelFormatError(f"cannot read {file}: {e.strerror or e}") from e
    for place, magic, whose, own in HEADS:
        if own != ending and head[place : place + len(magic)] == magic:
            way = WAYS_IN.get(own) or f"call it {file.with_suffix(own).name}"
            raise ModelFormatError(f"{file} is no {ending} file: its first bytes are those of {whose} files; {way}")
    if ending != ".onnx" and len(head) > 2 and head[0] == 8 and 0 < head[1] < 32 and head[2] in ONNX_FIELDS:
        raise ModelFormatError(
            f"{file} is no {ending} file: its first bytes are those of ONNX files; call it "
            f"{file.with_suffix('.onnx').name}"
        )
