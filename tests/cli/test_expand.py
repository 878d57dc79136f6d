"""`fewbit expand`: containers and packed files as plain ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import fewbit as fb
from fewbit.engines import open_runner
from tests.cli.conftest import Cli
from tests.models import weight


@pytest.fixture
def coded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a network of one convolution: packed as net.onnx, coded as net.fewbit."""
    from tests.models import conv_relu, load

    q = fb.quantize(load(conv_relu(channels=64)), quant_type="weight", bit_num=5, effort="fast", verify=False)
    q.save(tmp_path / "net.onnx")
    q.save(tmp_path / "net.fewbit")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answer(path: str) -> np.ndarray:
    return open_runner("onnxruntime", fb.load(path, allow_quantized=True)).run({"x": weight(1, 3, 6, 6)})["y"]


@pytest.mark.parametrize("name", ["net.fewbit", "net.onnx"])
def test_plain_onnx_comes_out(cli: Cli, coded: Path, name: str) -> None:
    done = cli("expand", name, "--output", "out.onnx")
    assert done.code == 0, done.err
    assert done.out.startswith("wrote out.onnx\ninput")
    onnx.checker.check_model(onnx.load("out.onnx"), full_check=True)
    assert np.array_equal(answer("out.onnx"), answer("net.onnx"))
    small = Path("out.onnx").stat().st_size
    done = cli("expand", name, "-o", "floats.onnx", "--float-weights", "--json")
    assert json.loads(done.out)["parameters"] == 64 * 28
    assert fb.load("floats.onnx").op_counts() == {"Conv": 1, "Relu": 1}  # a float network like any other
    assert np.array_equal(answer("floats.onnx"), answer("net.onnx"))
    assert Path("floats.onnx").stat().st_size > small
    assert cli("expand", name, "-o", "out.onnx", "--quiet").said == ""


def test_what_is_there_is_counted_as_it_is_meant(cli: Cli, coded: Path) -> None:
    for name in ("net.onnx", "net.fewbit"):
        done = cli("inspect", name)
        assert (
            "parameters  1,792\n" in done.out
            and "quantized   yes, weights only: 1 in 5 bits; computed in float\n" in done.out
        )
        assert "of them unpack weights\n" in done.out and "can become integer" not in done.out
        found = json.loads(cli("inspect", name, "--json").out)
        assert (found["packed"], found["parameters"], found["targets"]) == ({"5": 1}, 1792, [])
        assert next(n["weights"] for n in found["layers"] if n["op"] == "Conv") == 64 * 28
    assert json.loads(cli("expand", "net.fewbit", "-o", "out.onnx", "--json").out)["parameters"] == 64 * 28


def test_a_float_network_has_nothing_to_expand(cli: Cli, coded: Path) -> None:
    from tests.models import conv_relu

    onnx.save(conv_relu(), "float.onnx")
    done = cli("expand", "float.onnx", "-o", "out.onnx")
    assert done.code == 2 and "float.onnx holds no packed weights, so there is nothing to expand" in done.err
    assert not Path("out.onnx").exists()


def test_what_cannot_be_expanded(cli: Cli, coded: Path) -> None:
    assert "the output out.bin must end in .onnx" in cli("expand", "net.fewbit", "-o", "out.bin").err
    data = bytearray(Path("net.fewbit").read_bytes())
    data[-5] ^= 255
    Path("bad.fewbit").write_bytes(data)
    done = cli("expand", "bad.fewbit", "-o", "out.onnx")
    assert done.code == 1 and "bad.fewbit" in done.err and "Traceback" not in done.err
    assert not Path("out.onnx").exists()
