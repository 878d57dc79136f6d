"""What fewbit cannot take, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.errors import EngineMissing, ModelFormatError, UnknownName, UnsupportedModel, UsageError
from tests.frontends.tflite.cases import C2, FC, SAME, conv, f
from tests.frontends.tflite.nets import NO, Net, flattened
from tests.frontends.tflite.one import Const, Fed, Lite, read, write


def one(op: str, inputs: list[Any], kind: str = "", options: Any = None, **more: Any) -> bytes:
    """A file of one operator; arrays are constants, tuples are fed."""
    net, names = Net(), list[str]()
    for k, given in enumerate(inputs):
        if isinstance(given, tuple):
            net.tensors[f"in{k}"] = Fed(given)
            net.inputs.append(f"in{k}")
            names.append(f"in{k}")
        else:
            names.append(net.const(given))
    return net.file(net.add(op, names, more.pop("shape", (1,)), kind, options, name="y", **more))


def ints(*numbers: int) -> Any:
    return np.asarray(numbers, np.int32)


def test_unknown_operators_are_all_named() -> None:
    net = Net(x=Fed((2, 3)))
    a = net.add("ATAN2", ["x", "x"], (2, 3), name="angle")
    b = net.add("BITCAST", [a], (2, 3), name="bits")
    net.ops.append(Lite("MyOwn", [b], [net.add("RELU", [b], (2, 3), name="z")], custom=b"1234"))
    with pytest.raises(UnsupportedModel) as e:
        read(net.file("z"))
    assert str(e.value) == (
        "3 TFLite operators that fewbit does not know: ATAN2 that makes angle; BITCAST that makes bits; MyOwn that "
        "makes z. Convert the network without them, or cut it in front of them"
    )


@pytest.mark.parametrize(("op", "words"), [("IF", "IF: it has branches"), ("WHILE", "WHILE: it has a loop"),
                                           ("CALL_ONCE", "fills variables")])  # fmt: skip
def test_control_flow_is_refused(op: str, words: str) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        read(one(op, [(1,)]))


def test_the_package_of_the_schema_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.tflite").write_bytes(flattened())
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(
        EngineMissing, match=r"tflite.* is not installed; it comes with: pip install 'fewbit\[tflite\]'"
    ):
        fb.load(tmp_path / "net.tflite")


@pytest.mark.parametrize("script", ["", "import fewbit\nfewbit.load({net!r})\n"])
def test_a_script_that_is_called_like_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    (tmp_path / "net.tflite").write_bytes(flattened())
    (tmp_path / "tflite.py").write_text(script.format(net=str(tmp_path / "net.tflite")))
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in sys.modules if n.partition(".")[0] == "tflite"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tflite", None)  # so that what is imported now is forgotten afterwards
    monkeypatch.delitem(sys.modules, "tflite")
    with pytest.raises(UsageError, match=r"import tflite finds .*tflite\.py, and not the package .* another name"):
        fb.load(tmp_path / "net.tflite")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(b"PK\3\4 a zip of something")
    with pytest.raises(
        ModelFormatError, match=r"net.tflite is no TFLite file: bytes 4 to 7 are b' a z' and not b'TFL3'"
    ):
        fb.load(tmp_path / "net.tflite")
    with pytest.raises(ModelFormatError, match="there is no file"):
        fb.load(tmp_path / "none.tflite")


def test_weights_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(flattened())
    with pytest.raises(UsageError, match=r"a \.tflite file holds its weights itself, leave params out"):
        fb.load(tmp_path / "net.tflite", params="x.params")


def test_shapes_of_what_is_no_input() -> None:
    with pytest.raises(UnknownName, match="unknown input 'imag'; did you mean 'image'"):
        read(flattened(), shapes={"imag": (1, 2)})
    with pytest.raises(ModelFormatError, match=r"input 'image' has the shape \(1, 5, 6, 3\); it cannot be \(1, 5\)"):
        read(flattened(), shapes={"image": (1, 5)})
    with pytest.raises(ModelFormatError, match="RESHAPE that makes 'reshape1': its shape is"):
        read(flattened(), shapes={"image": (1, 7, 7, 3)})


@pytest.mark.parametrize("axis", ["weight", "bias", "input"])
def test_numbers_that_do_not_fit_their_shape(axis: str) -> None:
    data = {"weight": f(4, 3, 3, 3), "bias": f(4), "input": f(1)}
    shapes = {"weight": (4, 3, 3, 3), "bias": (4,)}
    shapes[axis] = (5, 1) if axis == "bias" else (4, 3, 3, 2)
    tensors: dict[str, Any] = {n: Const(data[n], shape=shapes[n]) for n in ("weight", "bias")}
    tensors |= {"x": Fed((1, 5, 5, 3)), "y": Fed((1, 5, 5, 4))}
    if axis == "input":
        tensors["x"] = Fed((1, 5, 5, 4))
    with pytest.raises(ModelFormatError, match=r"bytes|channels"):
        read(write([Lite("CONV_2D", ["x", "weight", "bias"], ["y"], C2, conv(SAME))], tensors, ["x"], ["y"]))


MISFITS = [
    ("CONV_2D", [(1, 5, 5, 3), f(4, 3, 3, 2)], C2, conv(SAME), "does not go with 3 channels"),
    ("CONV_2D", [(1, 5, 5, 3), f(4, 3, 3)], C2, conv(SAME), "must have 4 axes"),
    ("CONV_2D", [(1, 5, 5, 3), f(4, 3, 3, 3)], C2, conv(SAME, 0), r"Stride is \(0, 0\)"),
    ("CONV_2D", [(1, 5, 5, 3), f(4, 3, 3, 3)], C2, conv(9), "option Padding is 9"),
    ("CONV_2D", [(1, 5, 5, 3), f(4, 3, 3, 3)], C2, conv(SAME, act=5), "SIGN_BIT"),
    ("FULLY_CONNECTED", [(1, 8), f(4, 8)], FC, {**NO, "weightsFormat": 1}, "shuffled"),
    ("TRANSPOSE", [(2, 3), ints(0, 0)], "TransposeOptions", {}, r"order of axes is \[0, 0\]"),
    ("EXPAND_DIMS", [(2, 3), ints(7)], "ExpandDimsOptions", {}, "axis 7 is asked for; there are 3"),
    ("PAD", [(2, 3), ints(1, 1)], "PadOptions", {}, "two for each of 2 axes"),
    ("STRIDED_SLICE", [(2, 3), ints(0), ints(1), ints(0)], "StridedSliceOptions", {}, "does not go with 2 axes"),
    ("RESHAPE", [(2, 3), ints(4, 2)], "ReshapeOptions", {}, r"its shape is \[4, 2\]"),
    ("CONCATENATION", [(2, 3), (2, 3, 1)], "ConcatenationOptions", {"axis": 0}, "must have as many"),
    ("TOPK_V2", [(2, 3)], "TopKV2Options", {}, "it has 1 inputs; input 1 is needed"),
    ("SPLIT", [ints(0), (3, 3)], "SplitOptions", {"numSplits": 1}, None),
    ("RESIZE_BILINEAR", [(1, 3, 3, 1), ints(0, 2)], "ResizeBilinearOptions", {}, r"its size is \[0, 2\]"),
    ("BATCH_MATMUL", [(3,), (3,)], "BatchMatMulOptions", {}, "it must have 2 at least"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "kind", "options", "words"), MISFITS, ids=lambda v: str(v)[:30])
def test_options_that_do_not_fit(op: str, inputs: list[Any], kind: str, options: Any, words: str | None) -> None:
    file = one(op, inputs, kind, options)
    if words is None:
        assert read(file)
        return
    with pytest.raises((ModelFormatError, UnsupportedModel), match=words):
        read(file)


def test_what_is_read_must_be_made() -> None:
    net = Net(x=Fed((2, 3)))
    net.tensors["ghost"] = Fed((2, 3))
    with pytest.raises(ModelFormatError, match="ADD that makes 'add0' reads 'ghost', which nothing makes"):
        read(net.file(net.add("ADD", ["x", "ghost"], (2, 3), "AddOptions", NO)))


def test_types_beyond_onnx_are_named() -> None:
    net = Net(x=Fed((2, 3)))
    text = net.const(np.zeros(4, np.int8), type="STRING", shape=(1,))
    with pytest.raises(UnsupportedModel, match="of type STRING; fewbit reads FLOAT32"):
        read(net.file(net.add("ADD", ["x", text], (2, 3), "AddOptions", NO)))


@pytest.mark.parametrize(("scale", "zero", "words"), [(0.1, 300, "zero point 300, which INT8 does not reach"),
                                                      ([0.1, 0.2], 0, "2 scales and 2 zero points"),
                                                      (np.nan, 0, "finite and not negative")])  # fmt: skip
def test_scales_that_make_no_sense(scale: Any, zero: int, words: str) -> None:
    net = Net(x=Fed((1, 3), "int8", scale, zero))
    with pytest.raises(ModelFormatError, match=words):
        read(net.file(net.add("RELU", ["x"], (1, 3), dtype="int8", scale=0.1)), integers=True)


def test_a_state_starts_as_zeros_and_says_so() -> None:
    from tests.frontends.tflite.cases import RECURRENT
    from tests.frontends.tflite.test_ops import build

    file, _ = build(RECURRENT[0], behind=False)
    assert any("keep their numbers from run to run" in n for n in read(file).notes)
