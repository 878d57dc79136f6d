"""Files and folders that are not there, or that cannot be read: what the message says."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import fewbit as fb
from fewbit.errors import ModelFormatError
from fewbit.frontends.ways_in import HEADS, OF_TORCH, WAYS_IN, check_head
from tests.models import info, node, proto

FORMATS = [
    ("net.mlmodel", "is a .mlmodel file, which fewbit cannot read; it is Core ML's own"),
    ("net.mnn", "it is MNN's own; quantize the network that it was made from"),
    ("net.ms", "it is MindSpore Lite's own"),
    ("net.om", "it was compiled for Ascend"),
    ("net.engine", "it was compiled by TensorRT for one device"),
    ("net.plan", "it was compiled by TensorRT for one device"),
    ("net.param", "it is ncnn's own"),
    ("net.bin", "it holds weights without their network"),
    ("net.gguf", "it is llama.cpp's own"),
    ("net.ort", "it is ONNX Runtime's own; quantize the .onnx file"),
    ("net.h5", "tf2onnx.convert --keras FILE"),
    ("net.caffemodel.h5", "is a .caffemodel.h5 file, which fewbit cannot read; let Caffe save it as protobuf"),
    ("NET.PB", "--graphdef FILE"),
    ("saved_model.pb", "is part of a SavedModel of TensorFlow, which fewbit cannot read; export it with tf2onnx"),
]


@pytest.mark.parametrize(("name", "words"), FORMATS)
def test_formats_that_cannot_be_read_have_a_way_in(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"anything at all")
    with pytest.raises(ModelFormatError) as e:
        fb.load(tmp_path / name)
    assert words in str(e.value) and "says nothing" not in str(e.value)


@pytest.mark.parametrize(("other", "words"), [("w.param", "it is ncnn's own"), ("w.xml", "it is OpenVINO's own")])
def test_weights_are_told_by_what_lies_beside_them(tmp_path: Path, other: str, words: str) -> None:
    for name in ("w.bin", other):
        (tmp_path / name).write_bytes(b"1234")
    with pytest.raises(ModelFormatError, match=words):
        fb.load(tmp_path / "w.bin")


def test_endings_that_say_nothing_are_told_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("net")
    with pytest.raises(ModelFormatError, match=r"the ending '\.txt' says nothing to fewbit; it reads \.caffemodel, "):
        fb.load(tmp_path / "net.txt")


# -- what is not there ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".onnx", ".tflite", ".prototxt", ".caffemodel", ".params", *OF_TORCH, *WAYS_IN])
def test_a_file_that_is_not_there_is_not_judged_by_its_ending(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ModelFormatError) as e:
        fb.load(tmp_path / f"net{ending}")
    assert str(e.value) == f"there is no file {tmp_path / f'net{ending}'}; check its name"


def test_the_nearest_name_is_offered_and_a_missing_folder_said(tmp_path: Path) -> None:
    (tmp_path / "mobilenet.onnx").write_bytes(b"")
    with pytest.raises(ModelFormatError, match=r"there is no file .*mobilnet\.onnx; did you mean .*mobilenet\.onnx\?"):
        fb.load(tmp_path / "mobilnet.onnx")
    with pytest.raises(ModelFormatError, match=r"there is no file .*x\.onnx; there is no folder .*nets either"):
        fb.load(tmp_path / "nets" / "x.onnx")
    with pytest.raises(ModelFormatError, match=r"there is no file .*resnet, and no resnet-symbol\.json"):
        fb.load(tmp_path / "resnet")


# -- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["saved_model.pb"], " with a SavedModel of TensorFlow, which fewbit cannot read; export it with tf2onnx: "
                             "python -m tf2onnx.convert --saved-model {0} --output model.onnx"),
        (["network.json", "model.onnx", "plan.json", "run.py"], " that was deployed; give {0}/model.onnx"),
        (["network.json", "model.ort"], " that was deployed, with model.ort; it is ONNX Runtime's own"),
        (["plan.json", "model.param", "model.bin"], " with a network for ncnn; it is ncnn's own"),
        (["net.tflite", "labels.txt", "a.json"], "; give {0}/net.tflite"),
        (["b.onnx", "a.prototxt"], "; give one of its files: a.prototxt, b.onnx"),
        ([f"{i}.onnx" for i in range(6)], "; give one of its files: 0.onnx, 1.onnx, 2.onnx, 3.onnx, 4.onnx, …"),
        (["labels.txt"], "; the file of a network is needed"),
    ],
)  # fmt: skip
def test_a_folder_is_told_what_to_give_instead(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelFormatError) as e:
        fb.load(tmp_path)
    found = str(e.value)
    assert found.startswith(f"{tmp_path} is a folder{words.format(tmp_path)}")


def test_a_package_of_core_ml_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "net.mlpackage").mkdir()
    with pytest.raises(ModelFormatError, match=r"net\.mlpackage is a folder of Core ML; it is Core ML's own"):
        fb.load(tmp_path / "net.mlpackage")


# -- another format than the ending says ------------------------------------------------------------------------------

DEMO = Path(__file__).parents[2] / "examples" / "tflite" / "demo-int8.tflite"


def test_tflite_called_onnx_and_onnx_called_tflite(tmp_path: Path) -> None:
    (tmp_path / "t.onnx").write_bytes(DEMO.read_bytes())
    onnx.save(proto([node("Relu", "x", "y")], [info("x", [1])], [info("y", [1])]), tmp_path / "o.tflite")
    said = r"t\.onnx is no \.onnx file: its first bytes are those of TFLite files; call it t\.tflite"
    with pytest.raises(ModelFormatError, match=said):
        fb.load(tmp_path / "t.onnx")
    said = r"o\.tflite is no \.tflite file: its first bytes are those of ONNX files; call it o\.onnx"
    with pytest.raises(ModelFormatError, match=said):
        fb.load(tmp_path / "o.tflite")


@pytest.mark.parametrize(("place", "magic", "whose", "own"), HEADS)
def test_bytes_of_other_formats(tmp_path: Path, place: int, magic: bytes, whose: str, own: str) -> None:
    (tmp_path / "net.onnx").write_bytes(b"\0" * place + magic + b"\0" * 20)
    with pytest.raises(ModelFormatError, match=f"are those of {whose} files; "):
        fb.load(tmp_path / "net.onnx")
    check_head(tmp_path / "net.onnx", own)
