"""`fewbit convert`, and shapes and parameters given on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

import fewbit as fb
from fewbit.cli.given import read_shapes
from fewbit.engines import open_runner
from fewbit.errors import UsageError
from tests.checkpoints import zoo_like
from tests.cli.conftest import Cli
from tests.models import info, node, proto, weight


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the checkpoint `net`."""
    zoo_like(tmp_path, "net", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("path", ["net", "net-symbol.json", "net-0000.params"])
def test_a_checkpoint_becomes_an_onnx_file(cli: Cli, place: Path, path: str) -> None:
    done = cli("convert", path, "--output", "out.onnx")
    assert done.code == 0, done.err
    assert done.out.startswith("wrote out.onnx\ninput       data: float32[?, 3, ?, ?]\noutput      dense0_fwd_output")
    assert f"parameters  {fb.load(place / 'net').parameters:,}, " in done.out
    onnx.checker.check_model(onnx.load(place / "out.onnx"), full_check=True)
    x = {"data": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    got, want = (
        open_runner("onnxruntime", fb.load(place / p)).run(x)["dense0_fwd_output"] for p in ("out.onnx", "net")
    )
    np.testing.assert_array_equal(got, want)


def test_shapes_are_fixed_as_asked(cli: Cli, place: Path) -> None:
    done = cli("convert", "net", "-o", "a.onnx", "--input-shapes", "data:?,3,16,0", "--json")
    found = json.loads(done.out)
    assert found["inputs"] == [{"name": "data", "dtype": "float32", "shape": [None, 3, 16, None]}]
    assert found["output"] == "a.onnx" and found["nodes"] == len(fb.load(place / "a.onnx").nodes)
    done = cli("convert", "a.onnx", "-o", "b.onnx", "--input-shapes", "data:2,3,16,16", "--quiet")
    assert done.said == "" and [i.shape for i in fb.load(place / "b.onnx").inputs] == [(2, 3, 16, 16)]
    assert fb.load(place / "b.onnx").outputs[0].shape == (2, 5)


def test_parameters_may_lie_elsewhere(cli: Cli, place: Path) -> None:
    shutil.move("net-0000.params", "other.params")
    done = cli("convert", "net", "-o", "a.onnx")
    assert done.code == 1 and "fewbit convert MODEL -o model.onnx --params FILE" in done.err
    assert cli("convert", "net", "-o", "a.onnx", "--params", "other.params").code == 0
    done = cli("convert", "net", "-o", "a.onnx", "--params", "none.params")
    assert done.code == 1 and "there is no file none.params" in done.err
    done = cli("convert", "a.onnx", "-o", "b.onnx", "--params", "other.params")
    assert done.code == 2 and "leave params out" in done.err
    done = cli("quantize", "net", "--params", "other.params", "--input-shapes", "data:0,3,8,8", "--dry-run")
    assert done.code == 0 and "conv0_fwd" in done.out


def test_notes_are_told(cli: Cli, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewbit import api

    real = api.load

    def load(*args: object, **words: object) -> fb.Model:
        model = real(*args, **words)  # type: ignore[arg-type]
        model.notes.append("left out: output x")
        model.ranges["data"] = (0.0, 1.0)
        return model

    monkeypatch.setattr(api, "load", load)
    done = cli("convert", "net", "-o", "a.onnx")
    assert "\nnote: left out: output x\nnote: the checkpoint holds 1 calibrated ranges, which an .onnx" in done.out
    assert len(json.loads(cli("convert", "net", "-o", "a.onnx", "--json").out)["notes"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["net", "-o", "out.pb"], "the output out.pb must end in .onnx"),
        (["net"], "there is no output; give one with -o FILE"),
        (["none", "-o", "a.onnx"], "there is no file none, and no none-symbol.json"),
        (["net", "-o", "x/a.onnx"], "there is no folder x"),
        (["net", "-o", "a.onnx", "--input-shapes", "dat:1,3,8,8"], "unknown input 'dat'; did you mean 'data'?"),
        (["net", "-o", "a.onnx", "--input-shapes", "data:1,4,8,8"], "its weight has shape (32, 3, 3, 3)"),
        (["net", "-o", "a.onnx", "--input-shapes", "data:3,8,8"], "needs an input with 4 axes"),
        (["net", "-o", "a.onnx", "--input-shapes", "data:1,3,8,8589934592"], "numbers from 0 to 2147483647"),
        (["net", "-o", "a.onnx", "--input-shapes", "data"], "must look like data:1,3,224,224"),
    ],
)
def test_what_cannot_be_done_is_said(cli: Cli, place: Path, words: list[str], said: str) -> None:
    before = sorted(place.iterdir())
    done = cli("convert", *words)
    assert done.code in (1, 2) and said in done.err and "Traceback" not in done.err
    assert sorted(place.iterdir()) == before


def test_sizes_that_a_layer_cannot_take_are_refused(cli: Cli, tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "y", "product")]
    made = proto(nodes, [info("x", ["n", "c"])], [info("y", ["n", 6])], {"w": weight(8, 6)})
    onnx.save(made, tmp_path / "free.onnx")
    words = ["convert", tmp_path / "free.onnx", "-o", tmp_path / "b.onnx", "--input-shapes"]
    assert cli(*words, "x:2,8").code == 0
    done = cli(*words, "x:2,7")
    assert done.code == 1 and "the network cannot take the input shapes x (2, 7): " in done.err


def test_channels_that_a_convolution_cannot_take_are_refused(cli: Cli, net: Path, tmp_path: Path) -> None:
    model = onnx.load(net)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "c"
    onnx.save(model, tmp_path / "free.onnx")
    words = ["convert", tmp_path / "free.onnx", "-o", tmp_path / "b.onnx", "--input-shapes"]
    assert cli(*words, "x:0,3,6,6").code == 0
    made = fb.load(tmp_path / "b.onnx")
    assert (made.inputs[0].shape, made.outputs[0].shape) == (("n", 3, 6, 6), ("n", 5))
    done = cli(*words, "x:2,4,6,6")
    assert done.code == 1
    assert "cannot take the input shapes x (2, 4, 6, 6): layer 'conv' takes 3 channels, and would get 4" in done.err


@pytest.mark.parametrize("shape", ["data:1,3,8", "data:1,4,8,8", "data:2,3,8,8"])
def test_sizes_that_a_network_fixes_stay(cli: Cli, place: Path, shape: str) -> None:
    assert cli("convert", "net", "-o", "a.onnx", "--input-shapes", "data:1,3,8,8").code == 0
    done = cli("convert", "a.onnx", "-o", "b.onnx", "--input-shapes", shape)
    assert done.code == 1 and "input 'data' has the shape (1, 3, 8, 8); it cannot be" in done.err


def test_the_input_is_not_overwritten(cli: Cli, place: Path) -> None:
    assert cli("convert", "net", "-o", "a.onnx").code == 0
    before = (place / "a.onnx").read_bytes()
    assert "is the input itself" in cli("convert", "a.onnx", "-o", "a.onnx").err
    (place / "link.onnx").symlink_to("net-0000.params")
    done = cli("convert", "net", "-o", "link.onnx")
    assert done.code == 2 and "link.onnx belongs to the checkpoint net" in done.err
    assert (place / "a.onnx").read_bytes() == before


def test_shapes_are_read() -> None:
    assert read_shapes(["data:1,3,224,224", "a:b:?, 0"]) == {"data": (1, 3, 224, 224), "a:b": (None, None)}
    assert read_shapes(None) == {}
    for text in ("data", "data:", ":1", "data:1,x", "data:-1", "data:1.5", "data:1,,2"):
        with pytest.raises(UsageError, match="it must look like data:1,3,224,224, with 0 or"):
            read_shapes([text])
    with pytest.raises(UsageError, match="input_shapes gives 'a' twice"):
        read_shapes(["a:1", "a:2"])


@pytest.mark.parametrize("shape", [(1, -3, 8, 8), (1.0, 3, 8, 8), "1388", 5, (1, 3, 8, 2**31)], ids=str)
def test_shapes_of_the_python_interface_are_checked(place: Path, shape: object) -> None:
    with pytest.raises(UsageError, match=r"input_shapes of 'data' is .*; it must be whole numbers from 0 to"):
        fb.load(place / "net", input_shapes={"data": shape})  # type: ignore[dict-item]
